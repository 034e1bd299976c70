"""`--batch-size auto`: resolved to a number once, before an experiment is written, and kept by every resume.

So `config` in the experiments table says that it was asked for and what it came to, and another machine goes on with
the same batches. Where memory runs out in spite of it, `train` and `grow` go on with half of it from there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from search.options import BatchSizeOptions
from search.session.console import Console
from search.session.run import architecture_of, on_ray
from structnet.errors import UserError, one_line
from structnet.storage.tables import list_parts, read_table

if TYPE_CHECKING:
    from structnet.data.dataset import Dataset
    from structnet.network.architecture import Architecture

Options = TypeVar("Options", bound=BatchSizeOptions)


def with_batch_size(
    options: Options, data: Dataset, *, architecture: Sequence[int] | None = None, parts: int = 1
) -> Options:
    """The options with a number in place of `auto`; as they are where that was not asked for.

    architecture: of the network that decides, by default the one of most units that the options name. parts: of a
    batch, each for a worker of its own. Raises UserError for a device that is not there.
    """
    if options.batch_size_asked is None or options.batch_size is not None:
        return options
    if before := recorded_config(options):
        names = "batch_size", "smaller_batches"
        return options.model_copy(update={name: before[name] for name in names})
    from structnet.training.memory import largest_batch

    shape = largest_of(options, data) if architecture is None else architecture
    found = [
        (largest_batch(parts * free, per_image, len(data.train)), free, per_image)
        for free, per_image in _measured(options, shape)
    ]
    batch, free, per_image = min(found)
    batch = max(parts, batch - batch % parts)
    Console().say(
        f"Batches of {batch:,} images: each takes {per_image:,.0f} bytes, and a worker has {free / 2**30:.1f} GiB"
    )
    return options.model_copy(update={"batch_size": batch})


def recorded_config(options: BatchSizeOptions) -> dict[str, Any] | None:
    """What the experiment that is resumed was begun with, if a batch size was found for it; else None."""
    if not (options.resume and options.name and list_parts(options.results, "experiments", options.name)):
        return None
    rows = read_table(options.results, "experiments", options.name).to_pylist()
    config: dict[str, Any] = json.loads(rows[0]["config"])
    return config if config.get("batch_size_asked") == options.batch_size_asked else None


def batch_size_now(options: BatchSizeOptions) -> int:
    """Images per step by what is recorded: the number that was fitted, or what it was halved to since."""
    assert options.batch_size is not None
    return min([options.batch_size, *options.smaller_batches.values()])


def largest_of(options: BatchSizeOptions, data: Dataset) -> Architecture:
    """The architecture whose units have most positions, of those that the options name.

    Raises UserError if one does not fit.
    """
    given = dict(options)
    texts = [given.get("architecture", ""), given.get("larger", "")]
    texts += given.get("architectures", "").replace(",", " ").split()
    shapes = [architecture_of(text, data) for text in texts if text]
    return max(shapes, key=lambda shape: sum(units * shape.area(group) for group, units in enumerate(shape)))


def _measured(options: BatchSizeOptions, architecture: Sequence[int]) -> list[tuple[float, float]]:
    """(bytes that a worker has free, bytes that an image takes), for each device that a worker may be given.

    Of a cluster the machines that it gives to as many workers are asked, of this one every GPU.
    """
    from structnet.training.memory import devices_like, measure

    share = 1 / options.workers
    if options.device.startswith("cuda"):
        share = min(1.0, options.gpus_per_worker or 1.0)
    if not (options.address or os.environ.get("RAY_ADDRESS")):
        found = [measure(architecture, device) for device in devices_like(options.device)]
    else:
        found = _measured_on_cluster(options, architecture)
    return [(share * free, per_image) for free, per_image in found]


def _measured_on_cluster(options: BatchSizeOptions, architecture: Sequence[int]) -> list[tuple[int, float]]:
    from structnet.training.memory import measure

    with on_ray(options):
        import ray

        task = ray.remote(measure).options(
            num_cpus=options.cpus_per_worker,
            num_gpus=options.gpus_per_worker,
            scheduling_strategy="SPREAD",
        )
        try:
            found: list[tuple[int, float]] = ray.get(
                [task.remote(architecture, options.device) for _ in range(options.workers)]
            )
        except ray.exceptions.RayTaskError as failed:
            raise UserError(
                f"batch_size is auto, but the memory of a worker could not be measured ({one_line(failed.cause)}): "
                "give a number"
            ) from failed
    return found
