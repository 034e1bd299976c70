"""What new units can read and what they can say: ports, seen at the positions of the group that they join.

Where all groups are plain a port is a unit and has one position, and nothing here does more than pick rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from structnet.measure.diagnosis import Diagnosis, spread_of
from structnet.measure.ports import seen_at, sent_back
from structnet.network.topology import Topology


@dataclass(frozen=True)
class Reading:
    """All that units at the positions of a group can read of the source groups.

    Ports come in the order of the groups, unit after unit. n: positions of the group · images.
    """

    diagnosis: Diagnosis
    sources: Sequence[int]
    group: int

    @cached_property
    def port(self) -> np.ndarray:
        """(ports,) their numbers."""
        topology = self.diagnosis.topology
        parts = [np.empty(0, dtype=np.int64)]
        for source in self.sources:
            codes = np.array(topology.architecture.port_range((source, self.group)))
            span = topology.units_of(source)
            parts.append(
                topology.port_of(
                    np.repeat(np.arange(span.start, span.stop), len(codes)),
                    np.tile(codes, span.stop - span.start),
                )
            )
        return np.concatenate(parts)

    @cached_property
    def spread(self) -> np.ndarray:
        """(ports,) standard deviation of what each shows; exactly 0 where it is only rounding."""
        return self._moments[0]

    @cached_property
    def mean(self) -> np.ndarray:
        """(ports,) mean of what each shows."""
        return self._moments[1]

    @cached_property
    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        diagnosis, shape = self.diagnosis, self.diagnosis.topology.architecture
        spread, mean = [], []
        for source in self.sources:
            if shape.is_plain(source):
                units = diagnosis.topology.units_of(source)
                spread.append(diagnosis.spread[units])
                mean.append(diagnosis.mean_activation[units])
                continue
            seen = (self._seen(source, code) for code in shape.port_range((source, self.group)))
            found = [(spread_of(part), part.mean(dim=1).double().cpu().numpy()) for part in seen]
            for of_all, of_codes in zip((spread, mean), zip(*found)):
                of_all.append(np.stack(of_codes, axis=1).reshape(-1))
        return np.concatenate(spread), np.concatenate(mean)

    def rows(self, column: np.ndarray | None = None) -> torch.Tensor:
        """(columns, n) what the ports in these places show, or all of them."""
        topology = self.diagnosis.topology
        if not topology.architecture.has_maps:
            parts = [self.diagnosis.activations[source] for source in self.sources]
            every = parts[0] if len(parts) == 1 else torch.cat(parts)
            return every if column is None else every[torch.from_numpy(column).to(every.device)]
        port = self.port if column is None else self.port[column]
        unit, code = topology.unit_of_port(port), topology.code_of_port(port)
        rows = self.diagnosis.activations[-1].new_empty(len(port), self._samples)
        group = topology.group_of(unit)
        for source in self.sources:
            for shown in np.unique(code[group == source]).tolist():
                here = np.flatnonzero((group == source) & (code == shown))
                rows[torch.from_numpy(here).to(rows.device)] = self._seen(
                    source, shown, topology.position_in(source, unit[here])
                )
        return rows

    def sums(self, column: np.ndarray, value: np.ndarray) -> torch.Tensor:
        """(rows, n) weighted sums; column: (rows, k) places of ports, value: of each its weight."""
        if self.diagnosis.topology.architecture.has_maps:
            used, place = np.unique(column, return_inverse=True)
            active, column = self.rows(used), place.reshape(column.shape)
        else:
            active = self.rows()
        weight = torch.from_numpy(value).to(active.device, active.dtype)
        return weighted_sums(active, torch.from_numpy(column).to(active.device), weight)

    def with_error(self, error: torch.Tensor) -> np.ndarray:
        """(ports,) Σ error · what a port shows, float64; error: (n,)."""
        shape, parts = self.diagnosis.topology.architecture, []
        for source in self.sources:
            products = [self._seen(source, code) @ error for code in shape.port_range((source, self.group))]
            parts.append(torch.stack(products, dim=1).view(-1))
        products_of_all: np.ndarray = torch.cat(parts).double().cpu().numpy()
        return products_of_all

    def with_errors(self, error: torch.Tensor) -> torch.Tensor:
        """(rows, ports) Σ error · what a port shows; error: (rows, n)."""
        shape, parts = self.diagnosis.topology.architecture, []
        for source in self.sources:
            products = [
                error @ self._seen(source, code).t() for code in shape.port_range((source, self.group))
            ]
            parts.append(torch.stack(products, dim=2).view(len(error), -1))
        return torch.cat(parts, dim=1)

    @property
    def _samples(self) -> int:
        images = self.diagnosis.activations[-1].shape[1]
        return images * self.diagnosis.topology.architecture.area(self.group)

    def _seen(self, source: int, code: int, units: np.ndarray | None = None) -> torch.Tensor:
        shown = self.diagnosis.activations[source]
        if units is not None:
            shown = shown[torch.from_numpy(units).to(shown.device)]
        return seen_at(self.diagnosis.topology.architecture, (source, self.group), code, shown)


def weighted_sums(active: torch.Tensor, column: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """(rows, n) Σ value · active[column]: ten times as fast as a dense product where k is small."""
    return torch.nn.functional.embedding_bag(column, active, per_sample_weights=value, mode="sum")


@dataclass(frozen=True)
class Saying:
    """All connections that units at the positions of a group can have to the target groups.

    They come in the order of the groups, target after target and, of each, port after port.
    """

    diagnosis: Diagnosis
    targets: Sequence[int]
    group: int

    @cached_property
    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """(connections,) numbers of their targets, and codes of the ports of the unit that they start at."""
        topology, target, code = self.diagnosis.topology, [], []
        for group in self.targets:
            codes, span = (
                np.array(topology.architecture.port_range((self.group, group))),
                topology.units_of(group),
            )
            target.append(np.repeat(np.arange(span.start, span.stop), len(codes)))
            code.append(np.tile(codes, span.stop - span.start))
        nothing = [np.empty(0, dtype=np.int64)]
        return np.concatenate(nothing + target), np.concatenate(nothing + code)

    def gradient(self, fires: torch.Tensor) -> torch.Tensor:
        """(rows, connections) of the loss by each, from units with these activations, (rows, n)."""
        shape, parts = self.diagnosis.topology.architecture, []
        for group, error in self._errors():
            pair = self.group, group
            products = [seen_at(shape, pair, code, fires) @ error.t() for code in shape.port_range(pair)]
            parts.append(
                products[0] if len(products) == 1 else torch.stack(products, dim=2).view(len(fires), -1)
            )
        return torch.cat(parts, dim=1)

    def errors(self) -> torch.Tensor:
        """(connections, n) what each brings back of the error at its target: times activation, it is the gradient."""
        shape, parts = self.diagnosis.topology.architecture, []
        for group, error in self._errors():
            pair = self.group, group
            back = [sent_back(shape, pair, code, error) for code in shape.port_range(pair)]
            parts.append(
                back[0] if len(back) == 1 else torch.stack(back, dim=1).view(len(back) * len(error), -1)
            )
        return torch.cat(parts)

    def with_errors(self, reading: Reading) -> tuple[torch.Tensor, torch.Tensor]:
        """(connections, ports) Σ of `errors` · what the ports of a reading show, and (connections,) Σ errors; float64.

        Without ever having all of the errors there.
        """
        shape = self.diagnosis.topology.architecture
        products, totals = [], []
        for group, error in self._errors():
            pair = self.group, group
            back = (sent_back(shape, pair, code, error) for code in shape.port_range(pair))
            found = [(reading.with_errors(part).double(), part.sum(dim=1).double()) for part in back]
            product, total = (torch.stack(part, dim=1) for part in zip(*found))
            products.append(product.view(-1, product.shape[2]))
            totals.append(total.view(-1))
        return torch.cat(products), torch.cat(totals)

    def _errors(self) -> list[tuple[int, torch.Tensor]]:
        found = [(group, self.diagnosis.errors[group]) for group in self.targets]
        return [(group, error) for group, error in found if error is not None]


def room(topology: Topology, group: int, targets: Sequence[int]) -> int:
    """Connections that a unit at the positions of a group can have to the target groups."""
    shape = topology.architecture
    return sum(shape[target] * len(shape.port_range((group, target))) for target in targets)
