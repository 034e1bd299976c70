"""Trials whose results are rows of the `networks` table: run them on Ray Tune and read the rows back."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from search.options import CommonOptions
from search.session.console import Console
from search.session.experiment import Experiment
from search.tune.trials import Factory, can_restore, run_trials
from structnet.errors import WorkFailed
from structnet.storage.tables import read_table
from structnet.trials.work import Shared

LISTED = 8  # names of trials in a message


def train_trials(
    factory: Factory,
    configs: Sequence[dict[str, Any]],
    shared: Shared,
    options: CommonOptions,
    experiment: Experiment,
    on_report: Callable[[dict[str, Any]], None],
    *,
    part: str = "",
    workers_inside: int = 0,
    also_lost: Callable[[pa.Table], set[str]] = lambda rows: set(),
) -> pa.Table:
    """Runs a trial for every config, on a Ray that is running, and returns the rows of all of them.

    part: names this part of a command that uses Tune more than once. workers_inside: that each trial starts itself.
    also_lost: tells from all rows which trials lack something else that they wrote. A trial writes its rows at its end,
    and then is done. It may be so for Tune while its rows, on a disk, are damaged: such ones run once more. Where the
    state that Tune keeps is damaged or gone, those run that are not done. Raises WorkFailed for a trial that failed on
    its retries too, or left no rows.
    """
    names = {str(config["name"]) for config in configs}

    def there() -> tuple[pa.Table, set[str]]:
        """The rows of all trials, and which of all trials lack something."""
        rows = trial_rows(options.results, experiment.name, names)
        return rows, names - set(pc.unique(rows["trial"]).to_pylist()) | also_lost(rows)

    def run(
        configs: Sequence[dict[str, Any]], options: CommonOptions, part: str
    ) -> tuple[pa.Table, set[str]]:
        failed = run_trials(
            experiment.command,
            factory,
            configs,
            shared,
            options,
            on_report,
            part=part,
            workers_inside=workers_inside,
        )
        if failed:
            lost = _listed([failure.config["name"] for failure in failed])
            raise WorkFailed(f"{len(failed)} of {len(configs)} trials failed ({lost}): {failed[0].error}")
        return there()

    lost = names
    if options.resume and not can_restore(options, experiment.name, part):
        rows, lost = there()
    if lost == names:
        rows, lost = run(configs, options, part)
    if lost:
        text = f"{len(lost)} of {len(names)} trials lack results and are run: {_listed(lost)}"
        Console().say(text)
        again = [config for config in configs if config["name"] in lost]
        # Another time others may be lost, so this is never resumed.
        rows, lost = run(
            again, options.model_copy(update={"resume": False}), f"{part}/again" if part else "again"
        )
    if lost:
        raise WorkFailed(f"no whole rows of {_listed(lost)} in experiment {experiment.name}")
    return rows


def _listed(names: Collection[str]) -> str:
    first = sorted(names)[:LISTED]
    return ", ".join(first) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


def trial_rows(results: str, experiment: str, names: Collection[str]) -> pa.Table:
    """The rows of `networks` that these trials have written, as they were written, of parts that are whole.

    Sorted by trial. A table, as the rows of a large grid take ten times as much memory as dicts.
    """
    rows = whole_rows(results, "networks", experiment).drop_columns("experiment")
    return rows.filter(pc.is_in(rows["trial"], pa.array(list(names), rows["trial"].type)))


def by_trial(rows: pa.Table) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The name and the rows of one trial after the other, of rows that are sorted by trial."""
    start = 0
    for found in pc.value_counts(rows["trial"]).to_pylist():
        yield found["values"], rows.slice(start, found["counts"]).to_pylist()
        start += found["counts"]


def whole_rows(results: str, table: str, experiment: str) -> pa.Table:
    """The rows of an experiment in the parts of a table that are whole."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of damaged parts: whose rows they had is run again
        return read_table(results, table, experiment, skip_damaged=True)
