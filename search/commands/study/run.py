"""`structnet study`: a named study with its controls, and the verdict on it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from search.commands.study.command import StudyOptions
from search.commands.study.registry import STUDIES
from search.commands.study.study import Finding, Scale, Study, Task
from search.commands.study.work import StudyWork, measured_rows, summary_sql
from search.session.console import Console, outcome
from search.session.experiment import Experiment
from search.session.run import load_data, on_ray, print_outcome, recorded, unfinished
from search.session.tables import table_of
from search.session.waiting import HowFar
from search.tune.trials import run_trials, shared_by
from structnet.data.dataset import Dataset
from structnet.errors import UserError, WorkFailed

QUICK_SEEDS = 2


def run(options: StudyOptions) -> None:
    """Runs the command."""
    if options.study == "list":
        print_studies()
        return
    study = study_named(options.study)
    console = Console()
    data = load_data(options)
    count = options.rng_seeds or (QUICK_SEEDS if options.quick else 5)
    seeds = tuple(range(options.rng_seed, options.rng_seed + count))
    tasks = study.tasks(data, Scale(seeds, options.quick))
    experiment = unfinished("study", options, console, data)
    if experiment is None:
        return
    console.say(f"{study.question}\nThe claim: {study.claim}")
    console.say(
        f"Study {study.name} on {data.name}: {len(tasks)} tasks, {count} rng_seeds; experiment {experiment.name}"
    )
    with on_ray(options), recorded(experiment, console, rng_seed=options.rng_seed):
        _measure(study, tasks, data, options, experiment, console)
        rows = measured_rows(options.results, experiment.name)
        print_finding(study.judge(rows), options.quick, console)
        experiment.end("", "finished")
    print_outcome(experiment, summary_sql(experiment.name), console)


def print_studies() -> None:
    """The studies there are, and what each asks."""
    table = table_of(("study", "dataset", "question"), ())
    for study in STUDIES.values():
        table.add_row(study.name, study.dataset, study.question)
    outcome(
        studies=[
            {"study": study.name, "dataset": study.dataset, "question": study.question, "claim": study.claim}
            for study in STUDIES.values()
        ]
    )
    Console(asked=True).print(table)


def study_named(name: str | None) -> Study:
    """The study of this name; raises UserError."""
    if name not in STUDIES:
        raise UserError(f"study is '{name}', but must be one of {', '.join(STUDIES)}, or list")
    return STUDIES[name]


def _measure(
    study: Study,
    tasks: Sequence[Task],
    data: Dataset,
    options: StudyOptions,
    experiment: Experiment,
    console: Console,
) -> None:
    """Does all tasks; a resume does those that are left."""
    done = 0

    def report(reported: dict[str, Any]) -> None:
        nonlocal done
        done += 1
        progress.at(done, f"{reported['name']} is done in {reported['seconds']:.0f} s")
        experiment.update("")

    configs = [
        {"name": task.name, "arm": task.arm, "rng_seed": task.rng_seed, "options": task.options}
        for task in tasks
    ]
    shared = shared_by(data, options, experiment)
    with HowFar(console, len(tasks), "tasks") as progress:
        failed = run_trials("study", partial(StudyWork, study=study), configs, shared, options, report)
    if failed:
        names = ", ".join(failure.config["name"] for failure in failed)
        raise WorkFailed(f"{len(failed)} of {len(tasks)} tasks failed ({names}): {failed[0].error}")


def print_finding(finding: Finding, quick: bool, console: Console) -> None:
    """The table of a verdict, its sentences, and what they are worth."""
    outcome(finding=vars(finding))
    if finding.table:
        header, *body = finding.table
        table = table_of(header[:1], header[1:])
        for cells in body:
            table.add_row(*cells)
        console.show(table)
    for sentence in finding.sentences:
        console.say(sentence)
    worth = " (quick: an anecdote)" if quick else ""
    console.say(f"Does the claim hold? {finding.holds}{worth}")
