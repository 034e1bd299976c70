"""`structnet topology`: what sparse evolution learns about where connections belong, and what regularisation does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from search.commands.topology.command import TopologyOptions
from search.commands.topology.results import print_results, settings_of
from search.grid.trials import train_trials
from search.options import numbers
from search.session.batch_size import with_batch_size
from search.session.console import Console
from search.session.experiment import Experiment
from search.session.run import architecture_of, load_data, on_ray, print_outcome, recorded, unfinished
from search.session.waiting import HowFar
from search.tune.trials import shared_by
from structnet.data.dataset import Dataset
from structnet.errors import UserError
from structnet.growth.evolution import seed_of_evolution
from structnet.measure.connectivity import check_images
from structnet.network.architecture import dashed
from structnet.training.recipe import DECAYS
from structnet.trials.topology import (
    BLIND,
    SET,
    Evolving,
    TopologyWork,
    blocks_of,
    evolution_of,
    recipe_of_topology,
)
from tournament.settings import fitted_batch


def run(options: TopologyOptions) -> None:
    """Runs the command."""
    console = Console()
    data = load_data(options)
    options = fitted_to(options, data)
    networks = networks_of(options, data)
    experiment = unfinished("topology", options, console, data)
    if experiment is None:
        return
    console.say(
        f"{len(networks)} networks {options.architecture} evolve on {data.name}, {options.epochs} epochs each, "
        f"{options.workers} workers; experiment {experiment.name}"
    )
    with on_ray(options), recorded(experiment, console, rng_seed=options.rng_seed):
        rows = train(networks, data, options, experiment, console)
        spent = sum(row["parameter_steps"] or 0 for row in rows)
        experiment.end("", "finished", parameter_steps_all=spent)
    print_results(settings_of(rows), rows, data, console)
    columns = (
        "method, weight_decay, epoch, avg(e.centre_ratio) centre, avg(e.core_centre_ratio) core, "
        "avg(e.test_accuracy) test"
    )
    where = f"experiment = '{experiment.name}'"
    sql = f"select {columns} from epochs e join networks n using (experiment, network) where {where} group by all"
    print_outcome(experiment, f"{sql} order by all", console)


def fitted_to(options: TopologyOptions, data: Dataset) -> TopologyOptions:
    """The options with what follows from the data, where it was not given; raises UserError for what cannot be."""
    check_images(data.input_shape)
    options = with_batch_size(options, data)
    shape = architecture_of(options.architecture, data)
    if shape.has_maps:
        raise UserError(
            f"architecture is {options.architecture}, but what SET learns is looked at pixel by pixel: give groups "
            "without maps, such as input-512-128-classes"
        )
    if options.device != "cpu":
        raise UserError(
            f"device is '{options.device}', but networks evolve on cpu: their steps are compiled for it"
        )
    return options.model_copy(
        update={
            "batch_size": options.batch_size or fitted_batch(len(data.train)),
            "architecture": dashed(shape),
            "input_shape": data.input_shape,
        }
    )


def networks_of(options: TopologyOptions, data: Dataset) -> list[Evolving]:
    """All combinations, and a control for every epsilon, zeta and rng_seed; raises UserError for what cannot be.

    A control does not look at values, so weight decay makes no difference to its connections.
    """
    lists = {name: numbers(name, getattr(options, name)) for name in ("weight_decays", "epsilons", "zetas")}
    for name, values in lists.items():
        if not values or len(set(values)) < len(values):
            raise UserError(f"{name} are '{getattr(options, name)}', but must be numbers, each there once")
    decays = options.decays.replace(",", " ").split()
    if not decays or len(set(decays)) < len(decays):
        raise UserError(
            f"decays are '{options.decays}', but must be some of {', '.join(DECAYS)}, each there once"
        )
    # Without decay there is but one way.
    kinds = [
        (SET, amount, decay)
        for amount in lists["weight_decays"]
        for decay in (decays if amount else decays[:1])
    ]
    kinds += [(BLIND, lists["weight_decays"][0], decays[0])] if options.control else []
    found = [
        Evolving(method, epsilon, zeta, amount, decay, rng_seed)
        for rng_seed in range(options.rng_seed, options.rng_seed + options.rng_seeds)
        for epsilon in lists["epsilons"]
        for zeta in lists["zetas"]
        for method, amount, decay in kinds
    ]
    given = options.model_dump()
    for _, amount, decay in kinds:
        replace(recipe_of_topology(given, decay), weight_decay=amount)
    for network in found[: len(found) // options.rng_seeds]:
        evolution, shape = evolution_of(network, given), architecture_of(options.architecture, data)
        seed_of_evolution(
            shape,
            network.epsilon,
            evolution,
            network.rng_seed,
            dense_output=options.dense_output,
            activation=options.activation,
        )
    return found


def train(
    networks: Sequence[Evolving],
    data: Dataset,
    options: TopologyOptions,
    experiment: Experiment,
    console: Console,
) -> list[dict[str, Any]]:
    """Trains all networks, on a Ray that is running; their rows. Raises WorkFailed for a lost trial."""
    configs = blocks_of(networks, options.block)
    reached: dict[str, int] = {}

    def report(told: dict[str, Any]) -> None:
        experiment.update("")
        if options.resume and told["name"] not in reached:
            progress.found(told["epoch"])
        reached[told["name"]] = told["epoch"]
        progress.at(sum(reached.values()), f"{told['name']} is trained" if told["done"] else "")

    shared = shared_by(data, options, experiment)
    with HowFar(console, len(configs) * options.epochs, f"epochs of {len(configs)} trials") as progress:
        return list(train_trials(TopologyWork, configs, shared, options, experiment, report).to_pylist())
