"""`structnet paths`: rows of every network, its sentences and its page, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.command_cases import Done, assert_refused, structnet
from helpers.grid_cases import timeless
from helpers.report_cases import NASTY, write_run
from helpers.story_cases import told, values_of

from search.commands.paths import COMMAND
from search.commands.paths.results import Setting, lead_over, sentences_of, settings_of, verdict
from search.commands.paths.run import fitted_to, members_of
from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset
from structnet.errors import UserError
from structnet.measure.statistics import mean_interval
from structnet.paths.files import load_plastic
from structnet.storage.tables import read_table

torch.set_num_threads(1)

SMALL: dict[str, Any] = {"width": 0.03, "images": 128, "rng_seeds": 2, "epochs": 2}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> tuple[Path, Done]:
    """A finished experiment, and what it printed."""
    folder = tmp_path_factory.mktemp("paths")
    given = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    more = ["--frequencies", "8,16", "--name", "first", "--workers", "1"]
    return folder, structnet("paths", *given, *more, cwd=folder)


def test_every_network_has_rows(done: tuple[Path, Done]) -> None:
    folder, said = done
    assert said.code == 0, said.out + said.err
    results = folder / "results"
    rows = timeless(results, "networks", "first")
    found = {(row["method"], row["frequency"], row["rng_seed"]) for row in rows}
    arms = [("plastic", 8), ("plastic", 16), ("static", None), ("resnet", None)]
    assert found == {(*arm, seed) for arm in arms for seed in (0, 1)} and len(rows) == 8
    assert all(row["status"] == "finished" and row["variant"] == "path" for row in rows)
    epochs = timeless(results, "epochs", "first")
    assert len(epochs) == 8 * 2
    moved = {row["network"]: 0 for row in rows}
    for row in epochs:
        moved[row["network"]] += row["moved"][0]
    decisions = read_table(str(results), "decisions", "first").to_pylist()
    for row in rows:
        mine = [one for one in decisions if one["network"] == row["network"]]
        steps = {8: [8, 16, 24], 16: [16]}.get(row["frequency"], [])
        assert [one["step"] for one in mine if one["removed"]] == steps
        assert moved[row["network"]] == len(steps) == len(mine) / 2
        if row["snapshot"]:
            network = load_plastic(str(folder / row["snapshot"]))
            assert network.parameter_count == row["parameters"]


def test_it_prints_a_table_and_what_follows(done: tuple[Path, Done]) -> None:
    out = done[1].out
    assert "8 networks of path: plastic,static,resnet; 128 images of digits, 2 epochs in batches of 8" in out
    lines = [line.split() for line in out.splitlines()]
    assert [words[1] for words in lines if words[:1] == ["path"] and "±" in words] == [
        "plastic",
        "plastic",
        "static",
        "resnet",
    ]
    assert out.count("against the same paths left where they are: ") == 2
    assert out.count("against the residual network: ") == 2
    assert out.count("Do plastic paths help at all once new paths are trained?") == 2
    assert "every 8 steps): a path that went was worth" in out and "(6 paths)" in out
    assert "inf" not in out


def test_the_report_shows_all_of_it(done: tuple[Path, Done]) -> None:
    folder, said = done
    report = folder / "results" / "reports" / "first"
    assert "Report: results/reports/first/index.html" in said.out
    text = (report / "index.html").read_text()
    for part in (
        "What was reached",
        "Learning curves",
        "What removed paths were worth",
        "Where paths went and came",
        "Decisions of path_plastic_scalar_uniform_f8_s0",
        "Do plastic paths help",
        "without backbone",
    ):
        assert part in text
    charts = {"accuracy", "leads", "curves-path", "worth"}
    assert {file.name for file in report.iterdir()} == {
        "index.html",
        *(f"{name}{ending}" for name in charts for ending in (".svg", ".png")),
    }


def test_every_number_of_the_charts_is_in_the_tables(done: tuple[Path, Done]) -> None:
    results = done[0] / "results"
    networks, epochs, decisions = (
        read_table(str(results), table, "first").to_pylist() for table in ("networks", "epochs", "decisions")
    )
    charts = told(results, drawn=False).charts
    accuracies = sorted(row["test_accuracy"] for row in networks)
    assert sorted(values_of(charts["accuracy"], "accuracy")) == pytest.approx(accuracies, rel=1e-5)
    residual = {row["network"] for row in networks if row["method"] == "resnet"}
    last = [row["accuracy"] for row in epochs if row["network"] in residual and row["epoch"] == 2]
    points = zip(*(values_of(charts["curves-path"], name) for name in ("setting", "epoch", "accuracy")))
    shown = {accuracy for setting, epoch, accuracy in points if (setting, epoch) == ("resnet", 2)}
    assert [*shown] == pytest.approx([sum(last) / len(last)], rel=1e-5)
    lost = [row["accuracy"] - row["accuracy_without"] for row in decisions if row["removed"]]
    assert sorted(values_of(charts["worth"], "lost")) == pytest.approx(
        [100 * one for one in sorted(lost)], abs=1e-4
    )
    arms = [f"plastic, every {often} steps, over {arm}" for often in (8, 16) for arm in ("static", "resnet")]
    assert values_of(charts["leads"], "arm")[:4] == arms


def test_a_finished_experiment_stays_so(done: tuple[Path, Done]) -> None:
    given = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    more = ["--frequencies", "8,16", "--name", "first", "--workers", "2"]
    again = structnet("paths", *given, *more, "--resume", cwd=done[0])
    assert again.code == 0 and "first is finished already" in again.out
    assert_refused(structnet("paths", "--name", "first", "--resume", cwd=done[0]), "width was 0.03")


# --- what is trained


def members(digits: Dataset, **changed: Any) -> list[Any]:
    options = fitted_to(COMMAND.parse({**SMALL, **changed}), digits)
    return members_of(options, digits)


def test_the_grid_is_over_all_that_is_named(digits: Dataset) -> None:
    found = members(
        digits,
        variants="path,sequential",
        removals="scalar,threshold",
        growths="uniform,gradient",
        frequencies="5,10",
    )
    assert len(found) == len({member.key for member in found}) == 2 * (2 * 2 * 2 + 1 + 1) * 2
    plastic = {(one.removal, one.growth, one.frequency) for one in found if one.arm == "plastic"}
    assert len(plastic) == 8 and {one.rng_seed for one in found} == {0, 1}


def test_changes_are_once_an_epoch_unless_told(digits: Dataset) -> None:
    found = members(digits, batch_size=100)
    assert {one.frequency for one in found} == {len(digits.train) // 100, None}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"variants": "path,loop"}, "variant is 'loop', but must be one of path, sequential, shuffle"),
        ({"arms": "plastic,none"}, "arm is 'none', but must be one of plastic, static, resnet"),
        ({"removals": "random"}, "removal is 'random', but must be one of scalar, gradient, threshold"),
        ({"growths": "random"}, "growth is 'random', but must be one of uniform, gradient"),
        ({"variants": ","}, "variants are ',', but must be names, at least one"),
        ({"arms": "static,static"}, "arms are 'static,static', but must be names, at least one, each there"),
        ({"growths": " "}, "growths are ' ', but must be names"),
        ({"frequencies": ","}, "frequencies are ',', but must be numbers"),
        ({"frequencies": "0"}, "frequency is 0, but must be a whole number from 1"),
        ({"frequencies": "2.5"}, "frequency is 2.5, but must be a whole number from 1"),
        ({"frequencies": "often"}, "frequencies is 'often', but must be numbers"),
        ({"budget": 93}, "budget is 93, but must be from 1 to 92: variant path has 93 places"),
        (
            {"variants": "shuffle", "budget": 0},
            "budget is 0, but must be from 1 to 33: variant shuffle has 34",
        ),
        ({"variants": "sequential", "budget": 45}, "variant sequential has 45 places"),
        ({"until": 0.0}, "until is 0, but must be in"),
        ({"until": 1.5}, "until is 1.5, but must be in"),
        ({"width": 0.0}, "width is 0, but must be in"),
        ({"threshold": -1.0}, "threshold is -1, but must be above 0"),
        ({"new_scalars": "few"}, "new_scalars is 'few', but must be uniform or a number"),
        ({"limit": 8}, "there are 9 networks, but limit is 8: raise --limit or leave some out"),
        ({"schedule": "step"}, "schedule is 'step', but must be one of cosine, linear, constant"),
        ({"batch_size": 1}, "batch_size is 1, but must be from 2"),
        ({"batch_size": 4000}, "batch_size is 4000, but must be from 2, .* to the 1,078 training images"),
        ({"shift": -1}, "shift -1, but neither may be negative"),
    ],
)
def test_what_cannot_be_is_refused(digits: Dataset, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        members(digits, **{"rng_seeds": 3, **changed})
    assert "\n" not in str(refused.value)


def test_data_that_are_no_images_are_refused(tmp_path: Path) -> None:
    assert_refused(
        structnet("paths", "--dataset", "teacher", cwd=tmp_path), "inputs of shape 32, but paths lead"
    )


def test_more_images_than_there_are_are_refused(tmp_path: Path) -> None:
    refused = structnet("paths", "--images", "5000", cwd=tmp_path)
    assert_refused(refused, "images is 5,000, but must be from 1 to 1,078")


# --- what follows


def rows_of(method: str, values: list[float], **more: Any) -> list[dict[str, Any]]:
    made = {"variant": "path", "removal": None, "growth": None, "frequency": None, "status": "finished"}
    return [
        {
            **made,
            "method": method,
            "rng_seed": seed,
            "test_accuracy": value,
            "network": f"{method}{seed}",
            **more,
        }
        for seed, value in enumerate(values)
    ]


def plastic(values: list[float], often: int = 5) -> list[dict[str, Any]]:
    return rows_of("plastic", values, removal="scalar", growth="uniform", frequency=often)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([0.8, 0.82, 0.81], "yes"),
        ([0.6, 0.62, 0.61], "no"),
        ([0.6, 0.8, 0.7], "not shown"),
        ([0.9], "not shown"),
    ],
)
def test_the_verdict_is_against_static_paths(values: list[float], found: str) -> None:
    rows = [*plastic(values), *rows_of("static", [0.7, 0.71, 0.705])]
    settings = settings_of(rows)
    lead = lead_over(settings[0], "static", settings)
    assert lead is not None and verdict(lead) == found
    lines = sentences_of(settings, rows, [])
    assert any(line.endswith(f"every 5 steps): {found}") for line in lines)
    assert not any("residual" in line for line in lines)  # there is none to compare with


def test_several_settings_are_compared_together() -> None:
    """Of two, each has the wider interval that holds for both."""
    rows = [*plastic([0.8, 0.81, 0.83]), *plastic([0.7, 0.7, 0.7], 9), *rows_of("static", [0.7, 0.7, 0.7])]
    settings = settings_of(rows)
    lead = lead_over(settings[0], "static", settings)
    expected = mean_interval([0.1, 0.11, 0.13], comparisons=2)
    assert lead is not None and lead.low == pytest.approx(expected.low)


def test_networks_that_diverged_are_left_out_and_told() -> None:
    rows = [*plastic([0.8, 0.9]), *rows_of("static", [0.7])]
    rows[1]["status"] = "failed"
    settings = settings_of(rows)
    assert [len(setting.rows) for setting in settings] == [1, 1]
    assert any("diverged for 1 of 3 networks" in line for line in sentences_of(settings, rows, []))


def write(results: Path, status: str, **tables: list[dict[str, Any]]) -> None:
    """The experiment `first`, with rows of these tables."""
    writer = write_run(results, "first", command="paths", status=status, config="{}")
    for table, rows in tables.items():
        writer.write(table, "rows", [{"trial": "t", **row} for row in rows])


def test_a_report_without_a_network_that_ended_says_so(tmp_path: Path) -> None:
    rows = [{**row, "status": "failed", "error": "too steep"} for row in plastic([0.8])]
    write(tmp_path, "finished", networks=rows)
    found = told(tmp_path)
    assert found.story.lead == "No network was trained to its end."
    assert "diverged for 1 of 1 networks" in found.text and "too steep" in found.text
    assert not found.charts


def test_while_networks_train_their_curves_are_shown(tmp_path: Path) -> None:
    write(tmp_path / "none", "running")
    assert told(tmp_path / "none").story.lead.endswith("No network has ended yet.")
    epochs = [{"network": "path_static_s0", "epoch": epoch, "accuracy": epoch / 10} for epoch in (1, 2)]
    write(tmp_path, "running", epochs=epochs)
    found = told(tmp_path)
    assert list(found.charts) == ["under-way"]
    assert {*values_of(found.charts["under-way"], "accuracy")} == {0.1, 0.2}


def test_a_report_of_rows_of_before_leaves_out_what_they_lack(tmp_path: Path) -> None:
    """Neither epochs, nor what a path was worth, nor the backbone."""
    rows = [{**row, "accuracy": 0.5, "parameters": 9, "seconds": 1.0} for row in plastic([0.8, 0.9])]
    about = {"layer": 3, "index": 1, "method": "scalar", "removed": True, "regrown": False}
    gone = [{"network": "plastic0", "step": 5, **about}]
    write(tmp_path, "finished", networks=rows, decisions=gone)
    found = told(tmp_path)
    assert "85.00% ± 7.07% on test" in found.story.lead
    assert not values_of(found.charts["worth"], "lost")


def test_names_are_texts(tmp_path: Path) -> None:
    rows = [
        {**row, "accuracy": 0.5, "parameters": 9, "seconds": 1.0, "variant": NASTY, "removal": NASTY}
        for row in [*plastic([0.8, 0.9]), *rows_of("static", [0.7, 0.6])]
    ]
    write(tmp_path, "finished", networks=rows)
    found = told(tmp_path)
    assert NASTY in found.text and NASTY in found.story.lead


def test_removed_paths_are_told_by_what_was_lost() -> None:
    settings = [Setting("path", "plastic", "scalar", "uniform", 5, plastic([0.8]))]
    gone = [
        {"network": "plastic0", "removed": True, "accuracy": 0.5, "accuracy_without": 0.5 - lost}
        for lost in (0.01, 0.03)
    ]
    came = [{"network": "plastic0", "removed": False, "accuracy": None, "accuracy_without": None}]
    (line,) = sentences_of(settings, [], gone + came)
    assert line.endswith("a path that went was worth +2.00 ± 1.41 points of validation accuracy (2 paths)")
