"""The Ray that work runs on: found or started, and whether it has room for the workers.

Ray waits without a word for what no machine can give, and shares out GPUs by number alone, not by memory. So both
are looked at here, before anything starts.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

from structnet.errors import UserError, one_line

ADDRESS_TIMEOUT_SECONDS = 10.0
HEALTH_TIMEOUT_SECONDS = 20.0
# In the environment of a job that was submitted, beside a RAY_ADDRESS that Ray knows to be right.
JOB_MARK = "RAY_JOB_CONFIG_JSON_ENV_VAR"
# Ray counts in ten-thousandths: a third of a GPU is 0.3333, and three of them fit.
GRAINS = 10_000
# The longest name of a socket, and what Ray puts behind the folder of its files for the longest of its own.
SOCKET_BYTES = 107
_SOCKET = "session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
# With less than that Ray does not come up, and says nothing of it.
_LEAST_FREE_BYTES, _LEAST_OPEN_FILES = 2**20, 64
_WRONG_FOLDER = {
    errno.EACCES,
    errno.EEXIST,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}
# What is undone when the Ray of this process stops.
_BORROWED = ExitStack()


class _Dashboard:
    """Of the Ray that was started or joined. place: HOST:PORT, empty or None where there is none."""

    place: str | None = None


def start_ray(workers: int, cpus_per_worker: float, address: str | None, *, dashboard: bool = False) -> bool:
    """Connects to a cluster, or starts a local Ray with as many CPUs as the workers ask for, and the machine's GPUs.

    dashboard: whether a local Ray has one, which answers on this machine alone. Without an address the environment's
    RAY_ADDRESS counts; Ray sets it in a job that was submitted. Returns whether this process started or joined it, and
    so has to call `stop_ray`. Raises UserError when nothing answers at the address: ray.init itself would wait for
    minutes.
    """
    import ray

    if ray.is_initialized():
        return False
    given, address = address, address or os.environ.get("RAY_ADDRESS") or None
    if address:
        if given or JOB_MARK not in os.environ:
            probe(address)
        try:
            with warnings.catch_warnings():
                # Ray's client warns before it raises; there is one line either way.
                warnings.simplefilter("ignore", UserWarning)
                found = ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"Ray at '{address}' did not let us in ({reason}): {_check_token()}") from error
        _Dashboard.place = found.dashboard_url
        return True
    try:
        _start_local(max(1, -(-int(workers * cpus_per_worker * 100) // 100)), dashboard=dashboard)
    except BaseException:
        _BORROWED.close()
        raise
    return True


def stop_ray() -> None:
    """Ends the local Ray of this process, or leaves the cluster; nothing is left that another Ray would find."""
    import ray

    try:
        ray.shutdown()
    finally:
        _Dashboard.place = None
        _BORROWED.close()


def dashboard_of_ray() -> str | None:
    """Where the dashboard of the Ray that was started or joined is, and the token that it asks for; None without one.

    The token is told only if it is one of this process, which ends with it.
    """
    if not _Dashboard.place:
        return None
    asked = os.environ.get("RAY_AUTH_TOKEN") == _token() and f", which asks for the token {_token()}"
    return f"http://{_Dashboard.place}{asked or ''}"


def _start_local(cpus: int, *, dashboard: bool) -> None:
    import ray

    _borrow_token()
    folder = _ray_folder()
    short = _short_way(folder)
    try:
        # Without "local" it would join, and refuse, a Ray that somebody else started on this machine.
        started = ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=dashboard,
            dashboard_host="127.0.0.1",
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=short and str(short),
        )
    except Exception as error:  # Ray has no type of its own for not being up in time
        raise UserError(
            f"Ray did not start on this machine ({one_line(error)}): {_way_out(error, folder)}"
        ) from error
    _Dashboard.place = started.dashboard_url


def _borrow_token() -> None:
    """Gives the local Ray a token of its own, unless there is one that it would take.

    Else it would write one into the home folder, where every Ray that is started later finds it and asks for it.
    """
    mode = os.environ.get("RAY_AUTH_MODE")
    _BORROWED.callback(_set_again, "RAY_AUTH_MODE", mode)  # which Ray sets
    given = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if (mode or "").lower() == "disabled" or given or _has_token_at_home():
        return
    _BORROWED.callback(_set_again, "RAY_AUTH_TOKEN", os.environ.get("RAY_AUTH_TOKEN"))
    os.environ["RAY_AUTH_TOKEN"] = _token()


def _has_token_at_home() -> bool:
    return (Path.home() / ".ray" / "auth_token").exists()


def _check_token() -> str:
    """What to do where a cluster does not let us in."""
    if "RAY_AUTH_MODE" not in os.environ and _has_token_at_home():
        # With which `ray start` asks for it, while Ray's clients send it only if they are told.
        return "check the address, and set RAY_AUTH_MODE=token, as there is a token in ~/.ray/auth_token"
    return "check the address, and RAY_AUTH_MODE and RAY_AUTH_TOKEN if the cluster uses tokens"


@cache
def _token() -> str:
    """Of this process: Ray reads a token once."""
    return secrets.token_hex(32)


def _set_again(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _ray_folder() -> Path:
    """Where Ray would put its files, sockets among them."""
    given = [os.environ[name] for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ]
    return Path(*given[:1] or ["/tmp"], "ray").absolute()


def _short_way(folder: Path) -> Path | None:
    """A link to the folder where its own name is too long for sockets below it, else None. Raises UserError."""
    most = SOCKET_BYTES - len(_SOCKET) - 1
    length = len(os.fsencode(folder))
    if length <= most:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        _BORROWED.callback(shutil.rmtree, place, ignore_errors=True)
        (place / "ray").symlink_to(folder)
    except OSError as error:
        raise UserError(
            f"Ray would put its sockets into '{folder}', whose name has {length} bytes where {most} are possible, and "
            f"there can be no shorter way to it ({one_line(error)}): set RAY_TMPDIR to a folder of at most "
            f"{most - len('/ray')} bytes that can be written to"
        ) from error
    return place / "ray"


def _way_out(error: Exception, folder: Path) -> str:
    """What to do about a Ray that did not start with its files in a folder."""
    if isinstance(error, OSError) and error.errno in _WRONG_FOLDER:
        return f"it puts its files into '{folder}'; set RAY_TMPDIR to a folder that can be written to"
    with suppress(OSError):
        if shutil.disk_usage(folder).free < _LEAST_FREE_BYTES:
            return (
                f"there is no space left for its files in '{folder}'; free some, or set RAY_TMPDIR to another"
            )
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= files < _LEAST_OPEN_FILES:
        return f"a process may open {files} files only; raise that by `ulimit -n 1024`"
    return "try again when it is less busy"


def probe(address: str) -> None:
    """Raises UserError unless a Ray cluster answers at host:port within seconds; `auto` and `local` pass."""
    plain = address.removeprefix("ray://")
    if plain in ("auto", "local"):
        return
    if plain.startswith(("http://", "https://")):
        raise UserError(
            f"address is '{address}', which is a dashboard's, but must be HOST:PORT, ray://HOST:PORT or auto: run "
            f"`ray job submit --address {address} -- structnet …`"
        )
    host, _, port = plain.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"address is '{address}', but must be HOST:PORT, ray://HOST:PORT or auto")
    try:
        socket.create_connection((host, int(port)), timeout=ADDRESS_TIMEOUT_SECONDS).close()
    except OSError as error:
        raise UserError(
            f"no Ray cluster answers at '{address}' ({error}): start one with `ray start --head`, or leave out "
            "--address to run on this machine"
        ) from error
    if not address.startswith("ray://"):
        _check_health(address)


def _check_health(address: str) -> None:
    """Raises UserError unless what listens at host:port is a Ray that lets us in.

    In a process of its own: where another server listens, Ray's client waits for minutes inside its own code.
    """
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        answered = (
            subprocess.run(command, capture_output=True, timeout=HEALTH_TIMEOUT_SECONDS).returncode == 0
        )
    except subprocess.TimeoutExpired:
        answered = False
    if not answered:
        raise UserError(f"what listens at '{address}' does not answer as a Ray cluster: {_check_token()}")


def check_device(device: str, gpus_per_worker: float) -> None:
    """Raises UserError for workers on a GPU that ask Ray for none, or for a number that Ray cannot give."""
    if device.startswith("cuda") and gpus_per_worker <= 0:
        raise UserError(
            f"device is '{device}', but gpus_per_worker is {gpus_per_worker:g}: Ray shows a GPU only to workers "
            "that ask for one, or for a fraction such as 0.5"
        )
    if gpus_per_worker > 1 and gpus_per_worker != int(gpus_per_worker):
        raise UserError(
            f"gpus_per_worker is {gpus_per_worker:g}, but must be a whole number above 1: a worker has a share of "
            "one GPU, or whole ones"
        )


def workers_that_fit(
    machines: Sequence[Mapping[str, float]], cpus_per_worker: float, gpus_per_worker: float
) -> int:
    """How many workers these machines (resource -> amount, as Ray tells it) have room for.

    A worker lies on one machine, and a share of a GPU on one GPU: of 0.6 only one fits on each, though two GPUs
    have room for three by number.
    """
    room = 0
    for machine in machines:
        fits = []
        if cpus_per_worker > 0:
            fits.append(_times(machine.get("CPU", 0), cpus_per_worker))
        if gpus_per_worker >= 1:
            fits.append(_times(machine.get("GPU", 0), gpus_per_worker))
        elif gpus_per_worker > 0:
            fits.append(int(machine.get("GPU", 0)) * _times(1, gpus_per_worker))
        room += min(fits, default=sys.maxsize)
    return room


def _times(amount: float, share: float) -> int:
    return round(amount * GRAINS) // max(1, round(share * GRAINS))


def check_room(workers: int, cpus_per_worker: float, gpus_per_worker: float) -> str:
    """Whether the Ray that this process is connected to has room for the workers.

    Returns nothing if it has, and a line to tell if it has not but can start machines. Raises UserError if it
    cannot: Ray itself would wait for ever.
    """
    import ray

    untyped: Any = ray
    machines = [node["Resources"] for node in untyped.nodes() if node["Alive"]]
    problem = _shortage(machines, workers, cpus_per_worker, gpus_per_worker)
    if problem and _grows():
        return f"{problem}; waiting for its autoscaler to start machines"
    if problem:
        raise UserError(f"{problem}: lower --workers, --cpus-per-worker or --gpus-per-worker")
    return ""


def _shortage(
    machines: Sequence[Mapping[str, float]], workers: int, cpus_per_worker: float, gpus_per_worker: float
) -> str:
    """What these machines lack for the workers, or nothing."""
    for kind, share in (("CPU", cpus_per_worker), ("GPU", gpus_per_worker)):
        there, wanted = sum(machine.get(kind, 0) for machine in machines), workers * share
        if wanted > there:
            return f"{workers} workers need {wanted:g} {kind}s, but the cluster has {there:g}"
    room = workers_that_fit(machines, cpus_per_worker, gpus_per_worker)
    if workers > room:
        return (
            f"{workers} workers of {cpus_per_worker:g} CPUs and {gpus_per_worker:g} GPUs do not fit: a worker lies on "
            f"one machine and a share of a GPU on one GPU, so the cluster has room for {room}"
        )
    return ""


def _grows() -> bool:
    """Whether an autoscaler serves the cluster."""
    import ray
    from ray.experimental.internal_kv import _internal_kv_get

    names: Any = ray._raylet
    key, namespace = names.GCS_AUTOSCALER_V2_ENABLED_KEY, names.GCS_AUTOSCALER_STATE_NAMESPACE
    return bool(_internal_kv_get(key.encode(), namespace=namespace.encode()) == b"1")


def cap_gpu_memory(device: str, gpus_per_worker: float) -> None:
    """Keeps this process to its share of a GPU's memory, so that it cannot take its neighbours' part."""
    if not device.startswith("cuda") or not 0 < gpus_per_worker < 1:
        return
    place = torch.device(device)
    torch.cuda.set_per_process_memory_fraction(
        float(gpus_per_worker), place if place.index is not None else None
    )
