"""`--tracker`: what a tracker has equals the tables, once, whatever is resumed, read again or goes wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from helpers import tracker_cases
from helpers.tracker_cases import NAME, Memory, Told, answer, single, started, write, write_begun, write_ended

from search.trackers import following
from search.trackers.__main__ import Telling
from search.trackers.following import Follower
from search.trackers.registry import TRACKERS, Begun
from structnet.storage.atomic import StoreFailed


def follower(results: Path | str, memory: Memory, **more: Any) -> Follower:
    return Follower(str(results), NAME, "memory", memory, **more)


def test_a_tracker_is_told_every_number_of_every_row_once(tmp_path: Path) -> None:
    memory = Memory()
    one = follower(tmp_path, memory)
    expected = write_begun(tmp_path)
    one.follow()
    assert memory.told == expected
    one.follow()
    assert memory.told == expected
    expected += write_ended(tmp_path)
    one.follow()
    assert memory.told == expected
    assert not one.unread and not one.is_full


def test_a_run_says_how_it_was_made(tmp_path: Path) -> None:
    memory = Memory()
    write_begun(tmp_path)
    follower(tmp_path, memory).follow()
    config = {"epochs": 2, "learning_rate": 0.1, "actions": "patch", "balance": False, "vary": ["a"]}
    made = config | {"command": "grow", "experiment": NAME}
    assert memory.params[NAME] == made | {"trial": "", "network": "", "rng_seed": 3}
    assert memory.params["first/block/a"] == made | {"trial": "block", "network": "a", "rng_seed": 3}
    assert memory.params["first/task"] == made | {
        "trial": "task",
        "network": "",
        "rng_seed": 4,
        "arm": "dear",
    }


@pytest.mark.parametrize("place", ["", "memory:/"], ids=["disk", "store"])
def test_a_resumed_experiment_goes_on_in_its_runs(place: str, tmp_path: Path) -> None:
    results = f"{place}{tmp_path}"
    before, after = Memory(), Memory()
    expected = write_begun(results)
    follower(results, before).follow()
    # As a retry does: the same rows, in a part that is new.
    expected += write_ended(results)
    again = {"trial": "", "round": 1, "steps": 40, "accuracy": 2 / 3, "gain": -1e-7}
    write(results, "rounds", "again", again)
    follower(results, after).follow()
    assert before.told + after.told == expected
    points = sum(call[2] for call in before.calls if call[:2] == ("log", NAME))
    assert ("begin", NAME, Begun(f"id of {NAME}", points)) in after.calls


def test_another_experiment_of_that_name_has_runs_of_its_own(tmp_path: Path) -> None:
    before, after = Memory(), Memory()
    expected = write_begun(tmp_path)
    follower(tmp_path, before).follow()
    later = tracker_cases.BEGAN.replace(year=2027)
    write(tmp_path, "experiments", "run", {"trial": "", "started_at": later})
    follower(tmp_path, after).follow()
    assert after.told == expected
    assert ("begin", NAME, None) in after.calls


def test_runs_end_as_what_they_show_does(tmp_path: Path) -> None:
    memory = Memory()
    one = follower(tmp_path, memory)
    write_begun(tmp_path)
    one.follow()
    assert not [call for call in memory.calls if call[0] == "end"]
    write_ended(tmp_path)
    one.follow()
    ends = [call[1:] for call in memory.calls if call[0] == "end"]
    assert ends == [
        ("first/block/a", "finished"),
        ("first/block/b", "culled"),
        (NAME, "finished"),
        ("first/task", "finished"),
    ]


def test_what_was_interrupted_has_its_last_numbers_when_it_is_done(tmp_path: Path) -> None:
    memory = Memory()
    one = follower(tmp_path, memory)
    expected = write_begun(tmp_path)
    write(tmp_path, "experiments", "run", {"trial": "", "status": "interrupted", "seconds": 4.0})
    one.follow()
    assert memory.told == expected
    write(tmp_path, "experiments", "run", {"trial": "", "status": "running", "seconds": 4.0})
    one.follow()
    expected += write_ended(tmp_path)
    one.follow()
    assert memory.told == expected
    assert memory.calls[-1][1:] == ("first/task", "finished") or memory.calls[-1][2] == "finished"


def test_whose_process_was_killed_ends_as_interrupted(tmp_path: Path) -> None:
    memory = Memory()
    one = follower(tmp_path, memory)
    write_begun(tmp_path)
    one.follow()
    one.close()
    runs = ["first", "first/block/a", "first/block/b", "first/task"]
    assert [call for call in memory.calls if call[0] == "end"] == [
        ("end", run, "interrupted") for run in runs
    ]


def test_a_trial_is_a_run_and_ends_alone(tmp_path: Path) -> None:
    memory = Memory()
    one = follower(tmp_path, memory)
    for seed in (0, 1):
        trial = f"seed-{seed}"
        write(tmp_path, "experiments", trial, {"trial": trial, "rng_seed": seed})
        write(tmp_path, "rounds", trial, {"trial": trial, "round": 0, "steps": 0, "loss": seed})
    one.follow()
    write(tmp_path, "experiments", "seed-1", {"trial": "seed-1", "status": "finished", "accuracy": 0.5})
    one.follow()
    assert memory.told == Counter(
        {
            ("first/seed-0", "rounds/steps", 0, 0.0): 1,
            ("first/seed-0", "rounds/loss", 0, 0.0): 1,
            ("first/seed-1", "rounds/steps", 0, 0.0): 1,
            ("first/seed-1", "rounds/loss", 0, 1.0): 1,
            ("first/seed-1", "experiments/accuracy", 0, 0.5): 1,
        }
    )
    assert [call[1:] for call in memory.calls if call[0] == "end"] == [("first/seed-1", "finished")]
    assert memory.params["first/seed-1"]["rng_seed"] == 1


def test_a_search_has_so_many_runs_and_all_its_networks(tmp_path: Path) -> None:
    memory = Memory()
    one = follower(tmp_path, memory, at_most=3)
    write(tmp_path, "experiments", "run", {"trial": ""})
    keys = [{"trial": "block", "network": f"net-{number}"} for number in range(5)]
    write(tmp_path, "epochs", "block", *[{**key, "epoch": 1, "loss": 1.0} for key in keys])
    write(tmp_path, "networks", "block", *[{**key, "loss": 1.0} for key in keys])
    one.follow()
    assert one.is_full
    assert set(memory.params) == {NAME, "first/block/net-0", "first/block/net-1"}
    assert [key[2] for key in memory.told if key[1] == "networks/loss"] == [1, 2, 3, 4, 5]


def test_names_that_are_no_file_names_are_made_plain(tmp_path: Path) -> None:
    memory = Memory()
    write(tmp_path, "experiments", "run", {"trial": ""})
    write(tmp_path, "epochs", "odd", {"trial": "", "network": "../a/b?c", "epoch": 1, "loss": 1.0})
    follower(tmp_path, memory).follow()
    assert set(memory.params) == {NAME, "first/.._a_b_c"}


def test_only_parts_that_have_changed_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = following.read_part

    def counted(fs: Any, table: str, part: Any) -> Any:
        read.append(f"{table}/{part.name}")
        return real(fs, table, part)

    monkeypatch.setattr(following, "read_part", counted)
    one = follower(tmp_path, Memory())
    write_begun(tmp_path)
    one.follow()
    assert len(read) == 7
    read.clear()
    one.follow()
    assert read == []
    write(tmp_path, "experiments", "run", {"trial": "", "seconds": 2.0})
    one.follow()
    assert read == ["experiments/run"]


def test_what_cannot_be_read_is_told_when_it_can(tmp_path: Path) -> None:
    memory = Memory()
    one = follower(tmp_path, memory)
    expected = write_begun(tmp_path)
    part = tmp_path / f"tables/epochs/experiment={NAME}/a-1.parquet"
    whole = part.read_bytes()
    part.write_bytes(whole[:-9])
    one.follow()
    assert "a-1.parquet" in one.unread and memory.told < expected
    part.write_bytes(whole)
    one.follow()
    assert memory.told == expected and not one.unread


class Failing(Memory):
    """An adapter whose tracker goes away once something was logged."""

    def log(self, run: str, points: Any) -> None:
        if self.told:
            raise ConnectionError("nobody answers\nat all")
        super().log(run, points)


def test_a_tracker_that_fails_is_left_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapters = {"mlflow": Failing(), "trackio": Memory()}
    monkeypatch.setattr("search.trackers.__main__.adapter_of", lambda name, *more: adapters[name])
    said: list[str] = []
    telling = [Telling(name, str(tmp_path), NAME, said.append) for name in adapters]
    expected = write_begun(tmp_path)
    for _ in range(2):
        for one in telling:
            one.look()
    assert said == [
        "Tracker mlflow is left (ConnectionError: nobody answers): the experiment goes on without it"
    ]
    assert adapters["trackio"].told == expected
    # And when it is there again, a resume tells it what it lacks, and nothing twice.
    adapters["mlflow"], before = Memory(), adapters["mlflow"]
    Telling("mlflow", str(tmp_path), NAME, said.append).look()
    assert before.told + adapters["mlflow"].told == expected


def test_notes_that_cannot_be_written_leave_the_tracker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*ignored: Any) -> None:
        raise StoreFailed("no space")

    monkeypatch.setattr("search.trackers.notes.write_whole", full)
    monkeypatch.setattr("search.trackers.__main__.adapter_of", lambda *ignored: Memory())
    said: list[str] = []
    write_begun(tmp_path)
    Telling("mlflow", str(tmp_path), NAME, said.append).look()
    assert said == ["Tracker mlflow is left (StoreFailed: no space): the experiment goes on without it"]


# The libraries


STORES: dict[str, Callable[[Path], Told]] = {
    "tensorboard": tracker_cases.in_tensorboard,
    "mlflow": tracker_cases.in_mlflow,
    "wandb": tracker_cases.in_wandb,
    "trackio": tracker_cases.in_trackio,
}


def test_every_tracker_is_tested() -> None:
    assert STORES.keys() == TRACKERS.keys()


def equal(name: str, results: Path, expected: Told) -> bool:
    """To the bit, but for TensorBoard, which has float32."""
    return STORES[name](results) == (single(expected) if name == "tensorboard" else expected)


def test_what_libraries_have_stored_equals_the_tables(tmp_path: Path) -> None:
    names = [name for name in TRACKERS if name != "mlflow"]
    for name in names:
        pytest.importorskip(TRACKERS[name].library)
    expected = write_begun(tmp_path)
    with ExitStack() as processes:
        follow = [processes.enter_context(started(tmp_path, name)) for name in names]
        assert [said for one in follow for said in answer(one)] == []
        # W&B has a process of its own, which writes when it likes to while a run goes on.
        assert [name for name in names if name != "wandb" and not equal(name, tmp_path, expected)] == []
        expected += write_ended(tmp_path)
        assert [said for one in follow for said in answer(one)] == []
    assert [name for name in names if not equal(name, tmp_path, expected)] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", TRACKERS)
def test_a_library_takes_up_what_was_killed(name: str, tmp_path: Path) -> None:
    pytest.importorskip(TRACKERS[name].library)
    expected = write_begun(tmp_path)
    with started(tmp_path, name) as first:
        assert answer(first) == []
    assert equal(name, tmp_path, expected)
    if name == "mlflow":
        assert {run.info.status for run in tracker_cases.mlflow_runs(tmp_path)} == {"KILLED"}
    expected += write_ended(tmp_path)
    with started(tmp_path, name) as second:
        assert answer(second) == []
    assert first.returncode == second.returncode == 0
    assert equal(name, tmp_path, expected)
    if name == "mlflow":
        runs = {run.info.run_name: run for run in tracker_cases.mlflow_runs(tmp_path)}
        assert runs.keys() == {NAME, "first/block/a", "first/block/b", "first/task"}
        assert runs["first/block/b"].info.status == "KILLED"
        assert runs[NAME].info.status == "FINISHED"
        assert runs[NAME].data.params["learning_rate"] == "0.1"
