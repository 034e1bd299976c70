"""`structnet bench links`: training on the connections that exist against the same training on dense × mask.

Both sides train the same network from the same starting weights on the same batches with one thread: forward,
cross-entropy, backward and Adam. The other side is what packages for sparse training do: full weights times a mask,
autograd, and the implementation of torch.optim.Adam that is fastest here. Four cases. `step`: compiled steps, with the
batch in memory as each side takes it. `epoch`: an epoch of `fit` on MNIST, from the stored images to the accuracy on
validation. `module`: a StructNet in a training loop of one's own, under autograd. `set`: a step of the largest network
of the authors of SET, against plain dense as well.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle, pairwise
from statistics import median

import torch

from search.commands.bench.command import LinksOptions
from search.commands.bench.measuring import (
    CPU,
    Pairs,
    Rows,
    check_case,
    check_repeats,
    console_for_tables,
    device_named,
    fastest,
    row_of_pairs,
    time_pairs,
    write_rows,
)
from search.commands.bench.sides import (
    ADAMS,
    BATCH,
    LEARNING_RATE,
    STEPS_IN_A_CALL,
    Batch,
    CompiledSteps,
    MaskedStep,
    ModuleStep,
    batch_of_rows,
)
from search.session.console import Console
from search.session.run import one_thread
from search.session.tables import table_of
from structnet.data.dataset import Dataset, Split
from structnet.data.datasets import load_dataset
from structnet.errors import UserError
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.training.batches import steps_per_epoch
from structnet.training.fit import fit
from structnet.training.loop import train_steps
from structnet.training.recipe import Recipe
from structnet.training.schedules import constant

NETWORKS = ([784, 128, 10], [784, 300, 100, 10], [784, 1000, 1000, 10])
DENSITY = 0.02
BATCHES, AGREEMENT_STEPS = 8, 24
EPOCH_REPEATS = 3
SET_NETWORK, SET_BATCH, CIFAR_IMAGES = [3072, 4000, 1000, 4000, 10], 100, 50_000
AIMS = {"step": (15, 18, 25), "epoch": (8, 10, 18)}

Step = Callable[[Batch], torch.Tensor]


def run(options: LinksOptions) -> None:
    """Measures, prints a table per case and writes the rows to `results`, if given.

    rule: measures what the rule for dense links rests on instead. Raises UserError for a case that there is not,
    repeats below 1, a device that is not there, or MNIST that is not.
    """
    check_case(options.case, CASES)
    check_repeats(options.repeats)
    place, console = device_named(options.device), console_for_tables()
    with one_thread():
        if options.rule:
            from search.commands.bench.kernels import measure_rule

            rows = measure_rule(console, options.repeats)
            write_rows(options.results, "bench-kernels", rows, console)
            return
        for name in [options.case] if options.case else ["step", "module"]:
            rows = CASES[name](console, options, place)
            write_rows(options.results, f"bench-links-{name}", rows, console)


def _measure_steps(console: Console, options: LinksOptions, device: torch.device) -> Rows:
    if device.type != "cpu":
        raise UserError("steps are compiled for a CPU: leave out --device, or take --case module")
    console.print(
        f"A whole step at density {DENSITY}, batch {BATCH} in memory, one thread: compiled, {STEPS_IN_A_CALL} steps a "
        f"call, against dense × mask, {options.repeats} pairs each"
    )

    def measure(network: StructNet) -> tuple[Pairs, str, tuple[float, float]]:
        batches = _batches(network, CPU)
        adam = _fastest_adam(network, batches, CPU)
        ours, theirs = CompiledSteps(network), _in_turn(MaskedStep(network, adam), batches)
        return (
            _per_step(time_pairs(ours, theirs, options.repeats, CPU), STEPS_IN_A_CALL),
            adam,
            agreement(network),
        )

    return _table("step", console, measure)


def _measure_epochs(console: Console, options: LinksOptions, device: torch.device) -> Rows:
    data = load_dataset("mnist", data_dir=options.data_dir)
    console.print(
        f"An epoch of fit on MNIST and its evaluation at density {DENSITY}, batch {BATCH}, one thread, from the stored "
        f"images on, against dense × mask, {EPOCH_REPEATS} pairs each"
    )

    def measure(network: StructNet) -> tuple[Pairs, str, tuple[float, float]]:
        adam = _fastest_adam(network, _batches(network, CPU), CPU)
        # The other side has its images as numbers, which are made before anything is timed.
        accuracy = epoch_of_masks(network, adam, data)
        mine = network.fork()
        history = fit(
            mine, data, epochs=1, batch_size=BATCH, learning_rate=LEARNING_RATE, schedule="constant"
        )
        pairs = time_pairs(
            lambda: fit(network.fork(), data, epochs=1, batch_size=BATCH, learning_rate=LEARNING_RATE),
            lambda: epoch_of_masks(network, adam, data),
            EPOCH_REPEATS,
            CPU,
        )
        return pairs, adam, (history.epochs[-1]["accuracy"], accuracy)

    return _table("epoch", console, measure, "accuracy")


def _measure_modules(console: Console, options: LinksOptions, device: torch.device) -> Rows:
    console.print(
        f"A step of a training loop of one's own at density {DENSITY}, batch {BATCH}, one thread, {device}: StructNet "
        f"under autograd against dense × mask, {options.repeats} pairs each"
    )

    def measure(network: StructNet) -> tuple[Pairs, str, tuple[float, float]]:
        network, batches = network.to(device), _batches(network, device)
        adam = _fastest_adam(network, batches, device)
        ours, theirs = (
            _in_turn(side, batches) for side in (ModuleStep(network, adam), MaskedStep(network, adam))
        )
        pairs = time_pairs(ours, theirs, options.repeats, device)
        sides, losses = (ModuleStep(network, "plain"), MaskedStep(network, "plain")), (0.0, 0.0)
        for index in range(AGREEMENT_STEPS):
            batch = batches[index % len(batches)]
            losses = float(sides[0](batch)), float(sides[1](batch))
        return pairs, adam, losses

    return _table("module", console, measure, device=device)


def _measure_set(console: Console, options: LinksOptions, device: torch.device) -> Rows:
    """The network of Mocanu et al. (2018) for CIFAR-10, at ε = 20 and batches of 100, with ReLU."""
    if device.type != "cpu":
        raise UserError("steps are compiled for a CPU: leave out --device")
    links = list(pairwise(SET_NETWORK))
    connections = sum(20 * (n_in + n_out) for n_in, n_out in links)
    network = StructNet(SET_NETWORK, connections / sum(n_in * n_out for n_in, n_out in links))
    steps = CIFAR_IMAGES // SET_BATCH
    console.print(
        f"{'-'.join(map(str, SET_NETWORK))}, {network.parameter_count:,} parameters, batch {SET_BATCH} in memory, one "
        f"thread: an epoch of {steps} steps, by the seconds of a step, {options.repeats} pairs each"
    )
    batches = _batches(network, CPU, SET_BATCH)
    ours = CompiledSteps(network, SET_BATCH)
    table, rows = table_of(["against"], ("s an epoch, ours", "theirs", "times as fast")), []
    for name, other in (("dense × mask", network), ("plain dense", StructNet(SET_NETWORK, 1.0))):
        adam = _fastest_adam(other, batches, CPU)
        masked = MaskedStep(other, adam, is_plain=name == "plain dense")
        found = time_pairs(ours, _in_turn(masked, batches), options.repeats, CPU)
        pairs = _per_step(found, STEPS_IN_A_CALL)
        seconds = (steps * median(one) for one in (pairs.ours, pairs.theirs))
        table.add_row(name, *(f"{one:,.1f}" for one in seconds), pairs.shown(digits=1))
        case = f"set {'-'.join(map(str, SET_NETWORK))} epsilon 20 batch {SET_BATCH} cpu"
        rows.append(row_of_pairs("links", case, pairs, f"{name}, {adam} Adam"))
    console.print(table)
    return rows


CASES: dict[str, Callable[[Console, LinksOptions, torch.device], Rows]] = {
    "step": _measure_steps,
    "epoch": _measure_epochs,
    "module": _measure_modules,
    "set": _measure_set,
}


def _table(
    case: str,
    console: Console,
    measure: Callable[[StructNet], tuple[Pairs, str, tuple[float, float]]],
    agree: str = "loss",
    device: torch.device = CPU,
) -> Rows:
    """A line for each of NETWORKS; measure: the times, their Adam, and (ours, theirs) of what both have to agree in."""
    headings = ("parameters", "µs ours", "µs theirs", "times as fast", f"{agree} ours", "theirs")
    table, rows = table_of(["network"], headings), []
    for architecture in NETWORKS:
        network = StructNet(architecture, DENSITY)
        pairs, adam, agreed = measure(network)
        name = "-".join(map(str, architecture))
        table.add_row(
            name,
            f"{network.parameter_count:,}",
            *(f"{1e6 * median(seconds):,.0f}" for seconds in (pairs.ours, pairs.theirs)),
            pairs.shown(digits=1),
            *(f"{value:.5f}" for value in agreed),
        )
        row = f"{case} {name} density {DENSITY} batch {BATCH} {device.type}"
        rows.append(row_of_pairs("links", row, pairs, f"dense × mask, {adam} Adam", device))
    console.print(table)
    aim = f" Aim: at least {', '.join(map(str, AIMS[case]))}." if case in AIMS else ""
    console.print(f"Times as fast: median of the pairs (smallest-largest).{aim}")
    return rows


def _per_step(pairs: Pairs, steps: int) -> Pairs:
    return Pairs([seconds / steps for seconds in pairs.ours], pairs.theirs)


def _fastest_adam(network: StructNet, batches: list[Batch], device: torch.device) -> str:
    """The implementation of Adam that serves the other side best on this machine."""
    return fastest({adam: _in_turn(MaskedStep(network, adam), batches) for adam in ADAMS}, device)


def agreement(network: StructNet) -> tuple[float, float]:
    """The losses of compiled steps and of masks after the same steps on the same batches: they have to agree."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(BATCH * BATCHES, network.architecture[0], generator=generator)
    labels = torch.randint(network.architecture[-1], (len(images),), generator=generator)
    split, recipe, theirs = Split(images, labels), Recipe(BATCH), MaskedStep(network, "plain")
    state = TrainState.fresh(network.fork())
    losses = train_steps(state, split, recipe, AGREEMENT_STEPS, constant(LEARNING_RATE))
    masked = 0.0
    for step in range(AGREEMENT_STEPS):
        masked = float(theirs(batch_of_rows(split, BATCH, step)))
    return float(losses[-1]), masked


def epoch_of_masks(network: StructNet, adam: str, data: Dataset) -> float:
    """An epoch of dense × mask, and its accuracy on validation."""
    step = MaskedStep(network, adam)
    for index in range(steps_per_epoch(len(data.train), BATCH)):
        step(batch_of_rows(data.train, BATCH, index))
    return step.accuracy(data.validation)


def _batches(network: StructNet, device: torch.device, size: int = BATCH) -> list[Batch]:
    """Random images with random labels: neither side's time depends on what is in them."""
    generator = torch.Generator().manual_seed(0)
    inputs, classes = network.architecture[0], network.architecture[-1]
    return [
        (
            torch.rand(size, inputs, generator=generator).to(device),
            torch.randint(classes, (size,), generator=generator).to(device),
        )
        for _ in range(BATCHES)
    ]


def _in_turn(step: Step, batches: list[Batch]) -> Callable[[], torch.Tensor]:
    """A function that steps on the next batch at every call."""
    turns = cycle(batches)
    return lambda: step(next(turns))
