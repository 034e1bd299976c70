"""Ready-made questions: rows made by hand, and the answers that follow from them by hand."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from search.commands.query.questions import QUESTIONS, question_of
from structnet.errors import UserError
from structnet.storage.schemas import KEYS, SCHEMAS
from structnet.storage.sql import run_query
from structnet.storage.tables import TableWriter
from structnet.trials.champions import CRITERIA, best
from tournament.rules.front import undominated

Row = dict[str, Any]


def answer(results: Path, name: str, *columns: str) -> list[Any]:
    """The rows of the answer: of these columns as tuples, of one as values."""
    rows = run_query(str(results), QUESTIONS[name].sql).to_pylist()
    picked = [tuple(row[column] for column in columns) for row in rows]
    return [values[0] for values in picked] if len(columns) == 1 else picked


def write(results: Path, experiment: str, table: str, *rows: Row, part: str = "part") -> None:
    TableWriter(str(results), experiment).write(table, part, [{"trial": "", **row} for row in rows])


def started(hour: int, **columns: Any) -> Row:
    return {
        "dataset": "digits",
        "status": "finished",
        "started_at": datetime(2024, 5, 6, hour, tzinfo=UTC),
    } | columns


def network(name: str, parameters: int, accuracy: float | None, **columns: Any) -> Row:
    row = {"network": name, "parameters": parameters, "accuracy": accuracy, "loss": 1.0, "status": "finished"}
    return row | columns


# Every question


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_has_an_empty_answer_where_nothing_is(name: str, tmp_path: Path) -> None:
    rows = run_query(str(tmp_path), QUESTIONS[name].sql)
    assert rows.num_rows == 0 and rows.num_columns > 4


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_takes_parts_that_have_nothing_but_their_keys(name: str, tmp_path: Path) -> None:
    for table, key in KEYS.items():
        schema = pa.schema([SCHEMAS[table].field(column) for column in key])
        folder = tmp_path / "tables" / table / "experiment=old"
        folder.mkdir(parents=True)
        row = {field.name: "" if pa.types.is_string(field.type) else 1 for field in schema}
        pq.write_table(pa.Table.from_pylist([row], schema=schema), folder / "part.parquet")
    run_query(str(tmp_path), QUESTIONS[name].sql)


def test_a_question_is_one_word_and_sql_is_several() -> None:
    for name, question in QUESTIONS.items():
        assert name.isalpha() and question.answers and "\n" not in question.answers
        assert question_of(f" {name.upper()} ") is question
    for sql in ("FROM rounds", "SHOW", "describe", "SELECT*FROM(rounds)", "rounds;", "select 1"):
        assert question_of(sql) is None


@pytest.mark.parametrize(
    ("word", "way_out"),
    [
        ("champion", "is it champions?"),
        ("xyz", "choose one of experiments, growth, champions"),
        ("rounds", "that is a table, which 'FROM rounds' reads"),
        ("", "choose one of"),
    ],
)
def test_another_word_is_refused_with_the_way_out(word: str, way_out: str) -> None:
    with pytest.raises(UserError) as error:
        question_of(word)
    assert way_out in str(error.value) and "\n" not in str(error.value)


# Each by itself


def test_experiments_come_with_the_last_one_first(tmp_path: Path) -> None:
    write(tmp_path, "old", "experiments", started(7, command="hunt", accuracy=0.5))
    write(tmp_path, "new", "experiments", started(9, command="grow", status="running"))
    write(tmp_path, "unknown", "experiments", {"status": "failed"})
    asked = answer(tmp_path, "experiments", "experiment", "command", "status", "accuracy")
    assert asked == [
        ("new", "grow", "running", None),
        ("old", "hunt", "finished", 0.5),
        ("unknown", None, "failed", None),
    ]


def test_growth_goes_round_by_round(tmp_path: Path) -> None:
    for number in (10, 0, 2):
        write(tmp_path, "a", "rounds", {"round": number, "decision": f"{number}"}, part=f"round-{number}")
    assert answer(tmp_path, "growth", "round", "decision") == [(0, "0"), (2, "2"), (10, "10")]


def test_champions_are_the_best_that_have_finished(tmp_path: Path) -> None:
    learned: Row = {"efficiency": 0.001, "patchability": 0.1}
    write(
        tmp_path,
        "hunt",
        "networks",
        network("even", 900, 0.9, loss=0.5, **learned),
        network("surer", 900, 0.9, loss=0.4, efficiency=0.001, patchability=0.2),
        network("small", 90, 0.5, efficiency=0.005, patchability=None),
        network("weak", 900, 0.4, **learned),
        network("culled", 900, 0.3, status="culled", efficiency=1.0, patchability=0.1),
        network("diverged", 900, math.nan, efficiency=math.nan, patchability=math.nan),
        network("failed", 900, None, status="failed"),
    )
    write(tmp_path, "other", "networks", network("only", 9, 0.2))
    assert answer(tmp_path, "champions", "experiment", "best_by", "network") == [
        ("hunt", "accuracy", "surer"),
        ("hunt", "efficiency", "small"),
        ("hunt", "patchable", "weak"),
        ("other", "accuracy", "only"),
    ]


def test_champions_are_those_of_the_hunt(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = [
        network(f"n{number:03}", rng.randrange(1, 5), rng.randrange(8) / 8)
        | {"efficiency": rng.randrange(5) / 4, "loss": float(rng.randrange(3))}
        | {"patchability": rng.choice([None, 0.5])}
        for number in range(200)
    ]
    write(tmp_path, "hunt", "networks", *rows)
    found = dict(answer(tmp_path, "champions", "best_by", "network"))
    expected = {criterion: best(rows, criterion) for criterion in CRITERIA}
    assert found == {criterion: row["network"] for criterion, row in expected.items() if row}


def test_a_network_is_pareto_if_none_smaller_on_the_dataset_is_as_accurate(tmp_path: Path) -> None:
    write(tmp_path, "grown", "experiments", started(1, parameters=200, accuracy=0.9))
    size: Row = {"holds": True, "chosen": False}
    write(
        tmp_path,
        "grown",
        "fronts",
        {"round": 5, "parameters": 200, "accuracy": 0.9, **size},  # the one that the experiment has chosen
        {"round": 6, "parameters": 100, "accuracy": 0.7, **size},
        {"round": 7, "parameters": 400, "accuracy": 0.9, **size},  # no better than the one of 200
    )
    write(tmp_path, "hunted", "experiments", started(2, parameters=300, accuracy=0.95))
    write(
        tmp_path,
        "hunted",
        "networks",
        network("a", 100, 0.75, trial="block"),
        network("b", 50, 0.2, trial="block"),
        network("c", 300, 0.95, trial="block"),
        network("d", 60, math.nan, trial="block"),
        network("e", 70, None, trial="block", status="failed"),
    )
    write(tmp_path, "harder", "experiments", started(3, dataset="mnist", parameters=900, accuracy=0.1))
    assert answer(tmp_path, "pareto", "dataset", "parameters", "accuracy", "experiment", "network") == [
        ("digits", 50, 0.2, "hunted", "b"),
        ("digits", 100, 0.75, "hunted", "a"),
        ("digits", 200, 0.9, "grown", "round 5"),
        ("digits", 300, 0.95, "hunted", "c"),
        ("mnist", 900, 0.1, "harder", None),
    ]


def test_the_front_is_what_grow_prints(tmp_path: Path) -> None:
    sizes = [(100, 1.0, False), (200, 1.5, False), (300, 1.4, False), (350, 1.45, True), (1350, 2.5, False)]
    rows: list[Row] = [
        {"round": number, "parameters": size, "information": bits, "chosen": chosen, "holds": True}
        for number, (size, bits, chosen) in enumerate(reversed(sizes))
    ]
    write(tmp_path, "a", "fronts", *rows)
    assert answer(tmp_path, "front", "parameters", "chosen") == [
        (row["parameters"], row["chosen"]) for row in undominated(rows)
    ]
    worth = answer(tmp_path, "front", "worth")
    assert worth[0] is None
    assert worth[1:] == pytest.approx([1000 * 0.5 / 100, 1000 * -0.05 / 150, 1000 * 1.05 / 1000])


def fork(round_number: int, candidate: int, action: str, heat: int = 1, **columns: Any) -> Row:
    return {
        "round": round_number,
        "heat": heat,
        "candidate": candidate,
        "action": action,
        "parameters_before": 100 * round_number,
        "parameters_added": 10,
        "status": "finished",
        **dict.fromkeys(("control", "affordable", "eligible", "survived", "won", "audit"), False),
        **columns,
    }


def test_an_action_is_judged_by_the_last_heat_of_each_fork_and_when_that_was(tmp_path: Path) -> None:
    rows = [
        fork(1, 0, "train", control=True),
        fork(1, 1, "patch", gain=9.0, score=900.0),  # an early heat, which is not what it is judged by
        fork(1, 1, "patch", heat=2, gain=0.2, score=20.0, won=True),
        fork(1, 1, "patch", heat=3, gain=5.0, score=500.0, audit=True),
        fork(1, 2, "patch", gain=0.1, score=10.0),
        fork(1, 3, "widen", status="failed"),
        fork(1, 4, "widen", status="unaffordable", parameters_added=999),
        fork(2, 1, "patch", gain=math.nan, score=math.nan),
        fork(2, 2, "patch", gain=0.4, score=40.0),
        fork(3, 1, "widen", gain=0.5, score=50.0, won=True),
        fork(4, 1, "widen", gain=0.25, score=25.0),
    ]
    write(tmp_path, "a", "candidates", *rows)
    counts = ("tried", "won", "failed", "too_dear", "mean_gain", "mean_score", "mean_added")
    asked = answer(tmp_path, "actions", "stage", "action", *counts, "from_parameters", "to_parameters")
    # Of four rounds, two are the first third.
    assert asked == [
        ("early", "patch", 4, 1, 0, 0, pytest.approx(0.7 / 3), pytest.approx(70 / 3), 10.0, 100, 200),
        ("early", "widen", 1, 0, 1, 1, None, None, 10.0, 100, 100),
        ("middle", "widen", 1, 1, 0, 0, 0.5, 50.0, 10.0, 300, 300),
        ("late", "widen", 1, 0, 0, 0, 0.25, 25.0, 10.0, 400, 400),
    ]


def test_the_ledger_says_what_was_paid_for_forks(tmp_path: Path) -> None:
    paid: Row = {"credits_earned": 5.0, "credits_spent": 40.0, "credits_deciding": 8.0, "balance": 2.0}
    write(tmp_path, "a", "rounds", {"round": 1, **paid}, {"round": 0, "balance": 37.0})
    assert answer(tmp_path, "credits", "round", "earned", "spent", "spent_on_forks", "balance") == [
        (0, None, None, None, 37.0),
        (1, 5.0, 40.0, 8.0, 2.0),
    ]


def test_cost_counts_all_that_was_trained(tmp_path: Path) -> None:
    spent: Row = {"parameter_steps": 300, "parameter_steps_all": 400, "accuracy": 0.9}
    write(tmp_path, "grown", "experiments", started(1, **spent))
    write(tmp_path, "compared", "experiments", started(2, accuracy=0.8))
    for block in ("one", "two"):
        costs = [network(f"{block}{cost}", 9, 0.8, trial=block, parameter_steps=cost) for cost in (30, 60)]
        write(tmp_path, "compared", "networks", *costs, part=block)
    write(tmp_path, "unknown", "experiments", started(3))
    asked = answer(tmp_path, "cost", "experiment", "accuracy", "parameter_steps_all", "share_deciding")
    assert asked == [("compared", 0.8, 180, None), ("grown", 0.9, 400, 0.25), ("unknown", None, None, None)]


def test_failures_are_counted_by_their_error(tmp_path: Path) -> None:
    write(tmp_path, "a", "experiments", started(1, command="grow", status="failed", error="disk"))
    write(tmp_path, "b", "experiments", started(2, command="hunt", status="interrupted"))
    shape: Row = {"architecture": [64, 32, 10], "status": "failed", "error": "diverged"}
    write(
        tmp_path,
        "b",
        "networks",
        network("one", 9, None, **shape),
        network("two", 9, None, **shape),
        network("other", 9, None, **shape | {"error": "memory"}),
        network("good", 9, 0.5),
    )
    write(
        tmp_path,
        "a",
        "candidates",
        fork(3, 1, "widen", status="failed", error="NaN"),
        fork(3, 2, "widen", status="unaffordable"),
        fork(3, 3, "widen"),
    )
    columns = ("experiment", "kind", "what", "error", "times", "example")
    assert answer(tmp_path, "failures", *columns) == [
        ("a", "experiment", "grow", "disk", 1, ""),
        ("a", "fork", "widen", "NaN", 1, "round 3"),
        ("b", "experiment", "hunt", None, 1, ""),
        ("b", "network", "64-32-10", "diverged", 2, "one"),
        ("b", "network", "64-32-10", "memory", 1, "other"),
    ]


def confusions(*counts: list[int]) -> list[Row]:
    """As they are written: cells without an image have no row. counts: (truth, said)."""
    names = ["cat", "dog", "eel", "fox"]
    return [
        {"truth": truth, "said": said, "images": images, "truth_name": names[truth], "said_name": names[said]}
        for truth, row in enumerate(counts)
        for said, images in enumerate(row)
        if images
    ]


def test_the_hardest_class_comes_first_with_what_it_is_taken_for(tmp_path: Path) -> None:
    write(tmp_path, "a", "confusions", *confusions([8, 1, 1, 0], [5, 2, 3, 0], [0, 0, 4, 0], [0, 0, 7, 0]))
    assert answer(tmp_path, "classes", "name", "images", "accuracy", "taken_for", "times") == [
        ("fox", 7, 0.0, "eel", 7),
        ("dog", 10, 0.2, "cat", 5),
        ("cat", 10, 0.8, "dog", 1),  # of equals the first
        ("eel", 4, 1.0, None, None),
    ]


def test_confusions_are_pairs_of_classes_and_their_share_of_the_class(tmp_path: Path) -> None:
    write(tmp_path, "a", "confusions", *confusions([8, 2], [2, 0], [1, 0, 4]))
    assert answer(tmp_path, "confusions", "truth", "said", "images", "share") == [
        ("dog", "cat", 2, 1.0),
        ("cat", "dog", 2, 0.2),
        ("eel", "cat", 1, 0.2),
    ]


def test_the_surest_mistake_comes_first(tmp_path: Path) -> None:
    wrong: Row = {
        "truth": 0,
        "said": 1,
        "truth_name": "cat",
        "said_name": "dog",
        "values": [0.5],
        "shape": [1],
    }
    write(
        tmp_path,
        "a",
        "mistakes",
        *(wrong | {"image": image, "confidence": sure} for image, sure in ((7, 0.6), (9, 0.9), (5, 0.6))),
    )
    asked = answer(tmp_path, "mistakes", "image", "truth", "said", "confidence")
    assert asked == [(9, "cat", "dog", 0.9), (5, "cat", "dog", 0.6), (7, "cat", "dog", 0.6)]
