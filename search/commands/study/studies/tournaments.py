"""Tournaments as arms of a study: the options of `grow`, run whole on one core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from search.commands.grow import COMMAND
from search.commands.grow.command import GrowOptions
from search.commands.grow.fitting import USUAL, fitted_to, seed_network, settings_for
from search.commands.study.study import Measurement, Place, Scale, Task
from search.commands.study.tasks import tasks_of
from structnet.data.dataset import Dataset
from structnet.data.datasets import defaults_of
from structnet.storage.tables import TableWriter
from tournament.coordinator import Result, Tournament
from tournament.observer import TournamentMetrics
from tournament.workers.pool import InlinePool

# Of the tournaments of all studies, unless the dataset has values of its own: these are about growths that compete.
IN_COMMON = {
    "policy": "score",
    "fork_price": 0.0,
    "max_parameters": 4000,
    "input_dropout": 0.2,
    "quick_epochs": 2,
}


def tournament_tasks(arms: Mapping[str, dict[str, Any]], data: Dataset, scale: Scale) -> list[Task]:
    """A tournament for every arm, which are options of `grow` beside those that fit the data and the scale."""
    return tasks_of(arms, scale, **base_options(data, scale))


def grow_options(data: Dataset, architecture: Sequence[int], **options: Any) -> dict[str, Any]:
    """Options of `grow` for a network of this shape, in which growths compete, whatever trying them takes."""
    shape = "-".join(map(str, architecture))
    return {"dataset": data.name, "policy": "score", "fork_price": 0.0, "architecture": shape, **options}


def base_options(data: Dataset, scale: Scale) -> dict[str, Any]:
    """What the tournaments of all studies have in common: the final size, and how long the line is."""
    options = {**IN_COMMON, **defaults_of(data.name, "study")}
    quick_epochs = options.pop("quick_epochs")
    return {"dataset": data.name, **options, "epochs": quick_epochs if scale.quick else 20}


def measure_tournament(task: Task, data: Dataset, place: Place) -> list[Measurement]:
    """Runs the tournament of a task."""
    return measured_of(run_tournament(data, place, task.rng_seed, task.options))


def options_of_grow(data: Dataset, options: Mapping[str, Any] | None = None) -> GrowOptions:
    """The options of `grow` as it would take them on this dataset, with some of them given.

    Networks are fully connected unless an architecture is given.
    """
    plain = defaults_of(data.name, COMMAND.name).get("architecture", USUAL)
    return fitted_to(COMMAND.parse({"architecture": plain, "dataset": data.name, **(options or {})}), data)


def run_tournament(data: Dataset, place: Place, rng_seed: int, options: dict[str, Any]) -> Result:
    """The tournament that `grow` would run with these options; its candidates and rounds stand under the trial."""
    given = options_of_grow(data, options)
    pool = InlinePool(data)
    try:
        return Tournament(
            seed_network(given, data, rng_seed),
            data,
            settings=settings_for(given, rng_seed),
            pool=pool,
            writer=TableWriter(place.results, place.experiment),
            observer=TournamentMetrics(place.experiment),
            trial=place.trial,
        ).run()
    finally:
        pool.close()


def measured_of(result: Result) -> list[Measurement]:
    """What an arm is compared by: accuracy and bits on validation, test accuracy, sizes and costs."""
    progress, network = result.progress, result.network
    return [
        Measurement("accuracy", result.measured.accuracy),
        Measurement("test_accuracy", result.test.accuracy),
        Measurement("information", result.information),
        Measurement("parameters", network.parameter_count),
        Measurement("connections", network.connection_count),
        Measurement("steps", progress.step),
        Measurement("parameter_steps", progress.parameter_steps),
        Measurement("parameter_steps_all", progress.parameter_steps_all),
    ]
