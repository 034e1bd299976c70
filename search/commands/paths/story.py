"""The story of `paths`: what plastic paths are worth, learning curves, the decisions of rules and what they cut."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from search.commands.paths.results import (
    NUMBERS,
    TEXTS,
    Row,
    Setting,
    cells,
    lead_over,
    moved_of,
    sentences_of,
    settings_of,
    shown,
    usefulness,
    verdict,
)
from search.grid.telling import failures, lead_row, means, on_data, query, so_far, with_spread
from search.report.blocks import Block, Card, Chart, Column, HeatMap, Section, Side, Story, Table, Text
from search.report.charts import Axis, beside, layered, leads, lines, points, rule, strips
from search.report.records import Records
from structnet.trials.paths import ARMS, PLASTIC, RESNET, STATIC

ENOUGH_SEEDS = 5  # from which on a comparison is a claim
PLACES: dict[str, Any] = {"names": ("to", "from"), "format": ".0f"}
EPOCH = Axis("epoch", "Epoch", kind="ordinal")
ACCURACY = Axis("accuracy", "Validation accuracy", format=".0%")
DECIDED = (
    "step",
    "",
    "from",
    "to",
    "by",
    Column("value", ".4g"),
    Column("accuracy", ".4f"),
    Column("with it cut", ".4f"),
)


def story(records: Records) -> Story:
    """Of the networks that have ended, and the curves of those that have not."""
    rows, epochs, decisions = (records.rows(table) for table in ("networks", "epochs", "decisions"))
    settings = settings_of(rows)
    sections = [
        *([Section("What was reached", _reached(settings, rows, decisions))] if rows else []),
        *([Section("Learning curves", _curves(settings, epochs))] if settings else []),
        *_under_way(records, rows, epochs),
        *_decisions(settings, decisions),
    ]
    return Story(_lead(records, settings, rows), _cards(settings, rows), sections, _commands(records, rows))


def _lead(records: Records, settings: Sequence[Setting], rows: Sequence[Row]) -> str:
    begins = so_far(records.status, len(rows), 0)
    compared = [
        (lead, setting)
        for setting in settings
        if setting.arm == PLASTIC and (lead := lead_over(setting, STATIC, settings)) is not None
    ]
    if compared:
        lead, best = max(compared, key=lambda one: one[0].mean)
        return (
            f"{begins}Paths that come and go against the same paths left where they are: {shown(lead)} points of test "
            f"accuracy for {best.name}. Do they help? {verdict(lead).capitalize()}."
        )
    if not settings:
        return begins + ("No network was trained to its end." if rows else "No network has ended yet.")
    best = max(settings, key=_mean)
    return f"{begins}{best.name} reaches {_accuracy(best)} on test."


def _mean(setting: Setting) -> float:
    values = setting.by_seed().values()
    return sum(values) / len(values)


def _accuracy(setting: Setting) -> str:
    return with_spread([*setting.by_seed().values()], ".2%")


def _cards(settings: Sequence[Setting], rows: Sequence[Row]) -> list[Card]:
    """Test accuracy of the best setting of every arm, and how much it rests on."""
    found, names = [], short_names(settings)
    for arm in ARMS:
        mine = [setting for setting in settings if setting.arm == arm]
        if mine:
            best = max(mine, key=_mean)
            note = f"on test; the best of {len(mine)}: {names[best.name]}" if len(mine) > 1 else "on test"
            found.append(Card(arm, with_spread([*best.by_seed().values()]), note))
    seeds = len({row["rng_seed"] for row in rows})
    note = "" if seeds >= ENOUGH_SEEDS else f"a claim has at least {ENOUGH_SEEDS}"
    return [*found, Card("rng_seeds", f"{seeds}", note)] if rows else []


def _reached(settings: Sequence[Setting], rows: Sequence[Row], decisions: Sequence[Row]) -> list[Block]:
    blocks: list[Block] = [Text(line) for line in sentences_of(settings, rows, decisions)]
    if settings:
        blocks += [_accuracies(settings), *_leads(settings)]
        moved = moved_of(decisions)
        caption = "Mean ± standard deviation over rng_seeds"
        blocks.append(Table([*TEXTS, *NUMBERS], [cells(setting, moved) for setting in settings], caption))
    return [*blocks, *failures(rows)]


def _accuracies(settings: Sequence[Setting]) -> Chart:
    """Every network, by setting, side by side for every variant."""
    names = short_names(settings)
    drawn = {
        variant: strips(
            [
                {"setting": names[setting.name], "accuracy": accuracy, "rng_seed": seed}
                for setting in settings
                if setting.variant == variant
                for seed, accuracy in setting.by_seed().items()
            ],
            Axis("setting", kind="nominal"),
            Axis("accuracy", "Test accuracy", format=".1%"),
            more=[Axis("rng_seed", format="d")],
        )
        for variant in _variants(settings)
    }
    return Chart(
        beside(drawn, columns=1) if len(drawn) > 1 else next(iter(drawn.values())),
        "accuracy",
        "Test accuracy of every network",
        f"Test accuracy of {len(settings)} settings.",
        "A point for each rng_seed, a line at their mean. Test images were read once, at the end.",
    )


def short_names(settings: Sequence[Setting]) -> dict[str, str]:
    """Name -> what tells a setting from the others, for the labels of charts."""
    plastic = [setting for setting in settings if setting.arm == PLASTIC]
    varied = [
        (name, form)
        for name, form in (("removal", "{}"), ("growth", "{}"), ("frequency", "every {} steps"))
        if len({getattr(setting, name) for setting in plastic}) > 1
    ]
    found = {}
    for setting in settings:
        parts = [setting.variant] if len(_variants(settings)) > 1 else []
        parts.append(setting.arm)
        if setting.arm == PLASTIC:
            parts += [form.format(getattr(setting, name)) for name, form in varied]
        found[setting.name] = ", ".join(parts)
    return found


def _variants(settings: Iterable[Setting]) -> list[str]:
    return list(dict.fromkeys(setting.variant for setting in settings))


def _leads(settings: Sequence[Setting]) -> list[Block]:
    """How far every plastic setting is above the other arms; nothing where there is nothing to compare with."""
    names = short_names(settings)
    rows = [
        lead_row(f"{names[setting.name]}, over {arm}", lead, len(setting.rows))
        for setting in settings
        if setting.arm == PLASTIC
        for arm in (STATIC, RESNET)
        if (lead := lead_over(setting, arm, settings)) is not None
    ]
    if not rows:
        return []
    chart = leads(
        rows, Axis("arm", kind="nominal"), Axis("lead", "Lead in test accuracy, points"), "low", "high"
    )
    text = "; ".join(f"{row['arm']}: {row['lead']:+.2f} points" for row in rows)
    caption = (
        "Paired over rng_seeds; a line is an interval so wide that those of all rows of a variant hold together at "
        "95 %. Where it crosses the dashed line, nothing is shown."
    )
    return [Chart(chart, "leads", "Lead of plastic paths", text, caption)]


def _curves(settings: Sequence[Setting], epochs: Sequence[Row]) -> list[Block]:
    """Accuracy after each epoch, a chart for every variant."""
    names, by_network = short_names(settings), dict[str, list[Row]]()
    for row in epochs:
        by_network.setdefault(row["network"], []).append(row)
    found: list[Block] = []
    for variant in _variants(settings):
        rows = [
            {"setting": names[setting.name], "epoch": row["epoch"], "accuracy": row["accuracy"]}
            for setting in settings
            if setting.variant == variant
            for network in setting.rows
            for row in by_network.get(network["network"], [])
        ]
        chart = lines(
            means(rows, "setting", "epoch", "accuracy"),
            EPOCH,
            ACCURACY,
            "setting",
            band=("low", "high"),
            more=[Axis("spread", "standard deviation", format=".2%"), Axis("n", "rng_seeds", format="d")],
        )
        found.append(
            Chart(
                chart,
                f"curves-{variant}",
                f"Validation accuracy after each epoch: {variant}",
                f"Validation accuracy against the epoch for {variant}.",
                "Means over rng_seeds; a band is one standard deviation each way.",
            )
        )
    return found


def _under_way(records: Records, rows: Sequence[Row], epochs: Sequence[Row]) -> list[Section]:
    """The curves of networks that have not ended."""
    ended = {row["network"] for row in rows}
    mine = [row for row in epochs if row["network"] not in ended]
    if records.status == "finished" or not mine:
        return []
    plain = [{name: row[name] for name in ("network", "epoch", "accuracy")} for row in mine]
    chart = lines(plain, EPOCH, ACCURACY, "network")
    title = "Validation accuracy of networks that have not ended"
    return [Section("Under way", [Chart(chart, "under-way", title, title + ".")])]


def _decisions(settings: Sequence[Setting], decisions: Sequence[Row]) -> list[Section]:
    """What removed paths were worth, where paths went and came, and all decisions of one network."""
    plastic, names = [setting for setting in settings if setting.arm == PLASTIC], short_names(settings)
    of = {names[setting.name]: _of(setting, decisions) for setting in plastic}
    if not any(of.values()):
        return []
    first = next(setting.rows[0]["network"] for setting in plastic if of[names[setting.name]])
    one = [row for row in decisions if row["network"] == first]
    return [
        Section("What removed paths were worth", [_worth(of)]),
        Section("Where paths went and came", _places(of)),
        Section(f"Decisions of {first}", [Table(DECIDED, [_decided(row) for row in one])]),
    ]


def _of(setting: Setting, decisions: Sequence[Row]) -> list[Row]:
    """The decisions in the networks of a setting."""
    names = {row["network"] for row in setting.rows}
    return [row for row in decisions if row["network"] in names]


def _worth(of: Mapping[str, Sequence[Row]]) -> Chart:
    """How much accuracy each removed path was worth, against the step at which it went."""
    rows = [
        {"setting": name, "step": row["step"], "lost": 100 * lost, "network": row["network"]}
        for name, decisions in of.items()
        for row in decisions
        for lost in usefulness([row])
    ]
    drawn = points(
        rows,
        Axis("step", "Step", format="d"),
        Axis("lost", "Validation accuracy lost, points"),
        "setting",
        more=[Axis("network", kind="nominal")],
    )
    lost = [row["lost"] for row in rows]
    return Chart(
        layered(rule(0, "of no use"), drawn),
        "worth",
        "What validation accuracy loses when a removed path is cut",
        f"{len(lost)} removed paths, from {min(lost, default=0):+.2f} to {max(lost, default=0):+.2f} points.",
        "Measured just before a rule removes the path: were paths of no use removed, all would lie at 0.",
    )


def _places(of: Mapping[str, Sequence[Row]]) -> list[Block]:
    """Between which slots paths went and came, counted over the networks of a setting."""
    found: list[Block] = [
        Text("A path leads from an earlier slot to a later one; a cell counts changes there.")
    ]
    for name, decisions in of.items():
        if decisions:
            went, came = (_counted(decisions, removed) for removed in (True, False))
            maps = Side(
                [[HeatMap(f"{name}: went", went, **PLACES)], [HeatMap(f"{name}: came", came, **PLACES)]]
            )
            found.append(maps)
    return found


def _counted(decisions: Sequence[Row], removed: bool) -> list[list[float | None]]:
    """Rows of `to`, columns of `from`; None where nothing happened."""
    counts = Counter((row["layer"], row["index"]) for row in decisions if row["removed"] == removed)
    slots = 1 + max(max(row["layer"], row["index"]) for row in decisions)
    return [[counts.get((to, begin)) for begin in range(slots)] for to in range(slots)]


def _decided(row: Row) -> list[Any]:
    """A row of `decisions` as cells, in the order of DECIDED."""
    went = "went" if row["removed"] else "came"
    about = [
        row["index"],
        row["layer"],
        row["method"],
        row["value"],
        row["accuracy"],
        row["accuracy_without"],
    ]
    return [row["step"], went, *about]


def _commands(records: Records, rows: Sequence[Row]) -> list[tuple[str, str]]:
    """What the rules decided, and the same on rng_seeds that are new."""
    columns = "network, step, layer, index, method, value, accuracy - accuracy_without lost"
    sql = f"select {columns} from decisions where experiment = '{records.name}' order by all"
    asked = ("What the rules decided, from the tables", query(records.where, sql))
    if not rows:
        return [("See how it stands", f"structnet status {records.name}{records.where}")]
    config, fresh = records.config, 1 + max(row["rng_seed"] for row in rows)
    named = ("variants", "arms", "removals", "growths", "frequencies", "images", "epochs")
    told = "".join(
        f" --{name} {shlex.quote(str(config[name]))}" for name in named if config.get(name) is not None
    )
    again = (
        f"structnet paths{on_data(config)}{told} --rng-seed {fresh} --rng-seeds {ENOUGH_SEEDS}{records.where}"
    )
    return [("Does it hold on rng_seeds that are new?", again), asked]
