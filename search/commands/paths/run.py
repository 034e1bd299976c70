"""`structnet paths`: plastic residual networks, and what they have to beat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from search.commands.paths.command import PathsOptions
from search.commands.paths.results import print_results, settings_of
from search.grid.trials import train_trials
from search.options import numbers
from search.session.console import Console
from search.session.experiment import Experiment
from search.session.run import load_data, on_ray, print_outcome, recorded, unfinished
from search.session.waiting import HowFar
from search.tune.trials import shared_by
from structnet.data.dataset import Dataset
from structnet.errors import UserError
from structnet.storage.sql import run_query
from structnet.training.batches import steps_per_epoch
from structnet.training.schedules import SCHEDULES
from structnet.trials.paths import (
    ARMS,
    PLASTIC,
    Member,
    PathsWork,
    network_of,
    recipe_of_paths,
    rules_of,
    trials_of,
)
from tournament.settings import fitted_batch


def run(options: PathsOptions) -> None:
    """Runs the command."""
    console = Console()
    data = load_data(options)
    if options.images is not None:
        data = data.reduced(options.images)
    options = fitted_to(options, data)
    members = members_of(options, data)
    experiment = unfinished("paths", options, console, data)
    if experiment is None:
        return
    console.say(
        f"{len(members)} networks of {options.variants}: {options.arms}; {len(data.train):,} images of {data.name}, "
        f"{options.epochs} epochs in batches of {options.batch_size}, {options.workers} workers; "
        f"experiment {experiment.name}"
    )
    with on_ray(options), recorded(experiment, console, rng_seed=options.rng_seed):
        rows = train(members, data, options, experiment, console)
        settings = settings_of(rows)
        decisions = rows_of("decisions", options, experiment)
        steps = sum(row["steps"] or 0 for row in rows)
        spent = sum(row["parameter_steps"] or 0 for row in rows)
        experiment.end("", "finished", steps_all=steps, parameter_steps_all=spent)
    print_results(settings, rows, decisions, console)
    where = f"experiment = '{experiment.name}'"
    columns = "network, step, layer, index, method, value, accuracy - accuracy_without lost"
    print_outcome(experiment, f"select {columns} from decisions where {where} order by all", console)


def fitted_to(options: PathsOptions, data: Dataset) -> PathsOptions:
    """The options with what follows from the data, where it was not given; raises UserError for what cannot be."""
    if len(data.input_shape) != 3 or data.input_shape[0] not in (1, 3):
        shape = "×".join(map(str, data.input_shape))
        raise UserError(
            f"dataset {data.name} has inputs of shape {shape}, but paths lead through images of 1 or 3 channels: "
            "choose another dataset"
        )
    if options.schedule not in SCHEDULES:
        raise UserError(f"schedule is '{options.schedule}', but must be one of {', '.join(SCHEDULES)}")
    batch_size = fitted_batch(len(data.train)) if options.batch_size is None else options.batch_size
    if not 2 <= batch_size <= len(data.train):
        raise UserError(
            f"batch_size is {batch_size}, but must be from 2, as batches are normalised, to the "
            f"{len(data.train):,} training images"
        )
    fitted = options.model_copy(update={"batch_size": batch_size})
    recipe_of_paths(fitted.model_dump())
    return fitted


def members_of(options: PathsOptions, data: Dataset) -> list[Member]:
    """Every combination; static and residual networks are there once for a variant and rng_seed.

    Raises UserError for what cannot be, before anything is trained.
    """
    variants, arms, removals, growths = (
        words(name, getattr(options, name)) for name in ("variants", "arms", "removals", "growths")
    )
    if unknown := [arm for arm in arms if arm not in ARMS]:
        raise UserError(f"arm is '{unknown[0]}', but must be one of {', '.join(ARMS)}")
    frequencies = frequencies_of(options, data)
    seeds = range(options.rng_seed, options.rng_seed + options.rng_seeds)
    ways = [(removal, growth, often) for removal in removals for growth in growths for often in frequencies]
    count = len(variants) * len(seeds) * sum(len(ways) if arm == PLASTIC else 1 for arm in arms)
    if count > options.limit:
        raise UserError(
            f"there are {count:,} networks, but limit is {options.limit:,}: raise --limit or leave some out"
        )
    members = [
        Member(arm, variant, seed, *way)
        for variant in variants
        for arm in arms
        for way in (ways if arm == PLASTIC else [()])
        for seed in seeds
    ]
    check_members(members, options, data)
    return members


def check_members(members: Iterable[Member], options: PathsOptions, data: Dataset) -> None:
    """Raises UserError for a network that cannot be; one of each kind is made and thrown away."""
    given = options.model_dump()
    for member in members:
        rules_of(member, given)
        if member.rng_seed == options.rng_seed:
            network_of(member, given, data)


def words(name: str, text: str) -> list[str]:
    """A list of names, each there once; raises UserError for an empty one."""
    found = text.replace(",", " ").split()
    if not found or len(set(found)) < len(found):
        raise UserError(f"{name} are '{text}', but must be names, at least one, each there once")
    return found


def frequencies_of(options: PathsOptions, data: Dataset) -> list[int]:
    """In steps; raises UserError for what is no whole number from 1."""
    if options.frequencies is None:
        return [steps_per_epoch(len(data.train), options.batch_size or 1)]
    found = numbers("frequencies", options.frequencies)
    if not found or len(set(found)) < len(found):
        raise UserError(f"frequencies are '{options.frequencies}', but must be numbers, each there once")
    if broken := [number for number in found if number != int(number) or number < 1]:
        raise UserError(
            f"frequency is {broken[0]:g}, but must be a whole number from 1: steps from change to change"
        )
    return [int(number) for number in found]


def train(
    members: Sequence[Member],
    data: Dataset,
    options: PathsOptions,
    experiment: Experiment,
    console: Console,
) -> list[dict[str, Any]]:
    """Trains all networks, on a Ray that is running; their rows. Raises WorkFailed for a lost trial."""
    configs = trials_of(members)
    reached: dict[str, int] = {}

    def report(told: dict[str, Any]) -> None:
        experiment.update("")
        if options.resume and told["name"] not in reached:
            progress.found(told["epoch"])
        reached[told["name"]] = options.epochs if told["done"] else told["epoch"]
        progress.at(sum(reached.values()), f"{told['network']} is trained" if told["done"] else "")

    shared = shared_by(data, options, experiment)
    with HowFar(console, len(configs) * options.epochs, "epochs of all") as progress:
        return list(train_trials(PathsWork, configs, shared, options, experiment, report).to_pylist())


def rows_of(table: str, options: PathsOptions, experiment: Experiment) -> list[dict[str, Any]]:
    """All rows of a table of this experiment, in the order of their key."""
    sql = f"select * from {table} where experiment = '{experiment.name}' order by all"
    return list(run_query(options.results, sql).to_pylist())
