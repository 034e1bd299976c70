"""`structnet report`, from tables to pages: of one experiment, of all, of one that runs."""

from __future__ import annotations

import threading
import webbrowser
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from helpers.report_cases import BEGAN, NASTY, fork_row, round_row, write_grown, write_run

from search.commands.report import run as command
from search.commands.report.command import ReportOptions
from search.commands.status.run import look
from search.report.folder import outdated, write_folder
from search.report.reports import write_report
from structnet.errors import UserError


def text_of(path: str | Path) -> str:
    return Path(path).read_text()


def report(results: Path, name: str) -> str:
    return text_of(write_report(str(results), name))


def test_a_grown_network_is_told(tmp_path: Path) -> None:
    write_grown(tmp_path, "grown", rounds=3, forks=6, names=["cat", "dog"])
    text = report(tmp_path, "grown")
    assert (
        "A network of 150 parameters is right on 95.10% of the validation images and on 94.30% of the test"
        in text
    )
    assert "95% was asked for" in text
    assert "Round 3: 153 parameters, 52.50%" in text
    assert "is cat, said dog (90%)" in text
    assert "+0.0198" in text  # the gain of the fork that won
    assert "structnet export results/snapshots/x/round-0003 --to c --int8" in text
    charts = {path.name for path in (tmp_path / "reports" / "grown").iterdir()}
    assert charts >= {"index.html", "accuracy.svg", "accuracy.png", "credits.svg", "forks.png"}


def test_numbers_of_another_table_show_nowhere(tmp_path: Path) -> None:
    write_grown(tmp_path, "one", rounds=2, forks=4)
    write_run(tmp_path, "other", test_accuracy=0.777)
    assert "77.7" not in report(tmp_path, "one")
    assert "77.70%" in text_of(write_folder(str(tmp_path)))


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_what_has_not_ended_well_has_a_page(tmp_path: Path, status: str) -> None:
    columns = {
        "accuracy": None,
        "test_accuracy": None,
        "parameters": None,
        "connections": None,
        "bytes": None,
        "macs": None,
    }
    error = f"the disk is full: {NASTY}" if status == "failed" else None
    writer = write_run(
        tmp_path, "x", status=status, error=error, majority=None, parameter_steps_all=None, **columns
    )
    assert "No round has been written yet" in report(tmp_path, "x")
    writer.write("rounds", "rounds", [round_row(0), round_row(1)])
    writer.write(
        "candidates",
        "forks",
        [fork_row(1, place, status="failed", error=NASTY, gain=None) for place in range(3)],
    )
    text = report(tmp_path, "x")
    assert "Round 1: 151 parameters, 50.83% on validation images." in text
    assert NASTY not in text
    if status == "failed":
        assert "the disk is full" in text


def test_rows_of_an_older_version_have_a_page(tmp_path: Path) -> None:
    new = (
        "link_sources",
        "link_targets",
        "link_connections",
        "link_possible",
        "input_reads",
        "group_saturated",
        "group_dead",
    )
    old = dict.fromkeys((*new, "bytes", "macs", "share_deciding", "credits_deciding"))
    writer = write_run(tmp_path, "old", bytes=None, macs=None, majority=None)
    writer.write("rounds", "rounds", [round_row(number, **old) for number in range(3)])
    text = report(tmp_path, "old")
    assert "Round 2: 152 parameters, 51.67%" in text
    assert '<svg class="network"' not in text


def test_repetitions_are_told_with_their_spread(tmp_path: Path) -> None:
    for seed, accuracy in enumerate((0.90, 0.94, 0.92)):
        trial = f"seed-{seed:04d}"
        writer = write_run(
            tmp_path, "three", trial=trial, rng_seed=seed, accuracy=accuracy, test_accuracy=accuracy
        )
        writer.write("rounds", trial, [round_row(number, trial=trial) for number in range(2)])
    text = report(tmp_path, "three")
    assert (
        "Of 3 repetitions, the one of median accuracy: a network of 150 parameters is right on 92.00%" in text
    )
    assert (
        "Test 92.00% ± 2.00 points, 150 ± 0 parameters (mean and standard deviation over 3 rng_seeds)."
        in text
    )


def test_a_command_without_a_story_has_a_page(tmp_path: Path) -> None:
    write_run(tmp_path, "checked", command="validate", config='{"dataset": "digits", "epochs": 3}')
    text = report(tmp_path, "checked")
    assert "structnet validate" in text
    assert "epochs" in text


def test_a_name_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="experiment is 'nothing', but there is none of that name"):
        write_report(str(tmp_path), "nothing")


def test_the_page_of_a_folder_leads_to_those_of_its_experiments(tmp_path: Path) -> None:
    write_grown(tmp_path, "told", rounds=1, forks=3)
    write_run(tmp_path, "untold", dataset=NASTY, parameters=77, test_accuracy=0.5)
    write_report(str(tmp_path), "told")
    text = text_of(write_folder(str(tmp_path)))
    assert '<a href="told/index.html">told</a>' in text
    assert "untold/index.html" not in text
    assert "<td>untold</td>" in text
    assert NASTY not in text


def test_an_empty_folder_says_how_to_begin(tmp_path: Path) -> None:
    assert "structnet demo" in text_of(write_folder(str(tmp_path)))


def test_only_pages_that_are_missing_or_old_are_written(tmp_path: Path) -> None:
    write_grown(tmp_path, "one", rounds=1, forks=3)
    write_grown(tmp_path, "two", rounds=1, forks=3)
    assert sorted(outdated(str(tmp_path))) == ["one", "two"]
    write_report(str(tmp_path), "one")
    assert outdated(str(tmp_path)) == ["two"]
    write_run(tmp_path, "one", heartbeat_at=datetime.now(UTC) + timedelta(hours=1))
    assert sorted(outdated(str(tmp_path))) == ["one", "two"]


def test_without_a_name_all_pages_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_grown(tmp_path, "one", rounds=1, forks=3)
    command.run(ReportOptions(results=str(tmp_path)))
    assert f"Report: {tmp_path}/reports/index.html" in capsys.readouterr().out
    assert '<a href="one/index.html">' in text_of(tmp_path / "reports" / "index.html")


def test_a_page_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places: list[str] = []
    monkeypatch.setattr(webbrowser, "open", places.append)
    write_grown(tmp_path, "one", rounds=1, forks=3)
    command.run(ReportOptions(name="one", open=True, results=str(tmp_path)))
    assert places == [(tmp_path / "reports" / "one" / "index.html").as_uri()]


def test_live_writes_until_the_experiment_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "REFRESH_SECONDS", 0.05)
    write_run(tmp_path, "goes", status="running", test_accuracy=None, heartbeat_at=datetime.now(UTC))
    page = tmp_path / "reports" / "goes" / "index.html"
    following = threading.Thread(
        target=command.run, args=(ReportOptions(name="goes", live=True, results=str(tmp_path)),)
    )
    following.start()
    wait_until(lambda: page.exists() and 'http-equiv="refresh"' in text_of(page))
    write_run(tmp_path, "goes", status="running", test_accuracy=None, heartbeat_at=datetime.now(UTC)).write(
        "rounds", "rounds", [round_row(0), round_row(1)]
    )
    wait_until(lambda: "Round 1: 151 parameters" in text_of(page))
    write_run(tmp_path, "goes")
    following.join(timeout=30)
    assert not following.is_alive()
    assert 'http-equiv="refresh"' not in text_of(page)


def test_live_ends_with_an_experiment_that_went_silent(tmp_path: Path) -> None:
    long_ago = datetime.now(UTC) - timedelta(minutes=6)
    write_run(tmp_path, "gone", status="running", heartbeat_at=long_ago)
    command.run(ReportOptions(name="gone", live=True, results=str(tmp_path)))
    page = text_of(tmp_path / "reports" / "gone" / "index.html")
    assert "It has been silent for 6 min" in page and "--name gone --resume" in page
    assert 'http-equiv="refresh"' not in page
    index = text_of(tmp_path / "reports" / "index.html")
    assert "<td>silent</td>" in " ".join(index.split()).replace("> ", ">").replace(" <", "<")


def test_a_trial_that_writes_keeps_the_others_alive_on_the_page_of_the_folder(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    for trial, age in (("", 400), ("old", 400), ("new", 10)):
        write_run(tmp_path, "goes", trial=trial, status="running", heartbeat_at=now - timedelta(seconds=age))
    write_folder(str(tmp_path))
    assert ">silent<" not in text_of(tmp_path / "reports" / "index.html")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_experiment_whose_only_row_is_damaged_is_one_line(tmp_path: Path) -> None:
    write_run(tmp_path, "broken")
    (part,) = (tmp_path / "tables" / "experiments").rglob("*.parquet")
    part.write_bytes(b"PAR1 nothing PAR1")
    for show in (lambda: write_report(str(tmp_path), "broken"), lambda: look("broken", str(tmp_path), BEGAN)):
        with pytest.raises(UserError, match="its rows in experiments are damaged"):
            show()


def wait_until(holds: object) -> None:
    import time

    ends = time.monotonic() + 30
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_live_needs_a_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="live needs the name"):
        command.run(ReportOptions(live=True, results=str(tmp_path)))


def test_the_forks_of_a_round_are_ranked_by_their_score(tmp_path: Path) -> None:
    from search.commands.grow.story_rounds import _forks

    scores = {2: -1.0, 3: 0.0, 4: None, 5: 2.0}
    forks = [fork_row(1, place, won=False, score=score) for place, score in scores.items()]
    assert [row[5] for row in _forks(forks).rows] == [2.0, 0.0, -1.0, None]


def test_lines_to_copy_quote_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "my results"
    write_grown(folder, "one", rounds=1, forks=3)
    assert f"--results &#39;{folder}&#39;" in report(folder, "one")
