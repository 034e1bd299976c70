"""CohortWork: one block of a grid, trained as a cohort, epoch by epoch."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from structnet.errors import one_line
from structnet.network.architecture import hidden_units, parameters_dense
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.storage.tables import TableWriter
from structnet.training.batches import diagnosis_sample, steps_per_epoch
from structnet.training.cohort import Cohort
from structnet.training.evaluation import evaluate
from structnet.training.recipe import recipe_of
from structnet.training.schedules import cosine
from structnet.trials.champions import (
    CRITERIA,
    amount,
    best,
    is_culling_epoch,
    patchability,
    survivors,
)
from structnet.trials.grid import Block, Member
from structnet.trials.rows import Reference, shape_columns
from structnet.trials.work import Shared

# A report and a checkpoint after each: two for a block of half a minute. Tune writes its whole state once more whenever
# a trial has made as many checkpoints as it keeps (search.tune.trials), which took most of the driver's time at 5
# seconds.
STRETCH_SECONDS = 15.0
SCALARS = ("activation", "kernel", "optimizer_step", "optimizer_options", "step")


class CohortWork:
    """The networks of a block: trained, judged on validation after every epoch, their rows written.

    shared.options, and over them those of config["options"]: epochs, batch_size, learning_rate, l1,
    input_dropout, shift, rng_seed (of the batches), cull, keep_best (save the best networks of the block by each
    criterion).
    """

    def __init__(self, config: dict[str, Any], shared: Shared) -> None:
        self.block, self.shared = Block.from_config(config), shared
        self.data = shared.dataset()
        self.options = options = {**shared.options, **config.get("options", {})}
        self.writer = TableWriter(shared.results, shared.experiment)
        self.recipe = recipe_of(options, rng_seed=options["rng_seed"])
        self.epochs, self.rate = int(options["epochs"]), float(options["learning_rate"])
        self.per_epoch = steps_per_epoch(len(self.data.train), self.recipe.batch_size)
        self.reference = Reference(self.data.validation, self.data.classes)
        self.epoch, self.seconds = 0, 0.0
        # Positions in the block of those that still train, and the rows of those that do not.
        self.alive: list[int] = []
        self.rows: list[dict[str, Any]] = []
        self.cohort: Cohort | None = None

    def step(self) -> dict[str, Any]:
        """As many epochs as fit in a stretch, at least one."""
        if self.cohort is None and not self.rows:
            self._start()
        started = time.perf_counter()
        while self.alive:
            self._train_epoch()
            if self._is_stretch(time.perf_counter() - started):
                break
        cost = self.epoch if self.alive else self.epochs
        return {
            "done": not self.alive,
            "name": self.block.name,
            "networks": len(self.rows),
            "cost": self.block.cost * cost / self.epochs,
            "best": {name: self._best_so_far(name) for name in CRITERIA},
        }

    def save(self, folder: Path) -> None:
        """Writes the cohort and the rows so far."""
        state: dict[str, Any] = {name: getattr(self, name) for name in ("epoch", "seconds", "alive", "rows")}
        if self.cohort is not None:
            arrays = self.cohort.to_arrays()
            state |= {name: arrays.pop(name) for name in SCALARS}
            save_file(arrays, folder / "cohort.safetensors")
        (folder / "state.json").write_text(json.dumps(state))

    def load(self, folder: Path) -> None:
        """Goes on exactly where `save` was."""
        state = json.loads((folder / "state.json").read_text())
        self.epoch, self.seconds = state["epoch"], state["seconds"]
        self.alive, self.rows = state["alive"], state["rows"]
        self.cohort = None
        if self.alive:
            arrays = load_file(folder / "cohort.safetensors")
            self.cohort = Cohort.from_arrays(
                {**arrays, **{name: state[name] for name in SCALARS}}, self._device
            )

    @property
    def _device(self) -> str:
        return self.shared.device

    def _is_stretch(self, seconds: float) -> bool:
        return seconds >= STRETCH_SECONDS

    def _start(self) -> None:
        """Builds the networks; one that cannot be built is a failed row."""
        states = []
        for position, member in enumerate(self.block.members):
            try:
                states.append(TrainState.fresh(build(member).to(self._device)))
                self.alive.append(position)
            except Exception as error:
                self._write_off(position, "failed", one_line(error))
        if states:
            self.cohort = Cohort(states, [self.rate] * len(states))
        else:
            self._write_networks()

    def _train_epoch(self) -> None:
        cohort = self.cohort
        assert cohort is not None
        started = time.perf_counter()
        schedule = cosine(1.0, 0, self.epochs * self.per_epoch)
        losses = cohort.train(self.data.train, self.recipe, self.per_epoch, schedule)
        self.epoch += 1
        culling = bool(self.options["cull"]) and is_culling_epoch(self.epoch, self.epochs)
        judged = self._judge(cohort, losses, with_units=culling or self.epoch == self.epochs)
        seconds = (time.perf_counter() - started) / len(self.alive)
        self.seconds += seconds
        self._write_epoch(judged, schedule(cohort.step - 1) * self.rate, seconds)
        if self.epoch == self.epochs:
            self._finish(cohort, judged)
            return
        self._drop(cohort, judged, culling)

    def _drop(self, cohort: Cohort, judged: list[dict[str, Any]], culling: bool) -> None:
        """Lets go of networks that diverged and, when networks are culled, of those that will not be among the best."""
        whole = [index for index, row in enumerate(judged) if not row["error"]]
        staying = whole
        if culling:
            going_on = survivors([judged[index] for index in whole], self.reference.chance)
            staying = [whole[index] for index in going_on]
        for index in sorted(set(range(len(judged))) - set(staying)):
            self.rows.append({**judged[index], "status": "culled" if index in whole else "failed"})
        if len(staying) < len(judged):
            self.alive = [self.alive[index] for index in staying]
            self.cohort = cohort.keep(staying) if staying else None
            if not staying:
                self._write_networks()

    def _judge(self, cohort: Cohort, losses: torch.Tensor, *, with_units: bool) -> list[dict[str, Any]]:
        """The networks in training as rows of their table, not yet with a status.

        with_units: what is known of their hidden units too.
        """
        found = cohort.evaluate(self.data.validation)
        units = self._unhealthy_units(cohort) if with_units else None
        bytes_of, macs_of = (cohort.bytes, cohort.macs) if with_units else ([], [])
        bad = cohort.diverged() | ~np.isfinite(found.loss) | ~torch.isfinite(losses).all(dim=1).cpu().numpy()
        means = losses.double().mean(dim=1).tolist()
        # Once for all: the cohort gathers both from its tiles every time it is asked.
        topologies, counts = cohort.topologies, cohort.parameters.tolist()
        rows = []
        for index, position in enumerate(self.alive):
            row = self._described(position, topologies[index].density)
            row |= {"parameters": counts[index], "epochs": self.epoch, "seconds": self.seconds}
            if bad[index]:
                row["error"] = f"training diverged in epoch {self.epoch}"
            else:
                row["train_loss"] = means[index]
                if units:
                    row |= {"saturated": int(units[0][index]), "dead": int(units[1][index])}
                    row |= {"bytes": bytes_of[index], "macs": macs_of[index]}
                judged = (found.accuracy, found.loss, found.balanced_accuracy)
                row |= self._quality(row, *(float(each[index]) for each in judged))
            rows.append(row)
        return rows

    def _quality(self, row: dict[str, Any], accuracy: float, loss: float, balanced: float) -> dict[str, Any]:
        """What a network is judged by: with patchability where its unhealthy units are known."""
        found = self.reference.columns(accuracy, loss, row["parameters"], balanced)
        if "dead" in row:
            health = row["saturated"], row["dead"], row["hidden_units"], accuracy
            found["patchability"] = patchability(*health, self.reference.chance)
        return found

    def _unhealthy_units(self, cohort: Cohort) -> tuple[np.ndarray, np.ndarray]:
        return cohort.unhealthy_units(diagnosis_sample(self.data.train, self.recipe.rng_seed, 0).images)

    def _described(self, position: int, density_real: float | None) -> dict[str, Any]:
        member = self.block.members[position]
        return {
            "trial": self.block.name,
            "network": member.key,
            **shape_columns(member.architecture),
            "density": member.density,
            "density_real": density_real,
            "rng_seed": member.rng_seed,
            "parameters_dense": parameters_dense(member.architecture),
            "hidden_units": hidden_units(member.architecture),
            "error": None,
        }

    def _write_epoch(self, judged: Sequence[dict[str, Any]], rate: float, seconds: float) -> None:
        names = ("trial", "network", "parameters", "train_loss", "loss", "accuracy")
        rows = [
            {name: row.get(name) for name in names}
            | {"epoch": self.epoch, "learning_rate": rate, "seconds": seconds}
            for row in judged
        ]
        self.writer.write("epochs", f"{self.block.name}-epoch-{self.epoch:04d}", rows)

    def _finish(self, cohort: Cohort, judged: list[dict[str, Any]]) -> None:
        for row in judged:
            row |= {"status": "failed" if row["error"] else "finished", "seconds": self.seconds}
        finished = [row for row in judged if row["status"] == "finished"]
        if self.options["keep_best"]:
            bests = [best(finished, name) for name in CRITERIA]
            chosen = {found["network"] for found in bests if found is not None}
            for index, row in enumerate(judged):
                if row["network"] in chosen:
                    self._keep(cohort.take(index), row)
        self.rows += judged
        self.alive, self.cohort = [], None
        self._write_networks()

    def _keep(self, state: TrainState, row: dict[str, Any]) -> None:
        """Saves a trained network, and measures it as whoever loads it will: its row must be reproduced exactly."""
        row["snapshot"] = self.shared.save(row["network"], state, self.data)
        alone = evaluate(state.network, self.data.validation)
        row |= self._quality(row, alone.accuracy, alone.loss, alone.balanced_accuracy)

    def _write_off(self, position: int, status: str, error: str) -> None:
        self.rows.append({**self._described(position, None), "status": status, "error": error, "epochs": 0})

    def _write_networks(self) -> None:
        self.writer.write("networks", self.block.name, sorted(self.rows, key=lambda row: row["network"]))

    def _best_so_far(self, criterion: str) -> tuple[float, str] | None:
        rows = [row for row in self.rows if row["status"] == "finished"]
        found = best(rows, criterion)
        value = None if found is None else amount(found, criterion)
        return None if found is None or value is None else (value, found["network"])


def build(member: Member) -> StructNet:
    """The network of a member, as it begins."""
    return StructNet(
        member.architecture, member.density, rng_seed=member.rng_seed, allocation=member.allocation
    )
