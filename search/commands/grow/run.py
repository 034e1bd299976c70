"""`structnet grow`: the tournament as a command."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from search.commands.grow.command import GrowOptions
from search.commands.grow.fitting import fitted_to, seed_network, settings_for, whole_shape
from search.commands.grow.job import job_of, with_knee
from search.commands.grow.outcome import final_columns, print_result, write_answers
from search.session.augmentation import augmented
from search.session.console import Console
from search.session.experiment import Experiment
from search.session.run import (
    load_data,
    on_ray,
    print_outcome,
    recorded,
    shape_of,
)
from structnet.storage.tables import list_parts

if TYPE_CHECKING:
    from structnet.data.dataset import Dataset
    from tournament.coordinator import Result, Tournament
    from tournament.observer import Observer
    from tournament.opponents import DenseBaseline, Rival
    from tournament.workers.pool import Pool, RayPool


def run(options: GrowOptions) -> None:
    """Runs the command."""
    console = Console()
    options = with_knee(options)
    # Before anything that takes seconds to import.
    console.say(f"The job: {job_of(options)}.")
    data, seeds = load_data(options), range(options.rng_seed, options.rng_seed + options.repeats)
    from tournament.settings import check_job

    options = augmented(options, data)
    warn_of(data, console)
    options = fitted_to(options, data)
    check_job(settings_for(options, options.rng_seed), data)
    seed = seed_network(options, data, options.rng_seed)
    is_first = not list_parts(options.results, "experiments")
    experiment = Experiment("grow", options, data=data)
    console.say(f"Growing {seed.describe()} on {data.name}: {shape_of(data)}")
    rounds = "a round" if options.rounds == 1 else f"up to {options.rounds} rounds"
    length = f"{rounds}, {options.epochs} epochs"
    if options.indefinite:
        length = f"as many rounds as it takes, {options.epochs} epochs after them"
    console.say(f"{length}, {options.workers} workers; experiment {experiment.name}")
    if is_first:
        from search.session.progress import EXPLAINED

        console.say(EXPLAINED)
    results = _grow_all(options, data, experiment, list(seeds), console)
    _summarise(results, options, experiment, console)


def warn_of(data: Dataset, console: Console) -> None:
    """Says what is wrong with the data before any time is spent on them; the other checks are those of `validate`."""
    from structnet.experiments.validation import quick_checks

    for check in quick_checks(data):
        if not check.passed:
            console.warn(f"Warning, {check.name}: {check.value}; must be: {check.rule}. {check.advice}.")


def _grow_all(
    options: GrowOptions, data: Dataset, experiment: Experiment, seeds: list[int], console: Console
) -> list[Result]:
    """One tournament per rng_seed, on one pool; finished ones are not run again on a resume."""
    results: list[Result] = []
    with on_ray(options), closing(pool_of(options, data)) as pool:
        for seed in seeds:
            trial = f"seed-{seed:04d}" if len(seeds) > 1 else ""
            if experiment.finished(trial):
                console.say(f"rng_seed {seed} is finished already")
                continue
            if trial:
                console.say(f"rng_seed {seed}")
            results.append(grow_one(options, data, experiment, pool, seed, trial, console))
    return results


def pool_of(options: GrowOptions, data: Dataset) -> RayPool:
    """The workers that the options ask for, on a Ray that is running."""
    from tournament.workers.pool import RayPool

    return RayPool(
        data,
        options.workers,
        cpus_per_worker=options.cpus_per_worker,
        gpus_per_worker=options.gpus_per_worker,
        device=options.device,
    )


def grow_one(
    options: GrowOptions,
    data: Dataset,
    experiment: Experiment,
    pool: Pool,
    seed: int,
    trial: str,
    console: Console,
) -> Result:
    """Grows one network to its end, with its row in `experiments`. What is lost with a machine is trained again.

    seed: the rng_seed. trial: "" where there is one only. Raises SystemExit when the work cannot be done.
    """
    from search.session.progress import watcher
    from tournament.observer import Observers
    from tournament.opponents import BaselineAhead, train_opponents
    from tournament.workers.pool import WorkersLost

    folder = f"{options.results}/snapshots/{experiment.name}" + (f"/{trial}" if trial else "")
    most = None if options.indefinite else options.rounds
    with recorded(experiment, console, trial=trial, rng_seed=seed), watcher(console, most) as observer:

        def grow(resume: bool) -> tuple[Result, tuple[Rival, DenseBaseline] | None]:
            ahead = BaselineAhead(whole_shape(options, data), settings_for(options, seed), pool)
            watching = Observers(observer, ahead) if options.opponents else observer
            tournament = tournament_of(options, data, experiment, pool, seed, trial, folder, watching)
            result = tournament.run(resume=resume)
            if not options.opponents:
                return result, None
            observer.opponent_trains()
            seed_groups = tournament.line.architecture
            return result, train_opponents(result, tournament.settings, seed_groups, pool, ahead)

        resume = options.resume
        while True:
            try:
                result, opponents = grow(resume)
                break
            except WorkersLost as lost:
                console.say(f"{lost}: going on from the last round")
                resume = True
        write_answers(experiment, trial, result, data)
    beside = _columns_of(*opponents) if opponents else {}
    experiment.end(trial, "finished", **final_columns(result, data), **beside)
    rival = opponents[0] if opponents else None
    print_result(result, rival, options, settings_for(options, seed), data, console)
    return result


def _columns_of(rival: Rival, dense: DenseBaseline) -> dict[str, Any]:
    """What `experiments` says of the opponents."""
    found = {"dense_accuracy": dense.measured.accuracy, "dense_test_accuracy": dense.test.accuracy}
    if rival.found:
        found["rival_accuracy"] = rival.found.measured.accuracy
        found["rival_test_accuracy"] = rival.found.test.accuracy
    return found


def tournament_of(
    options: GrowOptions,
    data: Dataset,
    experiment: Experiment,
    pool: Pool,
    seed: int,
    trial: str,
    folder: str,
    observer: Observer | None = None,
) -> Tournament:
    """The tournament of one repetition: rows and heartbeats go to this trial, snapshots to the folder."""
    from tournament.coordinator import Tournament
    from tournament.observer import Observers, TournamentMetrics
    from tournament.progress import Checkpoint

    metrics = TournamentMetrics(experiment.name)

    def heartbeat(row: dict[str, Any]) -> None:
        if smaller := tournament.line.progress.smaller_batches:
            halved = {f"round {number}": batch for number, batch in smaller}
            experiment.amend(trial, smaller_batches=halved)
        experiment.update(trial, **_progress_columns(row))

    tournament = Tournament(
        seed_network(options, data, seed),
        data,
        settings=settings_for(options, seed),
        pool=pool,
        writer=experiment.writer,
        checkpoint=Checkpoint(folder, data),
        observer=Observers(observer, metrics) if observer else metrics,
        heartbeat=heartbeat,
        trial=trial,
    )
    return tournament


def _progress_columns(row: dict[str, Any]) -> dict[str, Any]:
    names = (
        "parameters",
        "connections",
        "steps",
        "steps_all",
        "parameter_steps",
        "parameter_steps_all",
        "accuracy",
    )
    return {name: row[name] for name in names}


def _summarise(results: list[Result], options: GrowOptions, experiment: Experiment, console: Console) -> None:
    from structnet.measure.statistics import mean_and_spread

    rows = [row for row in experiment.rows.values() if row["status"] == "finished"]
    if len(rows) > 1:
        for name, shown in (("test_accuracy", ".4f"), ("rival_test_accuracy", ".4f"), ("parameters", ",.0f")):
            # A rival may have failed, and rows of before there was one have none.
            values = [row[name] for row in rows if row.get(name) is not None]
            if len(values) > 1:
                mean, spread = mean_and_spread(values)
                console.say(
                    f"{name}: mean {mean:{shown}}, spread {spread:{shown}} over {len(values)} rng_seeds"
                )
    snapshot = next((row["snapshot"] for row in rows if row.get("snapshot")), None)
    console.say(f"Snapshot: {snapshot}.safetensors")
    columns = "round, action, site, parameters, accuracy, gain, balance"
    sql = f"select {columns} from rounds where experiment = '{experiment.name}' order by trial, round"
    print_outcome(experiment, sql, console)
