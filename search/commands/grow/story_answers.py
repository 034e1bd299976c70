"""What the grown network gets right and wrong on validation images."""

from __future__ import annotations

from search.report.blocks import Block, Column, Gallery, HeatMap, Picture, Section, Table, Text
from search.report.images import grey_or_colour, is_image
from search.report.records import Records, Rows

MOST_CLASSES = 20  # of a matrix that is shown whole; of more, the confusions that are commonest


def answered(records: Records, trial: str) -> list[Section]:
    """Nothing where the tables hold no answers."""
    confusions, mistakes = records.rows("confusions", trial), records.rows("mistakes", trial)
    if not confusions:
        return []
    blocks: list[Block] = [_confused(confusions)]
    if mistakes:
        blocks += _mistaken(mistakes)
    return [Section("What it gets wrong", blocks)]


def _confused(rows: Rows) -> Block:
    names = {row["truth"]: row["truth_name"] for row in rows} | {
        row["said"]: row["said_name"] for row in rows
    }
    classes = sorted(names)
    if len(classes) > MOST_CLASSES:
        wrong = sorted((row for row in rows if row["truth"] != row["said"]), key=lambda row: -row["images"])
        columns = [Column("truth"), Column("said"), Column("images", bar=True)]
        cells = [[row["truth_name"], row["said_name"], row["images"]] for row in wrong]
        return Table(columns, cells, "What it takes for what, on validation images")
    counts = {(row["truth"], row["said"]): row["images"] for row in rows}
    values = [[counts.get((truth, said)) for said in classes] for truth in classes]
    right = frozenset((number, number) for number in range(len(classes)))
    called = [str(names[each]) for each in classes]
    return HeatMap(
        "Validation images: what each is (rows), what it is taken for (columns)",
        values,
        right,
        ("class", "taken for"),
        called,
        called,
        ",.0f",
    )


def _mistaken(rows: Rows) -> list[Block]:
    ordered = sorted(rows, key=lambda row: -(row["confidence"] or 0.0))
    drawn = [row for row in ordered if row["values"] and row["shape"] and is_image(row["shape"])]
    if not drawn:
        columns = [Column("row of validation"), Column("is"), Column("said"), Column("how sure", ".1%")]
        cells = [[row["image"], row["truth_name"], row["said_name"], row["confidence"]] for row in ordered]
        return [Table(columns, cells, "Where it was wrong and surest")]
    pictures = [
        Picture(
            grey_or_colour(row["values"], row["shape"]),
            f"validation image {row['image']}",
            f"is {row['truth_name']}, said {row['said_name']} ({row['confidence']:.0%})",
            side=96,
        )
        for row in drawn
    ]
    return [Text("Where it was wrong and surest:"), Gallery(pictures)]
