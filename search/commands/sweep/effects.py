"""What each option of a sweep does, as charts, the one that does most first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from search.commands.sweep.outcomes import Settings, short_of
from search.grid.telling import with_spread
from search.report.blocks import Block, Chart, HeatMap, Side, Text
from search.report.charts import Axis, strips

Row = dict[str, Any]
ACCURACY = Axis("accuracy", "Accuracy on validation", format=".1%")


def effects_of(settings: Settings) -> list[Block]:
    """A chart for every option, two side by side, and the first two options together where all are crossed."""
    options = sorted(settings.options, key=lambda option: -_reach(settings, option))
    charts = [chart for option in options if (chart := _effect(settings, option)) is not None]
    if not charts:
        return []
    way = (
        "Options are changed one at a time, from the base."
        if settings.is_star
        else "All combinations were tried, so what an option does is seen over all values of the others."
    )
    note = f"{way} A point is an rng_seed of a setting, a bar the mean of all that have this value."
    blocks: list[Block] = [Text(note)]
    blocks.append(Side([charts[::2], charts[1::2]]) if len(charts) > 1 else charts[0])
    return [*blocks, *_crossed(settings, options)]


def _reach(settings: Settings, option: str) -> float:
    """How far the means of its values lie apart."""
    values: dict[str, list[float]] = {}
    for outcome in settings.outcomes:
        if outcome.accuracy is not None and outcome.setting in settings.alone(option):
            values.setdefault(short_of(settings.value(outcome.setting, option)), []).append(outcome.accuracy)
    means = [sum(found) / len(found) for found in values.values()]
    return max(means, default=0.0) - min(means, default=0.0)


def _effect(settings: Settings, option: str) -> Chart | None:
    among = set(settings.alone(option))
    found: dict[Any, list[Row]] = {}
    for outcome in settings.outcomes:
        if outcome.setting in among and outcome.accuracy is not None:
            value = settings.value(outcome.setting, option)
            row = {
                "value": short_of(value),
                "accuracy": outcome.accuracy,
                "seed": outcome.rng_seed,
                "setting": settings.said(outcome.setting),
            }
            found.setdefault(str(value) if isinstance(value, list | dict) else value, []).append(row)
    if len(found) < 2:
        return None
    ordered = [found[value] for value in sorted(found, key=_order)]
    more = [Axis("seed", "rng_seed", kind="nominal"), Axis("setting", "setting", kind="nominal")]
    paired = "seed" if settings.is_star or len(settings.options) == 1 else ""
    rows = [row for mine in ordered for row in mine]
    return Chart(
        strips(rows, Axis("value", option, kind="nominal"), ACCURACY, paired=paired, more=more),
        f"option-{option}",
        option.replace("_", " "),
        text="; ".join(
            f"{mine[0]['value']}: {with_spread([row['accuracy'] for row in mine])}" for mine in ordered
        ),
    )


def _order(value: Any) -> tuple[int, float, str]:
    """Numbers by size, then everything else by name."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (0, float(value), "") if is_number else (1, 0.0, str(value))


def _crossed(settings: Settings, options: Sequence[str]) -> list[Block]:
    """Mean accuracy over the values of the first two of these options."""
    if settings.is_star or len(options) < 2:
        return []
    first, second = options[:2]
    cells: dict[tuple[str, str], list[float]] = {}
    for outcome in settings.outcomes:
        if outcome.accuracy is not None:
            place = tuple(short_of(settings.value(outcome.setting, option)) for option in (first, second))
            cells.setdefault((place[0], place[1]), []).append(outcome.accuracy)
    orders = [
        [
            short_of(value)
            for value in sorted({settings.value(name, option) for name in settings.changes}, key=_order)
        ]
        for option in (first, second)
    ]
    values = [[_mean(cells.get((row, column), [])) for column in orders[1]] for row in orders[0]]
    title = f"Mean accuracy by {first} (rows) and {second} (columns)"
    heads = [f"{first} {name}" for name in orders[0]], orders[1]
    return [HeatMap(title, values, frozenset(), (first, second), *heads, ".1%")]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
