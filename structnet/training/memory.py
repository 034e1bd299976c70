"""How large a batch may be: from the free memory and from what an image takes, both measured here and now.

A batch that follows the hardware changes what training comes to, so nothing asks for it by itself; how many images are
evaluated at once changes nothing, so evaluation always does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil
import torch

from structnet.errors import UserError
from structnet.network.activations import activation_named
from structnet.network.block_normalisation import block_width, normalisation_of
from structnet.network.network import StructNet
from structnet.network.propagation import backpropagate, flatten, propagate
from structnet.network.random_topology import least_density
from structnet.training.lockstep import BLOCK, STEPS, workspace_for
from structnet.training.out_of_memory import retry_smaller
from structnet.training.tap_lockstep import tap_workspace

SHARE = 0.5  # of the free memory, for a batch: the rest is for networks that grow, and for neighbours
# Of a training epoch, whatever would fit. The result follows the batch: with fewer updates, at learning rates that were
# chosen for batches of 128, a few epochs end far from where they would with smaller batches.
LEAST_STEPS = 20
# Images that torch evaluates at once on a CPU: with more the arrays leave the caches, and 20,000 at once took two to
# three times as long as ten times 2,000 (64-300-100-10 by sparse rows, one thread; dense ones took as long).
MOST_ON_CPU = 2048
PROBED_DENSITY = 0.05
PROBED = (32, 96)  # images of two small passes, whose difference is free of what does not depend on the batch
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")

Found = TypeVar("Found")


def free_bytes(device: torch.device | str) -> int:
    """Bytes that this process may still take on a device. Raises UserError for a GPU that torch does not find.

    On a CPU what the system has available, within the limit of a container. On CUDA what is free on the GPU or kept
    by torch for reuse, within the share that this process is held to.
    """
    place = _place(device)
    if place.type == "cpu":
        available = int(psutil.virtual_memory().available)
        return min([available, *_left_in_cgroups(CGROUPS, OWN_CGROUP)])
    free, total = torch.cuda.mem_get_info(place)
    reserved, allocated = torch.cuda.memory_reserved(place), torch.cuda.memory_allocated(place)
    share = torch.cuda.get_per_process_memory_fraction(place)
    return max(0, min(free + reserved - allocated, int(share * total) - allocated))


def devices_like(device: str) -> list[str]:
    """The devices that `device` may stand for on this machine: `cuda` for each of its GPUs. Raises UserError."""
    place = _place(device)
    if place.type == "cpu" or place.index is not None:
        return [str(place)]
    return [f"cuda:{index}" for index in range(torch.cuda.device_count())]


def _place(device: torch.device | str) -> torch.device:
    try:
        place = torch.device(device)
        known = place.type == "cpu" or (
            place.type == "cuda" and (place.index or 0) < torch.cuda.device_count()
        )
    except RuntimeError:  # no device of torch's at all
        known = False
    if not known:
        raise UserError(
            f"device is '{device}', but must be cpu, or cuda where torch finds a GPU: leave it at cpu"
        )
    return place


def _left_in_cgroups(root: Path, own: Path) -> Iterator[int]:
    """Bytes left in each control group of this process that has a limit: version 2 and 1 of the kernel's files.

    A container often sees its own group as the root, so the groups above it are looked at too.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:  # no Linux
        return
    for number, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if number == "0" and not controllers:
            base, names = root, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            base = root / "memory"
        else:
            continue
        group = Path(path.lstrip("/"))
        for folder in (base / group, *(base / above for above in group.parents)):
            try:
                limit, used = ((folder / name).read_text().strip() for name in names[:2])
                if limit != "max":
                    yield max(0, int(limit) - int(used) + _cached(folder, names[2]))
            except (OSError, ValueError):  # the group has no limit, or is not to be seen from inside
                continue


def _cached(folder: Path, name: str) -> int:
    """Bytes of files that a group counts as used, and the kernel gives up when somebody needs them."""
    stated = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
    return next((int(parts[1]) for parts in stated if parts[0] == name), 0)


def bytes_per_image(network: StructNet, *, training: bool = True) -> float:
    """Bytes that one more image in a batch takes, on the device that the network is on.

    On CUDA by the peaks of two small passes; elsewhere the arrays that such passes make are counted. training: forward
    and backward, else forward alone. Compiled steps work in blocks of images, so for them it is an upper bound.
    """
    if network.is_compiled:
        return _compiled_bytes(network)
    measured = _peak_bytes if network.values.device.type == "cuda" else _array_bytes
    small, large = (measured(network, images, training) for images in PROBED)
    return max(float(network.values.element_size()), (large - small) / (PROBED[1] - PROBED[0]))


def _compiled_bytes(network: StructNet) -> float:
    """The columns of a workspace, and the place of the image in the order of all steps of a call."""
    kind = np.dtype(str(network.values.dtype).removeprefix("torch."))
    topology, shape, width = network.topology, network.topology.architecture, BLOCK
    columns: list[np.ndarray]
    if shape.has_maps:
        taps = tap_workspace(topology.sheets, BLOCK, kind, is_normal=network.statistics is not None)
        columns, width = [taps.state, taps.error, taps.before], block_width(BLOCK)
    else:
        code = activation_named(network.activation).code
        work = workspace_for(topology.plan, code, shape.inputs, BLOCK, kind)
        columns = [array for array in work if array.ndim == 2]
    return sum(array.nbytes for array in columns) / width + STEPS * np.dtype(np.int64).itemsize


def _passes(network: StructNet, images: int, training: bool) -> list[torch.Tensor]:
    """What a step of so many images keeps at once: the images, activations, and errors in training."""
    values = network.values.detach()
    inputs = network.topology.architecture.inputs
    stored = torch.zeros(images, inputs, dtype=values.dtype, device=values.device)
    normalisation = normalisation_of(network, images, images) if training else None
    activations = propagate(network, values, flatten(stored, values.dtype), normalisation=normalisation)
    if not training:
        return [stored, *activations]
    error = torch.log_softmax(activations[-1], dim=0).exp_()
    _, errors = backpropagate(network, values, activations, error, normalisation=normalisation)
    return [stored, *activations, *(found for found in errors if found is not None)]


def _array_bytes(network: StructNet, images: int, training: bool) -> int:
    kept = _passes(network, images, training)
    # A product makes its result beside what is kept, at most as large as the largest of these.
    sizes = [array.nbytes for array in kept]
    return sum(sizes) + max(sizes)


def _peak_bytes(network: StructNet, images: int, training: bool) -> int:
    place = network.values.device
    _passes(network, images, training)  # what libraries set up with the first call is no part of a batch
    before = torch.cuda.memory_allocated(place)
    torch.cuda.reset_peak_memory_stats(place)
    _passes(network, images, training)
    return torch.cuda.max_memory_allocated(place) - before


def measure(architecture: Sequence[int], device: str) -> tuple[int, float]:
    """(free bytes of a device, bytes that one more image takes in training a network of these groups on it).

    Units decide, not connections, so any sparse network of the architecture will do. Raises UserError as `free_bytes`.
    """
    place = _place(device)
    density = min(1.0, max(PROBED_DENSITY, 1.2 * least_density(architecture)))
    per_image = bytes_per_image(StructNet(architecture, density).to(place))
    return free_bytes(place), per_image


def largest_batch(free: float, per_image: float, images: int, *, least_steps: int = LEAST_STEPS) -> int:
    """A power of two of images, at least 1: as many as fit SHARE of the free bytes and leave an epoch its steps.

    images: of an epoch. least_steps: of it; 1 where the size of a batch changes no result.
    """
    most = min(SHARE * free / per_image, images / least_steps)
    return int(2 ** max(0, int(most).bit_length() - 1))


def halved_on_lack(batch: int, work: Callable[[int], Found]) -> Found:
    """work(batch); each time that torch runs out of memory, with half as many images, down to 1."""

    def smaller() -> bool:
        nonlocal batch
        fits = batch > 1
        batch = max(1, batch // 2)
        return fits

    return retry_smaller(lambda: work(batch), smaller)


def images_at_once(network: StructNet, images: int) -> int:
    """How many of so many images a network is best evaluated on at once, by torch, on its device."""
    if images <= PROBED[1]:
        return max(1, images)
    per_image, device = bytes_per_image(network, training=False), network.values.device
    most = min(images, MOST_ON_CPU) if device.type == "cpu" else images
    return largest_batch(free_bytes(device), per_image, most, least_steps=1)
