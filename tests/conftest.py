"""What tests share: one local Ray for all tests of a process, and one torch thread."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Before ray is imported anywhere: it reads these once.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_DEDUP_LOGS", "1")
# On a busy machine Ray's own agent is not up within the 15 seconds that it has by default.
os.environ.setdefault("RAY_agent_register_timeout_ms", "120000")

import pytest
import torch
from helpers.command_cases import GROWN, structnet
from helpers.process_cases import short_folder
from hypothesis import settings

torch.set_num_threads(1)

# Collecting makes millions of objects that all live to the end: looking for garbage among them finds none.
gc.disable()
atexit.register(gc.unfreeze)

# How many examples a property is tried on: no test says so itself, unless each of them takes long.
settings.register_profile("small", max_examples=25, deadline=None)
settings.register_profile("thorough", max_examples=200, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "small"))

# A shell that starts the tests in the background has them ignore Ctrl-C, and whatever they start too.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """From here on garbage is looked for, but not among what was collected."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A Ray of this process with 4 CPUs; started when the first test asks for it."""
    import ray

    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        ray.init(
            address="local",
            num_cpus=4,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=40,
            object_store_memory=200 * 2**20,
            _temp_dir=folder,
        )
        yield
        ray.shutdown()


@pytest.fixture(scope="session")
def grown(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> tuple[Path, str]:
    """A folder with the finished experiment `first` in its `results`, and what the command printed. Read only."""
    folder = tmp_path_factory.mktemp("grown")
    done = structnet("grow", *GROWN, "--name", "first", cwd=folder)
    assert done.code == 0, done.out + done.err
    return folder, done.out


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder for a Ray of the test's own."""
    with short_folder() as folder:
        yield folder
