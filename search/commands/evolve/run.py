"""`structnet evolve`: what SET, RigL, pruning, static and dense networks of stated sizes reach.

A grown network of one of these sizes has to beat them, at equal epochs, batches and rng_seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from search.commands.evolve.command import EvolveOptions
from search.commands.evolve.results import print_gaps, print_results
from search.grid.trials import train_trials, trial_rows
from search.options import numbers
from search.session.augmentation import augmented
from search.session.batch_size import with_batch_size
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
from structnet.network.activations import activation_named
from structnet.network.architecture import Architecture, dashed, unit_parameters
from structnet.network.network import StructNet
from structnet.network.random_topology import erdos_renyi_counts
from structnet.network.topology import ALLOCATIONS
from structnet.training.batches import steps_per_epoch
from structnet.training.recipe import fitted_l1
from structnet.training.schedules import SCHEDULES
from structnet.trials.rivals import EvolveWork, Rival, method_of, recipe_of_rivals, rivals_of, trials_of
from tournament.settings import fitted_lengths


def run(options: EvolveOptions) -> None:
    """Runs the command."""
    console = Console()
    data = load_data(options)
    options = fitted_to(options, data)
    rivals, steps = planned(options, data)
    experiment = unfinished("evolve", options, console, data)
    if experiment is None:
        return
    console.say(
        f"{len(rivals)} networks by {options.methods} from {options.architecture} on {data.name}, "
        f"{options.parameters} parameters, {options.rng_seeds} rng_seeds, {options.epochs} epochs each, "
        f"{options.workers} workers; experiment {experiment.name}"
    )
    with on_ray(options), recorded(experiment, console, rng_seed=options.rng_seed):
        rows = train(rivals, steps, data, options, experiment, console)
        spent = sum(row["parameter_steps"] or 0 for row in rows)
        steps_all = sum(row["steps"] or 0 for row in rows)
        experiment.end("", "finished", steps_all=steps_all, parameter_steps_all=spent)
    print_results(rows, console)
    print_gaps(rows, console)
    columns = (
        "method, max_parameters, avg(parameters) parameters, avg(test_accuracy) test, stddev(test_accuracy) spread, "
        "avg(parameter_steps) parameter_steps"
    )
    where = f"experiment = '{experiment.name}' and status = 'finished'"
    sql = f"select {columns} from networks where {where} group by all order by max_parameters, test desc"
    print_outcome(experiment, sql, console)


def fitted_to(options: EvolveOptions, data: Dataset) -> EvolveOptions:
    """The options with what follows from the data, where it was not given; raises UserError for what cannot be."""
    options = augmented(with_batch_size(options, data), data)
    batch_size, _, _ = fitted_lengths(len(data.train), options.epochs, options.batch_size)
    shape = architecture_of(options.architecture, data)
    l1 = fitted_l1(shape) if options.l1 is None else options.l1
    options = options.model_copy(update={"batch_size": batch_size, "l1": l1})
    recipe_of_rivals(dict(options))
    numbers_of_unit = len(activation_named(options.activation).shape)
    if options.allocation not in ALLOCATIONS:
        raise UserError(f"allocation is '{options.allocation}', but must be one of {', '.join(ALLOCATIONS)}")
    if options.schedule not in SCHEDULES:
        raise UserError(f"schedule is '{options.schedule}', but must be one of {', '.join(SCHEDULES)}")
    if len(shape) < 3:
        raise UserError(f"architecture is {options.architecture}, but must have hidden units")
    if shape.has_maps:
        check_maps(shape, options)
        StructNet(shape, 1.0, activation=options.activation)  # not every activation is for maps
    fitted: dict[str, Any] = {"architecture": dashed(shape)}
    if options.preset:
        _check_preset(options.preset, data)
        fitted["interval"] = options.interval or steps_per_epoch(len(data.train), batch_size)
    own = unit_parameters(shape, numbers_of_unit)
    if options.density is not None:
        fitted["parameters"] = str(own + _connections_at(options.density, shape, options.allocation))
    if options.epsilon is not None:
        if options.allocation != "proportional":
            raise UserError(
                f"allocation is '{options.allocation}', but epsilon shares connections by the units of a link, which "
                "is proportional: leave one of them out"
            )
        fitted["parameters"] = str(own + _connections_by(options.epsilon, shape))
    return options.model_copy(update=fitted)


def _check_preset(preset: str, data: Dataset) -> None:
    needs, has = ("images of colours", 3) if preset == "set" else ("images", 1)
    if len(data.input_shape) != 3 or data.input_shape[0] < has:
        raise UserError(
            f"preset is '{preset}', which is for {needs}, but {data.name} has none: give its options by themselves"
        )


def _connections_at(density: float, shape: Architecture, allocation: str) -> int:
    """Of a network of which each link has this share of its connections, a full output apart."""
    rooms = [shape.possible(link) for link in pairwise(range(len(shape)))]
    full = rooms.pop() if allocation == "dense_output" else 0
    return full + round(density * sum(rooms))


def _connections_by(epsilon: float, shape: Architecture) -> int:
    """Of a network of which each link has epsilon times its units in and out; the output, which is small, at most all.

    Raises UserError where another link would have more than there are.
    """
    last = len(shape) - 1
    output = min(shape.possible((last - 1, last)), math.floor(epsilon * (shape[-2] + shape[-1]) + 1e-9))
    return sum(erdos_renyi_counts(shape, epsilon, links=last - 1)) + output


def planned(options: EvolveOptions, data: Dataset) -> tuple[list[Rival], int]:
    """The networks, and the steps of each; raises UserError for one that cannot be."""
    parameters = numbers("parameters", options.parameters)
    if broken := [number for number in parameters if number != int(number)]:
        raise UserError(f"parameters is {broken[0]:g}, but must be a whole number")
    methods = options.methods.replace(",", " ").split()
    seeds = range(options.rng_seed, options.rng_seed + options.rng_seeds)
    rivals = rivals_of(methods, [int(number) for number in parameters], seeds, limit=options.limit)
    steps = options.epochs * steps_per_epoch(len(data.train), options.batch_size or 1)
    shape = architecture_of(options.architecture, data)
    for rival in rivals:
        method_of(rival, shape, steps, options.model_dump())
    return rivals, steps


def train(
    rivals: Sequence[Rival],
    steps: int,
    data: Dataset,
    options: EvolveOptions,
    experiment: Experiment,
    console: Console,
) -> list[dict[str, Any]]:
    """Trains all networks, on a Ray that is running; their rows. Raises WorkFailed for a lost trial."""
    configs = trials_of(rivals, steps)
    before: set[str] = set()
    if options.resume:
        rows = trial_rows(options.results, experiment.name, {config["name"] for config in configs})
        before = set(rows["network"].to_pylist())
    seen = set(before)

    def report(told: dict[str, Any]) -> None:
        experiment.update("")
        for found in told["ended"]:
            if found["network"] not in seen:
                seen.add(found["network"])
                said = found["error"] or f"{found['accuracy']:.4f} on validation"
                progress.at(len(seen), f"{found['network']}: {said}")

    shared = shared_by(data, options, experiment)
    with HowFar(console, len(rivals), "networks", len(before)) as progress:
        rows = train_trials(EvolveWork, configs, shared, options, experiment, report).to_pylist()
    # The tables sort by name; what the others are compared with is what was named first.
    place = {rival.key: number for number, rival in enumerate(rivals)}
    return sorted(rows, key=lambda row: place[row["network"]])
