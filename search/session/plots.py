"""Figures for a paper or a report, as PNG or SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from structnet.errors import UserError
from structnet.storage.atomic import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from structnet.experiments.cliff import Cliff, Rung

ENDINGS = (".png", ".svg")


def plot_ladder(
    path: str,
    series: Mapping[str, Sequence[Rung]],
    cliffs: Mapping[str, Cliff],
    chance: float,
    *,
    title: str = "Sparsity ladder",
) -> None:
    """Writes accuracy against density on a log axis, a curve for every entry of series, such as an allocation.

    A curve is the mean over the rng_seeds with a band of one standard deviation each way; its cliff is a
    dashed line with its 95 % interval shaded. chance: accuracy of the commonest class, a dotted line. path: a
    path or fsspec URL that ends in .png or .svg, folders are made; else UserError.
    """
    from matplotlib.figure import Figure

    _check_ending(path)
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for number, (name, rungs) in enumerate(series.items()):
        _draw_curve(axes, name, rungs, cliffs.get(name), chance, f"C{number}")
    axes.axhline(chance, color="0.4", linestyle=":", linewidth=1, label="chance")
    axes.set_xscale("log")
    axes.set_ylim(0, 1)
    axes.set_title(title)
    finish(axes, "Density (existing ÷ possible connections)", "Validation accuracy")
    axes.legend(frameon=False, fontsize="small")
    save_figure(figure, path)


def finish(axes: Axes, x_label: str, y_label: str) -> None:
    """Labels, and no frame where there is no axis."""
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)


def save_figure(figure: Figure, path: str) -> None:
    """Writes a figure as PNG or SVG by the ending of its path; the same figure gives the same bytes."""
    import fsspec
    from matplotlib import rc_context

    _check_ending(path)
    kind = PurePosixPath(path).suffix[1:]
    picture = BytesIO()
    # Ids and the date of an SVG would otherwise differ from run to run.
    metadata = {"Date": None} if kind == "svg" else {}
    with rc_context({"svg.hashsalt": "structnet"}):
        figure.savefig(picture, format=kind, dpi=200, metadata=metadata)
    files, place = fsspec.url_to_fs(path)
    write_whole(files, {place: picture.getvalue()})


def _draw_curve(
    axes: Axes, name: str, rungs: Sequence[Rung], cliff: Cliff | None, chance: float, color: str
) -> None:
    from structnet.experiments.cliff import halfway, ladder_rows

    rows = ladder_rows(rungs)
    density = [row["density_real"] for row in rows]
    label = name
    if cliff is not None and cliff.density is not None:
        label += f" (cliff at {cliff.density:.2g})"
        axes.axvline(cliff.density, color=color, linestyle="--", linewidth=1)
        axes.plot(cliff.density, halfway(cliff.plateau, chance), "o", color=color, fillstyle="none")
        if cliff.interval is not None:
            axes.axvspan(*cliff.interval, color=color, alpha=0.15, linewidth=0)
    elif cliff is not None and cliff.below is not None:
        label += f" (cliff below {cliff.below:.2g})"
    axes.plot(density, [row["mean"] for row in rows], ".-", color=color, label=label)
    low = [row["mean"] - row["spread"] for row in rows]
    high = [row["mean"] + row["spread"] for row in rows]
    axes.fill_between(density, low, high, color=color, alpha=0.25, linewidth=0)


def _check_ending(path: str) -> None:
    if not path.endswith(ENDINGS):
        raise UserError(f"the figure is '{path}', but must end in {' or '.join(ENDINGS)}: choose one")
