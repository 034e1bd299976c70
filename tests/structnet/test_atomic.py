"""A file of results appears whole or not at all, and what cannot be written for a moment is tried again."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from search.cli import main
from search.options import CommonOptions
from search.session.console import Console
from search.session.experiment import Experiment
from search.session.run import recorded
from structnet.storage import atomic
from structnet.storage.atomic import StoreFailed, write_whole

LOCAL = LocalFileSystem()


class Away(MemoryFileSystem):
    """An object store that answers from the n-th try on, with an error of its own kind until then."""

    store: dict[str, Any] = {}  # noqa: RUF012 - fsspec's own name and kind
    cachable = False

    def __init__(self, failing: int) -> None:
        super().__init__()
        self.failing, self.tries = failing, 0

    def pipe_file(self, path: str, value: bytes, **options: Any) -> None:
        self.tries += 1
        if self.tries <= self.failing:
            raise LookupError("no such bucket, says the store\nand more")
        super().pipe_file(path, value, **options)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[float, ...]]:
    pauses = (0.01, 0.02)
    monkeypatch.setattr(atomic, "PAUSES", pauses)
    yield pauses


def test_files_appear_with_their_folder_and_replace_older_ones(tmp_path: Path) -> None:
    files = {str(tmp_path / "new/a"): b"1", str(tmp_path / "new/b"): b"2"}
    write_whole(LOCAL, files)
    write_whole(LOCAL, {str(tmp_path / "new/a"): b"3"})
    assert {file.name: file.read_bytes() for file in (tmp_path / "new").iterdir()} == {"a": b"3", "b": b"2"}


def test_a_folder_that_comes_back_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "PAUSES", (0.05,) * 100)
    away = tmp_path / "results"
    away.write_text("no folder")
    thread = threading.Timer(0.3, away.unlink)
    thread.start()
    started = time.monotonic()
    write_whole(LOCAL, {str(away / "part"): b"1"})
    assert (away / "part").read_bytes() == b"1"
    assert time.monotonic() - started >= 0.25
    thread.join()


def test_a_folder_that_stays_away_is_one_line(tmp_path: Path, impatient: tuple[float, ...]) -> None:
    (tmp_path / "results").write_text("no folder")
    with pytest.raises(
        StoreFailed, match=r"results/part cannot be written \(.*\), in 3 tries .*: free space"
    ):
        write_whole(LOCAL, {str(tmp_path / "results" / "part"): b"1"})
    assert [file.name for file in tmp_path.iterdir()] == ["results"]


def test_an_object_store_may_fail_as_it_likes(impatient: tuple[float, ...]) -> None:
    store = Away(failing=len(impatient))
    write_whole(store, {"/bucket/part": b"1"})
    assert store.cat_file("/bucket/part") == b"1" and store.tries == 3
    with pytest.raises(
        StoreFailed, match=r"^/bucket/part cannot be written \(no such bucket, says the store\)"
    ):
        write_whole(Away(failing=3), {"/bucket/part": b"2"})
    assert store.cat_file("/bucket/part") == b"1"


def test_interruptions_are_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(LOCAL, {str(tmp_path / "part"): b"1"})
    assert not list(tmp_path.iterdir())


def test_what_a_killed_writer_left_goes_with_the_end_of_its_experiment(tmp_path: Path) -> None:
    """A process is killed while it writes a part, and another while it writes a snapshot."""
    experiment = Experiment("grow", CommonOptions(results=str(tmp_path), name="run"), {})
    code = (
        "import os, signal, sys; from fsspec.implementations.local import LocalFileSystem as Local;"
        "from structnet.storage import atomic; atomic.os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL);"
        "atomic.write_whole(Local(), {sys.argv[1]: b'1'})"
    )
    places = [f"tables/epochs/experiment={name}/part.parquet" for name in ("run", "other")]
    with recorded(experiment, Console()):
        for place in (*places, "snapshots/run/trial/round-0001.json"):
            subprocess.run([sys.executable, "-c", code, str(tmp_path / place)], check=False)
        mine = tmp_path / "snapshots" / "run" / ".notes.tmp"
        mine.write_text("of the user")
        assert len(list(tmp_path.rglob(".*.tmp"))) == 4
    left = [path.parent.name for path in tmp_path.rglob(".*.tmp")]
    assert sorted(left) == ["experiment=other", "run"] and mine.exists()


def test_a_run_that_cannot_write_ends_with_one_line_and_code_1(
    tmp_path: Path, impatient: tuple[float, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    options = CommonOptions(results=str(tmp_path), name="run")
    experiment = Experiment("grow", options, {})
    console = Console(width=400)
    with pytest.raises(SystemExit) as ended, recorded(experiment, console):
        table = tmp_path / "tables" / "rounds"
        table.write_text("no folder")
        experiment.writer.write("rounds", "round-0000", [])
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert "cannot be written" in said and "go on with --resume" in said and "Traceback" not in said
    assert experiment.rows[""]["status"] == "failed"


def test_it_ends_so_where_not_even_the_end_can_be_written(
    tmp_path: Path, impatient: tuple[float, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = Experiment("grow", CommonOptions(results=str(tmp_path), name="run"), {})
    with pytest.raises(SystemExit) as ended, recorded(experiment, Console(width=400)):
        (tmp_path / "tables").rename(tmp_path / "gone")
        (tmp_path / "tables").write_text("no folder")
        experiment.writer.write("rounds", "round-0000", [])
    assert ended.value.code == 1
    assert "cannot be written" in capsys.readouterr().out


def test_outside_of_an_experiment_too(
    tmp_path: Path,
    impatient: tuple[float, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first row of an experiment is written before anything else."""
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "experiments").write_text("no folder")
    line = ["structnet", "validate", "--results", str(tmp_path), "--name", "run"]
    monkeypatch.setattr("sys.argv", line)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("structnet: ")
