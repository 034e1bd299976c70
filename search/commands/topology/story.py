"""The story of a topology: where sparse evolution put the connections of the input, and whether that was learned."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from search.commands.topology.results import Setting, learned, settings_of
from search.grid.telling import failures, lead_row, means, numbers_of, on_data, query, so_far, with_spread
from search.report.blocks import (
    Block,
    Card,
    Chart,
    Column,
    Gallery,
    Picture,
    Section,
    Steps,
    Story,
    Table,
    Text,
)
from search.report.charts import Axis, layered, leads, lines, rule, strips
from search.report.images import heat
from search.report.records import Records
from structnet.measure.connectivity import heat_map, trend_curve
from structnet.measure.statistics import mean_and_spread
from structnet.trials.topology import BLIND

if TYPE_CHECKING:
    import numpy as np

Row = dict[str, Any]
VERDICTS = {
    "positive": "surely more in the centre than that of the control",
    "negative": "surely less in the centre than that of the control",
    "none": "where that of the control does, as far as can be told",
}


def story(records: Records) -> Story:
    """What was learned, by every setting."""
    rows = records.rows("networks")
    settings = settings_of(_judged(rows))
    families: dict[tuple[float, float], list[Setting]] = {}
    for setting in settings:
        families.setdefault((setting.epsilon, setting.zeta), []).append(setting)
    sections = []
    if families:
        cores = _cores(records)
        labels = [f"epsilon {epsilon:g}, zeta {zeta:g}" for epsilon, zeta in families]
        contents = [
            [*_maps(mine, cores, records, number), *_leads(mine, settings, number)]
            for number, mine in enumerate(families.values())
        ]
        where: list[Block] = [Steps(labels, contents, 0, "families")] if len(contents) > 1 else contents[0]
        sections.append(Section("Where the connections are", where))
    if curves := _curves(records, rows):
        sections.append(Section("On the way", curves))
    if settings:
        sections.append(Section("Settings", [*_accuracies(settings), _table(settings)]))
    if failed := failures(rows):
        sections.append(Section("What failed", failed))
    return Story(_lead(records, rows, settings), _cards(rows, settings), sections, _commands(records))


def _judged(rows: list[Row]) -> list[Row]:
    """Those that tell which setting they are of, and where their core lies."""
    needed = ("method", "epsilon", "zeta", "weight_decay", "decay", "core_centre_ratio")
    return [row for row in rows if all(row[name] is not None for name in needed)]


# In words


def _lead(records: Records, rows: list[Row], settings: list[Setting]) -> str:
    config = records.config
    begins = ""
    if records.status != "finished":
        begins = so_far(records.status, len(rows), 0)
    if not settings:
        return begins + ("No network was trained to its end." if rows else "No network has ended yet.")
    found: dict[str, list[str]] = {}
    for setting in settings:
        if setting.method != BLIND:
            found.setdefault(learned(setting, settings)[0], []).append(_said(setting, settings))
    said = [
        f"with {', '.join(found[verdict])} it lies {words}"
        for verdict, words in VERDICTS.items()
        if verdict in found
    ]
    control = (
        ""
        if any(setting.method == BLIND for setting in settings)
        else " (without a control: of what is even)"
    )
    return (
        f"{begins}Where do the connections of {config.get('architecture')} go? Of what evolution leaves, the core: "
        f"{'; '.join(said) if said else 'there is a control alone'}{control}."
    )


def _said(setting: Setting, settings: Sequence[Setting]) -> str:
    """A setting by its decay and, where there are several, epsilon and zeta."""
    if len({one[1:3] for one in settings}) == 1:
        return setting.name
    return f"{setting.name} at epsilon {setting.epsilon:g}, zeta {setting.zeta:g}"


def _cards(rows: list[Row], settings: list[Setting]) -> list[Card]:
    if not settings:
        return []
    cards = [Card("networks", f"{len(rows)}", f"{len(settings)} settings")]
    tried = [setting for setting in settings if setting.method != BLIND]
    if tried:
        most = max(tried, key=lambda one: mean_and_spread(_values(one, "core_centre_ratio"))[0])
        ratio = with_spread(_values(most, "core_centre_ratio"), ".2f")
        cards.append(
            Card("most in the centre", ratio, f"times the mean of all pixels: {_said(most, settings)}")
        )
        best = max(tried, key=lambda one: mean_and_spread(_values(one, "test_accuracy"))[0])
        cards.append(
            Card(
                "most accurate",
                with_spread(_values(best, "test_accuracy")),
                f"on test: {_said(best, settings)}",
            )
        )
    for setting in settings:
        if setting.method == BLIND:
            ratio = with_spread(_values(setting, "core_centre_ratio"), ".2f")
            cards.append(Card("the control", ratio, "moves without looking at values"))
            break
    return cards


def _values(setting: Setting, column: str) -> list[float]:
    return [float(row[column]) for row in setting.rows if row[column] is not None]


# Where connections are


def _cores(records: Records) -> dict[str, np.ndarray]:
    """Of every network the connections of each input unit that its last evolution left."""
    import pyarrow.compute as pc

    from structnet.storage.tables import read_table

    units = read_table(records.results, "connectivity", records.name, skip_damaged=True)
    found = {}
    for last in units.group_by("network").aggregate([("epoch", "max")]).to_pylist():
        mine = units.filter(
            pc.and_(pc.equal(units["network"], last["network"]), pc.equal(units["epoch"], last["epoch_max"]))
        )
        found[last["network"]] = mine["core_connections"].to_numpy()
    return found


def _shape(records: Records, units: int, squares: int) -> tuple[int, ...] | None:
    """(channels, height, width) of an image; of an older experiment, which does not tell, if it is a square."""
    if told := records.config.get("input_shape"):
        return tuple(told)
    for channels in (1, 3, 4):
        side = round((units / channels) ** 0.5)
        if channels * side * side == units and side // 2 == squares:
            return channels, side, side
    return None


def _maps(
    settings: list[Setting], cores: dict[str, np.ndarray], records: Records, number: int
) -> list[Block]:
    """The cores as images, and how dense they are in squares around the centre."""
    import numpy as np

    squares = max((len(row["trend"]) for row in records.rows("epochs") if row["trend"]), default=0)
    heats: dict[str, np.ndarray] = {}
    for setting in settings:
        mine = [cores[row["network"]] for row in setting.rows if row["network"] in cores]
        shape = _shape(records, len(mine[0]), squares) if mine else None
        if shape is not None and all(len(core) == np.prod(shape) for core in mine):
            heats[setting.name] = np.mean([heat_map(core, shape) for core in mine], axis=0)
    if not heats:
        return []
    top = max(float(found.max()) for found in heats.values())
    pictures = [
        Picture(
            heat(found.ravel().tolist(), found.shape, top), f"Core connections of every pixel: {name}", name
        )
        for name, found in heats.items()
    ]
    rows = []
    for name, found in heats.items():
        curve = trend_curve(found)
        rows += [
            {"setting": name, "side": 2 * place + 2, "ratio": value / curve[-1] if curve[-1] else None}
            for place, value in enumerate(curve.tolist())
        ]
    chart = lines(
        [row for row in rows if row["ratio"] is not None],
        Axis("side", "Side of the central square, pixels"),
        Axis("ratio", "Core connections of a pixel ÷ mean", format=".2f"),
        "setting",
    )
    return [
        Text(
            f"Core connections of each pixel, mean over the rng_seeds: black has none, the lightest {top:.3g}. All "
            "are on the same scale."
        ),
        Gallery(pictures),
        Chart(
            layered(rule(1.0, "even"), chart),
            f"squares-{number}",
            "From the centre to the whole image",
            text=f"Mean core connections of a pixel in central squares, of {len(heats)} settings.",
            caption="Connections of a pixel in a square around the centre, to the mean of all pixels. Above 1 on the "
            "left, they gather in the centre.",
        ),
    ]


def _leads(settings: list[Setting], every: list[Setting], number: int) -> list[Block]:
    rows = []
    has_control = any(setting.method == BLIND for setting in settings)
    for setting in settings:
        if setting.method != BLIND:
            verdict, lead = learned(setting, every)
            rows.append({**lead_row(setting.name, lead, len(setting.rows), 1.0), "verdict": verdict})
    if not rows:
        return []
    what = "the control's" if has_control else "1, which is even"
    chart = leads(
        rows,
        Axis("arm", kind="nominal"),
        Axis("lead", f"Core in the centre, less {what}", format="+.3~f"),
        "low",
        "high",
        more=[Axis("verdict", "learned", kind="nominal"), Axis("n", "rng_seeds")],
    )
    return [
        Chart(
            chart,
            f"leads-{number}",
            "Is it learned?",
            text="; ".join(f"{row['arm']}: {row['verdict']}" for row in rows),
            caption="How much more of the core lies in the central half of each side than by chance, with the 95 % "
            "interval over the rng_seeds. Right of the dashed line it is learned to look at the centre.",
        )
    ]


def _curves(records: Records, rows: list[Row]) -> list[Block]:
    """The core in the centre over the epochs, of networks that are still in training too."""
    settings = settings_of(_judged(rows))
    named = {row["network"]: setting for setting in settings for row in setting.rows}
    epochs = [
        {
            "setting": _said(named[row["network"]], settings)
            if row["network"] in named
            else row["network"].rpartition("_s")[0],
            "epoch": row["epoch"],
            "ratio": row["core_centre_ratio"],
        }
        for row in records.rows("epochs")
    ]
    order = [_said(setting, settings) for setting in settings]
    epochs.sort(key=lambda row: order.index(row["setting"]) if row["setting"] in order else len(order))
    found = means(epochs, "setting", "epoch", "ratio")
    if len({row["epoch"] for row in found}) < 2:
        return []
    chart = lines(
        found,
        Axis("epoch", "Epoch"),
        Axis("ratio", "Core in the centre ÷ mean", format=".2f"),
        "setting",
        band=("low", "high"),
        more=[Axis("n", "rng_seeds")],
    )
    return [
        Chart(
            layered(rule(1.0, "even"), chart),
            "ratios",
            "When it is learned",
            text="Core connections of a pixel in the central half of each side, to those of all, over the epochs.",
            caption="Means over the rng_seeds, bands one standard deviation each way.",
        )
    ]


# Settings


def _accuracies(settings: list[Setting]) -> list[Block]:
    rows = [
        {"setting": _said(setting, settings), "accuracy": row["test_accuracy"], "seed": row["rng_seed"]}
        for setting in settings
        for row in setting.rows
        if row["test_accuracy"] is not None
    ]
    if not rows:
        return []
    more = [Axis("seed", "rng_seed", kind="nominal")]
    accuracy = Axis("accuracy", "Accuracy on test", format=".1%")
    return [
        Chart(
            strips(rows, Axis("setting", kind="nominal"), accuracy, more=more),
            "accuracy",
            "What each setting reaches",
            text="; ".join(
                f"{_said(setting, settings)} {with_spread(_values(setting, 'test_accuracy'))}"
                for setting in settings
            ),
            caption="A point is a network after its last epoch, a bar the mean.",
        )
    ]


def _table(settings: list[Setting]) -> Table:
    columns: list[Column | str] = [
        Column("epsilon", "g"),
        Column("zeta", "g"),
        "decay",
        "learned",
        "accuracy on test",
        Column("loss on test", ".3f"),
        "centre",
        "core",
        "core's ring",
        "core less control",
        Column("shrinks in an epoch", ".2%"),
        "n",
    ]
    rows = []
    for setting in settings:
        verdict, lead = learned(setting, settings)
        is_control = setting.method == BLIND
        sure = f" ({lead.low:+.3f} to {lead.high:+.3f})" if isfinite(lead.low) else ""
        losses = _values(setting, "test_loss")
        rows.append(
            (
                setting.epsilon,
                setting.zeta,
                setting.name,
                "" if is_control else verdict,
                with_spread(_values(setting, "test_accuracy"), ".2%"),
                mean_and_spread(losses)[0] if losses else None,
                *(
                    with_spread(_values(setting, name), ".3f")
                    for name in ("centre_ratio", "core_centre_ratio", "core_ring_ratio")
                ),
                "" if is_control else f"{lead.mean:+.3f}{sure}",
                setting.rows[0]["shrink_per_evolution"],
                len(setting.rows),
            )
        )
    caption = (
        "Centre: connections of a pixel in the central half of each side, to those of all. Core: the same of what the "
        "last evolution left; its ring: of the outer three pixels"
    )
    return Table(columns, rows, caption)


def _commands(records: Records) -> list[tuple[str, str]]:
    config, where = records.config, records.where
    epsilon = next(iter(numbers_of(config, "epsilons")), 11.0)
    shape = config.get("architecture")
    lines_ = []
    if shape:
        line = f"structnet evolve{on_data(config)} --methods set,static --architecture {shape} --epsilon {epsilon:g}"
        lines_.append(("What is such a topology worth, against one that stays as it is?", line + where))
    sql = (
        "select n.method, n.weight_decay, e.epoch, avg(e.core_centre_ratio) core, avg(e.test_accuracy) test "
        f"from epochs e join networks n using (experiment, network) where experiment = '{records.name}' "
        "group by all order by all"
    )
    return [*lines_, ("Ask the tables", query(where, sql))]
