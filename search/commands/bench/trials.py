"""The other side of `structnet bench hunt`: networks as weights × mask, and one Ray Tune trial for each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import torch

from search.commands.bench.measuring import fastest
from search.commands.bench.sides import ADAMS, LEARNING_RATE, MaskedStep, batch_of_rows
from search.tune.trials import tune
from structnet.data.dataset import Split
from structnet.data.packing import unpack
from structnet.network.network import StructNet
from structnet.training.batches import steps_per_epoch
from structnet.training.schedules import cosine


def masked_steps(network: StructNet, split: Split, batch_size: int, adam: str) -> Callable[[], torch.Tensor]:
    """A function that trains a masked copy of the network for one more step, on its batch of the split."""
    train, steps = MaskedStep(network, adam), count()
    return lambda: train(batch_of_rows(split, batch_size, next(steps)))


def fastest_adam(network: StructNet, split: Split, batch_size: int) -> str:
    """The implementation of Adam that serves masked networks of this shape best on this machine."""
    return fastest({adam: masked_steps(network, split, batch_size, adam) for adam in ADAMS})


@dataclass(frozen=True)
class MaskedTrial:
    """What a trial is told beside its rng_seed and the data."""

    architecture: tuple[int, ...]
    density: float
    batch_size: int
    adam: str


def masked_epoch(rng_seed: int, packed: dict[str, np.ndarray], plain: MaskedTrial) -> dict[str, float]:
    """One masked network trained for one epoch, and its accuracy on validation."""
    torch.set_num_threads(1)
    splits = unpack(packed)
    train, validation = splits["train"], splits["validation"]
    step = MaskedStep(StructNet(plain.architecture, plain.density, rng_seed=rng_seed), plain.adam)
    steps = steps_per_epoch(len(train), plain.batch_size)
    rate = cosine(LEARNING_RATE, 0, steps)
    for index in range(steps):
        step.adam.param_groups[0]["lr"] = rate(index)
        step(batch_of_rows(train, plain.batch_size, index))
    return {"accuracy": step.accuracy(validation)}


def train_one(config: dict[str, Any], packed: dict[str, np.ndarray], plain: MaskedTrial) -> None:
    """A trial as Tune's documentation teaches it: a function that trains and reports."""
    tune.report(masked_epoch(config["rng_seed"], packed, plain))


class TrainOne(tune.Trainable):
    """The same as a class, whose process takes up one trial after the other."""

    def setup(self, config: dict[str, Any], **shared: Any) -> None:
        """Takes what all trials share."""
        self.shared = shared

    def step(self) -> dict[str, Any]:
        """The whole trial."""
        return {**masked_epoch(self.config["rng_seed"], **self.shared), "done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes up another trial in the same process."""
        self.config = new_config
        return True


# How a user of Tune would write it: the trainable, and whether Tune may use a process again (its default is no).
WAYS: dict[str, tuple[Any, bool]] = {
    "a trial per network, a fresh process each": (train_one, False),
    "a trial per network, processes used again": (TrainOne, True),
}


def run_plain(
    way: str, trials: int, packed: dict[str, np.ndarray], plain: MaskedTrial, workers: int
) -> tuple[float, dict[int, float]]:
    """Seconds from the call until all trials are back, and rng_seed -> accuracy. Ray has to be running."""
    import ray

    trainable, reuse = WAYS[way]
    # Tune's default, as many as there is room for, unless that is more than our side has.
    at_once = workers if ray.cluster_resources().get("CPU", 0) > workers else None
    with TemporaryDirectory(prefix="structnet-bench-") as folder:
        started = perf_counter()
        found = tune.Tuner(
            tune.with_parameters(trainable, packed=packed, plain=plain),
            param_space={"rng_seed": tune.grid_search(list(range(trials)))},
            tune_config=tune.TuneConfig(reuse_actors=reuse, max_concurrent_trials=at_once),
            run_config=tune.RunConfig(
                name="theirs",
                storage_path=folder,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
        ).fit()
        seconds = perf_counter() - started
    if found.errors:
        raise RuntimeError(f"{len(found.errors)} of {trials} plain trials failed: {found.errors[0]}")
    reports = [found[index].metrics or {} for index in range(len(found))]
    return seconds, {metrics["config"]["rng_seed"]: metrics["accuracy"] for metrics in reports}
