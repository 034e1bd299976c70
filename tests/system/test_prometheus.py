"""A real Prometheus, with the configuration of docs/WATCHING.md, finds a real Ray and all that the dashboard shows."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers.process_cases import process, wait_until
from test_cluster_head import end, free_ports, started
from test_dashboard import DASHBOARD, EXPRESSIONS, names_in

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("prometheus") is None,
        reason="there is no `prometheus` on the PATH; Debian has it: apt-get install prometheus",
    ),
]

BIN, ROOT = Path(sys.executable).parent, Path(__file__).parents[2]
DISCOVERY = "prom_metrics_service_discovery.json"
# Of a machine without a GPU there is nothing to say about GPUs.
NOT_HERE = set() if torch.cuda.is_available() else {"ray_node_gpus_utilization"}
PATIENCE_SECONDS = 300.0
# A rate takes two samples between which something happened, so both go on for a while.
# Of a process that lives for less than the ten seconds between two reports nothing would be seen.
EVERY_SECOND = {"RAY_metrics_report_interval_ms": "1000"}
GROW = ["grow", "--epochs=40", "--rounds=8", "--candidates=4", "--repeats=4", "--workers=1", "--name=grown"]
HUNT = [
    "hunt",
    *["--architectures=input-16-classes", "--densities=0.05,0.1,0.15,0.2,0.25,0.3", "--rng-seeds=4"],
    *["--epochs=120", "--batch-size=8", "--workers=1", "--name=hunted"],
]
# No fork of a sound network fails, so one is said to have.
FAILED_FORK = """
import sys, time, ray
from tournament.workers.metrics import CANDIDATES_FAILED, publish
ray.init(address=sys.argv[1], log_to_driver=False, logging_level=40)
publish(CANDIDATES_FAILED, 1, experiment="grown", action="patch")
time.sleep(3600)
"""


class Prometheus:
    """The HTTP interface of one that runs on this machine."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str, **parameters: Any) -> Any:
        """What it answers; an expression that it refuses is an AssertionError with its reason."""
        query = urllib.parse.urlencode(parameters, doseq=True)
        try:
            with self._opener.open(f"{self.url}/api/v1/{path}?{query}", timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def ready(self) -> bool:
        try:
            self._opener.open(f"{self.url}/-/ready", timeout=5).close()
        except OSError:
            return False
        return True

    def has_shown(self, expression: str, since: float) -> bool:
        """Whether a panel of this expression has a line: a number at some second since then."""
        found = self.get("query_range", query=expression, start=since, end=time.time(), step=1)
        return any(math.isfinite(float(value)) for series in found["result"] for _, value in series["values"])

    def targets(self) -> set[str]:
        return {target["labels"]["instance"] for target in self.get("targets")["activeTargets"]}


@contextmanager
def watching(folder: Path, discovery: Path, **changed: str) -> Iterator[Prometheus]:
    """Prometheus with the configuration of the page, for another file than the page's. changed: of `global`."""
    page = (ROOT / "docs" / "WATCHING.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```yaml\n(# prometheus\.yml\n.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert block.count(f"/tmp/ray/{DISCOVERY}") == 1
    config = yaml.safe_load(block.replace(f"/tmp/ray/{DISCOVERY}", str(discovery)))
    config["global"] |= changed
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder}/data",
    ]
    with (folder / "prometheus.log").open("w") as log:
        server = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        prometheus = Prometheus(port)
        wait_until(lambda: prometheus.ready() or server.poll() is not None, "Prometheus is ready")
        assert server.poll() is None, (folder / "prometheus.log").read_text()
        yield prometheus
    finally:
        server.terminate()
        server.wait(30)


def test_a_machine_that_joins_is_found(tmp_path: Path) -> None:
    """Ray puts a link beside the folder of its session, and changes the file there: that Prometheus cannot watch."""
    session, link = tmp_path / "session", tmp_path / "linked" / DISCOVERY
    session.mkdir()
    link.parent.mkdir()
    link.symlink_to(session / DISCOVERY)
    nodes = ["127.0.0.1:9"]  # nothing listens there, which is no matter

    def write() -> None:
        new = session / "new.json"
        new.write_text(json.dumps([{"labels": {"job": "ray"}, "targets": nodes}]))
        new.replace(session / DISCOVERY)

    write()
    with watching(tmp_path, link) as prometheus:
        wait_until(lambda: prometheus.targets() == {"127.0.0.1:9"}, "the first is found")
        nodes.append("127.0.0.1:7")
        write()
        began = time.monotonic()
        wait_until(lambda: prometheus.targets() == {"127.0.0.1:9", "127.0.0.1:7"}, "the second is found")
        assert time.monotonic() - began < 60


@pytest.fixture
def head(short: Path) -> Iterator[tuple[str, int]]:
    """The address of a Ray that exports every second, and the id of the session of its processes."""
    port, dashboard, client, agent = free_ports(4)
    options = {
        "port": port,
        "ray-client-server-port": client,
        "dashboard-port": dashboard,
        "dashboard-agent-listen-port": agent,
        "num-cpus": 2,
        "object-store-memory": 100 * 2**20,
        "temp-dir": short,
    }
    command = [str(BIN / "ray"), "start", "--head", "--block", "--disable-usage-stats"]
    command += [f"--{name}={value}" for name, value in options.items()]
    environment = os.environ | {"PYTHONPATH": str(ROOT), **EVERY_SECOND}
    leader = started(command, environment, short / "head.log", dashboard)
    try:
        yield f"127.0.0.1:{port}", leader.pid
    finally:
        end(leader)


def trials(session: int) -> list[int]:
    """The processes in this session that train blocks of a hunt."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,sid=,args="], capture_output=True, text=True, check=True)
    lines = [line.split(None, 2) for line in listed.stdout.splitlines()]
    return [
        int(pid) for pid, sid, title in lines if int(sid) == session and title.startswith("ray::hunt.train")
    ]


def begun(folder: Path) -> bool:
    """Whether a network of the hunt has trained an epoch."""
    return any((folder / "results/tables/epochs/experiment=hunted").glob("[!.]*.parquet"))


def test_every_panel_shows_what_it_asks_for(head: tuple[str, int], short: Path, tmp_path: Path) -> None:
    address, session = head
    began = time.time()
    running: list[subprocess.Popen[str]] = []
    with watching(tmp_path, short / DISCOVERY, scrape_interval="1s") as prometheus:
        try:
            hunt = process(*HUNT, "--address", address, cwd=tmp_path, **EVERY_SECOND)
            running.append(hunt)
            found = wait_until(
                lambda: (begun(tmp_path) and trials(session)) or hunt.poll() is not None, "a block is trained"
            )
            assert hunt.poll() is None, "".join(hunt.communicate())
            os.kill(found[0], signal.SIGKILL)  # Tune tries its trial again, and one has failed
            running.append(process(*GROW, "--address", address, cwd=tmp_path, **EVERY_SECOND))
            running.append(
                subprocess.Popen([sys.executable, "-c", FAILED_FORK, address], cwd=ROOT, text=True)
            )
            for command in running[:2]:
                out, err = command.communicate(timeout=PATIENCE_SECONDS)
                assert command.returncode == 0, out + err
            check_panels(prometheus, began)
        finally:
            for command in running:
                command.kill()
                command.wait()


def check_panels(prometheus: Prometheus, since: float) -> None:
    """Every expression has shown something since then, for the choice of all experiments, and they can be chosen."""
    waiting = {text.replace("$experiment", ".*") for text in EXPRESSIONS}
    give_up = time.monotonic() + 60
    while waiting and time.monotonic() < give_up:
        waiting = {text for text in waiting if not prometheus.has_shown(text, since)}
    missing = {name for text in waiting for name in names_in(text)}
    assert missing == NOT_HERE, f"nothing to show of {sorted(missing)}"

    (choice,) = [entry for entry in DASHBOARD["templating"]["list"] if entry["name"] == "experiment"]
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", choice["query"]["query"])
    assert found, choice
    assert choice["allValue"] == ".*"
    names = prometheus.get(f"label/{found[2]}/values", **{"match[]": found[1]})
    assert set(names) == {"grown", "hunted"}
