"""What the fault suite shares: two small commands, when they are in the middle, and what must come out of them."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from helpers.process_cases import PATIENCE_SECONDS, process, wait_until

from structnet.storage.tables import KEYS, list_parts, read_table

STARTS = 3
MEASURED_ON_THE_WAY = ("seconds", "worker", "started_at", "heartbeat_at", "finished_at", "config", "versions")


@dataclass(frozen=True)
class Command:
    """A command of some twenty seconds, without Ray's start.

    counts: the table whose parts tell how far it is, and how many there are in the end. tables: what it writes, and
    how many rows there are at least; `experiments` besides.
    """

    name: str
    line: tuple[str, ...]
    counts: str
    parts: int
    tables: dict[str, int]

    def written(self, folder: Path) -> int:
        """Parts of it that are there."""
        return len(self.parts_of(folder, self.counts))

    def parts_of(self, folder: Path, table: str) -> list[Path]:
        """The parts of a table, the one written last at the end."""
        found = (folder / "results" / "tables" / table / "experiment=first").glob("[!.]*.parquet")
        return sorted(found, key=lambda path: path.stat().st_mtime_ns)

    def newest_that_is_done(self, folder: Path, table: str) -> Path:
        """The last part that nothing but a look at it would write again: of a block that is trained, for hunt."""
        done = [path.stem for path in self.parts_of(folder, self.counts)]
        return [path for path in self.parts_of(folder, table) if path.stem.startswith(tuple(done))][-1]

    def has_begun(self, folder: Path, since: int) -> bool:
        """Whether it has written its row in `experiments` after a time in nanoseconds."""
        row = folder / "results" / "tables" / "experiments" / "experiment=first" / "run.parquet"
        return row.exists() and row.stat().st_mtime_ns > since

    def in_the_middle(self, folder: Path) -> bool:
        return self.parts / 4 <= self.written(folder) <= 3 / 4 * self.parts


GROW = Command(
    "grow",
    (
        "grow",
        "--epochs=30",
        "--policy=score",
        "--fork-price=0",
        "--rounds=8",
        "--candidates=8",
        "--name=first",
    ),
    counts="rounds",
    parts=8,
    tables={"rounds": 8, "candidates": 60},
)
# The same with a long end: until a command has noticed that its cluster is gone, it must not have ended.
SLOW = replace(GROW, line=("grow", "--epochs=400", *GROW.line[2:]))
# States of more than the 100 kB that Ray sends along with an answer: they lie on the node where they were made.
WIDE = replace(
    GROW,
    line=(
        "grow",
        "--architecture=64,1000,10",
        "--density=0.3",
        "--policy=score",
        "--fork-price=0",
        "--epochs=12",
        "--rounds=6",
        "--candidates=6",
        "--actions=patch,widen,prune",
        "--opening-credits=30000",
        "--name=first",
    ),
    tables={"rounds": 8, "candidates": 30},
)
BLOCKS, NETWORKS, EPOCHS = 12, 48, 30
HUNT = Command(
    "hunt",
    (
        "hunt",
        "--architectures=input-classes input-16-classes",
        "--densities=0.05,0.1,0.15,0.2,0.3,0.4",
        "--rng-seeds=4",
        f"--epochs={EPOCHS}",
        "--batch-size=8",
        "--name=first",
    ),
    counts="networks",
    parts=BLOCKS,
    tables={"networks": NETWORKS, "epochs": NETWORKS * EPOCHS},
)


def start(
    command: Command, folder: Path, ray_folder: Path, *more: str, **environment: str
) -> subprocess.Popen[str]:
    """The command in a process of its own once it has begun, with a Ray of its own unless there is an --address."""
    settings = {"RAY_TMPDIR": str(ray_folder), "RAY_AUTH_MODE": "disabled", **environment}
    for _ in range(STARTS):
        before = time.time_ns()
        started = process(*command.line, *more, cwd=folder, **settings)
        wait_until(lambda: started.poll() is not None or command.has_begun(folder, before), "it has begun")  # noqa: B023
        if started.poll() is None or command.has_begun(folder, before):
            return started
        said = "".join(started.communicate())
        assert "Ray did not start" in said, said  # which it does not within half a minute on a busy machine
    raise AssertionError(said)


def finish(started: subprocess.Popen[str]) -> str:
    """What a command that ends well has printed."""
    out, err = started.communicate(timeout=PATIENCE_SECONDS)
    assert started.returncode == 0, out + err
    assert "Traceback" not in out + err, out + err
    return out


def below(root: int) -> dict[int, str]:
    """Command lines of the processes that descend from this one."""
    listed = subprocess.run(
        ["ps", "-e", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    )
    lines = {int(line.split(None, 2)[0]): line.split(None, 2)[1:] for line in listed.stdout.splitlines()}
    family = {root}
    while more := {pid for pid, (parent, *_) in lines.items() if int(parent) in family} - family:
        family |= more
    return {pid: " ".join(lines[pid][1:]) for pid in family - {root}}


def workers(root: int) -> list[int]:
    """Those of them that Ray has given work."""
    idle = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")
    found = below(root).items()
    return [pid for pid, title in found if title.startswith("ray::") and not title.startswith(idle)]


def still_there(family: dict[int, str]) -> list[int]:
    """Those of these processes that live. A worker changes its title, so what others are is told by the first word."""
    alive = []
    for pid, title in family.items():
        try:
            now = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if now and (now.startswith("ray::") if title.startswith("ray::") else title.startswith(now)):
            alive.append(pid)
    return alive


def end_all(family: dict[int, str]) -> None:
    """What a killed driver leaves behind ends by itself, or is ended here."""
    give_up = time.monotonic() + 20
    while still_there(family) and time.monotonic() < give_up:
        time.sleep(0.2)
    for pid in still_there(family):
        os.kill(pid, signal.SIGKILL)


def outcome(command: Command, folder: Path) -> dict[str, Any]:
    """What is the same in every run that ends: all rows but their times, and the networks that were saved."""
    results = folder / "results"
    found: dict[str, Any] = {table: rows_of(results, table) for table in ("experiments", *command.tables)}
    for table, least in command.tables.items():
        assert len(found[table]) >= least, (table, len(found[table]))
    saved = sorted((results / "snapshots" / "first").iterdir())
    found["snapshots"] = [path.name for path in saved]
    found["networks saved"] = {path.name: digest(path) for path in saved if path.suffix == ".safetensors"}
    return found


def rows_of(results: Path, table: str) -> list[dict[str, Any]]:
    """The rows of a table, of which none may be there twice, in whatever part."""
    raw = [pq.ParquetFile(part.path).read().to_pylist() for part in list_parts(str(results), table, "first")]
    keys = [tuple(row[name] for name in KEYS[table]) for part in raw for row in part]
    assert len(keys) == len(set(keys)), f"rows of {table} are doubled"
    rows = read_table(str(results), table, "first").to_pylist()
    return [{name: value for name, value in row.items() if name not in MEASURED_ON_THE_WAY} for row in rows]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """Other bytes in the middle of what has a checksum: a part's pages, as Parquet has none of its footer."""
    data = path.read_bytes()
    end = len(data)
    if data.endswith(b"PAR1"):
        end -= 8 + int.from_bytes(data[-8:-4], "little")
    middle = end // 2
    path.write_bytes(
        data[:middle] + bytes(255 - byte for byte in data[middle : middle + 16]) + data[middle + 16 :]
    )
