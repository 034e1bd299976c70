"""Studies: every one in the registry measures, judges and draws; and what the command does around them."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.chart_cases import panels_of, rows_drawn
from typer.testing import CliRunner

from search.commands.study import COMMAND
from search.commands.study.comparison import (
    arm_table,
    arms_within,
    draw_arms,
    lead_of,
    leads_over,
    means_of,
    stacked,
    values_of,
)
from search.commands.study.registry import STUDIES
from search.commands.study.study import (
    VERDICTS,
    Finding,
    Measurement,
    Place,
    Row,
    Scale,
    Study,
    Task,
    verdict,
)
from search.commands.study.work import StudyWork, measured_rows, rows_of
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.data.packing import description, pack
from structnet.errors import UserError
from structnet.storage.tables import read_table
from structnet.trials.work import Shared

QUICK = Scale((0, 1), quick=True)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


# The contract


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_tasks_have_names_of_their_own_and_controls(study: Study, digits: Dataset) -> None:
    tasks = study.tasks(digits, QUICK)
    assert len({task.name for task in tasks}) == len(tasks)
    assert {task.rng_seed for task in tasks} == {0, 1}
    arms = {seed: {task.arm for task in tasks if task.rng_seed == seed} for seed in (0, 1)}
    assert arms[0] == arms[1]
    full = study.tasks(digits, Scale(tuple(range(5))))
    assert {task.rng_seed for task in full} == set(range(5))


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_a_study_is_registered_under_its_name_and_says_what_it_is_about(study: Study) -> None:
    assert STUDIES[study.name] is study
    assert study.question.endswith("?")
    assert study.claim


# Arms


def rows_for(values: dict[str, list[float]], quantity: str = "accuracy") -> list[Row]:
    return [
        Row(arm, seed, quantity, 0, value)
        for arm, found in values.items()
        for seed, value in enumerate(found)
    ]


def test_arms_are_paired_by_rng_seed() -> None:
    rows = [*rows_for({"base": [0.1, 0.3], "other": [0.2, 0.6]}), Row("other", 7, "accuracy", 0, 9.0)]
    other = leads_over("base", rows, "accuracy")["other"]
    assert other.mean == pytest.approx(0.2)
    # Differences 0.1 and 0.3: standard error 0.1; t with one degree of freedom is 12.706.
    assert other.low == pytest.approx(0.2 - 1.2706, abs=1e-4)
    assert lead_of("other", "base", rows, "accuracy") == other
    # A rng_seed that only the base has is left out as well, and so is an arm that shares none.
    more = [*rows, Row("base", 9, "accuracy", 0, 5.0), Row("apart", 8, "accuracy", 0, 5.0)]
    assert leads_over("base", more, "accuracy") == {"other": other}
    assert means_of(more, "accuracy")["base"] == pytest.approx(1.8)
    with pytest.raises(ValueError, match="no accuracy of nothing"):
        leads_over("nothing", rows, "accuracy")
    with pytest.raises(ValueError, match="apart and base were measured with no rng_seed in common"):
        lead_of("apart", "base", more, "accuracy")


def test_arms_within_a_task_stand_in_its_place() -> None:
    rows = rows_for({"patch": [0.1]}, "accuracy:static") + rows_for({"widen": [0.2]}, "accuracy:static")
    rows += rows_for({"patch": [3.0]}, "seconds")
    assert arms_within(rows, "patch") == [Row("static", 0, "accuracy", 0, 0.1)]
    assert [row.value for row in arms_within(rows)] == [0.1, 0.2]


def test_tables_are_stacked_under_their_names() -> None:
    tables = {"a": (("arm", "n"), ("x", "1")), "b": (), "c": (("arm", "n"), ("y", "2"))}
    assert stacked("of", tables) == (("of", "arm", "n"), ("a", "x", "1"), ("c", "y", "2"))
    assert stacked("of", {"b": ()}) == ()


def test_a_table_of_arms_has_every_quantity_and_the_lead_of_the_first() -> None:
    rows = rows_for({"a": [0.5, 0.7], "b": [0.6, 0.8]}) + rows_for({"a": [10, 20], "b": [30, 30]}, "size")
    header, a, b = arm_table(rows, (("accuracy", "accuracy, %", 100, 1), ("size", "size", 1, 0)), "a")
    assert header == ("arm", "accuracy, %", "size", "accuracy, %: lead over a (95 % interval)")
    assert a == ("a", "60.0 ± 14.1", "15 ± 7", "")
    assert b == ("b", "70.0 ± 14.1", "30 ± 0", "+10.0 (+10.0 to +10.0)")
    assert values_of(rows, "size") == {"a": {0: 10, 1: 20}, "b": {0: 30, 1: 30}}


def test_the_first_verdict_that_is_met_counts() -> None:
    assert verdict(yes=True, no=True, in_part=True) == "yes"
    assert verdict(yes=False, no=True, in_part=True, otherwise="open") == "no"
    assert verdict(yes=False, in_part=True) == "in part"
    assert (verdict(yes=False), verdict(yes=False, otherwise="open")) == ("no", "open")


def test_a_verdict_is_one_of_four() -> None:
    with pytest.raises(ValueError, match="holds is 'maybe'"):
        Finding("maybe", ())


# Allocation


def test_the_allocation_study_holds_where_uniform_starts_low_and_is_lifted_more() -> None:
    study = STUDIES["allocation"]
    rows = []
    for quantity, uniform, proportional in (
        ("accuracy:static", 0.3, 0.7),
        ("accuracy:growth", 0.7, 0.8),
        ("accuracy:random", 0.4, 0.7),
        ("accuracy:rewire", 0.4, 0.7),
        ("lift", 0.4, 0.1),
    ):
        wobble = [0.0, 0.001, -0.001]
        rows += rows_for(
            {
                "uniform": [uniform + w for w in wobble],
                "proportional": [proportional - 2 * w for w in wobble],
            },
            quantity,
        )
    finding = study.judge(rows)
    assert finding.holds == "yes"
    assert "75% of what they seem to bring is repair" in finding.sentences[1]
    swapped = [
        row._replace(arm={"uniform": "proportional", "proportional": "uniform"}[row.arm]) for row in rows
    ]
    assert study.judge(swapped).holds == "no"
    chart = study.draw(rows)
    assert panels_of(chart) == ["trained only", "patched"]
    uniform = sorted({row["value"] for row in rows_drawn(chart) if row["arm"] == "uniform"})
    assert uniform == pytest.approx([29.9, 30.0, 30.1, 69.9, 70.0, 70.1])


# The command


TOY = Study(
    name="toy",
    question="Is two more than one?",
    claim="it is",
    dataset="digits",
    tasks=lambda data, scale: [
        Task(arm, seed, {"size": 2}) for arm in ("one", "two") for seed in scale.rng_seeds
    ],
    measure=lambda task, data, place: [
        Measurement("images", len(data.train)),
        Measurement("value", {"one": 1, "two": task.options["size"]}[task.arm] + 0.1 * task.rng_seed),
    ],
    judge=lambda rows: Finding("yes", (f"{sum(row.value for row in rows if row.quantity == 'value'):.1f}",)),
    draw=lambda rows: draw_arms(rows, "value", "Value"),
    seen="Ones and twos",
    reading="A point for each.",
)


def test_a_study_measures_judges_and_draws(
    tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A toy that is registered here alone goes through the ordinary command."""
    from ray import cloudpickle

    from search.cli import app

    monkeypatch.setitem(STUDIES, "toy", TOY)
    this = sys.modules[__name__]  # which no worker could import
    cloudpickle.register_pickle_by_value(this)
    line = ["study", "toy", "--results", str(tmp_path), "--name", "t", "--rng-seeds", "3", "--workers", "1"]
    try:
        ended = CliRunner().invoke(app, line)
    finally:
        cloudpickle.unregister_pickle_by_value(this)
    assert ended.exit_code == 0, ended.output
    rows = measured_rows(str(tmp_path), "t")
    assert {row.value for row in rows if row.quantity == "images"} == {1078.0}
    assert len([row for row in rows if row.quantity == "value"]) == 6
    (experiment,) = read_table(str(tmp_path), "experiments", "t").to_pylist()
    assert (experiment["command"], experiment["status"]) == ("study", "finished")
    report = tmp_path / "reports" / "t"
    assert "Is two more than one?" in (report / "index.html").read_text()
    assert (report / "toy.svg").read_text().startswith("<svg") and (report / "toy.png").is_file()
    assert f"Report: {report}/index.html" in ended.output.replace("\n", "")


def test_a_task_is_done_once_also_after_it_was_saved(digits: Dataset, tmp_path: Path) -> None:
    calls: list[str] = []

    def measure(task: Task, data: Dataset, place: Place) -> list[Measurement]:
        calls.append(place.trial)
        return [Measurement("value", 1.0)]

    toy = replace(TOY, measure=measure)
    shared = Shared(pack(digits), description(digits), str(tmp_path), "t", {"study": "toy"})
    config = {"name": "one-0000", "arm": "one", "rng_seed": 0, "options": {}}
    work, again = StudyWork(config, shared, toy), StudyWork(config, shared, toy)
    told = work.step()
    work.save(tmp_path)
    again.load(tmp_path)
    assert work.step() == again.step() == told
    assert calls == ["one-0000"]


def test_rows_hold_what_was_measured() -> None:
    (row,) = rows_of("a-0003", Task("a", 3), [Measurement("gain", np.float32(0.5), 4)])
    assert row == {"trial": "a-0003", "quantity": "gain", "item": 4, "arm": "a", "rng_seed": 3, "value": 0.5}


def test_a_study_that_does_not_exist_is_refused_and_list_names_them() -> None:
    from search.cli import app

    with pytest.raises(UserError, match=r"study is 'luck', but must be one of .*allocation"):
        COMMAND.run({"study": "luck"})
    said = CliRunner().invoke(app, ["study", "list"], env={"COLUMNS": "200"}).output
    assert all(name in said for name in STUDIES)


def test_allocation_in_small(digits: Dataset, tmp_path: Path) -> None:
    study = STUDIES["allocation"]
    rows = []
    for task in study.tasks(digits, QUICK):
        found = study.measure(task, digits, Place(str(tmp_path), "e", task.name))
        again = {one.quantity: one.value for one in found}
        assert again["lift"] == pytest.approx(again["accuracy:growth"] - again["accuracy:static"])
        rows += [Row(task.arm, task.rng_seed, one.quantity, one.item, one.value) for one in found]
    finding = study.judge(rows)
    assert finding.holds in VERDICTS
    assert all(math.isfinite(row.value) for row in rows)
