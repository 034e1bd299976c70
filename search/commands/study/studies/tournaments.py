"""Tournaments as arms of a study: the options of `grow`, run whole on one core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from search.commands import grow
from search.commands.study.study import Measurement, Place, Scale, Task
from search.commands.study.tasks import tasks_of
from search.options import merged
from structnet.data.dataset import Dataset
from structnet.storage.tables import TableWriter
from tournament.coordinator import Result, Tournament
from tournament.observer import TournamentMetrics
from tournament.workers.pool import InlinePool


def tournament_tasks(arms: Mapping[str, dict[str, Any]], data: Dataset, scale: Scale) -> list[Task]:
    """A tournament for every arm, which are options of `grow` beside those that fit the data and the scale."""
    return tasks_of(arms, scale, **base_options(data, scale))


def grow_options(data: Dataset, architecture: Sequence[int], **options: Any) -> dict[str, Any]:
    """Options of `grow` for a network of this shape."""
    return {"dataset": data.name, "architecture": "-".join(map(str, architecture)), **options}


def base_options(data: Dataset, scale: Scale) -> dict[str, Any]:
    """What the tournaments of all studies have in common: the final size, and how long the line is."""
    options: dict[str, Any] = {"dataset": data.name, "max_parameters": 300}
    if data.name != "digits":
        options |= {"max_parameters": 4000, "input_dropout": 0.2}
    return options | {"epochs": (4 if data.name == "digits" else 2) if scale.quick else 20}


def measure_tournament(task: Task, data: Dataset, place: Place) -> list[Measurement]:
    """Runs the tournament of a task."""
    return measured_of(run_tournament(data, place, task.rng_seed, task.options))


def run_tournament(data: Dataset, place: Place, rng_seed: int, options: dict[str, Any]) -> Result:
    """The tournament that `grow` would run with these options; its candidates and rounds stand under the trial."""
    defaults = grow.ON_DIGITS if data.name == "digits" else grow.OTHERWISE
    given = grow.fitted_to(merged(grow.GrowOptions, options, defaults), data)
    pool = InlinePool(data)
    try:
        return Tournament(
            grow.seed_network(given, data, rng_seed),
            data,
            settings=grow.settings_for(given, rng_seed),
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
