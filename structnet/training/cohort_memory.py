"""How many members of a cohort a GPU takes at once, from what each needs there and what is free.

What is counted is an estimate: where it says too little, the cohort is halved
(structnet.training.out_of_memory).
"""

from __future__ import annotations

from collections.abc import Sequence

from structnet.network.state import TrainState
from structnet.network.topology import Topology
from structnet.training.memory import free_bytes

SHARE = 0.8  # of the free memory; the rest is for what libraries take and what lies between blocks
IMAGES = 512  # that are in work at once: judged, or in a batch, with errors beside the activations


def parts_that_fit(bytes_of_members: Sequence[int], free: int) -> list[int]:
    """Where parts begin and the last ends, each of as many neighbours as fit the free bytes together.

    A member that takes more than that alone is a part of its own.
    """
    bounds, taken = [0], 0
    for member, size in enumerate(bytes_of_members):
        if member > bounds[-1] and taken + size > free:
            bounds.append(member)
            taken = 0
        taken += size
    return [*bounds, len(bytes_of_members)]


def kept_bytes(parameters: int, item: int) -> int:
    """What a member of a tile holds for good; item: bytes of a value.

    Of each parameter: value and two moments, all three again to undo what fails; its owner, age and indices.
    """
    return parameters * (6 * item + 24)


def working_bytes(topology: Topology, widest: Sequence[int], kernel: str, item: int) -> int:
    """What a member takes while its tile computes.

    widest: units of each group of the widest member, to which matrices between hidden groups are padded.
    kernel: that members ask for. item: bytes of a value.
    """
    cells = [0]
    for (source, target), span in topology.links.items():
        rows = topology.architecture[target] if source == 0 else widest[target]
        matrix = rows * widest[source]
        # As structnet.training.cohort_kernels.pick_in_tile decides, but for tiles that are small anyway.
        is_dense = kernel == "auto" and (span.stop - span.start) * 100 >= matrix
        cells.append(matrix if is_dense or kernel == "masked_dense" else 0)
    # Gradient, spread, step, rate, what was before and the factor of its age; activations, padded and not,
    # and errors; the largest matrix, and the block that the one before it has left.
    return item * (6 * topology.parameters + 3 * topology.bias_count * IMAGES + 2 * max(cells))


def bounds_within(states: Sequence[TrainState], free: int) -> list[int]:
    """Where parts begin and the last ends: each of them in turn computes in what all members leave free."""
    like = states[0].network
    topologies, item = [state.network.topology for state in states], like.values.element_size()
    widest = [max(sizes) for sizes in zip(*(topology.architecture for topology in topologies))]
    kept = sum(kept_bytes(topology.parameters, item) for topology in topologies)
    working = [working_bytes(topology, widest, like.kernel, item) for topology in topologies]
    return parts_that_fit(working, free - kept)


def first_bounds(states: Sequence[TrainState]) -> list[int]:
    """Where the parts of a new cohort begin and end: as few as the memory of a GPU takes, one on a CPU.

    Networks of feature maps by torch, whose convolutions are not joined, are a part each.
    """
    network, values = states[0].network, states[0].network.values
    if network.topology.architecture.has_maps and not network.is_compiled:
        return list(range(len(states) + 1))
    if not values.is_cuda:
        return [0, len(states)]
    return bounds_within(states, int(SHARE * free_bytes(values.device)))
