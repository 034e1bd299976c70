"""TopologyWork: networks that evolve side by side on the same batches, and what each has learned after every epoch."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from structnet.data.dataset import Dataset
from structnet.growth.evolution import (
    Evolution,
    Pair,
    evolve,
    evolving_links,
    links_after_step,
    seed_of_evolution,
)
from structnet.measure.connectivity import centre_ratio, degrees, heat_map, ring_ratio, trend_curve
from structnet.network.architecture import sizes_of
from structnet.network.state import TrainState
from structnet.network.topology import Topology
from structnet.seeds import stream
from structnet.storage.snapshot import load_snapshot, save_snapshot
from structnet.storage.tables import TableWriter
from structnet.training.batches import steps_per_epoch
from structnet.training.evaluation import evaluate
from structnet.training.members import together
from structnet.training.recipe import BARE, COUPLED, Recipe
from structnet.training.schedules import constant
from structnet.trials.rows import Reference, structure_columns
from structnet.trials.work import Shared

STRETCH_SECONDS = 10.0
SET, BLIND = "set", "blind"
INPUT_LINK = (0, 1)
RATIOS = ("centre_ratio", "core_centre_ratio", "ring_ratio", "core_ring_ratio")


@dataclass(frozen=True)
class Evolving:
    """A network by what it is made from. method: `set`, or `blind` for the control. decay: as of a Recipe."""

    method: str
    epsilon: float
    zeta: float
    weight_decay: float
    decay: str
    rng_seed: int

    @property
    def key(self) -> str:
        """Its name in tables."""
        numbers = f"e{self.epsilon:g}_z{self.zeta:g}_w{self.weight_decay:g}".replace("+", "")
        return f"{self.method}_{numbers}_{self.decay}_s{self.rng_seed}"


def blocks_of(networks: Sequence[Evolving], block: int) -> list[dict[str, Any]]:
    """Configs of trials: at most so many networks each, all of one rng_seed, so that they see the same batches.

    And of one way to decay, which is that of a step.
    """
    configs: list[dict[str, Any]] = []
    for shared in dict.fromkeys((network.rng_seed, network.decay) for network in networks):
        mine = [network for network in networks if (network.rng_seed, network.decay) == shared]
        for first in range(0, len(mine), block):
            part = [asdict(network) for network in mine[first : first + block]]
            configs.append({"name": f"topology-{len(configs):04d}", "networks": part})
    return configs


def evolution_of(network: Evolving, options: Mapping[str, Any]) -> Evolution:
    """How this network evolves. Raises UserError for what cannot be."""
    return Evolution(
        network.zeta,
        options["new_values"],
        options["may_return"],
        network.method == BLIND,
        options["chance"],
    )


def recipe_of_topology(options: Mapping[str, Any], decay: str, rng_seed: int = 0) -> Recipe:
    """How the networks of a block are trained, but for their weight decay. Raises UserError for what cannot be."""
    named = ("batch_size", "input_dropout", "dropout", "shift", "flip", "momentum")
    return Recipe(**{name: options[name] for name in named}, decay=decay, rng_seed=rng_seed)


def shrink_per_evolution(decay: str, weight_decay: float, rate: float, momentum: float, steps: int) -> float:
    """The share of its value that a connection without a gradient loses in so many steps, in the long run."""
    share = {BARE: weight_decay, COUPLED: rate * weight_decay / (1 - momentum)}.get(
        decay, rate * weight_decay
    )
    return 1 - (1 - share) ** steps


class TopologyWork:
    """Trains the networks of a block together, an epoch at a time, and writes their rows at the end of each.

    config: name, networks. shared.options: those of `topology`, fitted to the data. Test is measured after every epoch
    and chooses nothing.
    """

    def __init__(self, config: dict[str, Any], shared: Shared) -> None:
        self.name, self.shared, self.options = config["name"], shared, shared.options
        self.networks = [Evolving(**network) for network in config["networks"]]
        self.data: Dataset = shared.dataset()
        self.writer = TableWriter(shared.results, shared.experiment)
        self.architecture = sizes_of(self.options["architecture"])
        self.per_epoch = steps_per_epoch(len(self.data.train), self.options["batch_size"])
        self.epoch, self.seconds = 0, 0.0
        self.failed: list[dict[str, Any]] = []  # rows of networks that diverged
        first = self.networks[0]
        self.recipe = recipe_of_topology(self.options, first.decay, first.rng_seed)
        self.evolutions = [evolution_of(network, self.options) for network in self.networks]
        self.states = [self._start(*pair) for pair in zip(self.networks, self.evolutions)]

    def step(self) -> dict[str, Any]:
        """As many epochs as fit in a stretch, at least one."""
        started = time.perf_counter()
        while not self._done:
            found = self._epoch()
            self.epoch += 1
            self._write(found)
            if time.perf_counter() - started >= STRETCH_SECONDS:
                break
        done = self._done
        return {
            "done": done,
            "name": self.name,
            "networks": len(self.networks) + len(self.failed) if done else 0,
            "epoch": self.epoch,
        }

    def save(self, folder: Path) -> None:
        """Writes the networks."""
        for number, state in enumerate(self.states):
            save_snapshot(str(folder / str(number)), state, preprocessing=self.data.preprocessing)
        networks = [asdict(network) for network in self.networks]
        place = {"epoch": self.epoch, "seconds": self.seconds, "failed": self.failed, "networks": networks}
        (folder / "state.json").write_text(json.dumps(place))

    def load(self, folder: Path) -> None:
        """Goes on exactly where `save` was."""
        state = json.loads((folder / "state.json").read_text())
        self.epoch, self.seconds, self.failed = state["epoch"], state["seconds"], state["failed"]
        self.networks = [Evolving(**network) for network in state["networks"]]
        self.evolutions = [evolution_of(network, self.options) for network in self.networks]
        self.states = [load_snapshot(str(folder / str(number))).state for number in range(len(self.networks))]

    def _start(self, network: Evolving, evolution: Evolution) -> TrainState:
        seed = seed_of_evolution(
            self.architecture,
            network.epsilon,
            evolution,
            network.rng_seed,
            dense_output=self.options["dense_output"],
            activation=self.options["activation"],
        )
        return TrainState.fresh(seed)

    @property
    def _done(self) -> bool:
        return self.epoch == self.options["epochs"] or not self.networks

    def _epoch(self) -> list[dict[str, Any]]:
        """An epoch of all, with their evolutions; the columns of each of what came of it."""
        started, losses = time.perf_counter(), np.zeros(len(self.states))
        moved = [Counter[Pair]() for _ in self.states]
        first, last = self.epoch * self.per_epoch, (self.epoch + 1) * self.per_epoch
        step = first
        while step < last:
            stop = self._next_evolution(step, last)
            losses += self._train(step, stop)
            step = stop
            if step < last:
                self._evolve(step, moved)
        alive = self._drop_diverged()
        measured = [self._measure(state) for state in self.states]
        moved, losses = [moved[member] for member in alive], losses[alive]
        cores = self._evolve(last, moved)
        share = (time.perf_counter() - started) / max(1, len(self.states))
        self.seconds += share
        return [
            {
                **columns,
                "train_loss": float(loss / self.per_epoch),
                "seconds": share,
                "moved": [here[pair] for pair in state.network.topology.links],
                **self._topology_columns(state.network.topology, core),
            }
            for columns, loss, state, core, here in zip(measured, losses, self.states, cores, moved)
        ]

    def _drop_diverged(self) -> list[int]:
        """Leaves out networks with a parameter that is not finite; which are left."""
        finite = [bool(torch.isfinite(state.network.values).all()) for state in self.states]
        for network, state, is_finite in zip(self.networks, self.states, finite):
            if not is_finite:
                error = f"training diverged in epoch {self.epoch + 1}"
                row = {
                    **self._named(network, state),
                    "epochs": self.epoch,
                    "status": "failed",
                    "error": error,
                }
                self.failed.append(row)
        alive = [member for member, is_finite in enumerate(finite) if is_finite]
        for name in ("networks", "evolutions", "states"):
            setattr(self, name, [getattr(self, name)[member] for member in alive])
        return alive

    def _next_evolution(self, step: int, last: int) -> int:
        """The first step from this one on after which some link evolves, or the last."""
        topology = self.states[0].network.topology
        for stop in range(step + 1, last):
            if links_after_step(
                topology, self.evolutions[0], self.networks[0].rng_seed, stop, self.per_epoch
            ):
                return stop
        return last

    def _train(self, step: int, stop: int) -> np.ndarray:
        """(members,) sums of the losses of these steps."""
        members = together(self.states)
        losses, _ = members.train(
            self.data.train,
            self.recipe,
            stop - step,
            constant(self.options["learning_rate"]),
            step,
            decays=np.array([network.weight_decay for network in self.networks]),
        )
        self.states = [members.take(member, stop) for member in range(len(self.states))]
        summed: np.ndarray = losses.sum(axis=1, dtype=np.float64)
        return summed

    def _evolve(self, step: int, moved: list[Counter[Pair]]) -> list[Topology]:
        """Evolves what is due after this step, and counts what it moves; the cores.

        At the end of an epoch the core is looked at whatever is due; behind the last step nothing comes any more.
        """
        cores, states = [], []
        is_end, is_last = step % self.per_epoch == 0, step == self.options["epochs"] * self.per_epoch
        for network, evolution, state, count in zip(self.networks, self.evolutions, self.states, moved):
            topology = state.network.topology
            due = links_after_step(topology, evolution, network.rng_seed, step, self.per_epoch)
            every = evolving_links(topology) if is_end else due
            found = evolve(state, evolution, stream(network.rng_seed, "evolution", step), every)
            cores.append(found.core)
            if due != every:
                found = evolve(state, evolution, stream(network.rng_seed, "evolution", step), due)
            if not is_last:
                count.update(found.moved)
            states.append(state if is_last else found.state)
        self.states = states
        return cores

    def _measure(self, state: TrainState) -> dict[str, Any]:
        found, test = (evaluate(state.network, split) for split in (self.data.validation, self.data.test))
        return {
            "parameters": state.network.parameter_count,
            "loss": found.loss,
            "accuracy": found.accuracy,
            "test_loss": test.loss,
            "test_accuracy": test.accuracy,
        }

    def _topology_columns(self, topology: Topology, core: Topology) -> dict[str, Any]:
        """What was learned; the degrees themselves are for the table `connectivity`."""
        every, left = (degrees(one, INPUT_LINK) for one in (topology, core))
        shape = self.data.input_shape
        heat, core_heat = heat_map(every, shape), heat_map(left, shape)
        return {
            "connections": [span.stop - span.start for span in topology.links.values()],
            "trend": trend_curve(heat).tolist(),
            "centre_ratio": centre_ratio(heat),
            "core_centre_ratio": centre_ratio(core_heat),
            "ring_ratio": ring_ratio(heat),
            "core_ring_ratio": ring_ratio(core_heat),
            "degrees": every.tolist(),
            "core_degrees": left.tolist(),
        }

    def _write(self, found: list[dict[str, Any]]) -> None:
        """The rows of an epoch that has ended, one part for each table."""
        part, rate = f"{self.name}-{self.epoch:05d}", self.options["learning_rate"]
        units, epochs = [], []
        for network, row in zip(self.networks, found):
            key = {"trial": self.name, "network": network.key, "epoch": self.epoch}
            columns = {name: value for name, value in row.items() if not name.endswith("degrees")}
            epochs.append({**key, "learning_rate": rate, **columns})
            units += [
                {**key, "link": "0→1", "unit": unit, "connections": every, "core_connections": core}
                for unit, (every, core) in enumerate(zip(row["degrees"], row["core_degrees"]))
            ]
        if epochs:
            self.writer.write("epochs", part, epochs)
            self.writer.write("connectivity", part, units)
        if self._done:
            rows = [self._network_row(*parts) for parts in zip(self.networks, self.states, found)]
            self.writer.write("networks", self.name, rows + self.failed)

    def _named(self, network: Evolving, state: TrainState) -> dict[str, Any]:
        """What a row of `networks` has of its making."""
        options, named = self.options, ("method", "epsilon", "zeta", "weight_decay", "decay", "rng_seed")
        shrink = shrink_per_evolution(
            network.decay,
            network.weight_decay,
            options["learning_rate"],
            options["momentum"],
            self.per_epoch,
        )
        return {
            "trial": self.name,
            "network": network.key,
            **{name: getattr(network, name) for name in named},
            "shrink_per_evolution": shrink,
            **structure_columns(state.network),
        }

    def _network_row(self, network: Evolving, state: TrainState, row: dict[str, Any]) -> dict[str, Any]:
        reference = Reference(self.data.validation, self.data.classes)
        return {
            **self._named(network, state),
            "epochs": self.epoch,
            "train_loss": row["train_loss"],
            **reference.columns(row["accuracy"], row["loss"], state.network.parameter_count),
            "test_loss": row["test_loss"],
            "test_accuracy": row["test_accuracy"],
            **{name: row[name] for name in RATIOS},
            "steps": state.step,
            "parameter_steps": state.step * state.network.parameter_count,
            "seconds": self.seconds,
            "status": "finished",
        }
