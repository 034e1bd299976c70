"""`structnet pick`: another network of a front, for another target, without training again."""

from __future__ import annotations

from typing import Any

from search.commands.pick.command import PickOptions
from structnet.errors import UserError

FIGURES = {
    "target_accuracy": "accuracy",
    "target_balanced_accuracy": "balanced_accuracy",
    "target_loss": "loss",
}


def run(options: PickOptions) -> None:
    """Runs the command."""
    from search.session.console import Console, outcome
    from search.session.front import print_front
    from tournament.rules.front import undominated

    rows = front_of(options)
    chosen = picked(rows, options)
    console = Console()
    console.say(
        f"{chosen['parameters']:,} parameters ({_size_of(chosen)}): accuracy {chosen['accuracy']:.2%}, "
        f"loss {chosen['loss']:.4f} on validation"
    )
    shown = undominated([{**row, "chosen": row is chosen} for row in rows])
    print_front(shown, console)
    console.say(f"Snapshot: {chosen['snapshot']}.safetensors")
    outcome(chosen=chosen, snapshot=chosen["snapshot"])


def front_of(options: PickOptions) -> list[dict[str, Any]]:
    """The rows of the experiment's front; raises UserError if there are none."""
    from structnet.storage.tables import read_table

    rows = read_table(options.results, "fronts", options.name).to_pylist()
    trials = sorted({row["trial"] for row in rows})
    if not rows:
        raise UserError(
            f"{options.name} has no front in {options.results}: `structnet grow` leaves one where it has a target, "
            "--front, or no --max-parameters"
        )
    if options.trial not in trials:
        raise UserError(f"trial is '{options.trial}', but must be one of {', '.join(trials)}: choose one")
    return [row for row in rows if row["trial"] == options.trial]


def picked(rows: list[dict[str, Any]], options: PickOptions) -> dict[str, Any]:
    """The smallest row that holds the target within the limits, or with limits only the one of most information.

    Raises UserError where there is none, with the best that there is.
    """
    asked = {name: value for name in FIGURES if (value := getattr(options, name)) is not None}
    if len(asked) > 1:
        raise UserError(f"there are {len(asked)} targets, but must be at most one: choose one")
    limits = {"parameters": options.max_parameters, "bytes": options.max_bytes, "macs": options.max_macs}
    limits = {name: limit for name, limit in limits.items() if limit is not None}
    if not asked and not limits:
        raise UserError("nothing is asked for: give --target-accuracy, --max-parameters or the like")
    within = [
        row
        for row in rows
        if all(row[name] is not None and row[name] <= limit for name, limit in limits.items())
    ]
    if not within:
        least = min(rows, key=lambda row: row["parameters"])
        raise UserError(
            f"no network of the front is within the limit: the smallest has {least['parameters']:,} parameters "
            f"({_size_of(least)}); grow one with --max-parameters"
        )
    if not asked:
        return max(within, key=lambda row: row["information"])
    ((name, value),) = asked.items()
    figure, sign = FIGURES[name], -1 if name == "target_loss" else 1
    holding = [row for row in within if sign * row[figure] >= sign * value]
    if not holding:
        best = max(within, key=lambda row: sign * row[figure])
        raise UserError(
            f"{name} is {value:g}, but the best of the front within the limits is {best[figure]:.4g}, with "
            f"{best['parameters']:,} parameters: grow one with --{name.replace('_', '-')} {value:g}"
        )
    return min(holding, key=lambda row: (row["parameters"], -row["information"]))


def _size_of(row: dict[str, Any]) -> str:
    """Beside its parameters. What was written before multiply-adds were counted has none."""
    macs = "" if row["macs"] is None else f", {row['macs']:,} multiply-adds an image"
    return f"{row['bytes']:,} bytes{macs}"
