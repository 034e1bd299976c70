"""Which workers a cluster has room for, and what a worker may take of a GPU."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from structnet.errors import UserError
from tournament.workers import cluster
from tournament.workers.cluster import (
    cap_gpu_memory,
    check_device,
    check_room,
    dashboard_of_ray,
    probe,
    start_ray,
    stop_ray,
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

    def join(address: str, **_: object) -> SimpleNamespace:
        joined.append(address)
        return SimpleNamespace(dashboard_url="head:8265")

    monkeypatch.setattr("ray.init", join)
    monkeypatch.setenv("RAY_ADDRESS", "of-the-job")
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert start_ray(1, 1, None) is True
    assert joined == ["of-the-job"]
    assert dashboard_of_ray() == "http://head:8265"
    with pytest.raises(UserError, match="address is 'given'"):
        start_ray(1, 1, "given")


# A Ray of one's own


class Started:
    """Stands for Ray's start: how it was called, with which token, and what its folder was then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: Exception | None = None) -> None:
        self.fails, self.options, self.token, self.folder = fails, {}, None, None
        monkeypatch.setattr("ray.is_initialized", lambda: False)
        monkeypatch.setattr("ray.init", self._init)
        monkeypatch.setattr("ray.shutdown", lambda: None)
        for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_TMPDIR"):
            monkeypatch.delenv(name, raising=False)

    def _init(self, **options: Any) -> SimpleNamespace:
        self.options, self.token = options, os.environ.get("RAY_AUTH_TOKEN")
        self.folder = options["_temp_dir"] and Path(options["_temp_dir"]).resolve()
        os.environ["RAY_AUTH_MODE"] = "token"  # as Ray does
        if self.fails:
            raise self.fails
        return SimpleNamespace(dashboard_url="127.0.0.1:8265" if options["include_dashboard"] else "")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without anything."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_local_ray_has_a_token_that_goes_with_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = Started(monkeypatch)
    assert start_ray(1, 1, None) is True
    first = started.token
    assert first and len(first) == 64
    stop_ray()
    assert not {"RAY_AUTH_TOKEN", "RAY_AUTH_MODE"} & set(os.environ)
    start_ray(1, 1, None)
    assert started.token == first, "Ray reads a token once in a process"
    stop_ray()
    started.fails = OSError("no")
    with pytest.raises(UserError):
        start_ray(1, 1, None)
    assert not {"RAY_AUTH_TOKEN", "RAY_AUTH_MODE"} & set(os.environ)
    assert not list(home.iterdir())


def test_a_local_ray_has_a_dashboard_if_asked_on_this_machine_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = Started(monkeypatch)
    start_ray(1, 1, None)
    assert started.options["include_dashboard"] is False and dashboard_of_ray() is None
    stop_ray()
    start_ray(1, 1, None, dashboard=True)
    assert started.options["include_dashboard"] is True and started.options["dashboard_host"] == "127.0.0.1"
    # With it come the jobs of this Ray, which nobody else is to start.
    assert dashboard_of_ray() == f"http://127.0.0.1:8265, which asks for the token {started.token}"
    stop_ray()
    assert dashboard_of_ray() is None
    # One that outlives the run is told to nobody.
    monkeypatch.setenv("RAY_AUTH_TOKEN", "mine")
    start_ray(1, 1, None, dashboard=True)
    assert dashboard_of_ray() == "http://127.0.0.1:8265"
    stop_ray()


@pytest.mark.parametrize("given", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE", "file"])
def test_a_token_that_is_there_is_used_as_it_is(
    given: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = Started(monkeypatch)
    if given == "file":
        (home / ".ray").mkdir()
        (home / ".ray" / "auth_token").write_text("mine")
    else:
        monkeypatch.setenv(given, "disabled")
    start_ray(1, 1, None)
    assert started.token == ("disabled" if given == "RAY_AUTH_TOKEN" else None)
    stop_ray()
    assert os.environ.get("RAY_AUTH_MODE") == ("disabled" if given == "RAY_AUTH_MODE" else None)


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_folder_with_too_long_a_name_is_reached_by_a_short_way(
    variable: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = Started(monkeypatch)
    place = home / ("x" * 120)
    monkeypatch.setenv("TMPDIR", "/nowhere")
    monkeypatch.setenv(variable, str(place))
    start_ray(1, 1, None)
    short = Path(started.options["_temp_dir"])
    assert started.folder == place / "ray" == short.resolve()
    assert len(f"{short}/session_2026-11-29_23-59-54_131794_4194304/sockets/plasma_store") <= 107
    stop_ray()
    assert not short.parent.exists() and (place / "ray").is_dir()


@pytest.mark.parametrize(("length", "is_long"), [(39, False), (40, True)])
def test_how_long_the_name_of_a_folder_may_be(
    length: int, is_long: bool, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of a socket may have 107 bytes, of which Ray takes 67 at most."""
    started = Started(monkeypatch)
    place = Path("/tmp") / ("é" * 17 + "x" * (length - len("/tmp/") - 2 * 17))
    assert len(os.fsencode(place)) == length
    monkeypatch.setenv("RAY_TMPDIR", str(place))
    start_ray(1, 1, None)
    assert bool(started.folder) == is_long
    stop_ray()
    if is_long:
        (place / "ray").rmdir()
        place.rmdir()


def test_where_there_is_no_short_way_a_shorter_folder_is_asked_for(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Started(monkeypatch)
    (home / "file").write_text("")
    monkeypatch.setenv("RAY_TMPDIR", str(home / "file" / ("x" * 120)))
    with pytest.raises(
        UserError,
        match=r"x+/ray', whose name has \d+ bytes where 43.*set RAY_TMPDIR to a folder of at most 39",
    ):
        start_ray(1, 1, None)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (
            NotADirectoryError(errno.ENOTDIR, "Not a directory"),
            "set RAY_TMPDIR to a folder that can be written to",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied"),
            "set RAY_TMPDIR to a folder that can be written to",
        ),
        (OSError(errno.EROFS, "Read-only file system"), "set RAY_TMPDIR to a folder that can be written to"),
        (Exception("The current node timed out during startup."), "try again when it is less busy"),
    ],
)
def test_what_keeps_ray_from_starting_has_its_own_way_out(
    error: Exception, advice: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Started(monkeypatch, error)
    with pytest.raises(UserError, match=rf"^Ray did not start on this machine \(.*\): .*{advice}$"):
        start_ray(1, 1, None)


def test_a_full_disk_and_too_few_files_are_told_by_what_is_left(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray itself only says that it was not up in time."""
    Started(monkeypatch, Exception("The current node timed out during startup."))
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/x")
    monkeypatch.setattr("resource.getrlimit", lambda which: (30, 30))
    with pytest.raises(UserError, match=r"a process may open 30 files only; raise that by `ulimit -n 1024`$"):
        start_ray(1, 1, None)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    with pytest.raises(
        UserError, match=r"no space left for its files in '/tmp/x/ray'; free some, or set RAY_TMPDIR"
    ):
        start_ray(1, 1, None)


def test_a_token_at_home_is_named_where_a_cluster_lets_nobody_in(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    assert "RAY_AUTH_MODE and RAY_AUTH_TOKEN if the cluster uses tokens" in cluster._check_token()
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("mine")
    assert "set RAY_AUTH_MODE=token, as there is a token in ~/.ray/auth_token" in cluster._check_token()
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert "RAY_AUTH_MODE and RAY_AUTH_TOKEN if the cluster uses tokens" in cluster._check_token()
