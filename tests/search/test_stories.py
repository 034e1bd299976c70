"""What the reports of hunts, ladders, rescues, bootstraps, sweeps, evolutions, topologies and trainings say."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from helpers.story_cases import (
    CASES,
    CHANCE,
    Case,
    failed,
    laddered,
    network,
    rescued,
    said,
    swept,
    tables_of,
    told,
    values_of,
)

from search.command import Command
from search.commands.registry import COMMANDS
from search.grid.telling import chance_of, means, on_data, thinned
from search.report.blocks import Gallery
from search.report.reports import write_report

every_command = pytest.mark.parametrize("command", CASES)


# What holds for all


@every_command
def test_a_whole_experiment_has_a_lead_cards_charts_and_lines_to_copy(command: str, tmp_path: Path) -> None:
    found = said(CASES[command](), tmp_path)
    assert len(found.story.lead) > 40 and "None" not in found.story.lead
    assert 3 <= len(found.story.cards) <= 6
    assert found.charts and all(chart.title and chart.text for chart in found.page.charts)
    assert 1 <= len(found.story.commands) <= 3
    for _, line in found.story.commands:
        assert line.startswith("structnet ") and line in found.text
        assert "None" not in line
    # A folder that is not the default is named wherever a line needs it.
    assert any(str(tmp_path) in line for _, line in found.story.commands)
    assert not re.search(r"\b(nan|inf)\b", found.text.lower())


@every_command
def test_lines_to_copy_have_options_that_their_commands_have(command: str, tmp_path: Path) -> None:
    for _, line in said(CASES[command](), tmp_path, drawn=False).story.commands:
        program, name, *words = shlex.split(line)
        called = COMMANDS[name]
        assert program == "structnet" and isinstance(called, Command)
        for flag in (word for word in words if word.startswith("--")):
            assert flag[2:].removeprefix("no-").replace("-", "_") in called.model.model_fields, line


@every_command
def test_an_experiment_without_rows_is_told(command: str, tmp_path: Path) -> None:
    empty = Case(command, {}, {}, columns={"accuracy": None, "test_accuracy": None})
    for status in ("running", "finished", "failed", "interrupted"):
        found = said(empty, tmp_path / status, status, drawn=False)
        assert not found.charts and found.story.lead


@every_command
@pytest.mark.parametrize(
    "status", ["running", *(pytest.param(name, marks=pytest.mark.slow) for name in ("failed", "interrupted"))]
)
def test_what_is_not_whole_says_so(command: str, status: str, tmp_path: Path) -> None:
    """With half of the rows: of every network that has any, or of every epoch."""
    case = CASES[command]()
    for table, rows in case.tables.items():
        case.tables[table] = rows[: len(rows) // 2]
    case.trials = case.trials[: len(case.trials) // 2]
    assert said(case, tmp_path, status, drawn=False).story.lead.startswith(f"{status.capitalize()}: ")


@every_command
def test_rows_of_an_older_version_say_the_same(command: str, tmp_path: Path) -> None:
    said_now = said(CASES[command](), tmp_path / "now", drawn=False)
    said_then = said(CASES[command]().of_before(), tmp_path / "then", drawn=False)
    assert said_then.story.lead == said_now.story.lead
    assert said_then.charts.keys() == said_now.charts.keys()


@every_command
def test_a_run_without_options_and_numbers_is_told(command: str, tmp_path: Path) -> None:
    """Whatever is not needed to name a row is null."""
    kept = {"trial", "network", "epoch", "link", "unit", "status", "architecture", "density", "rng_seed"}
    case = CASES[command]()
    tables = {
        table: [{name: value for name, value in row.items() if name in kept} for row in rows]
        for table, rows in case.tables.items()
    }
    Case(command, {}, tables, columns={"config": None, "versions": None}).write(tmp_path)
    assert told(tmp_path, drawn=False).story.lead


@pytest.mark.parametrize("command", ["ladder", "topology"])
def test_the_report_has_its_charts_beside_it(command: str, tmp_path: Path) -> None:
    case = CASES[command]()
    case.write(tmp_path)
    page = Path(write_report(str(tmp_path), "first"))
    name = {"ladder": "ladder", "topology": "squares-0"}[command]
    assert page.with_name(f"{name}.svg").read_text().startswith("<svg")
    assert page.with_name(f"{name}.png").read_bytes().startswith(b"\x89PNG")


# ladder


def test_a_ladder_tells_its_cliffs(tmp_path: Path) -> None:
    found = said(laddered(), tmp_path)
    # Plateau .9, chance .1: half is at .5, half way in the logarithm from .7 at 1e-2 to .3 at 1e-3.
    assert (
        "With connections shared proportional half of its accuracy above chance is lost at a density of 0.0032 (95 % "
        "interval 0.0032 to 0.0032)."
    ) in found.story.lead
    assert "With connections shared uniform it still learns at the sparsest rung" in found.story.lead
    chart = found.charts["ladder"]
    assert min(values_of(chart, "at")) == pytest.approx(10**-2.5, rel=1e-4)
    assert CHANCE in values_of(chart, "at")
    assert values_of(chart, "from") == values_of(chart, "to") == [pytest.approx(10**-2.5, rel=1e-4)]
    assert {"proportional, cliff at 0.0032", "uniform, cliff below 0.001"} == set(
        values_of(chart, "allocation")
    )
    (rungs,) = tables_of(found)
    assert [row[0] for row in rungs.rows] == [0.5, 0.2, 0.1, 0.01, 0.001]
    assert rungs.rows[0][3:] == [0.92, "± 0.00%", 2, 0.9, "± 0.00%", 2]
    assert "--density 0.002" in found.story.commands[0][1]  # of a rescue, from half of the cliff


def test_a_ladder_that_runs_has_no_cliff_yet(tmp_path: Path) -> None:
    """It would lie where the rows end."""
    found = said(laddered(), tmp_path, "running", drawn=False)
    assert "cliff at" not in str(found.charts) and "Where the cliff is, is said when" in found.story.lead


# rescue


def test_a_rescue_tells_its_verdict(tmp_path: Path) -> None:
    found = said(rescued(), tmp_path)
    # Plateau .9, chance .1.
    assert found.story.lead == (
        "Growth by patch rescues input-4-classes at density 0.004: it reaches 70.0% ± 1.0%, where 50.0% would be back "
        "over the cliff. Without growth it reaches 20.0% ± 0.0%, with as many connections at random places 30.0% ± "
        "1.0% (3 rng_seeds)."
    )
    leads = dict(zip(values_of(found.charts["leads"], "arm"), values_of(found.charts["leads"], "lead")))
    assert leads == {"static": pytest.approx(50), "random": pytest.approx(40), "rewire": pytest.approx(5)}
    marks = dict(zip(values_of(found.charts["arms"], "name"), values_of(found.charts["arms"], "at")))
    assert marks == {"chance": pytest.approx(0.1), "plateau": 0.9, "back over the cliff": pytest.approx(0.5)}
    assert "More than moving does: no" in found.text


def test_a_rescue_without_its_plateau_has_no_verdict(tmp_path: Path) -> None:
    case = rescued()
    case.tables["networks"] = [row for row in case.tables["networks"] if row["trial"].startswith("seed")]
    found = said(case, tmp_path, drawn=False)
    assert "leads" not in found.charts and "rescued" not in [card.label for card in found.story.cards]


def test_a_plateau_at_chance_is_nothing_to_be_rescued_to(tmp_path: Path) -> None:
    case = rescued()
    for row in case.tables["networks"]:
        row["accuracy"] = min(row["accuracy"], 0.15)
    assert "leads" not in said(case, tmp_path, drawn=False).charts


# bootstrap


def test_a_bootstrap_tells_the_smallest_and_what_it_is_good_for(tmp_path: Path) -> None:
    found = said(CASES["bootstrap"](), tmp_path)
    assert "has 40 parameters: 64-4-10 at density 0.4, 45.0% on average." in found.story.lead
    assert "Hierarchical initialisation is better than random (+10.0 points)." in found.story.lead
    leads = found.charts["hierarchical-leads"]
    assert dict(zip(values_of(leads, "arm"), values_of(leads, "lead"))) == {
        "untrained": pytest.approx(5),
        "nested": pytest.approx(10),
        "random": pytest.approx(10),
        "random_longer": pytest.approx(8),
    }
    (candidates, _) = tables_of(found)
    assert [candidates.rows[number][2] for number in candidates.marked] == [40]


def test_a_candidate_is_not_judged_by_some_of_its_rng_seeds(tmp_path: Path) -> None:
    case = CASES["bootstrap"]()
    case.tables["networks"] = [row for row in case.tables["networks"] if row["network"] != "20-1"]
    assert "has 40 parameters" in said(case, tmp_path, "running", drawn=False).story.lead


# sweep


def test_a_sweep_tells_its_best_and_that_chance_flatters_it(tmp_path: Path) -> None:
    found = said(swept(), tmp_path)
    assert found.story.lead == (
        "Of 2 settings epochs=20 is best on validation: 82.0% ± 2.0% (3 rng_seeds), +10.0 points over the base. On "
        "test it has 79.0% ± 0.0% (3 rng_seeds). Chance flatters the best of 2: trust it when it holds on rng_seeds "
        "that did not choose it."
    )
    assert values_of(found.charts["settings"], "lead")[:1] == [pytest.approx(10)]
    assert set(values_of(found.charts["option-epochs"], "value")) == {"10", "20"}
    assert sorted(set(values_of(found.charts["sizes"], "parameters"))) == [150, 250]
    again = found.story.commands[0][1]
    assert again.startswith("structnet grow --dataset digits --l1 0 --epochs 20 --rng-seed 3 --repeats 5")


def test_settings_are_compared_with_the_base(tmp_path: Path) -> None:
    case = swept()
    case.config["base"] = "set-001"
    found = said(case, tmp_path, drawn=False)
    assert "epochs=20 (base) is best on validation: 82.0% ± 2.0% (3 rng_seeds)." in found.story.lead
    assert values_of(found.charts["settings"], "lead")[:1] == [pytest.approx(-10)]


def test_a_sweep_of_hunts_has_a_point_for_each_rng_seed(tmp_path: Path) -> None:
    rows = [
        {**network(f"n{number}-{seed}", accuracy, rng_seed=seed), "trial": f"set-{setting:03d}-block-0000"}
        for setting, accuracies in enumerate([(0.5, 0.7), (0.6, 0.9)])
        for seed in (0, 1)
        for number, accuracy in enumerate(accuracies)
    ]
    plan = {"set-000": {}, "set-001": {"shift": 1}}
    case = Case("sweep", {"of": "hunt", "plan": plan, "base": "set-000", "rng_seeds": 2}, {"networks": rows})
    found = said(case, tmp_path, drawn=False)
    assert found.story.lead.startswith("Of 2 settings shift=1 is best on validation: 75.0% ± 0.0%")
    assert set(values_of(found.charts["option-shift"], "value")) == {"default", "1"}
    assert set(values_of(found.charts["option-shift"], "accuracy")) == {0.6, 0.75}


def test_two_options_that_are_crossed_have_a_map(tmp_path: Path) -> None:
    places = [(epochs, l1) for epochs in (10, 20) for l1 in (0.0, 0.1)]
    plan = {f"set-{number:03d}": dict(zip(("epochs", "l1"), place)) for number, place in enumerate(places)}
    accuracies = [0.5, 0.52, 0.8, 0.82]
    trials = [
        {
            "trial": f"{name}-seed-0000",
            "accuracy": accuracy,
            "parameters": 9,
            "parameter_steps_all": 9,
            "config": "{}",
        }
        for name, accuracy in zip(plan, accuracies)
    ]
    found = said(Case("sweep", {"plan": plan, "base": "set-000"}, {}, trials), tmp_path)
    assert "Mean accuracy by epochs (rows) and l1 (columns)" in found.text
    charts = [chart.name for chart in found.page.charts]
    assert charts.index("option-epochs") < charts.index("option-l1"), "what does most comes first"


# evolve, topology, train


def test_an_evolution_compares_with_what_was_named_first(tmp_path: Path) -> None:
    found = said(CASES["evolve"](), tmp_path)
    assert "of 100 parameters rigl is best with 66.0% ± 1.4%; of 400 parameters rigl" in found.story.lead
    assert set(values_of(found.charts["leads"], "arm")) == {"dense"}
    assert values_of(found.charts["leads"], "lead")[0] == pytest.approx(-5)
    assert {"sizes", "leads", "cost-steps", "cost-multiply-adds", "epochs-100", "epochs-400"} == set(
        found.charts
    )
    assert sorted(set(values_of(found.charts["cost-steps"], "parameter_steps"))) == [0.1, 0.4]  # millions


def test_a_topology_shows_the_last_core_and_whether_it_was_learned(tmp_path: Path) -> None:
    found = said(CASES["topology"](), tmp_path)
    assert "with no decay it lies surely more in the centre than that of the control" in found.story.lead
    (gallery,) = (
        block for section in found.page.sections for block in section.blocks if isinstance(block, Gallery)
    )
    assert [picture.caption for picture in gallery.pictures] == ["no decay", "control"]
    # Four pixels of the centre have 7, of 16: four times the mean in the smallest square, even in the whole.
    squares = found.charts["squares-0"]
    assert values_of(squares, "ratio")[:4] == [4, 1, 1, 1]
    assert values_of(found.charts["leads-0"], "lead")[0] == pytest.approx(0.5)
    assert "the lightest 7" in found.text


def test_pixels_of_an_older_experiment_are_those_of_a_square(tmp_path: Path) -> None:
    case = CASES["topology"]().of_before()
    assert "squares-0" in said(case, tmp_path / "square", drawn=False).charts
    for row in case.tables["epochs"]:
        row["trend"] = [3.0, 2.0, 1.0]  # three squares are no image of 4 × 4
    assert "squares-0" not in said(case, tmp_path / "other", drawn=False).charts


def test_a_training_tells_its_curves(tmp_path: Path) -> None:
    found = said(CASES["train"](), tmp_path)
    assert found.story.lead == (
        "A network of 100 parameters: 90.0% on validation, 87.0% on test, after 3 epochs by 2 workers."
    )
    assert values_of(found.charts["accuracy"], "accuracy")[:3] == [
        pytest.approx(value) for value in (0.3, 0.6, 0.9)
    ]
    assert set(values_of(found.charts["loss"], "of")) == {"training", "validation"}
    assert "32 images a step, 16 from epoch 2" in found.text
    assert "structnet export results/snapshots/first/epoch-00003 --to onnx" in found.text


# What they share


def test_chance_is_told_by_rows_of_any_version() -> None:
    rows = [network("a", 0.7, 30), network("b", 0.4, 20)]
    assert chance_of(rows) == CHANCE
    assert chance_of([{**row, "majority": None} for row in rows]) == pytest.approx(CHANCE)
    assert chance_of([{**failed("c"), "majority": None}]) is None


def test_means_have_their_spread() -> None:
    rows = [{"of": "a", "x": 1, "y": value} for value in (0.2, 0.4, None)]
    (row,) = means(rows, "of", "x", "y")
    assert row == {
        "of": "a",
        "x": 1,
        "y": pytest.approx(0.3),
        "spread": pytest.approx(0.02**0.5),
        "low": pytest.approx(0.3 - 0.02**0.5),
        "high": pytest.approx(0.3 + 0.02**0.5),
        "n": 2,
    }


def test_thinning_keeps_the_order_and_what_it_must() -> None:
    rows = [{"n": number} for number in range(100)]
    assert thinned(rows, 200) == rows
    found = [row["n"] for row in thinned(rows, 10, lambda row: row["n"] == 55)]
    assert found == [0, 10, 20, 30, 40, 50, 55, 60, 70, 80, 90]


def test_options_of_the_data_are_quoted() -> None:
    config = {"dataset": "my data.csv", "label": "it's", "standardise": False, "balance": True, "size": None}
    assert on_data(config) == " --dataset 'my data.csv' --label 'it'\"'\"'s' --no-standardise --balance"
