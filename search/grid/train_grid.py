"""A grid of networks, trained in blocks on Ray Tune: what hunt, ladder, sweep and bootstrap have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from search.grid.options import GridOptions
from search.grid.progress import GridProgress
from search.grid.trials import train_trials, trial_rows, whole_rows
from search.options import CommonOptions
from search.session.augmentation import augmented
from search.session.batch_size import with_batch_size
from search.session.console import Console
from search.session.experiment import Experiment
from search.tune.trials import Factory, shared_by
from structnet.data.dataset import Dataset
from structnet.errors import UserError, WorkFailed
from structnet.network.topology import ALLOCATIONS
from structnet.storage.snapshot import load_snapshot
from structnet.training.recipe import recipe_of
from structnet.trials.champions import champions
from structnet.trials.cohort import CohortWork
from structnet.trials.grid import Member, blocks_of, check_memory
from tournament.settings import fitted_lengths

Options = TypeVar("Options", bound=GridOptions)


def fitted(options: Options, data: Dataset, *, allocations: Sequence[str] = ()) -> Options:
    """The options with a batch size that fits the data, where none is given; raises UserError for bad ones."""
    options = with_batch_size(options, data)
    batch_size, _, _ = fitted_lengths(len(data.train), options.epochs, options.batch_size)
    recipe_of({**dict(options), "batch_size": batch_size})
    if not set(allocations or [options.allocation]) <= set(ALLOCATIONS):
        raise UserError(f"allocation is '{options.allocation}', but must be one of {', '.join(ALLOCATIONS)}")
    return augmented(options, data).model_copy(update={"batch_size": batch_size})


def train_grid(
    members: Sequence[Member],
    data: Dataset,
    options: GridOptions,
    experiment: Experiment,
    console: Console,
    *,
    factory: Factory = CohortWork,
    progress: Callable[..., GridProgress] = GridProgress,
) -> pa.Table:
    """Trains all networks, on a Ray that is running; their rows, sorted by block. Raises WorkFailed for a lost block.

    factory and progress: what trains a block, and what is told of it; a benchmark has its own.
    """
    blocks = blocks_of(members)
    if not options.address:
        check_memory(blocks, options.workers)
    configs = [block.to_config() for block in blocks]
    before = []
    if options.resume:
        there = trial_rows(options.results, experiment.name, {block.name for block in blocks})
        before = there.select(GridProgress.COLUMNS).to_pylist()
    with progress(console, blocks, experiment, before) as shown:
        shared = shared_by(data, options, experiment)
        rows = train_trials(
            factory,
            configs,
            shared,
            options,
            experiment,
            shown.report,
            also_lost=lambda rows: lost_since(rows, options, experiment),
        )
    if len(rows) != len(members):
        raise WorkFailed(f"{len(rows)} rows for {len(members)} networks in experiment {experiment.name}")
    return rows


def lost_since(rows: pa.Table, options: CommonOptions, experiment: Experiment) -> set[str]:
    """Blocks of an earlier run whose rows of epochs, or networks that are to be judged, are not whole any more."""
    if not options.resume:
        return set()
    return without_epochs(rows, options.results, experiment.name) | without_champions(rows)


def without_epochs(rows: pa.Table, results: str, experiment: str) -> set[str]:
    """Blocks with a network that has not a row for each of its epochs."""
    key = ["trial", "network"]
    counted = whole_rows(results, "epochs", experiment).group_by(key).aggregate([("epoch", "count")])
    both = rows.select([*key, "epochs"]).join(counted, key)
    lacking = pc.less(pc.fill_null(both["epoch_count"], 0), both["epochs"])
    return set(both.filter(lacking)["trial"].to_pylist())


def without_champions(rows: pa.Table) -> set[str]:
    """Blocks with a champion whose snapshot cannot be read. Those of others may be given up already."""
    lost = set()
    for row in champions(saved(rows)).values():
        try:
            load_snapshot(row["snapshot"])
        except UserError:
            lost.add(row["trial"])
    return lost


def saved(rows: pa.Table) -> list[dict[str, Any]]:
    """The rows of the networks of which there is a snapshot: the few of each block that may be champions."""
    found: list[dict[str, Any]] = rows.filter(pc.is_valid(rows["snapshot"])).to_pylist()
    return found
