"""`structnet ladder`: one architecture at falling densities, and the cliff where it becomes too sparse to learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from search.commands.ladder.command import LadderOptions
from search.commands.ladder.rungs import LEAST_RUNGS, allocations_of, rungs_of
from search.grid.train_grid import fitted, train_grid
from search.options import numbers
from search.session.console import Console, outcome
from search.session.run import (
    architecture_of,
    check_maps,
    load_data,
    on_ray,
    print_outcome,
    recorded,
    unfinished,
)
from search.session.tables import table_of
from structnet.data.dataset import Dataset
from structnet.errors import UserError
from structnet.experiments.cliff import Cliff, Rung, ladder_rows, locate_cliff
from structnet.training.evaluation import chance_accuracy
from structnet.trials.grid import Member, grid


def run(options: LadderOptions) -> None:
    """Runs the command."""
    console = Console()
    data = load_data(options)
    shares = allocations_of(options.allocation)
    options = fitted(options, data, allocations=shares)
    members = members_of(options, data, shares)
    experiment = unfinished("ladder", options, console, data)
    if experiment is None:
        return
    console.say(
        f"A ladder of {len(members)} networks {options.architecture} on {data.name}, {options.epochs} epochs each, "
        f"{options.workers} workers; experiment {experiment.name}"
    )
    chance = chance_accuracy(data.validation.labels, data.classes)
    with on_ray(options), recorded(experiment, console, rng_seed=options.rng_seed):
        rows = train_grid(members, data, options, experiment, console).to_pylist()
        ladders = {share: rungs_of(rows, share, shares) for share in shares}
        check_rungs(ladders, members)
        cliffs = {share: locate_cliff(rungs, chance) for share, rungs in ladders.items()}
        experiment.end("", "finished", accuracy=max(cliff.plateau for cliff in cliffs.values()))
    print_ladders(rows, members, ladders, cliffs, console)
    console.say(f"Chance on validation is {chance:.4f}.")
    outcome(cliffs={share: vars(cliff) for share, cliff in cliffs.items()}, chance=chance)
    columns = (
        "density, network like '%_uniform_%' as uniform, avg(accuracy) accuracy, stddev(accuracy) spread"
    )
    sql = f"select {columns} from networks where experiment = '{experiment.name}' group by all order by all"
    print_outcome(experiment, sql, console)


def members_of(options: LadderOptions, data: Dataset, shares: Sequence[str]) -> list[Member]:
    """The networks of the ladder; raises UserError for what does not fit, or too few rungs for a cliff."""
    densities = numbers("densities", options.densities)
    if 0 < len(set(densities)) < LEAST_RUNGS:
        raise UserError(
            f"densities are {options.densities}, but a ladder needs at least {LEAST_RUNGS} rungs: three make the "
            "plateau that a fall is measured from"
        )
    shape = architecture_of(options.architecture, data)
    check_maps(shape, options)
    seeds = range(options.rng_seed, options.rng_seed + options.rng_seeds)
    members = grid([shape], densities, seeds, shares, limit=options.limit)
    rungs: dict[int, float] = {}
    for member in members:
        connections = max(1, round(member.density * member.possible))
        if rungs.setdefault(connections, member.density) != member.density:
            raise UserError(
                f"densities {rungs[connections]:g} and {member.density:g} are the same rung, as both give "
                f"{options.architecture} {connections} connections: leave one out"
            )
    return members


def check_rungs(ladders: dict[str, list[Rung]], members: Sequence[Member]) -> None:
    """Raises UserError where networks that failed leave some rng_seed too few rungs for a cliff."""
    left = Counter((share, rung.rng_seed) for share, rungs in ladders.items() for rung in rungs)
    if any(left[member.allocation, member.rng_seed] < LEAST_RUNGS for member in members):
        raise UserError(
            f"{len(members) - left.total()} of {len(members)} networks failed, but a ladder needs at least "
            f"{LEAST_RUNGS} rungs of every rng_seed: lower --learning-rate and choose another --name"
        )


def print_ladders(
    rows: Sequence[dict[str, Any]],
    members: Sequence[Member],
    ladders: dict[str, list[Rung]],
    cliffs: dict[str, Cliff],
    console: Console,
) -> None:
    """Mean and spread per rung, the allocations side by side, and their cliffs."""
    parameters = {row["density_real"]: row["parameters"] for row in rows}
    table = table_of(("density", "parameters"), [*ladders])
    by_share = {
        share: {row["density_real"]: row for row in ladder_rows(rungs)} for share, rungs in ladders.items()
    }
    for density in sorted({rung.density_real for rungs in ladders.values() for rung in rungs}, reverse=True):
        cells = []
        for found in by_share.values():
            row = found.get(density)
            cells.append(f"{row['mean']:.4f} ± {row['spread']:.4f} ({row['n']})" if row else "")
        table.add_row(f"{density:.5g}", f"{parameters[density]:,}", *cells)
    console.show(table)
    for share, cliff in cliffs.items():
        console.say(f"{share}: {cliff.describe()}")
