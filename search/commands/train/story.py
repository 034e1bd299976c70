"""The story of a training: loss and accuracy over the epochs, and what came out."""

from __future__ import annotations

import shlex
from statistics import median
from typing import Any

from search.grid.telling import on_data, query
from search.report.blocks import Block, Card, Chart, Column, Section, Side, Story, Table
from search.report.charts import Axis, lines
from search.report.records import Records

Row = dict[str, Any]
FEW_EPOCHS = 2  # fewer are no curve


def story(records: Records) -> Story:
    """How the network was trained."""
    run = records.runs[0] if records.runs else {}
    epochs = [row for row in records.rows("epochs") if row["accuracy"] is not None]
    sections = []
    if len(epochs) >= FEW_EPOCHS:
        sections.append(Section("On the way", _curves(epochs)))
    if epochs:
        sections.append(Section("Epochs", [_table(epochs)]))
    return Story(_lead(records, run, epochs), _cards(records, run, epochs), sections, _commands(records, run))


def _lead(records: Records, run: Row, epochs: list[Row]) -> str:
    config = records.config
    planned, workers = int(config.get("epochs") or 0), config.get("workers")
    if records.status == "finished" and run.get("accuracy") is not None:
        test = "" if run["test_accuracy"] is None else f", {run['test_accuracy']:.1%} on test"
        size = "" if run["parameters"] is None else f"A network of {run['parameters']:,} parameters: "
        by = f"by {workers} worker{'s' if workers != 1 else ''}" if workers else ""
        return (
            f"{size}{run['accuracy']:.1%} on validation{test}, after {len(epochs)} epochs {by}".rstrip() + "."
        )
    begins = f"{(records.status or 'not begun').capitalize()}: "
    if not epochs:
        return begins + "no epoch has ended yet."
    return f"{begins}{len(epochs)} of {planned} epochs, {epochs[-1]['accuracy']:.1%} on validation so far."


def _cards(records: Records, run: Row, epochs: list[Row]) -> list[Card]:
    if not epochs:
        return []
    best = max(epochs, key=lambda row: row["accuracy"])
    last = epochs[-1]
    cards = [Card("accuracy", f"{last['accuracy']:.1%}", "on validation, after the last epoch")]
    if run.get("test_accuracy") is not None:
        cards.append(Card("on test", f"{run['test_accuracy']:.1%}", "read once, at the end"))
    if last["parameters"] is not None:
        note = "" if run.get("connections") is None else f"{run['connections']:,} of them connections"
        cards.append(Card("parameters", f"{last['parameters']:,}", note))
    if best["epoch"] != last["epoch"]:
        cards.append(Card("best on the way", f"{best['accuracy']:.1%}", f"after epoch {best['epoch']}"))
    seconds = [row["seconds"] for row in epochs if row["seconds"] is not None]
    if seconds:
        cards.append(Card("an epoch took", f"{median(seconds):.2g} s", _batches(records)))
    return cards


def _batches(records: Records) -> str:
    """Images of a step, and from when on fewer."""
    config = records.config
    if not config.get("batch_size"):
        return ""
    text = f"{config['batch_size']} images a step"
    smaller = [f"{images} from {since}" for since, images in (config.get("smaller_batches") or {}).items()]
    return ", ".join([text, *smaller])


def _curves(epochs: list[Row]) -> list[Block]:
    x = Axis("epoch", "Epoch")
    losses = [
        {"epoch": row["epoch"], "loss": row[column], "of": name}
        for column, name in (("train_loss", "training"), ("loss", "validation"))
        for row in epochs
        if row[column] is not None
    ]
    accuracies = [{"epoch": row["epoch"], "accuracy": row["accuracy"]} for row in epochs]
    first, last = epochs[0], epochs[-1]
    charts = [
        Chart(
            lines(accuracies, x, Axis("accuracy", "Accuracy on validation", format=".1%")),
            "accuracy",
            "Accuracy",
            text=f"Accuracy on validation, from {first['accuracy']:.1%} to {last['accuracy']:.1%}.",
        )
    ]
    if losses:
        charts.append(
            Chart(
                lines(losses, x, Axis("loss", "Loss, nats"), "of"),
                "loss",
                "Loss",
                text="Loss on training and on validation images over the epochs.",
                caption="That of training is the mean over an epoch, with whatever is random in it. Where validation "
                "rises while training falls, the network learns by heart.",
            )
        )
    rates = [
        {"epoch": row["epoch"], "rate": row["learning_rate"]}
        for row in epochs
        if row["learning_rate"] is not None
    ]
    if rates:
        charts.append(
            Chart(
                lines(rates, x, Axis("rate", "Learning rate", zero=True)),
                "rate",
                "Learning rate",
                text="The learning rate after every epoch.",
            )
        )
    return [Side([[chart] for chart in charts])]


def _table(epochs: list[Row]) -> Table:
    columns: list[Column | str] = [
        "epoch",
        Column("loss in training", ".4f"),
        Column("loss", ".4f"),
        Column("accuracy", ".2%"),
        Column("learning rate", ".3g"),
        Column("seconds", ",.2f"),
    ]
    names = ("epoch", "train_loss", "loss", "accuracy", "learning_rate", "seconds")
    return Table(columns, [[row[name] for name in names] for row in epochs], "Epochs")


def _commands(records: Records, run: Row) -> list[tuple[str, str]]:
    where, lines_ = records.where, []
    if snapshot := run.get("snapshot"):
        path = shlex.quote(snapshot)
        lines_.append(("Files that run without structnet", f"structnet export {path} --to onnx"))
        lines_.append(("What it says of new data", f"structnet predict {path} FILE"))
    elif records.status in ("interrupted", "failed"):
        data, name = on_data(records.config), records.name
        lines_.append(("Go on where it stopped", f"structnet train{data} … --name {name} --resume{where}"))
    sql = f"select epoch, train_loss, loss, accuracy from epochs where experiment = '{records.name}' order by epoch"
    return [*lines_, ("Ask the table", query(where, sql))]
