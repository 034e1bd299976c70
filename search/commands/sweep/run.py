"""`structnet sweep`: how the options of `grow` or `hunt` change what comes out, over several rng_seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from search.commands.sweep.command import SweepOptions
from search.commands.sweep.plans import describe
from search.commands.sweep.progress import SweepProgress
from search.commands.sweep.report import print_comparison, print_mechanisms, print_plan
from search.commands.sweep.settings import Plan, Trial, plan_for
from search.commands.sweep.tournament_work import TournamentWork
from search.grid.progress import GridProgress
from search.grid.trials import trial_rows
from search.session.console import Console
from search.session.experiment import Experiment
from search.session.run import load_data, on_ray, print_outcome, recorded, unfinished
from search.tune.trials import Failed, run_trials, shared_by
from structnet.data.dataset import Dataset
from structnet.errors import UserError, WorkFailed
from structnet.storage.tables import open_folder, read_table
from structnet.trials.cohort import CohortWork
from structnet.trials.grid import check_memory
from structnet.trials.outcomes import (
    SettingOutcome,
    compared,
    network_outcomes,
    tournament_outcomes,
)


def run(options: SweepOptions) -> None:
    """Runs the command."""
    console = Console()
    data = load_data(options)
    plan = plan_for(options, data)
    each = options.workers_of_a_trial
    at_once = max(1, options.workers // each)
    if options.preview:
        print_plan(plan, at_once * each, console)
        return
    if each > options.workers:
        raise UserError(
            f"workers_each is {options.workers_each}, but there are {options.workers} workers: raise --workers"
        )
    planned = {setting.name: setting.changes for setting in plan.settings}
    options = options.model_copy(update={"plan": planned, "base": plan.base.name})
    experiment = unfinished("sweep", options, console, data)
    if experiment is None:
        return
    _check_no_snapshots(options, experiment)
    trials = plan.trials
    fixed = f", {describe(plan.fixed)}" if plan.fixed else ""
    console.say(
        f"Sweeping {len(plan.settings)} settings of {options.of} on {data.name}{fixed}, over {options.rng_seeds} "
        f"rng_seeds: {len(trials)} trials, {at_once} at once; experiment {experiment.name}"
    )
    with (
        _settled(experiment),
        on_ray(options),
        recorded(experiment, console, rng_seed=options.rng_seed),
    ):
        sweep = _run_tournaments if options.of == "grow" else _run_blocks
        failed = sweep(trials, data, options, experiment, console)
        best = _report(plan, data, options, experiment, console)
        if failed:
            names = ", ".join(failure.config["name"] for failure in failed)
            raise WorkFailed(f"{len(failed)} of {len(trials)} trials failed ({names}): {failed[0].error}")
        experiment.end("", "finished", **best)
    table = "experiments" if options.of == "grow" else "networks"
    columns = "trial, accuracy, parameters, " + ("config" if options.of == "grow" else "network")
    where = f"experiment = '{experiment.name}' and trial <> ''"
    sql = f"select {columns} from {table} where {where} order by accuracy desc limit 20"
    print_outcome(experiment, sql, console)


def _check_no_snapshots(options: SweepOptions, experiment: Experiment) -> None:
    """A trial goes on from the snapshots it finds, so a new sweep must not find those of another."""
    fs, root = open_folder(options.results)
    folder = f"{root}/snapshots/{experiment.name}"
    if not options.resume and fs.exists(folder):
        raise UserError(
            f"there are snapshots of another '{experiment.name}' in {folder}: choose another --name"
        )


@contextmanager
def _settled(experiment: Experiment) -> Iterator[None]:
    """At its end, when no worker writes any more, trials that still count as running become interrupted."""
    try:
        yield
    finally:
        for row in read_table(experiment.options.results, "experiments", experiment.name).to_pylist():
            trial, _ = row["trial"], row.pop("experiment")
            if trial and row["status"] == "running":
                experiment.rows[trial] = row
                experiment.end(trial, "interrupted")


def _run_tournaments(
    trials: Sequence[Trial], data: Dataset, options: SweepOptions, experiment: Experiment, console: Console
) -> list[Failed]:
    names = {trial.name for trial in trials}
    before = {
        name: row
        for name, row in experiment.rows.items()
        if name in names and row["status"] in ("finished", "failed")
    }
    costs = {trial.name: trial.cost.seconds for trial in trials}
    with SweepProgress(console, costs, experiment, before) as progress:
        return run_trials(
            "sweep",
            TournamentWork,
            [trial.config for trial in trials],
            shared_by(data, options, experiment),
            options,
            progress.report,
            workers_inside=options.workers_each,
        )


def _run_blocks(
    trials: Sequence[Trial], data: Dataset, options: SweepOptions, experiment: Experiment, console: Console
) -> list[Failed]:
    blocks = [trial.block for trial in trials if trial.block]
    if not options.address:
        check_memory(blocks, options.workers)
    names = {block.name for block in blocks}
    before = trial_rows(options.results, experiment.name, names).to_pylist() if options.resume else []
    configs = [trial.config for trial in trials]
    with GridProgress(console, blocks, experiment, before) as progress:
        shared = shared_by(data, options, experiment)
        return run_trials("sweep", CohortWork, configs, shared, options, progress.report)


def _report(
    plan: Plan, data: Dataset, options: SweepOptions, experiment: Experiment, console: Console
) -> dict[str, Any]:
    """Prints what came out; the columns of the experiment: means of the best setting."""
    rows = compared(_outcomes(plan, data, options, experiment), plan.base.name)
    if rows:
        print_comparison(rows, plan, console)
    if options.lenient:
        fitted_options = {
            trial.name: setting.options for setting in plan.settings for trial in setting.trials
        }
        print_mechanisms(options.results, experiment.name, options.lenient, fitted_options, console)
    return {"accuracy": rows[0].accuracy, "parameters": round(rows[0].parameters)} if rows else {}


def _outcomes(
    plan: Plan, data: Dataset, options: SweepOptions, experiment: Experiment
) -> list[SettingOutcome]:
    """What every setting came to with every rng_seed, read back from the tables."""
    owner = {trial.name: setting for setting in plan.settings for trial in setting.trials}
    table = "experiments" if options.of == "grow" else "networks"
    rows = read_table(options.results, table, experiment.name).to_pylist()
    mine = [(owner[row["trial"]], row) for row in rows if row["trial"] in owner]
    if options.of == "grow":
        return tournament_outcomes([(setting.name, row) for setting, row in mine])
    return network_outcomes(
        [(setting.name, row, setting.options.batch_size or 1) for setting, row in mine], len(data.train)
    )
