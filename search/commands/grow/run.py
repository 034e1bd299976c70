"""`structnet grow`: the tournament as a command."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from search.commands.grow.command import GrowOptions
from search.commands.grow.job import budget_of, front_of, job_of, policy_of, rounds_of, with_knee
from search.commands.grow.outcome import draw_fronts, final_columns, print_result
from search.options import numbers
from search.session.augmentation import augmented
from search.session.batch_size import with_batch_size
from search.session.console import Console
from search.session.experiment import Experiment
from search.session.run import (
    architecture_of,
    check_maps,
    load_data,
    on_ray,
    print_outcome,
    recorded,
    shape_of,
)
from structnet.actions import offered
from structnet.errors import UserError

if TYPE_CHECKING:
    from structnet.data.dataset import Dataset
    from structnet.network.architecture import Architecture
    from structnet.network.network import StructNet
    from tournament.coordinator import Result, Tournament
    from tournament.observer import Observer
    from tournament.opponents import DenseBaseline, Rival
    from tournament.settings import Settings
    from tournament.workers.pool import Pool, RayPool

DENSITY = 0.01


def run(options: GrowOptions) -> None:
    """Runs the command."""
    from tournament.settings import check_job

    console = Console()
    data, seeds = load_data(options), range(options.rng_seed, options.rng_seed + options.repeats)
    options = augmented(options, data)
    warn_of(data, console)
    options = fitted_to(with_knee(options), data)
    check_job(settings_for(options, options.rng_seed), data)
    seed = seed_network(options, data, options.rng_seed)
    experiment = Experiment("grow", options, data=data)
    console.say(f"Growing {seed.describe()} on {data.name}: {shape_of(data)}")
    console.say(f"The job: {job_of(options)}.")
    rounds = "a round" if options.rounds == 1 else f"up to {options.rounds} rounds"
    length = f"{rounds}, {options.epochs} epochs"
    if options.indefinite:
        length = f"as many rounds as it takes, {options.epochs} epochs after them"
    console.say(f"{length}, {options.workers} workers; experiment {experiment.name}")
    results = _grow_all(options, data, experiment, list(seeds), console)
    _summarise(results, options, experiment, console)


def warn_of(data: Dataset, console: Console) -> None:
    """Says what is wrong with the data before any time is spent on them; the other checks are those of `validate`."""
    from structnet.experiments.validation import quick_checks

    for check in quick_checks(data):
        if not check.passed:
            console.say(
                f"Warning, {check.name}: {check.value}; must be: {check.rule}. {check.advice}.", markup=False
            )


def fitted_to(options: GrowOptions, data: Dataset) -> GrowOptions:
    """The options with what follows from the data, where it was not given; raises UserError for what cannot be."""
    from tournament.settings import fitted_epochs

    options = with_batch_size(options, data)
    if options.epochs is None:
        epochs = fitted_epochs(len(data.train), options.batch_size)
        options = options.model_copy(update={"epochs": epochs})
    return _fitted(options, data) if options.budget is None else _within_budget(options, data)


def _within_budget(options: GrowOptions, data: Dataset) -> GrowOptions:
    """With as many epochs as the budget is estimated to pay for; raises UserError where it pays for none."""
    from tournament.cost import Cost, epochs_within, tournament_cost

    parameter_steps, minutes = budget_of(options)
    if parameter_steps is not None:
        minutes = None  # a limit of its own, and no estimate
    seed = seed_network(_fitted(options, data), data, options.rng_seed)

    def cost_of(epochs: int) -> Cost:
        fitted = _fitted(options.model_copy(update={"epochs": epochs}), data)
        return tournament_cost(settings_for(fitted, options.rng_seed), seed, len(data.train))

    epochs = epochs_within(cost_of, parameter_steps, 60 * minutes if minutes else None)
    if not epochs:
        raise UserError(
            f"budget is '{options.budget}', but must pay for an epoch, about {cost_of(1).parameter_steps:.2g} "
            "parameter-steps: give more, or a smaller --max-parameters"
        )
    return _fitted(options.model_copy(update={"epochs": epochs}), data)


def _fitted(options: GrowOptions, data: Dataset) -> GrowOptions:
    from structnet.measure.fitting_size import parameters_within, parameters_within_macs
    from structnet.network.random_topology import least_density
    from structnet.training.batches import steps_per_epoch
    from structnet.training.fitted_rate import fitted_rate
    from structnet.training.rates import rates_named
    from tournament.settings import fitted_lengths

    assert options.epochs is not None
    given = options.batch_size, options.round_steps, options.heat_steps
    batch_size, round_steps, heat_steps = fitted_lengths(len(data.train), options.epochs, *given)
    shape = seed_shape(options, data)
    density = options.density
    if density is None:
        # Where few inputs leave less than it takes to reach every unit, the default is a little above that.
        density = min(1.0, max(DENSITY, 1.2 * least_density(shape)))
    rates = rates_named(
        options.rates,
        cycle=round_steps + heat_steps,
        line=options.epochs * steps_per_epoch(len(data.train), batch_size),
        matures_after=options.matures_after,
        freezes_after=options.freezes_after,
    )
    limit = options.max_parameters
    if options.max_bytes is not None:
        fitting = parameters_within(options.max_bytes, shape)
        limit = fitting if limit is None else min(limit, fitting)
    if options.max_macs is not None:
        # Which parameters are dear is known only while they are pruned: of a bound on their number it takes nothing.
        fitting = parameters_within_macs(options.max_macs, shape)
        limit = fitting if limit is None else limit
    found = {
        "max_parameters": limit,
        "batch_size": batch_size,
        "round_steps": round_steps,
        "heat_steps": heat_steps,
        "actions": ",".join(offered(heat_steps)) if options.actions is None else options.actions,
        "density": density,
        "learning_rate": fitted_rate(data.train, shape)
        if options.learning_rate is None
        else options.learning_rate,
        "policy": policy_of(options),
        "rounds": rounds_of(options),
        "matures_after": rates.matures_after if rates else None,
        "freezes_after": rates.freezes_after if rates else None,
    }
    return options.model_copy(update=found)


def settings_for(options: GrowOptions, rng_seed: int) -> Settings:
    """The settings of one repetition, from options that are fitted to the data; raises UserError."""
    from structnet.training.rates import AgeRates
    from structnet.training.recipe import recipe_of
    from tournament.rules.ledger import Economy
    from tournament.settings import Settings

    assert options.round_steps is not None and options.heat_steps is not None and options.rounds is not None
    assert options.learning_rate is not None and options.policy is not None and options.epochs is not None
    assert options.actions is not None
    budget, minutes = budget_of(options)
    rates = None
    if options.matures_after is not None:
        rates = AgeRates(matures_after=options.matures_after, freezes_after=options.freezes_after)
    return Settings(
        epochs=options.epochs,
        rounds=options.rounds,
        round_steps=options.round_steps,
        heat_steps=options.heat_steps,
        candidates=options.candidates,
        actions=tuple(name.strip() for name in options.actions.split(",") if name.strip()),
        trigger=options.trigger,
        policy=options.policy,
        target_accuracy=options.target_accuracy,
        target_loss=options.target_loss,
        target_balanced_accuracy=options.target_balanced_accuracy,
        confident=options.confident,
        front=front_of(options),
        knee=options.knee,
        max_parameters=options.max_parameters,
        max_bytes=options.max_bytes,
        max_macs=options.max_macs,
        overshoot=options.overshoot,
        price=options.price,
        score_floor=options.score_floor,
        information=options.information,
        screening=options.screening,
        scales=scales_of(options),
        indefinite=options.indefinite,
        audits=options.audits,
        audit_factor=options.audit_factor,
        learning_rate=options.learning_rate,
        minutes=minutes,
        budget=budget,
        smaller_batches=options.batch_size_asked is not None,
        recipe=recipe_of(dict(options), rates=rates, rng_seed=rng_seed, weight_decay=options.weight_decay),
        economy=Economy(options.income, options.opening_credits, options.refund, options.fork_price),
    )


def scales_of(options: GrowOptions) -> tuple[int, ...]:
    """The sides of the images in turn, or nothing for full resolution all the time; raises UserError."""
    found = numbers("scales", options.scales or "")
    if any(side != int(side) for side in found):
        raise UserError(f"scales is '{options.scales}', but must be whole numbers of pixels such as 7,14,28")
    return tuple(int(side) for side in found)


def seed_shape(options: GrowOptions, data: Dataset) -> Architecture:
    """The groups of the seed: the architecture, with as many inputs as the coarsest images have; raises UserError."""
    from structnet.growth.scales import check_plain, check_scales
    from structnet.network.architecture import Architecture

    shape, scales = architecture_of(options.architecture, data), scales_of(options)
    check_maps(shape, options)
    if not scales:
        return shape
    check_plain(shape)
    check_scales(scales, data.input_shape)
    return Architecture((data.input_shape[0] * scales[0] ** 2, *shape[1:]))


def seed_network(options: GrowOptions, data: Dataset, rng_seed: int) -> StructNet:
    """The sparse seed of one repetition, from options that are fitted to the data."""
    from structnet.network.network import StructNet

    assert options.density is not None
    return StructNet(
        seed_shape(options, data),
        options.density,
        rng_seed=rng_seed,
        allocation=options.allocation,
        ensure_paths=True,
    )


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
    with recorded(experiment, console, trial=trial, rng_seed=seed), watcher(console) as observer:

        def grow(resume: bool) -> tuple[Result, Rival, DenseBaseline]:
            ahead = BaselineAhead((data.input_units, data.classes), settings_for(options, seed), pool)
            watching = Observers(observer, ahead)
            tournament = tournament_of(options, data, experiment, pool, seed, trial, folder, watching)
            result = tournament.run(resume=resume)
            console.say("Its opponent trains: RigL, for as many parameter-steps.")
            seed_groups = tournament.line.architecture
            return result, *train_opponents(result, tournament.settings, seed_groups, pool, ahead)

        resume = options.resume
        while True:
            try:
                result, rival, dense = grow(resume)
                break
            except WorkersLost as lost:
                console.say(f"{lost}: going on from the last round")
                resume = True
    opponents = {"dense_accuracy": dense.measured.accuracy, "dense_test_accuracy": dense.test.accuracy}
    if rival.found:
        opponents["rival_accuracy"] = rival.found.measured.accuracy
        opponents["rival_test_accuracy"] = rival.found.test.accuracy
    experiment.end(trial, "finished", **final_columns(result, data), **opponents)
    print_result(result, rival, options, settings_for(options, seed), data, console)
    return result


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
    draw_fronts(options, experiment, console)
    snapshot = next((row["snapshot"] for row in rows if row.get("snapshot")), None)
    console.say(f"Snapshot: {snapshot}.safetensors")
    columns = "round, action, site, parameters, accuracy, gain, balance"
    sql = f"select {columns} from rounds where experiment = '{experiment.name}' order by trial, round"
    print_outcome(experiment, sql, console)
