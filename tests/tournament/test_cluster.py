"""Which workers a cluster has room for, and what a worker may take of a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from structnet.errors import UserError
from tournament.workers import cluster
from tournament.workers.cluster import (
    cap_gpu_memory,
    check_device,
    check_room,
    probe,
    start_ray,
    workers_that_fit,
)

ONE, TWO, FOUR = ({"CPU": 8.0, "GPU": float(gpus)} for gpus in (1, 2, 4))
NO_GPU = {"CPU": 4.0, "memory": 1e9}


@pytest.mark.parametrize(
    ("machines", "cpus", "gpus", "room"),
    [
        ([], 1, 0, 0),
        ([NO_GPU], 1, 0, 4),
        ([NO_GPU], 0.5, 0, 8),
        ([NO_GPU], 3, 0, 1),
        ([NO_GPU, NO_GPU], 3, 0, 2),
        ([NO_GPU], 1, 0.5, 0),
        ([ONE], 1, 1, 1),
        ([ONE], 1, 0.5, 2),
        ([ONE], 1, 0.6, 1),
        ([TWO], 1, 0.6, 2),
        ([TWO], 1, 0.34, 4),
        ([TWO], 1, 1 / 3, 6),
        ([TWO], 1, 2, 1),
        ([ONE, ONE], 1, 2, 0),
        ([FOUR], 1, 0.25, 8),
        ([FOUR], 0.25, 0.25, 16),
        ([FOUR], 0.1, 0.1, 40),
        ([FOUR, NO_GPU], 4, 1, 2),
        ([{"memory": 1e9}], 1, 0, 0),
    ],
)
def test_how_many_workers_fit(machines: list[dict[str, float]], cpus: float, gpus: float, room: int) -> None:
    assert workers_that_fit(machines, cpus, gpus) == room


@pytest.mark.parametrize(
    ("device", "gpus", "message"),
    [
        ("cuda", 0.0, "gpus_per_worker is 0"),
        ("cuda:0", 0.0, "workers that ask for one"),
        ("cuda", 1.5, "must be a whole number above 1"),
    ],
)
def test_shares_that_ray_cannot_give_are_refused(device: str, gpus: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_device(device, gpus)


def test_shares_that_ray_can_give_pass() -> None:
    for device, gpus in (("cpu", 0.0), ("cuda", 0.3), ("cuda", 1.0), ("cuda:0", 2.0)):
        check_device(device, gpus)


class Machines:
    """Stands for the machines of a cluster, with or without an autoscaler."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *resources: dict[str, float], grows: bool) -> None:
        nodes = [{"Alive": True, "Resources": each} for each in resources]
        dead = {"Alive": False, "Resources": {"CPU": 100.0, "GPU": 100.0}}
        monkeypatch.setattr("ray.nodes", lambda: [*nodes, dead])
        monkeypatch.setattr(cluster, "_grows", lambda: grows)


def test_what_does_not_fit_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    Machines(monkeypatch, TWO, grows=False)
    assert check_room(2, 1, 0.6) == ""
    with pytest.raises(UserError, match=r"3 workers need 3 GPUs, but the cluster has 2: lower --workers"):
        check_room(3, 1, 1)
    with pytest.raises(UserError, match=r"room for 2: lower --workers") as refused:
        check_room(3, 1, 0.6)
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=r"9 workers need 9 CPUs, but the cluster has 8"):
        check_room(9, 1, 0)


def test_what_an_autoscaler_may_bring_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    Machines(monkeypatch, {"memory": 1e9}, grows=True)
    assert check_room(2, 1, 0.5) == (
        "2 workers need 2 CPUs, but the cluster has 0; waiting for its autoscaler to start machines"
    )


def test_a_worker_takes_no_more_than_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    caps: list[tuple[float, Any]] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *given: caps.append(given))
    for device, gpus in (("cpu", 0.5), ("cuda", 1.0), ("cuda", 2.0), ("cuda", 0.0)):
        cap_gpu_memory(device, gpus)
    assert caps == []
    cap_gpu_memory("cuda", 0.5)
    cap_gpu_memory("cuda:1", 0.25)
    assert caps == [(0.5, None), (0.25, torch.device("cuda:1"))]


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "https://head:8265"])
def test_the_address_of_a_dashboard_is_refused_with_the_command_that_takes_it(address: str) -> None:
    with pytest.raises(UserError, match=f"ray job submit --address {address}"):
        probe(address)


def test_the_address_of_the_environment_counts_like_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    with pytest.raises(UserError, match="address is 'nonsense'"):
        start_ray(1, 1, None)
    with pytest.raises(UserError, match="address is 'given'"):
        start_ray(1, 1, "given")


def test_in_a_job_the_address_is_not_doubted(monkeypatch: pytest.MonkeyPatch) -> None:
    joined: list[str] = []
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", lambda address, **options: joined.append(address))
    monkeypatch.setenv("RAY_ADDRESS", "of-the-job")
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert start_ray(1, 1, None) is True
    assert joined == ["of-the-job"]
    with pytest.raises(UserError, match="address is 'given'"):
        start_ray(1, 1, "given")
