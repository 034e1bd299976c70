"""RescueWork: the arms of a cliff rescue for one rng_seed, as one trial."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from structnet.actions import ACTIONS
from structnet.actions.base import Context
from structnet.experiments.rescue import ARMS, ArmResult, Rescue, RescuePlan, best_site
from structnet.measure.diagnosis import diagnose
from structnet.network.architecture import sizes_of
from structnet.network.state import TrainState
from structnet.seeds import stream
from structnet.storage.tables import TableWriter
from structnet.training.batches import DIAGNOSIS_IMAGES
from structnet.training.evaluation import chance_accuracy
from structnet.training.loop import Diverged
from structnet.training.recipe import recipe_of
from structnet.trials.champions import efficiency
from structnet.trials.rows import shape_columns, structure_columns
from structnet.trials.work import Shared

STRETCH_SECONDS = 5.0


class RescueWork:
    """Trains every arm (structnet.experiments.rescue), then writes their rows, and a snapshot of the grown network.

    config: name, rng_seed. shared.options: those of `rescue`, fitted to the data. If training diverges, that arm
    and those after it are failed rows.
    """

    def __init__(self, config: dict[str, Any], shared: Shared) -> None:
        self.name, self.shared = config["name"], shared
        self.data = shared.dataset()
        self.test = Rescue(self.data, plan_of(shared.options, config["rng_seed"]), device=shared.device)
        self.chance = chance_accuracy(self.data.validation.labels, self.data.classes)
        self.seconds = dict.fromkeys(ARMS, 0.0)
        self.error: str | None = None

    def step(self) -> dict[str, Any]:
        """As much as fits in a stretch, at least one step of the test."""
        started = time.perf_counter()
        while not self._done:
            self._train()
            if time.perf_counter() - started >= STRETCH_SECONDS:
                break
        if self._done:
            self._write()
        arms = {result.arm: result.accuracy for result in self.test.results}
        told = {"done": self._done, "name": self.name, "networks": len(arms)}
        return told | {"arms": arms, "error": self.error}

    def save(self, folder: Path) -> None:
        """Writes the test, and what it took so far."""
        # What diverged is not gone on with, and its values are nothing to save.
        if self.error is None:
            self.test.save(folder)
        (folder / "state.json").write_text(json.dumps({"seconds": self.seconds, "error": self.error}))

    def load(self, folder: Path) -> None:
        """Goes on exactly where `save` was."""
        state = json.loads((folder / "state.json").read_text())
        self.seconds, self.error = state["seconds"], state["error"]
        if self.error is None:
            self.test.load(folder)

    @property
    def _done(self) -> bool:
        return self.test.done or self.error is not None

    def _train(self) -> None:
        arm, started = self.test.arm, time.perf_counter()
        try:
            self.test.step()
        except Diverged as error:
            self.error = f"{arm}: {error}"
        self.seconds[arm] += time.perf_counter() - started

    def _write(self) -> None:
        found = {result.arm: result for result in self.test.results}
        rows = [self._key(arm) | (self._row(found[arm]) if arm in found else self._failed()) for arm in ARMS]
        TableWriter(self.shared.results, self.shared.experiment).write("networks", self.name, rows)

    def _key(self, arm: str) -> dict[str, Any]:
        plan = self.test.plan
        return {"trial": self.name, "network": arm, "rng_seed": plan.rng_seed, "density": plan.density}

    def _row(self, result: ArmResult) -> dict[str, Any]:
        return {
            **structure_columns(result.network),
            "epochs": self.test.plan.epochs,
            "loss": result.loss,
            "accuracy": result.accuracy,
            "information": result.information,
            "efficiency": efficiency(result.accuracy, self.chance, result.parameters),
            "status": "finished",
            "seconds": self.seconds[result.arm],
            "snapshot": self._saved(result) if result.arm == "growth" else None,
        }

    def _failed(self) -> dict[str, Any]:
        return {**shape_columns(self.test.plan.architecture), "status": "failed", "error": self.error}

    def _saved(self, result: ArmResult) -> str:
        return self.shared.save(f"{self.name}-{result.arm}", TrainState.fresh(result.network), self.data)


def plan_of(options: dict[str, Any], rng_seed: int) -> RescuePlan:
    """The test of one rng_seed; raises UserError for what cannot be."""
    return RescuePlan(
        sizes_of(options["architecture"]),
        options["density"],
        options["mechanism"],
        options["budget"],
        rng_seed,
        options["allocation"],
        options["epochs"],
        options["growths"],
        options["learning_rate"],
        recipe_of(options),
    )


def finds_a_site(test: Rescue) -> bool:
    """Whether the mechanism can add anything to the untrained start, if it may spend the whole budget at once."""
    plan, train = test.plan, test.data.train
    first = train.part(0, DIAGNOSIS_IMAGES)
    diagnosis = diagnose(test.state.network, first.images, first.labels)
    rng = stream(plan.rng_seed, "rescue probe")
    context = Context(test.state, diagnosis, (plan.budget,), plan.learning_rate, rng)
    return best_site(ACTIONS[plan.mechanism].propose(context), plan.budget, 1) is not None
