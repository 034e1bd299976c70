"""What batch normalisation of maps leaves behind when training is over: taps and biases without it.

A network that normalises holds means and variances that its maps had, on average, while it was trained. By these it is
judged, saved for use and exported: as the network of the same connections whose taps are divided by the deviation of
the map they end at, and whose biases take the mean away. Both have as many parameters.
"""

from __future__ import annotations

from typing import Protocol

import torch

from structnet.compiled.normalise import LEAST_VARIANCE
from structnet.network.topology import Topology


class Normalised(Protocol):
    """What is folded: a structnet.network.network.StructNet."""

    topology: Topology

    @property
    def statistics(self) -> torch.Tensor | None:
        """Means and variances, (2, units behind the input), or None where nothing is normalised."""


def first_statistics(topology: Topology, dtype: torch.dtype = torch.float32) -> torch.Tensor | None:
    """Of a network before training: means of 0 and variances of 1; None for one without maps."""
    if not topology.architecture.has_maps:
        return None
    return torch.stack(
        [torch.zeros(topology.bias_count, dtype=dtype), torch.ones(topology.bias_count, dtype=dtype)]
    )


def scales(network: Normalised) -> tuple[torch.Tensor, torch.Tensor]:
    """By what taps and biases are multiplied in the folded network, and what is added: (parameters,) each.

    1 and 0 for all that is not normalised.
    """
    topology, statistics = network.topology, network.statistics
    if statistics is None:
        raise ValueError("the network does not normalise")
    mean, variance = statistics[0], statistics[1]
    normal = torch.zeros(topology.bias_count, dtype=torch.bool)
    for span in map_spans(topology).values():
        normal[span] = True
    normal = normal.to(mean.device)
    deviation = torch.where(normal, (variance + LEAST_VARIANCE).rsqrt(), torch.ones_like(variance))
    shift = torch.where(normal, -mean * deviation, torch.zeros_like(mean))
    unit = torch.from_numpy(topology.target.astype("int64") - topology.architecture[0]).to(mean.device)
    factor, added = mean.new_ones(topology.parameters), mean.new_zeros(topology.parameters)
    factor[: topology.connections] = deviation[unit]
    topology.split(added)[1].copy_(shift)
    return factor, added


def folded_values(network: Normalised, values: torch.Tensor) -> torch.Tensor:
    """(parameters,) of the network without normalising that computes the same; values themselves if there is none."""
    if network.statistics is None:
        return values
    factor, added = scales(network)
    return values * factor + added


def map_spans(topology: Topology) -> dict[int, slice]:
    """By group of maps, where these lie among the units behind the input."""
    inputs = topology.architecture[0]
    return {
        group: slice(int(topology.offsets[group]) - inputs, int(topology.offsets[group + 1]) - inputs)
        for group in range(1, topology.groups)
        if not topology.architecture.is_plain(group)
    }
