"""`structnet bootstrap`: the smallest seed that learns, a larger network from it, and coarse-to-fine training.

The second and the third step are comparisons with the controls of structnet.experiments.initialisation, paired by
rng_seed. Which arm is compared with which is stated beforehand (search.commands.bootstrap.start_work.COMPARISONS).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from pydantic import Field
from rich.console import Console

from search.commands.bootstrap.results import print_comparison, print_ladder, say
from search.commands.bootstrap.seed_finder import Candidate, candidates, smallest
from search.commands.bootstrap.start_work import COMPARISONS, SMALL, StartWork, configs_of
from search.commands.hunt import HuntOptions, members_of
from search.grid.blocks import Member, blocks_of
from search.grid.train_grid import fitted, train_grid
from search.grid.trials import train_trials, trial_rows
from search.options import merged, sizes
from search.session.experiment import Experiment
from search.session.run import architecture_of, load_data, on_ray, print_outcome, recorded
from search.tune.trials import Shared
from structnet.data.dataset import Dataset
from structnet.errors import UserError
from structnet.growth.hierarchy import LEAST_PER_UNIT
from structnet.growth.scales import pooled_images
from structnet.network.topology import bias_count, parameters_dense
from structnet.training.loop import chance_accuracy

ON_DIGITS = {
    "architectures": "input-classes input-4-classes input-8-classes input-16-classes input-8-8-classes",
    "densities": "0.02,0.05,0.1,0.2,0.5",
    "epochs": 20,
    "larger": "input-32-classes",
    "parameters": 600,
    "larger_epochs": 20,
    "scale_epochs": 10,
}
OTHERWISE = {
    "architectures": "input-classes input-4-classes input-8-classes input-16-classes input-32-classes "
    "input-16-8-classes",
    "densities": "0.0005,0.001,0.002,0.005,0.01,0.02,0.05",
    "larger": "input-64-classes",
}
PARAMETERS = 1500
MOST_SCALES, COARSEST = 3, 4  # scales by default, and pixels that the coarsest images have each way at least


class BootstrapOptions(HuntOptions):
    """The options of `bootstrap`. The defaults of a dataset are in ON_DIGITS and OTHERWISE."""

    rng_seeds: int = Field(default=5, ge=2)
    keep_best: bool = False
    learning_rate: float = Field(default=6e-3, gt=0)
    margin: float = Field(default=0.1, gt=0, lt=1)
    larger: str
    parameters: int | None = None
    larger_epochs: int = Field(default=3, ge=1)
    scales: int | None = Field(default=None, ge=1)
    scale_epochs: int = Field(default=1, ge=1)


def run(given: dict[str, Any]) -> None:
    """Runs the command with the options given on its line; exits with 1 if no candidate learns."""
    dataset = merged(BootstrapOptions, given, OTHERWISE).dataset
    options = merged(BootstrapOptions, given, ON_DIGITS if dataset == "digits" else OTHERWISE)
    console = Console()
    data = load_data(options)
    options = fitted_to(options, data)
    members = members_of(options, data)
    check_start(members, options)
    experiment = Experiment("bootstrap", options, options.model_dump(mode="json"))
    if row := experiment.finished(""):
        console.print(f"{experiment.name} is finished already", highlight=False)
        sys.exit(1 if row["error"] else 0)
    say(announcement(members, data, options, experiment), console)
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
        say(
            f"None of those that learn grows into {options.larger} of {options.parameters:,} parameters.",
            console,
        )
    for name in COMPARISONS:
        print_comparison(name, [row for row in started if row["trial"].endswith(name)], console)
    if options.scales == 1:
        why = "there is one scale only" if len(data.input_shape) == 3 else f"{data.name} has no images"
        say(f"Coarse to fine is left out: {why}.", console)
    say("All accuracies are on validation; the test set was not read.", console)


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
    dense, biases = parameters_dense(larger), bias_count(larger)
    parameters = min(PARAMETERS, dense // 2) if options.parameters is None else options.parameters
    if not biases < parameters <= dense:
        raise UserError(
            f"parameters is {parameters}, but must be {biases + 1} to {dense} for a larger network of "
            f"{'-'.join(map(str, larger))}: choose a number between, or another --larger"
        )
    scales = default_scales(data) if options.scales is None else options.scales
    if scales > 1:
        pooled_images(data.train.images[:1], 2 ** (scales - 1))
    found = {"larger": "-".join(map(str, larger)), "parameters": parameters, "scales": scales}
    return options.model_copy(update=found)


def default_scales(data: Dataset) -> int:
    """How often images are halved, and once more: 1 for plain columns and for images that cannot be."""
    shape, scales = data.input_shape[1:], 1
    while (
        len(shape) == 2
        and scales < MOST_SCALES
        and all(size % 2**scales == 0 and size // 2**scales >= COARSEST for size in shape)
    ):
        scales += 1
    return scales


def check_start(members: Sequence[Member], options: BootstrapOptions) -> None:
    """Raises UserError unless some architecture of the grid lies inside the larger one."""
    if not any(lies_inside(member.architecture, sizes(options.larger)) for member in members):
        raise UserError(
            f"larger is {options.larger}, but none of the architectures lies inside it: it must have as many groups "
            "as one of them, each at least as wide"
        )


def lies_inside(architecture: Sequence[int], larger: Sequence[int]) -> bool:
    """Whether it has as many groups, none of them wider."""
    return len(architecture) == len(larger) and all(a <= b for a, b in zip(architecture, larger))


def grows_into_larger(candidate: Candidate, options: BootstrapOptions) -> bool:
    """Whether hierarchical initialisation can make the larger network from it (structnet.growth.hierarchy)."""
    larger = sizes(options.larger)
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
    shared = replace(Shared.of(data, options, experiment), device="cpu")
    names = {config["name"] for config in configs}
    done: set[str] = set()
    if options.resume:
        done = set(trial_rows(options.results, experiment.name, names)["trial"].to_pylist())

    def report(told: dict[str, Any]) -> None:
        done.add(told["name"])
        experiment.update("")
        say(f"{told['name']} is trained: {len(done)} of {len(configs)}", console)

    rows = train_trials(StartWork, configs, shared, options, experiment, report, part="larger")
    return list(rows.to_pylist())


def summary_columns(chosen: Candidate | None, started: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The columns of the experiment: the small network of least loss that was grown; else the smallest's mean."""
    small = [row for row in started if row["network"] == SMALL]
    if small:
        row = min(small, key=lambda row: (row["loss"], row["rng_seed"]))
        return {name: row[name] for name in ("parameters", "accuracy", "snapshot")}
    return {"parameters": chosen.parameters, "accuracy": chosen.mean} if chosen else {}
