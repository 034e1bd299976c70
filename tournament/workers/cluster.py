"""The Ray that work runs on: found or started, and whether it has room for the workers.

Ray waits without a word for what no machine can give, and shares out GPUs by number alone, not by memory. So both
are looked at here, before anything starts.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from structnet.errors import UserError, one_line

ADDRESS_TIMEOUT_SECONDS = 10.0
HEALTH_TIMEOUT_SECONDS = 20.0
# In the environment of a job that was submitted, beside a RAY_ADDRESS that Ray knows to be right.
JOB_MARK = "RAY_JOB_CONFIG_JSON_ENV_VAR"
# Ray counts in ten-thousandths: a third of a GPU is 0.3333, and three of them fit.
GRAINS = 10_000


def start_ray(workers: int, cpus_per_worker: float, address: str | None) -> bool:
    """Connects to a cluster, or starts a local Ray with as many CPUs as the workers ask for, and the machine's GPUs.

    Without an address the environment's RAY_ADDRESS counts; Ray sets it in a job that was submitted. Returns whether
    this process started or joined it, and so has to call ray.shutdown(). Raises UserError when nothing answers at
    the address: ray.init itself would wait for minutes.
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
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"Ray at '{address}' did not let us in ({reason}): check the address, and RAY_AUTH_MODE and "
                "RAY_AUTH_TOKEN if the cluster uses tokens"
            ) from error
        return True
    try:
        # Without "local" it would join, and refuse, a Ray that somebody else started on this machine.
        ray.init(
            address="local",
            num_cpus=max(1, -(-int(workers * cpus_per_worker * 100) // 100)),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:  # Ray has no type of its own for not being up in time
        raise UserError(
            f"Ray did not start on this machine ({one_line(error)}): try again when it is less busy"
        ) from error
    return True


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
        raise UserError(
            f"what listens at '{address}' does not answer as a Ray cluster: check the address, and RAY_AUTH_MODE "
            "and RAY_AUTH_TOKEN if the cluster uses tokens"
        )


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
