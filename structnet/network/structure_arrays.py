"""The structure of a network as arrays that files hold, and back, checked.

In memory connections start at ports, whose numbers depend on windows and flat groups. In a file they start at units, as
they do where all groups are plain, and an array beside them says how each unit is seen.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from structnet.network.architecture import Architecture, check_architecture
from structnet.network.topology import Topology

OF_MAPS = ("offset", "sides", "window", "flat")
STRUCTURE = ("architecture", "source", "target", *OF_MAPS)


def structure_arrays(topology: Topology) -> dict[str, np.ndarray]:
    """architecture, (groups,) int64, and source and target, (connections,) int32, numbers of units.

    With feature maps also offset, (connections,) int32, the code of each port (structnet.network.architecture); sides,
    (groups, 2) int64, height and width; window, (1,) int64; and flat, int64, the numbers of the groups that are.
    """
    shape = topology.architecture
    arrays = {
        "architecture": np.array(shape, dtype=np.int64),
        "source": topology.source_unit,
        "target": topology.target,
    }
    if not shape.has_maps:
        return arrays
    return arrays | {
        "offset": topology.code_of_port(topology.source).astype(np.int32),
        "sides": np.array(shape.sides, dtype=np.int64),
        "window": np.array([shape.window], dtype=np.int64),
        "flat": np.array(sorted(shape.flat), dtype=np.int64),
    }


def architecture_in(arrays: Mapping[str, np.ndarray]) -> Architecture:
    """The architecture in arrays of `structure_arrays`. Raises ValueError for what is none."""
    sizes = arrays["architecture"].tolist()
    if "sides" not in arrays:
        return check_architecture(sizes)
    sides, window, flat = (arrays[name] for name in ("sides", "window", "flat"))
    if sides.shape != (len(sizes), 2) or window.shape != (1,):
        raise ValueError(
            f"'sides' has shape {sides.shape} and 'window' {window.shape}, but there are {len(sizes)} groups with a "
            "height and a width each, and one window"
        )
    if len(beyond := flat[(flat < 0) | (flat >= len(sizes))]):
        raise ValueError(f"group {int(beyond[0])} is flat, but groups are numbered 0 … {len(sizes) - 1}")
    shape = Architecture(sizes, (tuple(side) for side in sides.tolist()), int(window[0]), flat.tolist())
    if not shape.has_maps:
        raise ValueError("there are sides, but no group has maps")
    return check_architecture(shape)


def topology_in(
    arrays: Mapping[str, np.ndarray], architecture: Architecture, shape_numbers: int = 0
) -> Topology:
    """The topology in arrays of `structure_arrays`, of this architecture.

    Raises ValueError for connections that cannot be, are doubled or not in their order.
    """
    source, target = arrays["source"], arrays["target"]
    ports = [size * count for size, count in zip(architecture, architecture.port_counts)]
    if sum(ports) > np.iinfo(np.int32).max:
        raise ValueError("it has more units than can be numbered")
    if architecture.has_maps:
        source = _ports(architecture, source, arrays["offset"])
    topology, order = Topology.sorted(architecture, source, target, shape_numbers)
    if np.any(np.diff(order) < 0):
        raise ValueError("the connections are not in their order")
    return topology


def _ports(architecture: Architecture, unit: np.ndarray, code: np.ndarray) -> np.ndarray:
    """The ports of these codes of units. Raises ValueError where there is no such unit, or it has no such port."""
    nothing = np.empty(0, dtype=np.int32)
    bare = Topology(architecture, nothing, nothing)
    if unit.shape != code.shape:
        raise ValueError(f"{len(code)} offsets for {len(unit)} connections")
    if np.any((unit < 0) | (unit >= bare.units)):
        raise ValueError(f"a connection names a unit outside 0 … {bare.units - 1}")
    if np.any((code < 0) | (code >= np.array(architecture.port_counts)[bare.group_of(unit)])):
        raise ValueError("a connection starts at a port that its source does not have")
    return bare.port_of(unit, code)


def check_statistics(statistics: np.ndarray, topology: Topology) -> None:
    """Raises ValueError unless they are finite means and variances of the units behind the input, none negative."""
    if statistics.shape != (2, topology.bias_count):
        raise ValueError(
            f"'statistics' has shape {statistics.shape}, but {topology.bias_count} units have a mean and a variance"
        )
    if not np.isfinite(statistics).all() or np.any(statistics[1] < 0):
        raise ValueError("a mean or a variance is not finite, or a variance is negative")
