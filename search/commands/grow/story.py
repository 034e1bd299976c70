"""The story of grown networks, told from the tables: what came of it, how it came about, and what to do next."""

from __future__ import annotations

import shlex
from typing import Any

from search.commands.grow.story_answers import answered
from search.commands.grow.story_rounds import round_by_round
from search.commands.grow.story_tried import tried
from search.report.blocks import Block, Card, Chart, Column, Section, Side, Story, Table, Text
from search.report.charts import Axis, bars, layered, lines, points, rule, strips
from search.report.records import Records, Rows
from structnet.measure.statistics import mean_and_spread
from structnet.network.architecture import architecture_of_row, dashed

PARAMETERS = Axis("parameters", "Parameters", log=True)
ERROR = Axis("error", "Validation error, %", zero=True)


def story(records: Records) -> Story:
    """Of one network, or of the repetitions: then what they have in common first, and the rounds of one of them."""
    shown = chosen_trial(records)
    rounds = records.rows("rounds", shown["trial"]) if shown else []
    if not shown or not rounds:
        return Story(lead="No round has been written yet.")
    sections = [
        *([Section("Every repetition", _repetitions(records))] if len(records.runs) > 1 else []),
        Section("How it grew", _grew(rounds, shown)),
        Section(
            "Round by round", round_by_round(records, shown["trial"], taken_round(shown, rounds)["round"])
        ),
        *_front(records, shown["trial"]),
        *tried(records, shown["trial"]),
        *_credits(rounds),
        *answered(records, shown["trial"]),
    ]
    return Story(lead(records, shown, rounds), cards(shown, rounds), sections, next_commands(records, shown))


def chosen_trial(records: Records) -> dict[str, Any] | None:
    """The row of the trial that is shown: of those that finished the one of median accuracy, else the first."""
    ended = sorted(
        (row for row in records.runs if row["status"] == "finished" and row["accuracy"] is not None),
        key=lambda row: (row["accuracy"], row["trial"]),
    )
    return ended[(len(ended) - 1) // 2] if ended else next(iter(records.runs), None)


def lead(records: Records, shown: dict[str, Any], rounds: Rows) -> str:
    """What came of it, with what it is to be compared with."""
    last = rounds[-1]
    if shown["status"] != "finished":
        return f"Round {last['round']}: {last['parameters']:,} parameters, {last['accuracy']:.2%} on validation images."
    wanted = records.config.get("target_accuracy")
    asked = f" {wanted:.0%} was asked for." if wanted else ""
    text = (
        f"A network of {shown['parameters']:,} parameters is right on {shown['accuracy']:.2%} of the validation "
        f"images and on {_percent(shown['test_accuracy'])} of the test images, which were read once.{asked}"
    )
    if shown["rival_test_accuracy"] is not None:
        text += (
            f" RigL, for as many parameters and as much training: {shown['rival_test_accuracy']:.2%} on test."
        )
    if shown["dense_test_accuracy"] is not None:
        text += f" A dense network of as many: {shown['dense_test_accuracy']:.2%}."
    if len(records.runs) > 1:
        text = f"Of {len(records.runs)} repetitions, the one of median accuracy: {text[0].lower()}{text[1:]}"
    return text


def _percent(value: float | None) -> str:
    return "no share" if value is None else f"{value:.2%}"


def cards(shown: dict[str, Any], rounds: Rows) -> list[Card]:
    """The numbers that people ask for first."""
    last, first, taken = rounds[-1], rounds[0], taken_round(shown, rounds)
    finished = shown["status"] == "finished"
    row = shown if finished else last
    found = [
        Card("Parameters", f"{row['parameters']:,}", f"the seed had {first['parameters']:,}"),
        Card("Validation", f"{row['accuracy']:.2%}", f"the commonest class: {_percent(shown['majority'])}"),
    ]
    if finished and shown["test_accuracy"] is not None:
        rival = shown["rival_test_accuracy"]
        found.append(
            Card("Test", f"{shown['test_accuracy']:.2%}", "" if rival is None else f"RigL {rival:.2%}")
        )
    size, macs = row.get("bytes") or last["bytes"], row.get("macs") or last["macs"]
    if size:
        found.append(Card("Bytes", f"{size:,}", "indices included, float32"))
    if macs and macs != row["connections"]:
        found.append(Card("Multiply-adds", f"{macs:,}", "of one image"))
    found.append(Card("Connections", f"{row['connections']:,}", dashed(architecture_of_row(taken))))
    if last["parameter_steps_all"]:
        deciding = last["share_deciding"] or 0.0
        cost = f"{last['parameter_steps_all'] / 1e6:,.2f} million"
        found.append(Card("Training cost", cost, f"parameter-steps, {deciding:.0%} of them for choosing"))
    return found


def taken_round(shown: dict[str, Any], rounds: Rows) -> dict[str, Any]:
    """Of the network that was taken out, which need not be the last."""
    mine = (row for row in rounds if row["snapshot"] and row["snapshot"] == shown["snapshot"])
    return next(mine, rounds[-1])


def _grew(rounds: Rows, shown: dict[str, Any]) -> list[Block]:
    rows = [
        {
            "round": row["round"],
            "parameters": row["parameters"],
            "accuracy": row["accuracy"],
            "steps": row["steps"],
            "what": _what(row),
        }
        for row in rounds
    ]
    number, what = Axis("round", "Round", kind="ordinal"), Axis("what", "what happened", kind="nominal")
    accuracy = Axis("accuracy", "Validation accuracy", format=".0%")
    opponents = [
        rule(shown[f"{of}_accuracy"], name)
        for of, name in (("rival", "RigL, same size and cost"), ("dense", "dense, same size"))
        if shown[f"{of}_accuracy"] is not None
    ]
    grown = lines(rows, number, accuracy, more=[Axis("parameters", "parameters", format=",.0f"), what])
    size = bars(rows, number, Axis("parameters", "Parameters", format=",.0f"), more=[what])
    return [
        Side(
            (
                [
                    Chart(
                        layered(grown, *opponents),
                        "accuracy",
                        "Accuracy after every round",
                        f"From {rows[0]['accuracy']:.1%} to {rows[-1]['accuracy']:.1%} on validation images.",
                    )
                ],
                [
                    Chart(
                        size,
                        "parameters",
                        "Parameters after every round",
                        f"From {rows[0]['parameters']:,} to {rows[-1]['parameters']:,}, at most "
                        f"{max(row['parameters'] for row in rows):,}.",
                    )
                ],
            )
        )
    ]


def _what(row: dict[str, Any]) -> str:
    return str(row["action"] or row["decision"]).replace("_", " ")


def _front(records: Records, trial: str) -> list[Section]:
    from tournament.rules.front import undominated

    visits = records.rows("fronts", trial)
    if not visits:
        return []
    best = {row["round"] for row in undominated(visits, by="accuracy")}
    rows = [
        {
            "parameters": row["parameters"],
            "error": 100 * (1 - row["accuracy"]),
            "network": "taken out"
            if row["chosen"]
            else "on the front"
            if row["round"] in best
            else "behind it",
        }
        for row in visits
    ]
    front = [row for row in rows if row["network"] != "behind it"]
    drawn = [lines(front, PARAMETERS, ERROR)] if len(front) > 1 else []
    chart = layered(*drawn, points(rows, PARAMETERS, ERROR, "network", size=120))
    columns = [
        Column("parameters"),
        Column("bytes"),
        Column("multiply-adds"),
        Column("validation", ".2%"),
        Column("information, bits", ".3f"),
        Column("test", ".2%"),
        Column("round"),
        Column("holds what was asked"),
    ]
    ordered = sorted(visits, key=lambda row: row["parameters"])
    names = ("parameters", "bytes", "macs", "accuracy", "information", "test_accuracy", "round", "holds")
    cells = [[row[name] for name in names] for row in ordered]
    taken = frozenset(number for number, row in enumerate(ordered) if row["chosen"])
    return [
        Section(
            "Every size on the way",
            [
                Text(
                    "Each size is a network of its own that can be taken out without training: "
                    f"structnet pick {records.name}. A mark is at the one that was taken."
                ),
                Chart(
                    chart, "front", "Error against parameters", "The fewer parameters, the larger the error."
                ),
                Table(columns, cells, marked=taken),
            ],
        )
    ]


def _credits(rounds: Rows) -> list[Section]:
    """Nothing where none were earned."""
    if not any(row["credits_earned"] for row in rounds):
        return []
    kinds = (
        ("credits_earned", "earned", 1),
        ("credits_refunded", "refunded", 1),
        ("credits_spent", "spent", -1),
    )
    rows = [
        {"round": row["round"], "credits": sign * row[column], "what": name}
        for row in rounds
        for column, name, sign in kinds
        if row[column]
    ]
    number, amount = Axis("round", "Round", kind="ordinal"), Axis("credits", "Credits", format=",.0f")
    balance = [
        {"round": row["round"], "balance": row["balance"]} for row in rounds if row["balance"] is not None
    ]
    ledger = layered(
        bars(rows, number, amount, "what"), lines(balance, number, Axis("balance", "Credits", format=",.0f"))
    )
    columns = [
        Column("round"),
        *(Column(name, ",.0f") for name in ("earned", "refunded", "spent", "balance")),
    ]
    names = ("round", "credits_earned", "credits_refunded", "credits_spent", "balance")
    table = Table(
        [*columns, Column("for choosing", ",.0f")],
        [[row[each] for each in (*names, "credits_deciding")] for row in rounds],
    )
    return [
        Section(
            "What it earned and spent",
            [
                Text(
                    "A credit is the right to hold one parameter. They are earned by being right, and pay for "
                    "parameters and for trying: a network decides no more than it has earned."
                ),
                Chart(
                    ledger,
                    "credits",
                    "Credits by round",
                    "Bars: earned, refunded and spent; line: the balance.",
                ),
                table,
            ],
        )
    ]


def _repetitions(records: Records) -> list[Block]:
    names = ("test_accuracy", "accuracy", "rival_test_accuracy", "parameters", "bytes", "seconds")
    columns = [
        Column("rng_seed"),
        Column("how it ended"),
        Column("test", ".2%"),
        Column("validation", ".2%"),
        Column("RigL, test", ".2%"),
        Column("parameters"),
        Column("bytes"),
        Column("seconds", ",.0f"),
    ]
    blocks: list[Block] = [
        Table(
            columns,
            [[row["rng_seed"], row["status"], *(row[name] for name in names)] for row in records.runs],
        )
    ]
    tested = [row for row in records.runs if row["test_accuracy"] is not None]
    if len(tested) > 1:
        mean, spread = mean_and_spread([row["test_accuracy"] for row in tested])
        size, wide = mean_and_spread([row["parameters"] for row in tested])
        blocks.insert(
            0,
            Text(
                f"Test {mean:.2%} ± {100 * spread:.2f} points, {size:,.0f} ± {wide:,.0f} parameters (mean and standard "
                f"deviation over {len(tested)} rng_seeds)."
            ),
        )
        blocks.append(_compared(tested))
    return blocks


def _compared(tested: Rows) -> Chart:
    arms = (("test_accuracy", "grown"), ("rival_test_accuracy", "RigL"), ("dense_test_accuracy", "dense"))
    rows = [
        {"network": name, "test": 100 * row[column], "rng_seed": row["rng_seed"]}
        for column, name in arms
        for row in tested
        if row[column] is not None
    ]
    chart = strips(
        rows, Axis("network", kind="nominal"), Axis("test", "Test accuracy, %"), more=[Axis("rng_seed")]
    )
    text = "Each point is a rng_seed, each line a mean: of grown networks and of opponents of their size."
    return Chart(chart, "repetitions", "Test accuracy of every repetition", text)


def next_commands(records: Records, shown: dict[str, Any]) -> list[tuple[str, str]]:
    """Three lines that go on from here."""
    where, snapshot = records.where, shlex.quote(shown["snapshot"] or "")
    again = f"structnet grow … --name {records.name} --resume{where}"
    if shown["status"] in ("interrupted", "failed"):
        return [("Go on where it stopped, with the same options:", again)]
    if not shown["snapshot"]:
        return [("See how it stands:", f"structnet status {records.name}{where}")]
    columns = "round, action, parameters, accuracy"
    asked = f"structnet query \"select {columns} from rounds where experiment = '{records.name}'\"{where}"
    half = max(1, shown["parameters"] // 2)
    smaller = f"structnet pick {records.name} --max-parameters {half}{where}"
    has_front = bool(records.rows("fronts", shown["trial"]))
    return [
        ("Another size of the same front, without training:", smaller)
        if has_front
        else ("Look closer:", asked),
        (
            "Take it to a device, as a C header with 8-bit numbers:",
            f"structnet export {snapshot} --to c --int8",
        ),
        ("Ask it about new data:", f"structnet predict {snapshot} NEW.csv"),
    ]
