"""A pool whose machines go one after the other, in a process of its own, as a Ray of this one may be at work."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import ray
from helpers.fault_cases import below
from ray.cluster_utils import Cluster

from structnet.data.datasets import load_dataset
from structnet.errors import WorkFailed
from tournament.workers.contender import Contender
from tournament.workers.fork import Arrays
from tournament.workers.pool import Job, RayPool, StateHandle, WorkersLost

pytestmark = [pytest.mark.slow, pytest.mark.faults]

PATIENCE_SECONDS = 400
SMALL = {"object_store_memory": 100 * 2**20}


def test_machines_are_lost_one_after_the_other() -> None:
    root = Path(__file__).parents[2]
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        done = subprocess.run(
            [sys.executable, __file__],
            env={**os.environ, "PYTHONPATH": f"{root}:{root / 'tests'}", "RAY_TMPDIR": folder},
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lost: all of it" in done.stdout


@dataclass(frozen=True)
class Make:
    """Makes a state of 800 kB, which stays on the machine where it is made; tells in which process."""

    value: float
    name: ClassVar[str] = "make"
    makes: ClassVar[int] = 1

    def run(self, contender: Contender, states: Sequence[Arrays]) -> tuple[int, list[Arrays]]:
        return os.getpid(), [{"values": np.full(100_000, self.value)}]


@dataclass(frozen=True)
class AddUp:
    name: ClassVar[str] = "add_up"
    makes: ClassVar[int] = 0

    def run(self, contender: Contender, states: Sequence[Arrays]) -> tuple[float, list[Arrays]]:
        return float(states[0]["values"].sum()), []


def lose_everything() -> None:
    """Two machines with a worker each: with one of them go its states, with the other one all work."""
    cluster = Cluster()
    try:
        cluster.add_node(num_cpus=0, include_dashboard=False, **SMALL)
        nodes = [cluster.add_node(num_cpus=1, **SMALL) for _ in range(2)]
        ray.init(address=cluster.address, log_to_driver=False, logging_level=40)
        pool = RayPool(load_dataset("digits"), 2)
        pool.process_ids()  # both are there
        make = [Job(Make(value)) for value in (1.0, 2.0, 3.0, 4.0)]
        states = on_both(pool, make, nodes)

        cluster.remove_node(nodes[1], allow_graceful=False)
        use = [Job(AddUp(), (state,)) for state in states]
        with pytest.raises(WorkersLost, match="a machine is gone"):
            pool.run(use)
        made = pool.run(make)
        sums = pool.run([Job(AddUp(), (outcome.states[0],)) for outcome in made])
        assert [outcome.report for outcome in sums] == [1e5, 2e5, 3e5, 4e5]

        cluster.remove_node(nodes[0], allow_graceful=False)
        with pytest.raises(WorkFailed, match="all workers are lost"):
            pool.run(make)
        print("lost: all of it")
    finally:
        ray.shutdown()
        cluster.shutdown()


def on_both(pool: RayPool, make: list[Job[int]], nodes: list[ray._private.node.Node]) -> list[StateHandle]:
    """States that lie on either machine."""
    outcomes = pool.run(make)
    for node in nodes:
        here = below(node.all_processes["raylet"][0].process.pid)
        assert any(outcome.report in here for outcome in outcomes), "nothing was made here"
    return [outcome.states[0] for outcome in outcomes]


if __name__ == "__main__":
    lose_everything()
