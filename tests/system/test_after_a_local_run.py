"""A run on this machine changes nothing for the Ray that comes after it, and docs/WATCHING.md can be followed."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from helpers.process_cases import PATIENCE_SECONDS
from test_cluster_head import free_ports

pytestmark = pytest.mark.slow

BIN, ROOT = Path(sys.executable).parent, Path(__file__).parents[2]
GROW = ("--epochs=2", "--rounds=1", "--candidates=2", "--workers=1", "--policy=score", "--fork-price=0")


class Shell:
    """A shell of a user whose home folder this is, with nothing set that Ray or structnet reads."""

    def __init__(self, folder: Path, ray_folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        self.home.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}
        kept["PATH"] = f"{BIN}{os.pathsep}{kept['PATH']}"
        self.environment = kept | {
            "HOME": str(self.home),
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "200",
            "RAY_TMPDIR": str(ray_folder),
            # Ray's own server may take a while on a busy machine.
            "RAY_agent_register_timeout_ms": "120000",
        }

    def run(self, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment | more,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )

    def grow(self, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-P", "-m", "search.cli", "grow", *GROW, *more, **environment)


@pytest.fixture
def shell(tmp_path: Path, short: Path) -> Shell:
    """One in which nothing was done yet."""
    return Shell(tmp_path, short)


@contextmanager
def head(shell: Shell) -> Iterator[tuple[str, str]]:
    """A head as the page starts it, on ports that are free; its address, and that of its dashboard."""
    page = (ROOT / "docs" / "WATCHING.md").read_text(encoding="utf-8")
    assert re.search(r"^ray start --head$", page, re.MULTILINE)
    port, dashboard, client, agent = free_ports(4)
    options = {
        "port": port,
        "dashboard-port": dashboard,
        "ray-client-server-port": client,
        "dashboard-agent-listen-port": agent,
        "num-cpus": 2,
        "object-store-memory": 100 * 2**20,
    }
    command = ["ray", "start", "--head", "--block", "--disable-usage-stats"]
    command += [f"--{name}={value}" for name, value in options.items()]
    with (shell.folder / "head.log").open("w") as log:
        running = subprocess.Popen(
            command, cwd=shell.folder, env=shell.environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        for _ in range(60):
            asked = shell.run("ray", "health-check", "--address", f"127.0.0.1:{port}", RAY_AUTH_MODE="token")
            asked_without = shell.run("ray", "health-check", "--address", f"127.0.0.1:{port}")
            if 0 in (asked.returncode, asked_without.returncode):
                break
        else:
            raise AssertionError((shell.folder / "head.log").read_text())
        yield f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}"
    finally:
        running.terminate()
        running.wait(60)


def test_a_head_that_is_started_after_a_local_run_lets_everybody_in(shell: Shell) -> None:
    done = shell.grow("--name=local")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (shell.home / ".ray").exists()
    with head(shell) as (address, dashboard):
        done = shell.grow("--name=joined", f"--address={address}")
        assert done.returncode == 0, done.stdout + done.stderr
        listed = shell.run("ray", "list", "actors", "--address", dashboard)
        assert listed.returncode == 0 and "contender-0" in listed.stdout, listed.stdout + listed.stderr


def answer(address: str, token: str = "") -> int:
    """The status of an answer to a request with this token."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=60) as found:
            return int(found.status)
    except urllib.error.HTTPError as refused:
        return refused.code


def test_a_dashboard_is_for_this_machine_asks_for_a_token_and_ends_with_the_run(shell: Shell) -> None:
    page = (ROOT / "docs" / "WATCHING.md").read_text(encoding="utf-8")
    assert re.search(r"^structnet grow --dashboard$", page, re.MULTILINE)
    command = [sys.executable, "-P", "-m", "search.cli", "grow", *GROW, "--epochs=20", "--dashboard"]
    # Its usual port may be taken.
    with socket.socket() as taken, suppress(OSError):
        taken.bind(("127.0.0.1", 8265))
        taken.listen()
        running = subprocess.Popen(
            command, cwd=shell.folder, env=shell.environment, stdout=subprocess.PIPE, text=True
        )
        assert running.stdout is not None
        said = next(found for line in running.stdout if (found := re.match(r"Ray's dashboard: (.*)", line)))[
            1
        ]
        found = re.fullmatch(r"(http://127\.0\.0\.1:(\d+)), which asks for the token (\w{64})", said)
        assert found, said
        address, port, token = found[1], int(found[2]), found[3]
        assert port != 8265
        assert answer(address) == 200
        assert (answer(f"{address}/api/version"), answer(f"{address}/api/version", "0" * 64)) == (401, 403)
        assert answer(f"{address}/api/version", token) == 200
        heard = {place.laddr.ip for place in psutil.net_connections("tcp") if place.laddr.port == port}
        assert heard == {"127.0.0.1"}
        assert running.wait(PATIENCE_SECONDS) == 0
    with pytest.raises(OSError):
        answer(address)
    assert not (shell.home / ".ray").exists()


def test_where_a_token_is_at_home_already_the_page_says_what_to_do(shell: Shell) -> None:
    (shell.home / ".ray").mkdir()
    (shell.home / ".ray" / "auth_token").write_text("of-somebody-else" * 4)
    page = (ROOT / "docs" / "WATCHING.md").read_text(encoding="utf-8")
    assert re.search(r"`~/\.ray/auth_token`.*`export RAY_AUTH_MODE=token`", page, re.DOTALL)
    done = shell.grow("--name=local")
    assert done.returncode == 0, done.stdout + done.stderr
    with head(shell) as (address, dashboard):
        refused = shell.grow("--name=joined", f"--address={address}")
        assert refused.returncode == 2, refused.stdout + refused.stderr
        (line,) = refused.stderr.strip().splitlines()
        assert "set RAY_AUTH_MODE=token, as there is a token in ~/.ray/auth_token" in line
        done = shell.grow("--name=joined", f"--address={address}", RAY_AUTH_MODE="token")
        assert done.returncode == 0, done.stdout + done.stderr
        listed = shell.run("ray", "list", "actors", "--address", dashboard, RAY_AUTH_MODE="token")
        assert listed.returncode == 0 and "contender-0" in listed.stdout, listed.stdout + listed.stderr


def test_a_temporary_folder_with_a_name_of_120_characters_does(shell: Shell) -> None:
    long = shell.folder / ("x" * 120)
    del shell.environment["RAY_TMPDIR"]
    done = shell.grow("--name=local", TMPDIR=str(long))
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((long / "ray").glob("session_*/logs"))
    assert not [way for way in Path("/tmp").glob("ray-*/ray") if way.resolve() == long / "ray"]


def test_a_temporary_folder_that_is_none_is_named_at_once(shell: Shell) -> None:
    file = Path(shell.environment["RAY_TMPDIR"]) / "file"
    file.write_text("")
    refused = shell.grow("--name=local", RAY_TMPDIR=str(file))
    assert refused.returncode == 2
    (line,) = refused.stderr.strip().splitlines()
    assert "set RAY_TMPDIR to a folder that can be written to" in line and "less busy" not in line
