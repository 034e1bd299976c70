"""`structnet validate`: the checks of a base network and its data, before an experiment takes hours.

The base network is the seed that `grow` starts with, given the same options. Nothing here needs Ray.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from search.commands.grow.command import GrowOptions
from search.commands.grow.fitting import fitted_to, seed_network
from search.commands.validate.command import ValidateOptions
from search.session.console import Console, outcome
from search.session.experiment import Experiment
from search.session.interrupts import CODE, ending_in_order, line_is_said
from search.session.run import load_data
from search.session.waiting import bar
from structnet.errors import UserError, one_line

if TYPE_CHECKING:
    from structnet.data.dataset import Dataset
    from structnet.experiments.validation import Trained, Validation
    from structnet.network.network import StructNet

STAGES = 4  # of structnet.experiments.validation


def run(options: ValidateOptions) -> None:
    """Runs the command; exits with 1 if a check fails."""
    import torch

    from structnet.experiments.validation import validate

    torch.set_num_threads(1)  # as in every other command, so that the same seed gives the same numbers
    data = load_data(options)
    options, network = base_network(options, data)
    data, network = on_device(data, options.device), network.to(options.device)
    experiment = Experiment("validate", options, data=data)
    console = Console()
    if row := experiment.finished(""):
        console.print(
            f"experiment {experiment.name} is finished already: {row['error'] or 'all checks passed'}"
        )
        sys.exit(1 if row["error"] else 0)
    console.print(Text(f"Validating {network.describe()} on {data.name}, experiment {experiment.name}"))
    experiment.start("", options.rng_seed)
    began = time.perf_counter()
    try:
        with ending_in_order(), experiment.beating(""), stages(console) as on_stage:
            found = validate(
                network,
                data,
                epochs=options.epochs,
                learning_rate=options.learning_rate,
                batch_size=options.batch_size or 1,
                margin=options.margin,
                rng_seed=options.rng_seed,
                on_stage=on_stage,
            )
    except KeyboardInterrupt:
        experiment.end("", "interrupted")
        console.say("\ninterrupted: the same command with --resume begins again")
        line_is_said()
        sys.exit(CODE)
    except Exception as error:
        experiment.end("", "failed", error=one_line(error))
        raise
    failed = "; ".join(check.name for check in found.failed)
    write_networks(experiment, options, found)
    columns = experiment_columns(network, found)
    experiment.end("", "finished", seconds=time.perf_counter() - began, error=failed or None, **columns)
    print_checks(found, console)
    outcome(checks=[vars(check) for check in found.checks])
    console.print(Text(f"Tables: {options.results}/tables (experiments, networks)"))
    sys.exit(1 if failed else 0)


def base_network(options: ValidateOptions, data: Dataset) -> tuple[ValidateOptions, StructNet]:
    """The seed of `grow` for these options, and the options with what follows from the data.

    Raises UserError if architecture, density or batch size cannot be.
    """
    growing = fitted_to(GrowOptions(**options.model_dump(exclude={"margin"})), data)
    found = {"density": growing.density, "batch_size": growing.batch_size}
    return options.model_copy(update=found), seed_network(growing, data, options.rng_seed)


def on_device(data: Dataset, device: str) -> Dataset:
    """The dataset with its splits there; raises UserError for a device that torch does not have."""
    import torch

    from structnet.data.dataset import Split

    if device == "cpu":
        return data
    try:
        usable = torch.device(device).type == "cuda" and torch.zeros(1, device=device).is_cuda
    except (RuntimeError, AssertionError):
        usable = False
    if not usable:
        raise UserError(
            f"device is '{device}', but must be cpu, or cuda where torch finds a GPU: leave it at cpu"
        )

    def moved(split: Split) -> Split:
        return split.to(device)

    return replace(data, train=moved(data.train), validation=moved(data.validation), test=moved(data.test))


@contextmanager
def stages(console: Console) -> Iterator[Callable[[str], None]]:
    """Shows what is done at the moment: on a terminal with the seconds it takes, plain lines elsewhere."""
    if not console.is_terminal:
        yield lambda stage: console.say(stage, markup=False)
        return
    with bar(console, transient=True) as shown:
        task, done = shown.add_task("", total=STAGES), count()
        yield lambda stage: shown.update(task, description=stage, completed=next(done))


def experiment_columns(network: StructNet, found: Validation) -> dict[str, Any]:
    """The row in `experiments`: the base network, and its dense version where that has a column."""
    base, dense = found.base.evaluation, found.dense.evaluation
    return {
        "parameters": network.parameter_count,
        "connections": network.connection_count,
        "steps": found.steps,
        "steps_all": found.steps_all,
        "parameter_steps": found.steps * network.parameter_count,
        "parameter_steps_all": found.parameter_steps_all,
        "accuracy": base.accuracy if base else None,
        "dense_accuracy": dense.accuracy if dense else None,
    }


def write_networks(experiment: Experiment, options: ValidateOptions, found: Validation) -> None:
    """The rows `sparse` and `dense` in `networks`."""
    for name, trained, density in (("sparse", found.base, options.density), ("dense", found.dense, 1.0)):
        row = network_row(trained, found.baselines.chance)
        row |= {"trial": "", "network": name, "density": density, "rng_seed": options.rng_seed}
        experiment.writer.write("networks", name, [row | {"epochs": options.epochs}])


def network_row(trained: Trained, chance: float) -> dict[str, Any]:
    """What the table `networks` has about a trained network; efficiency: accuracy above chance ÷ parameters."""
    from structnet.trials.champions import efficiency
    from structnet.trials.rows import structure_columns

    network, measured, diagnosis = trained.network, trained.evaluation, trained.diagnosis
    row = structure_columns(network) | {"seconds": trained.seconds, "status": "finished"}
    if measured is None or diagnosis is None:
        return row | {"status": "failed", "error": "training diverged"}
    return row | {
        "train_loss": trained.epochs[-1]["train_loss"],
        "loss": measured.loss,
        "accuracy": measured.accuracy,
        "information": trained.bits,
        "saturated": len(diagnosis.saturated),
        "dead": len(diagnosis.dead),
        "efficiency": efficiency(measured.accuracy, chance, network.parameter_count),
    }


def print_checks(found: Validation, console: Console) -> None:
    """Chance, a table of the checks, and what to do about those that failed."""
    known = found.baselines
    shown = [
        f"{what} {accuracy:.1%} ({bits:+.2f} bits)"
        for what, (accuracy, bits) in (
            ("guessing", known.guessing),
            ("the commonest class", known.majority),
            ("the untrained network", known.untrained),
        )
    ]
    console.print(Text(f"Without training, on validation: {', '.join(shown)}"), soft_wrap=True)
    table = Table("check", "result", "measured", "must be")
    for check in found.checks:
        result = Text("passed", "green") if check.passed else Text("FAILED", "bold red")
        table.add_row(Text(check.name), result, Text(check.value), Text(check.rule))
    console.print(table)
    for check in found.failed:
        console.print(Text(f"{check.name}: {check.advice}"), soft_wrap=True)
    passed = len(found.checks) - len(found.failed)
    console.say(f"{passed} of {len(found.checks)} checks passed")
