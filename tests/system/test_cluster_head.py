"""A cluster as cluster.yaml makes one: a head that runs no work, machines that start when asked for, and a token.

The machines are pretended on this one by Ray's own fake provider; the head, the token, the autoscaler, the jobs
and everything they run are real.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import yaml

from structnet.storage.tables import read_table

pytestmark = pytest.mark.slow

BIN, ROOT = Path(sys.executable).parent, Path(__file__).parents[2]
TOKEN = "throwaway-token-of-this-test"
GROW = [
    "structnet",
    "grow",
    *["--dataset", "digits", "--epochs", "4", "--rounds", "1", "--candidates", "2", "--workers", "1"],
]
# What Ray's fake machines are told apart by; the head has the number 0.
HEAD_ID = "f" * 51 + "00000"
PATIENCE_SECONDS = 300.0


@dataclass
class Head:
    """A head that runs: host:port for --address, the URL of its dashboard, and the environment of its clients.

    process and said: of the head, and what it has printed.
    """

    address: str
    dashboard: str
    environment: dict[str, str]
    process: subprocess.Popen[bytes]
    said: Path

    def run(self, *command: str, cwd: Path, token: bool = True) -> subprocess.CompletedProcess[str]:
        """The command with the token of the cluster in its environment, or as if there were none."""
        environment = dict(self.environment)
        if not token:
            del environment["RAY_AUTH_TOKEN"], environment["RAY_AUTH_MODE"]
        started = time.monotonic()
        done = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
        print(f"{time.monotonic() - started:.0f} s: {' '.join(command[:3])} ... -> {done.returncode}")
        assert self.process.poll() is None, self.said.read_text()
        return done

    def submit(self, *entrypoint: str, cwd: Path, token: bool = True) -> subprocess.CompletedProcess[str]:
        """`ray job submit` with a folder of one small file."""
        (cwd / "work").mkdir(exist_ok=True)
        (cwd / "work" / "note.txt").write_text("a job takes its folder along\n")
        where = ["--address", self.dashboard, "--working-dir", "work"]
        return self.run("ray", "job", "submit", *where, "--", *entrypoint, cwd=cwd, token=token)


def free_ports(count: int) -> list[int]:
    """Ports that Ray takes for nothing else: its workers have those below 20,000, others come from 32,768 on."""
    shuffled = random.sample(range(20_000, 32_000), 12_000)
    return list(islice((port for port in shuffled if not listens(port)), count))


def autoscaling(port: int) -> dict[str, Any]:
    """A cluster file with a head for no work and machines of 2 CPUs that are processes of this one."""
    provider = {
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
        "launch_multiple": True,
        "head_node_id": HEAD_ID,
        "gcs_address": f"127.0.0.1:{port}",
    }
    head = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    worker = {
        "resources": {"CPU": 2, "object_store_memory": 100 * 2**20},
        "node_config": {},
        "min_workers": 0,
        "max_workers": 1,
    }
    lists = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    return {f"{name}_commands": [] for name in lists} | {
        "cluster_name": "pretended",
        "max_workers": 1,
        "provider": provider,
        "available_node_types": {"ray.head.default": head, "worker": worker},
        "head_node_type": "ray.head.default",
        "idle_timeout_minutes": 5,
        "upscaling_speed": 1.0,
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
    }


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # a short path: Ray has sockets below it
    port, dashboard, client, agent = free_ports(4)
    (folder / "cluster.yaml").write_text(yaml.safe_dump(autoscaling(port)))
    (folder / "home").mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
        "HOME": str(folder / "home"),  # without a token of whoever runs the tests
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_TMPDIR": str(folder),
    }
    fake = {
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        # A machine that is only slow, because this one has other work, is not taken for dead and replaced.
        "RAY_health_check_timeout_ms": "120000",
        "RAY_health_check_failure_threshold": "20",
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
    }
    options = {
        "port": port,
        "ray-client-server-port": client,
        "dashboard-port": dashboard,
        "dashboard-agent-listen-port": agent,
        "dashboard-host": "127.0.0.1",
        "include-dashboard": "true",
        "num-cpus": 0,
        "object-store-memory": 100 * 2**20,
        "temp-dir": folder / "ray",
        "autoscaling-config": folder / "cluster.yaml",
    }
    command = ["ray", "start", "--head", "--block", "--disable-usage-stats"]
    command += [f"--{name}={value}" for name, value in options.items()]
    try:
        said = folder / "head.log"
        process = started(command, environment | fake, said, dashboard)
        try:
            where = f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}"
            yield Head(*where, environment, process, said)
        finally:
            end(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def started(
    command: list[str], environment: dict[str, str], said: Path, dashboard: int
) -> subprocess.Popen[bytes]:
    """The head in a session of its own, once it and its dashboard run.

    Ray gives up on a head that takes half a minute, which on a busy machine is short.
    """
    for _ in range(3):
        began = time.monotonic()
        with said.open("w") as log:
            process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        while process.poll() is None and time.monotonic() - began < PATIENCE_SECONDS:
            if "Ray runtime started" in said.read_text() and listens(dashboard):
                print(f"{time.monotonic() - began:.0f} s: ray start --head")
                return process
            time.sleep(0.2)
        end(process)
    raise AssertionError(said.read_text())


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a session of processes by the id of its first: politely, and what is left after 15 seconds at once."""
    process.terminate()
    give_up = time.monotonic() + 15
    while session(process.pid) and time.monotonic() < give_up:
        process.poll()  # or what has ended would stay in the list
        time.sleep(0.2)
    if session(process.pid):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def session(leader: int) -> list[str]:
    """The processes of a session that live."""
    listed = subprocess.run(
        ["ps", "-e", "-o", "sid=,stat=,args="], capture_output=True, text=True, check=True
    )
    lines = [line.split(None, 2) for line in listed.stdout.splitlines()]
    return [line[-1] for line in lines if line[0] == str(leader) and not line[1].startswith("Z")]


def rows(results: Path, table: str) -> list[dict[str, Any]]:
    return read_table(str(results), table, "job").to_pylist()


def test_a_job_starts_the_machines_it_needs_and_again_with_resume_it_doubles_nothing(
    head: Head, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    line = [*GROW, "--results", str(results), "--name", "job"]
    done = head.submit(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 workers need 1 CPUs, but the cluster has 0; waiting for its autoscaler" in done.stdout
    assert [row["status"] for row in rows(results, "experiments")] == ["finished"]
    before = {table: rows(results, table) for table in ("experiments", "rounds", "candidates")}
    assert [row["round"] for row in before["rounds"]] == list(range(len(before["rounds"])))
    assert before["rounds"][-1]["decision"] == "final" and len(before["rounds"]) > 1

    again = head.submit(*line, "--resume", cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "finished already" in again.stdout
    assert {table: rows(results, table) for table in before} == before


def test_a_search_by_ray_tune_waits_for_machines_too(head: Head, tmp_path: Path) -> None:
    results = tmp_path / "results"
    grid = ["--architectures=input-classes", "--densities=0.1,0.2", "--rng-seeds=2", "--epochs=2"]
    done = head.submit(
        *["structnet", "hunt", *grid, "--workers=1", f"--results={results}", "--name=job"], cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row["status"] for row in rows(results, "networks")] == ["finished"] * 4


def test_a_shell_with_the_token_grows_on_the_cluster(head: Head, tmp_path: Path) -> None:
    line = [*GROW, "--results", "results", "--name", "job", "--address", head.address]
    done = head.run(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row["status"] for row in rows(tmp_path / "results", "experiments")] == ["finished"]


def test_without_the_token_no_job_is_taken(head: Head, tmp_path: Path) -> None:
    done = head.submit(
        *GROW, "--results", str(tmp_path / "results"), "--name", "job", cwd=tmp_path, token=False
    )
    assert done.returncode != 0
    assert "missing authentication token" in (done.stdout + done.stderr).lower()
    assert not (tmp_path / "results").exists()


def test_without_the_token_a_shell_is_told_in_one_line(head: Head, tmp_path: Path) -> None:
    line = [*GROW, "--results", "results", "--name", "job", "--address", head.address]
    done = head.run(*line, cwd=tmp_path, token=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "RAY_AUTH_TOKEN" in done.stderr
    assert not list((tmp_path / "results").rglob("*.parquet"))
