"""The pages of `heads`: one of the experiment, and one of each network in its html/ folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np

from search.commands.heads.command import HeadsOptions
from search.commands.heads.results import NUMBERS, TEXTS, Row, cells_of, sentences_of, settings_of
from search.session.experiment import Experiment
from search.session.page import HeatMap, Section, Table, write_page
from search.session.plots import finish
from structnet.heads.stabilisation import smoothed
from structnet.modules.files import read_module
from structnet.storage.tables import read_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Sequence[Row]
PHASES = ("baseline", "warmup", "pruning", "final")
SHOWN = {
    "gradient": "Gradient of the output projection",
    "entropy": "Entropy of what is looked at",
    "saliency": "Saliency of the gate",
}


def write_pages(path: str, warm: Rows, rows: Rows, options: HeadsOptions, experiment: Experiment) -> None:
    """Writes the page of the experiment, and those of its networks."""
    about = {row["rng_seed"]: read_module(row["snapshot"])[1]["about"] for row in warm}
    tables = {
        name: read_table(options.results, name, experiment.name).to_pylist()
        for name in ("epochs", "decisions")
    }
    first = min(about)
    sections = [
        Section(
            "What the strategies came to", sentences_of(rows), [Table([*TEXTS, *NUMBERS], cells_of(rows))]
        ),
        Section(
            "Warm-up",
            texts=[
                f"rng_seed {row['rng_seed']}: {row['stabilised_at']} steps, ended by {row['stabilised_by']}"
                for row in warm
            ],
            figures=[warm_up_figure(about)],
        ),
        Section("Heads after the warm-up", maps=maps_of(about[first]["scores"], frozenset())),
        Section("After heads went", figures=[curves_figure(rows, tables["epochs"])]),
        Section(
            "How often a head was removed",
            maps=[
                HeatMap(f"{method}, {level:.0%}", often_removed(mine, tables["decisions"]))
                for level, method, mine in settings_of(rows)
                if level
            ],
        ),
    ]
    write_page(path, f"{experiment.name}: attention heads", sections)
    folder = path.removesuffix("index.html")
    for row in rows:
        mine = {
            name: [one for one in table if one["network"] == row["network"]] for name, table in tables.items()
        }
        write_page(
            f"{folder}{row['network']}/html/index.html",
            f"{row['method']}, {row['level']:.0%} of the heads, rng_seed {row['rng_seed']}",
            network_sections(
                row, about[row["rng_seed"]], mine, samples_in(f"{folder}{row['network']}/inference")
            ),
        )


def network_sections(
    row: Row, about: Mapping[str, Any], tables: Mapping[str, Rows], samples: Mapping[str, str]
) -> list[Section]:
    """What is told of one network."""
    gone = frozenset((one["layer"], one["index"]) for one in tables["decisions"] if one["removed"])
    back = frozenset((one["layer"], one["index"]) for one in tables["decisions"] if one["regrown"])
    names = (
        "heads", "parameters", "baseline_loss", "pruned_loss", "loss", "recovery", "accuracy", "test_loss",
        "test_accuracy", "steps", "steps_all", "stabilised_at", "stabilised_by",
    )  # fmt: skip
    decided = [
        [one["step"], one["layer"], one["index"], one["method"], f"{one['value']:.4g}"]
        for one in tables["decisions"]
        if one["removed"]
    ]
    return [
        Section("Numbers", tables=[Table(["what", "value"], [[name, _shown(row[name])] for name in names])]),
        Section(
            "Heads after the warm-up; removed ones are framed", maps=maps_of(about["scores"], gone - back)
        ),
        Section("Decisions", tables=[Table(["step", "layer", "head", "by", "value"], decided)]),
        Section("Loss", figures=[network_figure(about["losses"], tables["epochs"])]),
        Section("What it said", samples=samples),
    ]


def samples_in(folder: str) -> dict[str, str]:
    """Phase -> what the model said, in the order of the phases."""
    files, place = fsspec.url_to_fs(folder)
    paths = [(phase, f"{place}/{phase}_samples.txt") for phase in PHASES]
    return {phase: files.cat_file(path).decode() for phase, path in paths if files.exists(path)}


def _shown(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else value


def maps_of(
    scores: Mapping[str, Sequence[Sequence[Any]]], marked: frozenset[tuple[int, int]]
) -> list[HeatMap]:
    """Heat maps of scores, (layer, number, value) each."""
    return [HeatMap(title, grid_of(scores[name]), marked) for name, title in SHOWN.items()]


def grid_of(cells: Sequence[Sequence[Any]]) -> list[list[float | None]]:
    """Rows of layers."""
    values = {(layer, number): value for layer, number, value in cells}
    layers, heads = (1 + max(key[axis] for key in values) for axis in (0, 1))
    return [[values.get((layer, number)) for number in range(heads)] for layer in range(layers)]


def often_removed(rows: Rows, decisions: Rows) -> list[list[float | None]]:
    """Of every head in how many of these networks it is gone."""
    mine = {row["network"] for row in rows}
    counts: dict[tuple[int, int], int] = {}
    for one in decisions:
        if one["network"] in mine:
            key = one["layer"], one["index"]
            counts[key] = counts.get(key, 0) + one["removed"] - one["regrown"]
    return grid_of([[*key, count] for key, count in counts.items()])


def warm_up_figure(about: Mapping[int, Mapping[str, Any]]) -> Figure:
    """The smoothed losses of the warm-ups, each to where it ended."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.subplots()
    for seed, one in about.items():
        curve = smoothed(one["losses"])
        axes.plot(1 + np.arange(len(curve)), curve, label=f"rng_seed {seed}: {one['reason']}")
        axes.plot(len(curve), curve[-1], "o", color="0.3", markersize=4)
    finish(axes, "Step", "Training loss, smoothed, nats")
    axes.legend(frameon=False, fontsize="small")
    return figure


def curves_figure(rows: Rows, epochs: Rows) -> Figure:
    """Validation loss behind the warm-up by strategy, the mean over rng_seeds, side by side for every level."""
    from matplotlib.figure import Figure

    levels = sorted({row["level"] for row in rows} - {0.0}) or [0.0]
    figure = Figure(figsize=(4.2 * len(levels) + 1, 3.6), layout="constrained")
    every = np.atleast_1d(figure.subplots(1, len(levels), sharey=True))
    losses: dict[str, list[float]] = {}
    for one in sorted(epochs, key=lambda one: one["epoch"]):
        losses.setdefault(one["network"], []).append(one["loss"])
    for axes, level in zip(every, levels):
        for number, (own, method, mine) in enumerate(
            one for one in settings_of(rows) if one[0] in (0.0, level)
        ):
            curves = [losses[row["network"]] for row in mine if row["network"] in losses]
            length = min(map(len, curves), default=0)
            mean = np.mean([curve[:length] for curve in curves], axis=0)
            style = {"color": "0.5", "linestyle": ":"} if own == 0 else {"color": f"C{number % 10}"}
            axes.plot(1 + np.arange(length), mean, label=method, **style)
        axes.set_title(f"{level:.0%} of the heads", fontsize="small")
        finish(axes, "Look at validation data", "Validation loss, nats")
    every[-1].legend(frameon=False, fontsize="x-small")
    return figure


def network_figure(losses: Sequence[float], epochs: Rows) -> Figure:
    """The warm-up's training loss, and validation loss behind it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(1 + np.arange(len(losses)), smoothed(losses))
    finish(left, "Step of the warm-up", "Training loss, nats")
    places = [one["epoch"] for one in epochs]
    right.plot(places, [one["loss"] for one in epochs], ".-")
    finish(right, "Look behind the warm-up", "Validation loss, nats")
    return figure
