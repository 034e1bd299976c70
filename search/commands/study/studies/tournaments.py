"""Tournaments as arms of a study: the options of `grow`, run whole on one core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from search.commands import grow
from search.commands.study.study import Measured, Place, Scale, Task
from search.options import merged
from structnet.data.datasets import Dataset
from structnet.storage.tables import TableWriter
from tournament.coordinator import Result, Tournament
from tournament.observer import TournamentMetrics
from tournament.workers.pool import InlinePool


def tournament_tasks(arms: Mapping[str, dict[str, Any]], data: Dataset, scale: Scale) -> list[Task]:
    """A tournament for every arm, which are options of `grow` beside those that fit the data and the scale."""
    return [
        Task(arm, seed, {**base_options(data, scale), **options})
        for arm, options in arms.items()
        for seed in scale.rng_seeds
    ]


def density_for(architecture: Sequence[int], parameters: int) -> float:
    """The density at which a network has so many parameters, biases counted."""
    possible = sum(a * b for a, b in pairwise(architecture))
    return (parameters - sum(architecture[1:])) / possible


def base_options(data: Dataset, scale: Scale) -> dict[str, Any]:
    """What the tournaments of all studies have in common: the final size, and how long the line is."""
    options: dict[str, Any] = {"dataset": data.name, "max_parameters": 300}
    if data.name != "digits":
        options |= {"max_parameters": 4000, "input_dropout": 0.2}
    return options | {"epochs": (4 if data.name == "digits" else 2) if scale.quick else 20}


def measure_tournament(task: Task, data: Dataset, place: Place) -> list[Measured]:
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


def measured_of(result: Result) -> list[Measured]:
    """What an arm is compared by: accuracy and bits on validation, test accuracy, sizes and costs."""
    progress, network = result.progress, result.network
    return [
        Measured("accuracy", result.measured.accuracy),
        Measured("test_accuracy", result.test.accuracy),
        Measured("information", result.information),
        Measured("parameters", network.parameter_count),
        Measured("connections", network.connection_count),
        Measured("steps", progress.step),
        Measured("parameter_steps", progress.parameter_steps),
        Measured("parameter_steps_all", progress.parameter_steps_all),
    ]
