"""`structnet heads`: models are warmed up, lose heads by every strategy, train on, and are compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from search.commands.heads.command import HeadsOptions
from search.commands.heads.results import print_results
from search.commands.heads.work import heads_work
from search.grid.trials import train_trials
from search.options import numbers
from search.session.console import Console
from search.session.experiment import Experiment
from search.session.run import load_data, on_ray, print_outcome, recorded, unfinished
from search.session.waiting import HowFar
from search.tune.trials import shared_by
from structnet.data.dataset import Dataset
from structnet.errors import UserError, WorkFailed
from structnet.heads.building import model_of, text_data
from structnet.heads.scores import chosen, heads_to_remove
from structnet.heads.strategies import NONE, TOURNAMENT, strategy_named
from structnet.heads.surgery import all_heads
from structnet.heads.training import batch_of
from structnet.modules.evaluation import parameters_in
from structnet.modules.files import read_module
from structnet.trials.head_warm_up import WarmUpWork, warm_up_name
from structnet.trials.heads import SCORING_STEPS

HEATS = 150  # heat steps in all; so two rounds of seven forks cost a tenth of a run


def run(options: HeadsOptions) -> None:
    """Runs the command."""
    console = Console()
    data, options = fitted_to(options)
    configs = networks_of(options)
    about = described(options, data)
    experiment = unfinished("heads", options, console, data)
    if experiment is None:
        return
    console.say(
        f"{about} on {data.name}: {len(configs)} networks lose heads, {options.rng_seeds} rng_seeds, {options.steps} "
        f"steps each after the warm-up, {options.workers} workers; experiment {experiment.name}"
    )
    with on_ray(options), recorded(experiment, console, rng_seed=options.rng_seed):
        rows = train(configs, data, options, experiment, console)
        whole = [row for row in rows if row["status"] == "finished"]
        if not whole:
            raise WorkFailed(f"Diverged: all {len(rows)} networks, the first with: {rows[0]['error']}")
        spent = sum(row["parameter_steps"] or 0 for row in rows)
        experiment.end(
            "", "finished", parameter_steps_all=spent, steps_all=sum(row["steps_all"] for row in rows)
        )
    print_results(whole, console)
    if len(whole) < len(rows):
        console.say(
            f"training diverged for {len(rows) - len(whole)} of {len(rows)} networks, which are left out: lower "
            "--learning-rate"
        )
    console.say(f"Files of each network: {options.results}/reports/{experiment.name}/NETWORK")
    columns = "method, level, avg(test_loss) loss, stddev(test_loss) spread, avg(test_accuracy) test, avg(heads) heads"
    sql = f"select {columns} from networks where experiment = '{experiment.name}' and level is not null group by all"
    print_outcome(experiment, f"{sql} order by level, loss", console)


def fitted_to(options: HeadsOptions) -> tuple[Dataset, HeadsOptions]:
    """The data, and the options with absolute paths; raises UserError for what cannot be."""
    if options.model and not options.text:
        raise UserError(f"model is '{options.model}', a language model, which needs a text: give --text FILE")
    if options.text:
        here = dict.fromkeys(("text", "dataset"), str(Path(options.text).absolute()))
        if options.model and Path(options.model).is_dir():
            here["model"] = str(Path(options.model).absolute())
        options = options.model_copy(update=here)
        data = text_data(options.model_dump())
    else:
        data = load_data(options)
    if options.images is not None:
        data = data.reduced(options.images)
    least = SCORING_STEPS * options.stages + 1
    if options.steps < least:
        raise UserError(
            f"steps is {options.steps}, but must be at least {least}: scoring heads {options.stages} times costs "
            f"{least - 1} of them; raise --steps or lower --stages"
        )
    heat = options.heat_steps or max(1, options.steps // HEATS)
    return data, options.model_copy(update={"heat_steps": heat})


def described(options: HeadsOptions, data: Dataset) -> str:
    """The model in a few words; raises UserError for one that cannot be had, or that has too few heads for a level."""
    model = model_of(options.model_dump(), data, options.rng_seed)
    # A model that does not tell what its heads look at is refused here, not by its trials.
    model.attentions(batch_of(data.train, np.arange(1))[0])
    for level in numbers("levels", options.levels):
        count = heads_to_remove(model, level)
        chosen(dict.fromkeys(all_heads(model), 0.0), count, model, options.floor)
    heads = {layer.heads for layer in model.layers}
    many = "-".join(map(str, sorted(heads)))
    return f"{len(model.layers)} layers of {many} heads, {parameters_in(model.module):,} parameters"


def networks_of(options: HeadsOptions) -> list[dict[str, Any]]:
    """A trial for every strategy, level and rng_seed; the control has no level. Raises UserError for what cannot be."""
    levels = numbers("levels", options.levels)
    strategies = options.strategies.replace(",", " ").split()
    for name, values in (("levels", levels), ("strategies", strategies)):
        if not values or len(set(values)) < len(values):
            raise UserError(f"{name} are '{getattr(options, name)}', but must be some, each there once")
    for level in levels:
        if not 0 < level < 1:
            raise UserError(f"level is {level:g}, but must be in (0, 1): it is the share of heads to remove")
    configs = []
    for rng_seed in range(options.rng_seed, options.rng_seed + options.rng_seeds):
        for strategy in map(strategy_named, strategies):
            for level in [0.0] if strategy.kind == NONE else levels:
                name = f"{strategy.name.replace(':', '-')}_l{level:g}_s{rng_seed}"
                configs.append(
                    {"name": name, "strategy": strategy.name, "level": level, "rng_seed": rng_seed}
                )
    if len(configs) > options.limit:
        raise UserError(
            f"{len(configs)} networks are more than the limit of {options.limit}: raise --limit, or give fewer "
            "strategies, levels or rng_seeds"
        )
    return configs


def train(
    configs: Sequence[dict[str, Any]],
    data: Dataset,
    options: HeadsOptions,
    experiment: Experiment,
    console: Console,
) -> list[dict[str, Any]]:
    """The rows of the networks, after their warm-ups, on a Ray that is running. Raises WorkFailed for a lost trial."""
    shared = shared_by(data, options, experiment)
    seeds = sorted({config["rng_seed"] for config in configs})
    first = [{"name": warm_up_name(seed), "rng_seed": seed} for seed in seeds]
    with Told(len(first), options.warm_up_steps, console, "steps of warm-ups") as told:
        warm = train_trials(
            WarmUpWork, first, shared, options, experiment, told, part="warm_up", also_lost=without_model
        ).to_pylist()
    for row in warm:
        console.say(
            f"rng_seed {row['rng_seed']}: warmed up after {row['stabilised_at']} steps "
            f"({row['stabilised_by']}), accuracy {row['accuracy']:.2%}"
        )
    inside = [config for config in configs if options.workers_each and config["strategy"] == TOURNAMENT]
    rows: list[dict[str, Any]] = []
    with Told(len(configs), options.steps, console, "steps of networks") as told:
        for part, mine, each in (
            ("networks", [config for config in configs if config not in inside], 0),
            ("tournaments", inside, options.workers_each),
        ):
            if mine:
                rows += train_trials(
                    heads_work, mine, shared, options, experiment, told, part=part, workers_inside=each
                ).to_pylist()
    return rows


def without_model(rows: pa.Table) -> set[str]:
    """Warm-ups whose model cannot be read."""
    lost = set()
    for row in rows.to_pylist():
        try:
            read_module(row["snapshot"])
        except UserError:
            lost.add(row["trial"])
    return lost


class Told(HowFar):
    """How far trials are, each of which has so many steps at most."""

    def __init__(self, trials: int, steps: int, console: Console, what: str) -> None:
        super().__init__(console, trials * steps, what)
        self.steps = steps
        self.made: dict[str, int] = {}

    def __call__(self, told: dict[str, Any]) -> None:
        """Takes the report of a stretch."""
        self.made[told["name"]] = self.steps if told["done"] else told["steps"]
        self.at(sum(self.made.values()))
