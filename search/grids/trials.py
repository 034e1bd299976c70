"""Trials whose results are rows of the `networks` table: run them on Ray Tune and read the rows back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from search.experiment import Experiment
from search.options import CommonOptions
from search.tuning import Factory, Shared, run_trials
from structnet.errors import WorkFailed
from structnet.tables import read_table


def train_trials(
    factory: Factory,
    configs: Sequence[dict[str, Any]],
    shared: Shared,
    options: CommonOptions,
    experiment: Experiment,
    on_report: Callable[[dict[str, Any]], None],
    *,
    part: str = "",
) -> list[dict[str, Any]]:
    """Runs a trial for every config, on a Ray that is running, and returns the rows of all of them.

    part: names this part of a command that uses Tune more than once. Raises WorkFailed for a trial that failed
    on its retries too, or left no rows.
    """
    failed = run_trials(experiment.command, factory, configs, shared, options, on_report, part=part)
    if failed:
        lost = ", ".join(failure.config["name"] for failure in failed)
        raise WorkFailed(f"{len(failed)} of {len(configs)} trials failed ({lost}): {failed[0].error}")
    names = {str(config["name"]) for config in configs}
    rows = trial_rows(options.results, experiment.name, names)
    if missing := names - {row["trial"] for row in rows}:
        raise WorkFailed(f"no rows of {', '.join(sorted(missing))} in experiment {experiment.name}")
    return rows


def trial_rows(results: str, experiment: str, names: Collection[str]) -> list[dict[str, Any]]:
    """The rows of `networks` that these trials have written, as they were written."""
    rows = read_table(results, "networks", experiment).drop_columns("experiment").to_pylist()
    return [row for row in rows if row["trial"] in names]
