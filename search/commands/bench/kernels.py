"""What the rule in structnet.network.link rests on: the three products of a link, by size, density and kernel."""

from __future__ import annotations

from collections.abc import Callable

import torch

from search.commands.bench.measuring import Pairs, Rows, row_of_pairs, time_pairs
from search.session.console import Console
from search.session.tables import table_of
from structnet.network.link import SparseLink, pick_kernel
from structnet.network.random_topology import random_topology
from structnet.seeds import stream

SIZES = ((64, 32), (100, 10), (784, 32), (784, 100), (300, 100), (1000, 10), (784, 1000), (1000, 1000))
DENSITIES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8)
BATCH = 128


def measure_rule(console: Console, repeats: int, device: torch.device) -> Rows:
    """Prints, per size and density, how many times as fast sparse rows are as a masked matrix; rows of the table."""
    console.print(
        f"Forward and both gradients of a link, batch {BATCH}, one thread, {device}: masked_dense ÷ sparse_rows, "
        f"median of {repeats} pairs. In brackets: the rule in structnet.network.link picks masked_dense.",
    )
    table, rows = table_of(["link"], [*(f"{density:g}" for density in DENSITIES), "crossover"]), []
    for n_in, n_out in SIZES:
        ratios, cells = [], []
        for density in DENSITIES:
            pairs, connections = _measure(n_in, n_out, density, repeats, device)
            ratios.append(pairs.ratio)
            picked = pick_kernel(n_in, n_out, connections, device)
            cells.append(f"{pairs.ratio:.2f}" if picked == "sparse_rows" else f"({pairs.ratio:.2f})")
            case = f"{n_in}-{n_out} density {density:g} batch {BATCH} {device.type}"
            rows.append(row_of_pairs("kernels", case, pairs, "masked_dense", device))
        table.add_row(f"{n_in}-{n_out}", *cells, _crossover(ratios))
    console.print(table)
    return rows


def _measure(n_in: int, n_out: int, density: float, repeats: int, device: torch.device) -> tuple[Pairs, int]:
    topology = random_topology([n_in, n_out], density, stream(0, "bench"))
    sides = [
        _products(SparseLink(topology, (0, 1), device, name)) for name in ("sparse_rows", "masked_dense")
    ]
    return time_pairs(sides[0], sides[1], repeats, device), topology.connections


def _products(link: SparseLink) -> Callable[[], None]:
    """All that a training step asks of a link between hidden groups."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(link.device)

    values, start = noise(link.connections), noise(link.n_out, 1)
    source, error = noise(link.n_in, BATCH), noise(link.n_out, BATCH)

    def step() -> None:
        link.kernel.forward(link, values, source, start)
        link.kernel.value_gradient(link, error, source, torch.zeros_like(values))
        link.kernel.source_gradient(link, values, error)

    return step


def _crossover(ratios: list[float]) -> str:
    """The density at which both kernels are equally fast, between the last two that disagree."""
    for index in range(len(ratios) - 1, 0, -1):
        if ratios[index - 1] >= 1 > ratios[index]:
            share = (ratios[index - 1] - 1) / (ratios[index - 1] - ratios[index])
            return f"{DENSITIES[index - 1] + share * (DENSITIES[index] - DENSITIES[index - 1]):.2f}"
    return f"below {DENSITIES[0]:g}" if ratios[0] < 1 else f"above {DENSITIES[-1]:g}"
