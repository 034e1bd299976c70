"""What `is_dense` of structnet.compiled.plan rests on: steps with links as sparse rows and as matrices."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

from search.commands.bench.measuring import CPU, Pairs, Rows, row_of_pairs, time_pairs
from search.commands.bench.sides import CompiledSteps
from search.session.console import Console
from search.session.tables import table_of
from structnet.compiled import plan
from structnet.network.network import StructNet

SIZES = ((784, 5), (784, 32), (784, 100), (784, 300), (784, 1000), (300, 300), (1000, 1000))
DENSITIES = (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)


def measure_rule(console: Console, repeats: int) -> Rows:
    """Prints, per size and density, how many times as fast sparse rows are as a matrix; rows of the table."""
    console.print(
        f"A compiled step of n_in-n_out-2 on a batch in memory, one thread: the link as a matrix ÷ as sparse rows, "
        f"median of {repeats} pairs. In brackets: the rule in structnet.compiled.plan picks the matrix.",
    )
    table, rows = table_of(["link"], [*(f"{density:g}" for density in DENSITIES), "crossover"]), []
    for n_in, n_out in SIZES:
        ratios, cells = [], []
        for density in DENSITIES:
            network = StructNet([n_in, n_out, 2], density, allocation="uniform")
            pairs = _measure(network, repeats)
            ratios.append(pairs.ratio)
            picked = plan.is_dense(n_in, n_out, round(density * n_in * n_out))
            cells.append(f"({pairs.ratio:.2f})" if picked else f"{pairs.ratio:.2f}")
            case = f"{n_in}-{n_out} density {density:g} cpu"
            rows.append(row_of_pairs("kernels", case, pairs, "a matrix", CPU))
        table.add_row(f"{n_in}-{n_out}", *cells, _crossover(ratios))
    console.print(table)
    return rows


def _measure(network: StructNet, repeats: int) -> Pairs:
    sides = []
    for always in (False, True):
        # A network of its own for each side, as a topology keeps its plan.
        same = StructNet.from_parts(replace(network.topology), network.values.detach().clone())
        with mock.patch.object(plan, "is_dense", lambda n_in, n_out, size, here=always: here and n_out > 2):
            sides.append(CompiledSteps(same))
    return time_pairs(sides[0], sides[1], repeats, CPU)


def _crossover(ratios: list[float]) -> str:
    """The density at which both are equally fast, between the last two that disagree."""
    for index in range(len(ratios) - 1, 0, -1):
        if ratios[index - 1] >= 1 > ratios[index]:
            share = (ratios[index - 1] - 1) / (ratios[index - 1] - ratios[index])
            return f"{DENSITIES[index - 1] + share * (DENSITIES[index] - DENSITIES[index - 1]):.2f}"
    return f"below {DENSITIES[0]:g}" if ratios[0] < 1 else f"above {DENSITIES[-1]:g}"
