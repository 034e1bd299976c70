"""What `grow` says when a tournament has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from search.commands.grow.command import GrowOptions
from search.session.console import Console
from search.session.front import print_front

if TYPE_CHECKING:
    from tournament.coordinator import Result
    from tournament.dense_baseline import DenseBaseline
    from tournament.settings import Settings


def print_result(
    result: Result, baseline: DenseBaseline, options: GrowOptions, settings: Settings, console: Console
) -> None:
    """Says what came of the job first, then what was grown, what it is compared with, and its front."""
    from structnet.network.topology import parameters_dense

    for line in _answer(result, settings):
        console.say(line)
    console.say(f"Growth ended because {result.progress.reason}.")
    console.say(
        f"Grown: {result.network.describe()}; validation {result.measured.accuracy:.2%}, "
        f"test {result.test.accuracy:.2%}"
    )
    if result.utilisation:
        console.say(_utilised(result.utilisation, options.price))
    dense = baseline.architecture
    console.say(
        f"Dense network of {parameters_dense(dense):,} parameters ({'-'.join(map(str, dense))}), as many steps: "
        f"validation {baseline.measured.accuracy:.2%}, test {baseline.test.accuracy:.2%}"
    )
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
