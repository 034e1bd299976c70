"""EvolveWork: a few networks, each brought to its size by its method (structnet.experiments.baselines)."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from structnet.data.dataset import Dataset
from structnet.errors import UserError
from structnet.experiments.baselines import Method, evolve_steps
from structnet.experiments.methods import METHODS
from structnet.network.activations import activation_named
from structnet.network.architecture import architecture_of, density_for, sizes_of
from structnet.network.state import TrainState
from structnet.storage.snapshot import load_snapshot, save_snapshot
from structnet.storage.tables import TableWriter
from structnet.training.batches import steps_per_epoch
from structnet.training.evaluation import evaluate
from structnet.training.loop import Diverged
from structnet.training.recipe import Recipe, recipe_of
from structnet.training.schedules import SCHEDULES
from structnet.trials.rows import Reference, shape_columns, structure_columns
from structnet.trials.work import Shared

STRETCH_SECONDS = 5.0
# A trial trains at least so many steps, some seconds: Tune spends up to a tenth of a second on one.
LEAST_STEPS = 4000
SAVED = ("rows", "epochs", "parameter_steps", "multiply_adds", "seconds")


@dataclass(frozen=True)
class Rival:
    """A network by what it is made from. parameters: what it may have at the end."""

    method: str
    parameters: int
    rng_seed: int

    @property
    def key(self) -> str:
        """Its name in tables."""
        return f"{self.method}_p{self.parameters}_s{self.rng_seed}"


def rivals_of(
    methods: Sequence[str], parameters: Sequence[int], rng_seeds: Sequence[int], *, limit: int
) -> list[Rival]:
    """Every combination. Raises UserError for an empty list, an unknown method, doubles, or more than the limit."""
    for name, values in (("methods", methods), ("parameters", parameters), ("rng_seeds", rng_seeds)):
        if not len(values):
            raise UserError(f"there are no {name}: give at least one")
        if len(set(values)) < len(values):
            raise UserError(f"{name} are {','.join(map(str, values))}, but each must be there once")
    if unknown := [name for name in methods if name not in METHODS]:
        raise UserError(f"method is '{unknown[0]}', but must be one of {', '.join(METHODS)}")
    count = len(methods) * len(parameters) * len(rng_seeds)
    if count > limit:
        raise UserError(
            f"there are {count:,} networks ({len(methods)} methods × {len(parameters)} sizes × {len(rng_seeds)} "
            f"rng_seeds), but limit is {limit:,}: raise --limit or leave some out"
        )
    return [
        Rival(method, size, rng_seed) for method in methods for size in parameters for rng_seed in rng_seeds
    ]


def trials_of(rivals: Sequence[Rival], steps: int) -> list[dict[str, Any]]:
    """The networks as configs of trials, each of at least LEAST_STEPS steps where there are enough networks."""
    together = -(-LEAST_STEPS // steps)
    parts = [rivals[first : first + together] for first in range(0, len(rivals), together)]
    return [
        {"name": f"rivals-{number:04d}", "rivals": [asdict(rival) for rival in part]}
        for number, part in enumerate(parts)
    ]


def method_of(rival: Rival, architecture: Sequence[int], steps: int, options: dict[str, Any]) -> Method:
    """The way to this network; raises UserError for what cannot be."""
    return METHODS[rival.method](
        architecture_of(architecture),
        rival.parameters,
        steps,
        rival.rng_seed,
        options["zeta"],
        options["interval"],
        options["allocation"],
        options["activation"],
        options["initial_values"],
        options["moves"],
    )


def recipe_of_rivals(options: dict[str, Any], rng_seed: int = 0) -> Recipe:
    """How the networks of `evolve` are trained. Raises UserError for what cannot be."""
    named = {name: options[name] for name in ("weight_decay", "momentum", "decay")}
    return recipe_of(options, rng_seed=rng_seed, **named)


class EvolveWork:
    """Trains its networks one after the other, and writes the rows of each epoch and, at the end, of each network.

    config: name, rivals. shared.options: those of `evolve`, fitted to the data. Test is measured after every epoch and
    chooses nothing: test_accuracy is that of the last, chosen_test_accuracy that of the one that is best on validation,
    and best_test_accuracy, as some papers report it, the best of all. A network that diverges is a failed row.
    """

    def __init__(self, config: dict[str, Any], shared: Shared) -> None:
        self.name, self.shared, self.options = config["name"], shared, shared.options
        self.rivals = [Rival(**rival) for rival in config["rivals"]]
        self.data: Dataset = shared.dataset()
        self.writer = TableWriter(shared.results, shared.experiment)
        self.architecture = sizes_of(self.options["architecture"])
        self.per_epoch = steps_per_epoch(len(self.data.train), self.options["batch_size"])
        self.steps = self.options["epochs"] * self.per_epoch
        self.rate = SCHEDULES[self.options["schedule"]](self.options["learning_rate"], 0, self.steps)
        self.rows: list[dict[str, Any]] = []
        # Of the network in training: its state, None before it begins, the rows of its epochs, what it has cost.
        self.state: TrainState | None = None
        self.epochs: list[dict[str, Any]] = []
        self.balanced_accuracy: float | None = None
        self.parameter_steps, self.multiply_adds, self.seconds = 0, 0, 0.0

    def step(self) -> dict[str, Any]:
        """As many epochs as fit in a stretch, at least one."""
        started = time.perf_counter()
        while not self._done:
            self._train_epoch()
            if time.perf_counter() - started >= STRETCH_SECONDS:
                break
        if self._done:
            self.writer.write("networks", self.name, self.rows)
        shown = [{name: row.get(name) for name in ("network", "accuracy", "error")} for row in self.rows]
        return {"done": self._done, "name": self.name, "networks": len(self.rows), "ended": shown}

    def save(self, folder: Path) -> None:
        """Writes the network in training, and the rows so far."""
        if self.state is not None:
            preprocessing = self.data.preprocessing
            save_snapshot(str(folder / "training"), self.state, preprocessing=preprocessing)
        state = {name: getattr(self, name) for name in SAVED} | {"training": self.state is not None}
        (folder / "state.json").write_text(json.dumps(state))

    def load(self, folder: Path) -> None:
        """Goes on exactly where `save` was."""
        state = json.loads((folder / "state.json").read_text())
        for name in SAVED:
            setattr(self, name, state[name])
        self.state = None
        if state["training"]:
            self.state = load_snapshot(str(folder / "training"), self.shared.device).state

    @property
    def _shape_numbers(self) -> int:
        return len(activation_named(self.options["activation"]).shape)

    @property
    def _done(self) -> bool:
        return len(self.rows) == len(self.rivals)

    @property
    def _rival(self) -> Rival:
        """The one in training."""
        return self.rivals[len(self.rows)]

    def _train_epoch(self) -> None:
        rival, options, started = self._rival, self.options, time.perf_counter()
        method = method_of(rival, self.architecture, self.steps, options)
        recipe = recipe_of_rivals(options, rival.rng_seed)
        state = self.state or TrainState.fresh(method.start().to(self.shared.device))
        try:
            state, losses, spent = evolve_steps(
                state, method, self.data.train, recipe, self.per_epoch, self.rate
            )
        except Diverged as error:
            self._finish({"status": "failed", "error": str(error)})
            return
        self.state = state
        self.parameter_steps += spent.parameter_steps
        self.multiply_adds += spent.multiply_adds
        self._judge(state, losses, started)
        if state.step == self.steps:
            self._finish(self._measured(state))

    def _judge(self, state: TrainState, losses: torch.Tensor, started: float) -> None:
        """Notes the row of an epoch that began at this time."""
        found, test = (evaluate(state.network, split) for split in (self.data.validation, self.data.test))
        seconds = time.perf_counter() - started
        self.seconds += seconds
        self.balanced_accuracy = found.balanced_accuracy
        self.epochs.append(
            {
                "trial": self.name,
                "network": self._rival.key,
                "epoch": state.step // self.per_epoch,
                "parameters": state.network.parameter_count,
                "learning_rate": self.rate(state.step - 1),
                "train_loss": float(losses.double().mean()),
                "loss": found.loss,
                "accuracy": found.accuracy,
                "test_loss": test.loss,
                "test_accuracy": test.accuracy,
                "seconds": seconds,
            }
        )

    def _finish(self, found: dict[str, Any]) -> None:
        """Notes the row of the network in training, writes those of its epochs, and turns to the next."""
        rival, shape = self._rival, self.architecture
        self.rows.append(
            {
                "trial": self.name,
                "network": rival.key,
                "method": rival.method,
                "max_parameters": rival.parameters,
                **shape_columns(shape),
                "density": density_for(shape, rival.parameters, self._shape_numbers),
                "rng_seed": rival.rng_seed,
                "epochs": len(self.epochs),
                "seconds": self.seconds,
                **found,
            }
        )
        if self.epochs:
            self.writer.write("epochs", rival.key, self.epochs)
        self.state, self.epochs = None, []
        self.parameter_steps, self.multiply_adds, self.seconds = 0, 0, 0.0

    def _measured(self, state: TrainState) -> dict[str, Any]:
        network, last, data = state.network, self.epochs[-1], self.data
        chosen = max(self.epochs, key=lambda row: row["accuracy"])
        reference = Reference(data.validation, data.classes)
        return {
            **structure_columns(network),
            "train_loss": last["train_loss"],
            **reference.columns(
                last["accuracy"], last["loss"], network.parameter_count, self.balanced_accuracy
            ),
            "test_accuracy": last["test_accuracy"],
            "test_loss": last["test_loss"],
            "chosen_epoch": chosen["epoch"],
            "chosen_test_accuracy": chosen["test_accuracy"],
            "best_test_accuracy": max(row["test_accuracy"] for row in self.epochs),
            "steps": state.step,
            "parameter_steps": self.parameter_steps,
            "multiply_adds": self.multiply_adds,
            "status": "finished",
        }
