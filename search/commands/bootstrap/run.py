"""`structnet bootstrap`: the smallest seed that learns, a larger network from it, and coarse-to-fine training.

The second and the third step are comparisons with the controls of structnet.experiments.initialisation, paired by
rng_seed. Which arm is compared with which is stated beforehand (structnet.trials.starts.COMPARISONS).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from search.commands.bootstrap.command import BootstrapOptions
from search.commands.bootstrap.results import print_comparison, print_ladder
from search.commands.hunt.run import members_of
from search.grid.train_grid import fitted, train_grid
from search.grid.trials import train_trials, trial_rows
from search.session.console import Console
from search.session.experiment import Experiment
from search.session.run import architecture_of, load_data, on_ray, print_outcome, recorded, unfinished
from search.session.waiting import HowFar
from search.tune.trials import shared_by
from structnet.data.dataset import Dataset
from structnet.errors import UserError
from structnet.experiments.seed_finder import Candidate, candidates, smallest
from structnet.growth.hierarchy import LEAST_PER_UNIT
from structnet.growth.scales import default_scales, pooled_images
from structnet.network.architecture import bias_count, dashed, parameters_dense, sizes_of
from structnet.training.evaluation import chance_accuracy
from structnet.trials.grid import Member, blocks_of
from structnet.trials.starts import COMPARISONS, SMALL, StartWork, configs_of

PARAMETERS = 1500


def run(options: BootstrapOptions) -> None:
    """Runs the command; exits with 1 if no candidate learns."""
    console = Console()
    data = load_data(options)
    options = fitted_to(options, data)
    members = members_of(options, data)
    check_start(members, options)
    experiment = unfinished("bootstrap", options, console, data)
    if experiment is None:
        return
    console.say(announcement(members, data, options, experiment))
    chance = chance_accuracy(data.validation.labels, data.classes)
    with on_ray(options), recorded(experiment, console, rng_seed=options.rng_seed):
        rows = train_grid(members, data, options, experiment, console).to_pylist()
        found = candidates(rows, chance, options.margin)
        chosen, start = smallest(found), smallest(one for one in found if grows_into_larger(one, options))
        print_ladder(found, chosen, start, chance, options.margin, console)
        configs = configs_for(start, options)
        started = train_starts(configs, data, options, experiment, console)
        error = None if chosen else "no candidate learns"
        experiment.end("", "finished", error=error, **summary_columns(chosen, started))
    print_comparisons(chosen, start, started, data, options, console)
    columns = "trial, network, parameters, loss, accuracy, snapshot"
    where = f"experiment = '{experiment.name}' and trial like 'seed-%'"
    print_outcome(experiment, f"select {columns} from networks where {where}", console)
    if chosen is None:
        sys.exit(1)


def print_comparisons(
    chosen: Candidate | None,
    start: Candidate | None,
    started: Sequence[dict[str, Any]],
    data: Dataset,
    options: BootstrapOptions,
    console: Console,
) -> None:
    """The verdicts of the second and the third step, and why one of them is left out."""
    if chosen is not None and start is None:
        console.say(
            f"None of those that learn grows into {options.larger} of {options.parameters:,} parameters."
        )
    for name in COMPARISONS:
        print_comparison(name, [row for row in started if row["trial"].endswith(name)], console)
    if options.scales == 1:
        why = "there is one scale only" if len(data.input_shape) == 3 else f"{data.name} has no images"
        console.say(f"Coarse to fine is left out: {why}.")
    console.say("All accuracies are on validation; the test set was not read.")


def announcement(
    members: Sequence[Member], data: Dataset, options: BootstrapOptions, experiment: Experiment
) -> str:
    """What the command will do."""
    scales = ""
    if options.scales and options.scales > 1:
        sides = [
            "×".join(str(size // 2**scale) for size in data.input_shape[-2:])
            for scale in reversed(range(options.scales))
        ]
        scales = f", and {' → '.join(sides)} at {options.scale_epochs} epochs each against fixed scale"
    return (
        f"Looking for the smallest of {len(members) // options.rng_seeds} candidates on {data.name} that learns "
        f"with all of {options.rng_seeds} rng_seeds, {len(members):,} networks in {len(blocks_of(members))} blocks, "
        f"{options.epochs} epochs each; then {options.larger} of {options.parameters:,} parameters from it, "
        f"{options.larger_epochs} epochs{scales}; {options.workers} workers; experiment {experiment.name}"
    )


def fitted_to(options: BootstrapOptions, data: Dataset) -> BootstrapOptions:
    """The options with what follows from the data, where it was not given; raises UserError for what cannot be."""
    options = fitted(options, data)
    if options.cull:
        raise UserError("cull is true, but a candidate is judged by all of its training: leave cull out")
    larger = architecture_of(options.larger, data)
    if larger.has_maps or "@" in options.architectures:
        raise UserError(
            f"larger is {options.larger} and architectures are {options.architectures}, but networks of feature maps "
            "are not begun from smaller ones: give groups without maps, such as input-64-classes"
        )
    dense, biases = parameters_dense(larger), bias_count(larger)
    parameters = min(PARAMETERS, dense // 2) if options.parameters is None else options.parameters
    if not biases < parameters <= dense:
        raise UserError(
            f"parameters is {parameters}, but must be {biases + 1} to {dense} for a larger network of "
            f"{dashed(larger)}: choose a number between, or another --larger"
        )
    scales = default_scales(data) if options.scales is None else options.scales
    if scales > 1:
        pooled_images(data.train.images[:1], 2 ** (scales - 1))
    found = {"larger": dashed(larger), "parameters": parameters, "scales": scales}
    return options.model_copy(update=found)


def check_start(members: Sequence[Member], options: BootstrapOptions) -> None:
    """Raises UserError unless some architecture of the grid lies inside the larger one."""
    if not any(lies_inside(member.architecture, sizes_of(options.larger)) for member in members):
        raise UserError(
            f"larger is {options.larger}, but none of the architectures lies inside it: it must have as many groups "
            "as one of them, each at least as wide"
        )


def lies_inside(architecture: Sequence[int], larger: Sequence[int]) -> bool:
    """Whether it has as many groups, none of them wider."""
    return len(architecture) == len(larger) and all(a <= b for a, b in zip(architecture, larger))


def grows_into_larger(candidate: Candidate, options: BootstrapOptions) -> bool:
    """Whether hierarchical initialisation can make the larger network from it (structnet.growth.hierarchy)."""
    larger = sizes_of(options.larger)
    if not lies_inside(candidate.architecture, larger):
        return False
    new_units = sum(larger) - sum(candidate.architecture)
    return candidate.parameters + LEAST_PER_UNIT * new_units <= (options.parameters or 0)


def configs_for(start: Candidate | None, options: BootstrapOptions) -> list[dict[str, Any]]:
    """The trials of the second and the third step; none of the second without a network to start from."""
    seeds = range(options.rng_seed, options.rng_seed + options.rng_seeds)
    configs: list[dict[str, Any]] = []
    if start is not None:
        shape = start.architecture, start.density
        members = {seed: {"member": asdict(Member(*shape, seed, options.allocation))} for seed in seeds}
        configs += configs_of("hierarchical", members)
    if options.scales and options.scales > 1:
        configs += configs_of("scales", {seed: {} for seed in seeds})
    return configs


def train_starts(
    configs: Sequence[dict[str, Any]],
    data: Dataset,
    options: BootstrapOptions,
    experiment: Experiment,
    console: Console,
) -> list[dict[str, Any]]:
    """Trains the arms of all comparisons, on a Ray that is running; their rows. Raises WorkFailed for a lost trial."""
    if not configs:
        return []
    # Networks of a few thousand parameters, one at a time: on the CPU, whatever the grid was trained on.
    shared = replace(shared_by(data, options, experiment), device="cpu")
    names = {config["name"] for config in configs}
    done: set[str] = set()
    if options.resume:
        done = set(trial_rows(options.results, experiment.name, names)["trial"].to_pylist())

    def report(told: dict[str, Any]) -> None:
        done.add(told["name"])
        experiment.update("")
        progress.at(len(done), f"{told['name']} is trained")

    with HowFar(console, len(configs), "comparisons", len(done)) as progress:
        rows = train_trials(StartWork, configs, shared, options, experiment, report, part="larger")
    return list(rows.to_pylist())


def summary_columns(chosen: Candidate | None, started: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The columns of the experiment: the small network of least loss that was grown; else the smallest's mean."""
    small = [row for row in started if row["network"] == SMALL]
    if small:
        row = min(small, key=lambda row: (row["loss"], row["rng_seed"]))
        return {name: row[name] for name in ("parameters", "accuracy", "snapshot")}
    return {"parameters": chosen.parameters, "accuracy": chosen.mean} if chosen else {}
