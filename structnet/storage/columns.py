"""What the tables of results hold and what each of their columns means, for whoever reads them or prints them.

One plain sentence or two each, without markup: what it is, its unit, and when it is null.
"""

from __future__ import annotations

from structnet.storage.column_texts import COMMON, OWN
from structnet.storage.schemas import SCHEMAS

TABLES: dict[str, str] = {
    "experiments": "One run of a command, or one trial of it, resumed or not: what was asked for, and what came of it.",
    "networks": "One network of a command that trains many: hunt, ladder, sweep, rescue, bootstrap, evolve, topology, "
    "paths, heads or validate.",
    "epochs": "One epoch of the training of one network.",
    "candidates": "One fork in one heat of a round: what was tried, what it gained over the controls, and whether it "
    "won. Growths that the credits did not cover have a row in heat 1.",
    "rounds": "One round of a tournament: what was decided, and where the network and its credits stand after it. "
    "Round 0 is the seed, trained, with its opening balance.",
    "fronts": "One size on the way to the smallest network that does a stated job.",
    "confusions": "How often the final network of a run of grow, or of a tournament of sweep, takes one class for "
    "another, on validation images: one row for each pair that occurs, right answers included.",
    "mistakes": "The wrong answers to validation images of which such a network is surest, at most 24, with the "
    "images.",
    "connectivity": "How many connections one input has at the end of one epoch of a network of topology.",
    "decisions": "One path or attention head at a step at which some were removed or came back.",
    "head_scores": "One attention head of a model of heads that has warmed up, before any is removed.",
    "measurements": "One number that one task of a study measured.",
    "benchmarks": "One ratio of times that bench measured.",
}


def text_of(table: str, column: str) -> str:
    """What a column of a table holds, its unit, and when it is null; `experiment`, which every table has, is one too.

    Raises KeyError for a table or a column that is not there.
    """
    if column != "experiment" and column not in SCHEMAS[table].names:
        raise KeyError(f"{table} has no column {column!r}")
    return OWN[table].get(column) or COMMON[column]
