"""What `grow` says when a tournament has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from search.commands.grow.command import GrowOptions
from search.session.console import Console
from search.session.experiment import Experiment
from search.session.front import print_front
from structnet.network.architecture import dashed

if TYPE_CHECKING:
    from structnet.data.dataset import Dataset
    from tournament.coordinator import Result
    from tournament.opponents import Rival
    from tournament.settings import Settings


def print_result(
    result: Result,
    rival: Rival | None,
    options: GrowOptions,
    settings: Settings,
    data: Dataset,
    console: Console,
) -> None:
    """Says what came of the job first, then what was grown, what it is compared with if anything, and its front."""
    for line in _answer(result, settings):
        console.say(line)
    console.say(f"Growth ended because {result.progress.reason}.")
    from structnet.measure.imbalance import balance_of
    from structnet.measure.size import multiply_adds, stored_bytes

    shown = [
        f"{name} {found.accuracy:.2%}{balance_of(found.right, split.labels.numpy(), data.classes).shown}"
        for name, found, split in (
            ("validation", result.measured, data.validation),
            ("test", result.test, data.test),
        )
    ]
    topology = result.network.topology
    takes = f"{stored_bytes(topology):,} bytes, {multiply_adds(topology):,} multiply-adds an image"
    console.say(f"Grown: {result.network.describe()}, {takes}; {', '.join(shown)}")
    if balance_of(result.measured.right, data.validation.labels.numpy(), data.classes).says_one_class:
        console.say(
            "It only ever says the commonest class: give rare classes more weight with --balance, or ask for "
            "--target-balanced-accuracy."
        )
    if result.utilisation:
        console.say(_utilised(result.utilisation, options.price))
    if rival:
        console.say(_opponent(rival, result.progress.parameter_steps_all), markup=False)
    if result.front:
        print_front(result.front, console)


def _answer(result: Result, settings: Settings) -> list[str]:
    """What came of the target or the knee, one sentence a line; nothing where only a size was asked for."""
    choice, target, parameters = result.choice, settings.target, result.network.parameter_count
    if choice is None:
        return []
    if target is None:
        if parameters == max(row["parameters"] for row in result.progress.front):
            return [
                f"The knee is not below {parameters:,} parameters, the largest that were looked at: half of them lose "
                f"more than {choice.bits:.3f} bits of information."
            ]
        return [
            f"The knee: {parameters:,} parameters. A doubling from there gains less than {choice.bits:.3f} bits of "
            "information."
        ]
    row = next(row for row in result.progress.front if row["round"] == choice.round)
    found = target.shown(row["found"])
    if choice.held:
        lines = [f"{target.text} holds with {parameters:,} parameters: {found} on validation."]
        if choice.shortfall is not None:
            lines.append(
                f"It is the smallest of {len(result.progress.front)} that were looked at, and on fresh images its "
                f"{_named(target.figure)} is likely to be worse by about "
                f"{target.shown(max(0.0, choice.shortfall))}."
            )
        return [lines[0][0].upper() + lines[0][1:], *lines[1:]]
    takes = (
        f"it would take about {choice.would_take:,} parameters, by what the last doubling brought"
        if choice.would_take
        else "neither more parameters nor fewer bring it nearer"
    )
    return [
        f"Not reached: {target.text}. The best is {found} on validation, with {parameters:,} parameters; {takes}."
    ]


def _opponent(rival: Rival, cost: int) -> str:
    """One line on the rival of a run that took so many parameter-steps: what it was given, and how it did."""
    shape, found = dashed(rival.architecture), rival.found
    if found is None:
        return f"No opponent: RigL in {shape} failed ({rival.error})"
    return (
        f"RigL of {found.parameters:,} parameters in {shape}, for {found.parameter_steps / 1e6:,.2f} million "
        f"parameter-steps (the run took {cost / 1e6:,.2f}): validation {found.measured.accuracy:.2%}, "
        f"test {found.test.accuracy:.2%}"
    )


def _named(figure: str) -> str:
    return figure.replace("_", " ")


def _utilised(rows: list[dict[str, Any]], price: float) -> str:
    """One line on what became of the growth that was adopted."""
    gone = sum(row["connections"] == 0 for row in rows)
    redundant = sum(row["redundant"] for row in rows)
    return (
        f"Growths adopted: {len(rows)}; gone by now: {gone}; could go for less than {price:g} bits per thousand "
        f"parameters: {redundant}."
    )


def write_answers(experiment: Experiment, trial: str, result: Result, data: Dataset) -> None:
    """What the network says of the validation images, into its tables: a part of each, which a resume replaces."""
    from structnet.measure.answers import answer_rows

    for table, rows in answer_rows(data, result.answers, trial).items():
        experiment.writer.write(table, trial or "run", rows)


def final_columns(result: Result, data: Dataset) -> dict[str, Any]:
    """The columns of the experiments table for a tournament that has ended on a dataset."""
    from structnet.measure.imbalance import balance_of
    from structnet.measure.size import multiply_adds, stored_bytes
    from structnet.trials.rows import map_columns

    validation = balance_of(result.measured.right, data.validation.labels.numpy(), data.classes)
    test = balance_of(result.test.right, data.test.labels.numpy(), data.classes)
    progress, network = result.progress, result.network
    return {
        "seconds": progress.seconds,
        "parameters": network.parameter_count,
        "connections": network.connection_count,
        "steps": progress.step,
        "steps_all": progress.steps_all,
        "parameter_steps": progress.parameter_steps,
        "parameter_steps_all": progress.parameter_steps_all,
        "accuracy": result.measured.accuracy,
        "test_accuracy": result.test.accuracy,
        "test_loss": result.test.loss,
        "balanced_accuracy": validation.balanced_accuracy,
        "test_balanced_accuracy": test.balanced_accuracy,
        "majority": validation.majority,
        "bytes": stored_bytes(network.topology),
        **map_columns(network.topology.architecture),
        "macs": multiply_adds(network.topology),
        "snapshot": result.snapshot or None,
    }
