"""The page of `paths`: table, sentences, curves, the decisions of a network, and what removed paths were worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from search.commands.paths.results import (
    NUMBERS,
    TEXTS,
    Row,
    Setting,
    cells,
    moved_of,
    sentences_of,
    usefulness,
)
from search.session.page import Section, Table
from search.session.plots import finish
from structnet.trials.paths import PLASTIC

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DECIDED = ("step", "", "from", "to", "by", "value", "accuracy", "with it cut")


def sections_of(
    settings: Sequence[Setting], rows: Sequence[Row], epochs: Sequence[Row], decisions: Sequence[Row]
) -> list[Section]:
    """The sections of the page. rows, epochs, decisions: of the tables of these names."""
    moved = moved_of(decisions)
    table = Table([*TEXTS, *NUMBERS], [cells(setting, moved) for setting in settings])
    found = [Section("What was reached", sentences_of(settings, rows, decisions), [table])]
    if settings:
        curves = [curves_of(variant, settings, epochs) for variant in unique(settings)]
        text = (
            "Validation accuracy after each epoch; a band is one standard deviation over rng_seeds each way."
        )
        found.append(Section("Learning curves", [text], figures=curves))
    if decisions:
        text = (
            "By how much validation accuracy falls when a path is cut that a rule removes, measured just before: were "
            "paths of no use removed, all would lie at 0."
        )
        found.append(Section("What removed paths were worth", [text], figures=[worth(settings, decisions)]))
        first = next(row["network"] for row in rows if row["network"] in moved)
        table = Table(DECIDED, [decided(row) for row in decisions if row["network"] == first])
        found.append(Section(f"Decisions of {first}", tables=[table]))
    return found


def unique(settings: Sequence[Setting]) -> list[str]:
    """The variants, in their order."""
    return list(dict.fromkeys(setting.variant for setting in settings))


def curves_of(variant: str, settings: Sequence[Setting], epochs: Sequence[Row]) -> Figure:
    """Accuracy against epoch for the settings of a variant."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    by_network: dict[str, dict[int, float]] = {}
    for row in epochs:
        by_network.setdefault(row["network"], {})[row["epoch"]] = row["accuracy"]
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    mine = [setting for setting in settings if setting.variant == variant]
    for number, setting in enumerate(mine):
        curves = [by_network[row["network"]] for row in setting.rows]
        values = 100 * np.array([[curve[epoch] for epoch in sorted(curve)] for curve in curves])
        mean, spread = values.mean(axis=0), values.std(axis=0, ddof=min(1, len(values) - 1))
        line, color = sorted(curves[0]), f"C{number}"
        axes.plot(line, mean, ".-", color=color, label=setting.name)
        axes.fill_between(line, mean - spread, mean + spread, color=color, alpha=0.2, linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    finish(axes, "Epoch", "Validation accuracy, %")
    axes.legend(frameon=False, fontsize="small")
    return figure


def worth(settings: Sequence[Setting], decisions: Sequence[Row]) -> Figure:
    """Of every plastic setting how much accuracy each removed path was worth, against the step at which it went."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    axes = figure.subplots()
    plastic = [setting for setting in settings if setting.arm == PLASTIC]
    for number, setting in enumerate(plastic):
        names = {row["network"] for row in setting.rows}
        gone = [row for row in decisions if row["removed"] and row["network"] in names]
        steps, lost = [row["step"] for row in gone], [100 * value for value in usefulness(gone)]
        axes.plot(steps, lost, ".", color=f"C{number}", label=setting.name)
    axes.axhline(0, color="0.4", linestyle=":", linewidth=1)
    finish(axes, "Step", "Validation accuracy lost, points")
    axes.legend(frameon=False, fontsize="small")
    return figure


def decided(row: Mapping[str, Any]) -> list[str]:
    """A row of `decisions` as cells, in the order of DECIDED."""
    value = "" if row["value"] is None else f"{row['value']:.4g}"
    accuracies = [
        "" if row[name] is None else f"{row[name]:.4f}" for name in ("accuracy", "accuracy_without")
    ]
    went = "went" if row["removed"] else "came"
    return [str(row["step"]), went, str(row["index"]), str(row["layer"]), row["method"], value, *accuracies]
