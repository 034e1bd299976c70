"""`structnet rescue`: does a growth mechanism bring a network back that is too sparse to learn?

What counts as a rescue (structnet.experiments.verdict) is printed before anything is trained. The plateau that it is
measured against is trained in the same run, so that both are trained alike.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np

from search.commands.rescue.command import RescueOptions
from search.commands.rescue.results import (
    PLATEAU_DENSITIES,
    no_plateau,
    plateaus_of,
    print_arms,
    summary_columns,
    verdict_of,
)
from search.grid.train_grid import fitted, train_grid
from search.grid.trials import train_trials, trial_rows
from search.session.console import Console
from search.session.experiment import Experiment
from search.session.run import (
    architecture_of,
    check_maps,
    load_data,
    on_ray,
    print_outcome,
    recorded,
    unfinished,
)
from search.session.waiting import HowFar
from search.tune.trials import shared_by
from structnet.data.dataset import Dataset
from structnet.errors import UserError
from structnet.experiments.cliff import LEARNS, halfway
from structnet.experiments.rescue import ARMS, Rescue
from structnet.measure.statistics import shown_with_spread
from structnet.network.architecture import dashed, sizes_of
from structnet.network.network import StructNet
from structnet.training.evaluation import chance_accuracy
from structnet.trials.grid import Member, grid
from structnet.trials.rescue import RescueWork, finds_a_site, plan_of


def run(options: RescueOptions) -> None:
    """Runs the command; exits with 1 if there can be no verdict."""
    console = Console()
    data = load_data(options)
    options = fitted_to(options, data)
    experiment = unfinished("rescue", options, console, data)
    if experiment is None:
        return
    chance = chance_accuracy(data.validation.labels, data.classes)
    for line in announcement(options, data, chance, experiment):
        console.say(line)
    rows: list[dict[str, Any]] = []
    verdict = None
    with on_ray(options), recorded(experiment, console, rng_seed=options.rng_seed):
        plateaus = train_plateau(data, options, experiment, console)
        error = no_plateau(plateaus, chance)
        if error is None:
            plateau = float(np.mean(plateaus))
            shown = shown_with_spread(plateaus) if options.plateau is None else f"{plateau:g}"
            console.say(f"plateau: {shown}; half as far above chance: {halfway(plateau, chance):.4f}")
            rows = train_arms(data, options, experiment, console)
            verdict = verdict_of(rows, plateau, chance)
            error = None if verdict else "no verdict: training diverged with every rng_seed"
        experiment.end("", "finished", error=error, **summary_columns(rows))
    if verdict is not None:
        print_arms(rows, verdict, options, console)
    console.say(error or "All accuracies are on validation; the test set was not read.")
    columns = "trial, network, parameters, density_real, accuracy, loss, information, snapshot"
    where = f"experiment = '{experiment.name}' and trial like 'seed-%'"
    print_outcome(experiment, f"select {columns} from networks where {where} order by all", console)
    if error:
        sys.exit(1)


def announcement(
    options: RescueOptions, data: Dataset, chance: float, experiment: Experiment
) -> tuple[str, str, str]:
    """What the command will do, and what its two verdicts will mean."""
    densities = ", ".join(f"{density:g}" for density in PLATEAU_DENSITIES)
    given = options.plateau
    measured = f"that of densities {densities} in this run" if given is None else f"{given:g} as given"
    return (
        f"Can {options.mechanism} rescue {options.architecture} at density {options.density:g} on {data.name} by "
        f"adding {options.budget:,} parameters? {len(ARMS)} arms ({', '.join(ARMS)}) × {options.rng_seeds} rng_seeds, "
        f"{options.epochs} epochs each, {options.workers} workers; experiment {experiment.name}",
        f"rescued means: mean accuracy at least half as far above chance, {chance:.4f}, as the plateau, {measured}; "
        "static below that; and ahead of static and of random, each with the lower end of a 95 % interval of "
        "the differences, paired by rng_seed, above 0",
        "more than moving does means: ahead of rewire in the same way",
    )


def fitted_to(options: RescueOptions, data: Dataset) -> RescueOptions:
    """The options with what follows from the data, where it was not given; raises UserError for what cannot be."""
    options = fitted(options, data)
    if options.cull:
        raise UserError("cull is true, but a plateau is that of all networks: leave cull out")
    shape = architecture_of(options.architecture, data)
    check_maps(shape, options)
    least = chance_accuracy(data.validation.labels, data.classes) + LEARNS
    if options.plateau is None and options.density >= min(PLATEAU_DENSITIES):
        raise UserError(
            f"density is {options.density:g}, but must be below {min(PLATEAU_DENSITIES):g}, the sparsest rung of "
            "the plateau: start below the cliff, which `ladder` finds"
        )
    if options.plateau is not None and not least <= options.plateau <= 1:
        raise UserError(
            f"plateau is {options.plateau:g}, but must be an accuracy from {least:.4f}, which is {LEARNS:g} above "
            "chance, to 1: leave it out to have it measured"
        )
    start = StructNet(shape, options.density, rng_seed=options.rng_seed, allocation=options.allocation)
    budget = start.connection_count if options.budget is None else options.budget
    options = options.model_copy(update={"architecture": dashed(shape), "budget": budget})
    plateau_members(options)
    check_growth(options, data)
    return options


def check_growth(options: RescueOptions, data: Dataset) -> None:
    """Raises UserError if the network has no room for the budget, or the budget no room for the mechanism."""
    plain = options.model_dump(mode="json")
    if not any(finds_a_site(Rescue(data, plan_of(plain, rng_seed))) for rng_seed in seeds_of(options)):
        hidden = "" if len(sizes_of(options.architecture)) > 2 else ", or give the architecture hidden units"
        raise UserError(
            f"budget is {options.budget}, but {options.mechanism} finds nothing to add to {options.architecture} at "
            f"density {options.density:g} for so many parameters: raise the budget{hidden}"
        )


def seeds_of(options: RescueOptions) -> range:
    """The rng_seeds."""
    return range(options.rng_seed, options.rng_seed + options.rng_seeds)


def plateau_members(options: RescueOptions) -> list[Member]:
    """The dense networks; none if the plateau is given."""
    if options.plateau is not None:
        return []
    shape, seeds = sizes_of(options.architecture), seeds_of(options)
    return grid([shape], PLATEAU_DENSITIES, seeds, [options.allocation], limit=options.limit)


def train_plateau(
    data: Dataset, options: RescueOptions, experiment: Experiment, console: Console
) -> list[float]:
    """The plateau of every rng_seed of which no dense network diverged, on a Ray that is running; or the given one."""
    if options.plateau is not None:
        return [options.plateau]
    rows = train_grid(plateau_members(options), data, options, experiment, console)
    return plateaus_of(rows.to_pylist())


def train_arms(
    data: Dataset, options: RescueOptions, experiment: Experiment, console: Console
) -> list[dict[str, Any]]:
    """Trains all arms of all rng_seeds, on a Ray that is running; their rows. Raises WorkFailed for a lost trial."""
    configs = [{"name": f"seed-{rng_seed:04d}", "rng_seed": rng_seed} for rng_seed in seeds_of(options)]
    names = {str(config["name"]) for config in configs}
    done: set[str] = set()
    if options.resume:
        done = set(trial_rows(options.results, experiment.name, names)["trial"].to_pylist())
    seen: set[tuple[str, str]] = set()

    def report(told: dict[str, Any]) -> None:
        experiment.update("")
        for arm, accuracy in told["arms"].items():
            if (told["name"], arm) not in seen:
                seen.add((told["name"], arm))
                console.say(f"{told['name']} {arm}: {accuracy:.4f}")
        if told["done"]:
            done.add(told["name"])
            error = f" ({told['error']})" if told["error"] else ""
            progress.at(len(done), f"{told['name']} is done{error}")

    # Networks of a few hundred parameters, one at a time: on the CPU, whatever the plateau was trained on.
    shared = replace(shared_by(data, options, experiment), device="cpu")
    with HowFar(console, len(configs), "rng_seeds", len(done)) as progress:
        rows = train_trials(RescueWork, configs, shared, options, experiment, report, part="arms")
    return list(rows.to_pylist())
