"""Round by round: the network drawn, what was tried and what won, where its inputs are read."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any, cast

from search.commands.grow.story_inputs import (
    chart_of_reads,
    input_names,
    input_shape,
    picture_of_reads,
    sentence_of_reads,
)
from search.report.blocks import Block, Column, Drawing, Side, Steps, Table, Text
from search.report.drawing import Group, Link, drawn
from search.report.records import Records, Rows
from structnet.network.architecture import architecture_of_row, dashed

SHOWN = 8  # forks of a round, beside its controls
ABREAST = 4  # groups of a network that leaves room for a picture beside it

# What a fork is and what it brought: the column of `candidates`, and as it is shown.
FORK = {
    "action": Column("tried"),
    "site": Column("where"),
    "parameters_added": Column("adds", "+,.0f"),
    "gain": Column("gain, bits", "+.4f"),
    "gain_se": Column("± error", ".4f"),
    "score": Column("score", "+.3f"),
}

DECISIONS = {
    "opened": "The seed, trained.",
    "adopted": "adopted: its gain is sure, and it was paid for",
    "nothing_significant": "Nothing was surely better than training on, so the better control became the network.",
    "unaffordable": "Nothing could be paid for: it trained on and saved.",
    "final": "The final phase: connections were moved and pruned, and the learning rate went down to its end.",
    "stopped": "Growth ended here.",
}


def round_by_round(records: Records, trial: str, taken: int) -> list[Block]:
    """A slider over the rounds of a trial. taken: the round whose network is the result, which is shown at first."""
    rounds = records.rows("rounds", trial)
    shape, names = input_shape(records, trial, rounds), input_names(records, trial)
    forks: dict[int, Rows] = {}
    for row in records.rows("candidates", trial):
        forks.setdefault(row["round"], []).append(row)
    contents = [
        _content(row, before, forks.get(row["round"], []), shape, names)
        for row, before in zip(rounds, [None, *rounds])
    ]
    labels = [
        f"Round {row['round']}: {row['parameters']:,} parameters, {row['accuracy']:.2%}" for row in rounds
    ]
    numbers = [row["round"] for row in rounds]
    first = numbers.index(taken) if taken in numbers else len(rounds) - 1
    reads = chart_of_reads(rounds[first], names) if rounds else []
    return [Steps(labels, contents, first, f"rounds {trial}"), *reads]


def _content(
    row: dict[str, Any],
    before: dict[str, Any] | None,
    forks: Rows,
    shape: tuple[int, ...] | None,
    names: list[str] | None,
) -> list[Block]:
    pictures: list[Block] = []
    if row["link_sources"]:
        groups, links = network_of(row, before)
        architecture = dashed(architecture_of_row(row))
        pictures.append(Drawing(drawn(groups, links), f"The network, {architecture}: {len(links)} links"))
    if reads := picture_of_reads(row, shape) or sentence_of_reads(row, names):
        pictures.append(reads)
    if len(row["architecture"]) <= ABREAST and pictures:
        pictures = [Side([[each] for each in pictures])]
    return [Text(_told(row)), *pictures, *([_forks(forks)] if forks else [])]


def _told(row: dict[str, Any]) -> str:
    """What happened in a round, and what it brought."""
    said = DECISIONS.get(row["decision"], row["decision"].replace("_", " "))
    if row["action"]:
        said = (
            f"{row['action'].replace('_', ' ')} ({row['site']}) was {said}."
            if row["decision"] == "adopted"
            else (f"{row['action'].replace('_', ' ')} ({row['site']}). {said}")
        )
        said = said[0].upper() + said[1:]
    if row["gain"] is not None:
        said += f" Gain {row['gain']:+.4f} ± {row['gain_se']:.4f} bits"
        said += (
            f", score {row['score']:+.3f} bits per thousand parameters." if row["score"] is not None else "."
        )
    said += (
        f" {row['connections']:,} connections, {row['information']:.3f} bits of information about the label."
    )
    if row["credits_spent"] or row["credits_earned"]:
        earned, spent, left = (f"{row[name]:,.0f}" for name in ("credits_earned", "credits_spent", "balance"))
        said += f" Credits: {earned} earned, {spent} spent, {left} left."
    return said


def network_of(row: dict[str, Any], before: dict[str, Any] | None) -> tuple[list[Group], list[Link]]:
    """The groups and links of a round, and what of them is new since the round before."""
    sizes, sides = row["architecture"], row["sides"] or [(1, 1)] * len(row["architecture"])
    where = _earlier(before["architecture"] if before else sizes, sizes)
    old = _connections(before) if before else {}
    groups = [
        Group(
            size,
            _said(number, len(sizes), side),
            (side[0], side[1]),
            before is not None and (place is None or before["architecture"][place] < size),
            _idle(row, number),
        )
        for number, (size, side, place) in enumerate(zip(sizes, sides, where))
    ]
    links = []
    for (source, target), (connections, possible) in _connections(row).items():
        ends = where[source], where[target]
        known = 0 if None in ends else old.get(cast("tuple[int, int]", ends), (0, 0))[0]
        added = max(0, connections - known) if before else 0
        links.append(Link(source, target, connections, possible, added))
    return groups, links


def _connections(row: dict[str, Any]) -> dict[tuple[int, int], tuple[int, int]]:
    """(source, target) -> connections that exist, and that could."""
    if not row["link_sources"]:
        return {}
    ends = zip(row["link_sources"], row["link_targets"])
    return dict(zip(ends, zip(row["link_connections"], row["link_possible"])))


def _earlier(before: Sequence[int], now: Sequence[int]) -> list[int | None]:
    """For every group its number in the round before; None for the groups that were inserted.

    Where as many groups are there as before, they are the same ones. Else those that are new are where the sizes of the
    others agree best.
    """
    if len(now) <= len(before):
        return [*range(len(now))]
    extra = len(now) - len(before)
    starts = range(1, len(before))

    def distance(start: int) -> int:
        kept = [*now[:start], *now[start + extra :]]
        return sum(abs(one - other) for one, other in zip(kept, before))

    start = min(starts, key=distance)
    return [
        number if number < start else None if number < start + extra else number - extra
        for number in range(len(now))
    ]


def _said(number: int, groups: int, side: Sequence[int]) -> str:
    maps = tuple(side) != (1, 1)
    if number == 0:
        return "input maps" if maps else "inputs"
    if number == groups - 1:
        return "classes"
    return "maps" if maps else "units"


def _idle(row: dict[str, Any], number: int) -> str:
    """How many units of a group are saturated or dead, where the row says it."""
    return ", ".join(
        f"{row[column][number]} {name}"
        for column, name in (("group_saturated", "saturated"), ("group_dead", "dead"))
        if row[column] and row[column][number]
    )


def _forks(forks: Rows) -> Table:
    """The best forks of a round and its controls, each in the last heat it took part in."""
    last: dict[int, dict[str, Any]] = {}
    for row in forks:
        if not row["audit"]:
            last[row["candidate"]] = row
    ranked = sorted(last.values(), key=_rank)
    forked = [row for row in ranked if not row["control"]]
    shown = [*forked[:SHOWN], *(row for row in ranked if row["control"])]
    columns = [*FORK.values(), Column("heat"), Column("came of it")]
    rows = [[*(row[name] for name in (*FORK, "heat")), outcome(row)] for row in shown]
    more = (
        f"The best {len(shown)} of {len(last)} that were tried; all are below."
        if len(last) > len(shown)
        else ""
    )
    return Table(columns, rows, more, frozenset(number for number, row in enumerate(shown) if row["won"]))


def _rank(row: dict[str, Any]) -> tuple[bool, int, float]:
    """The winner first, then those that came furthest, of these the ones of highest score."""
    return not row["won"], -row["heat"], inf if row["score"] is None else -row["score"]


def outcome(row: dict[str, Any]) -> str:
    """What became of a fork, in words."""
    if row["control"]:
        return "control"
    if row["status"] != "finished":
        return "could not be paid for" if row["status"] == "unaffordable" else f"failed: {row['error']}"
    if row["won"]:
        return "won"
    if row["survived"]:
        return "in the last heat, not surely better" if not row["eligible"] else "in the last heat, beaten"
    return f"out after heat {row['heat']}"
