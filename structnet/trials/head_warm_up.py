"""WarmUpWork: the model that heads are removed from, trained until its loss has stabilised."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from structnet.data.dataset import Dataset
from structnet.heads.building import decoder_of, model_of, read_state, write_state
from structnet.heads.sampling import samples_of
from structnet.heads.scores import Measured, Scores, measure
from structnet.heads.stabilisation import stabilised
from structnet.heads.training import HeadState, Tuning, judge, scoring_batches, train
from structnet.storage.tables import TableWriter
from structnet.training.evaluation import Evaluation
from structnet.trials.rows import Reference
from structnet.trials.work import Shared

STRETCH_SECONDS = 10.0
WARM_UP = "warm_up"
LOOKS = 10  # steps between two looks at whether the loss has stabilised
SCORES = ("gradient", "entropy", "saliency")
RISE = 100  # steps over which the learning rate rises, or a quarter of all where that is less


def warm_up_name(rng_seed: int) -> str:
    """Of its trial, network and snapshot."""
    return f"{WARM_UP}_s{rng_seed}"


def warm_up_place(shared: Shared, rng_seed: int) -> str:
    """The path of its snapshot."""
    return f"{shared.results}/snapshots/{shared.experiment}/{warm_up_name(rng_seed)}"


def tuning_of(options: Mapping[str, Any], rng_seed: int) -> Tuning:
    """How steps are made, by the options of `heads`."""
    return Tuning(options["batch_size"], rng_seed, options["touched_rate"], options["ramp"])


def quality_columns(data: Dataset, found: Evaluation, parameters: int) -> dict[str, Any]:
    """How good a model is; of images also what that is against the entropy of their labels."""
    if data.train.labels.dim() == 2:
        return {"accuracy": found.accuracy, "loss": found.loss}
    return Reference(data.validation, data.classes).columns(found.accuracy, found.loss, parameters)


def by_row(values: Scores) -> list[list[Any]]:
    """Scores as plain rows of layer, number and value."""
    return [[layer, number, value] for (layer, number), value in values.items()]


class WarmUpWork:
    """Trains a model until its loss has stabilised, in one trial for each rng_seed, and leaves it as a snapshot.

    config: name, rng_seed. shared.options: those of `heads`, fitted to the data.
    """

    def __init__(self, config: dict[str, Any], shared: Shared) -> None:
        self.name, self.rng_seed, self.shared = config["name"], config["rng_seed"], shared
        self.options = shared.options
        self.data = shared.dataset()
        self.tuning = tuning_of(self.options, self.rng_seed)
        self.state = HeadState.fresh(model_of(self.options, self.data, self.rng_seed, shared.device))
        self.losses: list[float] = []
        self.rows: list[dict[str, Any]] = []
        self.reason: str | None = None
        self.seconds = 0.0
        self.first = judge(self.state.model, self.data.validation).loss
        self.samples = {"baseline": self._said()}

    def step(self) -> dict[str, Any]:
        """A stretch of training; at the end its rows and the snapshot."""
        started = time.perf_counter()
        while self.reason is None:
            self._train()
            if time.perf_counter() - started >= STRETCH_SECONDS:
                break
        self.seconds += time.perf_counter() - started
        if self.reason is not None:
            self._end()
        return {
            "done": self.reason is not None,
            "name": self.name,
            "networks": int(self.reason is not None),
            "steps": self.state.step,
            "loss": self.losses[-1],
        }

    def save(self, folder: Path) -> None:
        """Writes the model, its losses and rows."""
        write_state(str(folder / "state"), self.state)
        names = ("losses", "rows", "reason", "seconds", "first", "samples")
        (folder / "place.json").write_text(json.dumps({name: getattr(self, name) for name in names}))

    def load(self, folder: Path) -> None:
        """Goes on exactly where `save` was."""
        fresh = model_of(self.options, self.data, self.rng_seed, self.shared.device)
        self.state, _ = read_state(str(folder / "state"), fresh)
        for name, value in json.loads((folder / "place.json").read_text()).items():
            setattr(self, name, value)

    def _said(self) -> str:
        return samples_of(self.state.model, self.data, self.rng_seed, decoder_of(self.options, self.data))

    def _train(self) -> None:
        """To the next look at the losses."""
        most, rate = self.options["warm_up_steps"], self.options["learning_rate"]
        rise = max(1, min(RISE, most // 4))
        steps = min(LOOKS, most - self.state.step)
        found = train(
            self.state, self.data.train, self.tuning, steps, lambda step: rate * min(1.0, (step + 1) / rise)
        )
        self.losses += found.tolist()
        # While the rate still rises, no loss has settled.
        self.reason = stabilised(self.losses, least=2 * rise)
        if self.reason is None and self.state.step >= most:
            self.reason = "limit"
        if self.reason or self.state.step % self.options["evaluation_steps"] < LOOKS:
            judged = judge(self.state.model, self.data.validation)
            self.rows.append(
                {
                    "trial": self.name,
                    "network": self.name,
                    "epoch": len(self.rows) + 1,
                    "parameters": self.state.parameters,
                    "learning_rate": rate,
                    "train_loss": float(np.mean(self.losses[-self.options["evaluation_steps"] :])),
                    "loss": judged.loss,
                    "accuracy": judged.accuracy,
                    "phase": WARM_UP,
                }
            )

    def _end(self) -> None:
        model, data, step = self.state.model, self.data, self.state.step
        measured = measure(model, scoring_batches(data.train, self.tuning, step))
        judged = judge(model, data.validation)
        about = {
            "reason": self.reason,
            "losses": self.losses,
            "first_loss": self.first,
            "loss": judged.loss,
            "accuracy": judged.accuracy,
            "scores": {name: by_row(getattr(measured, name)) for name in SCORES},
            "samples": {**self.samples, "warmup": self._said()},
        }
        write_state(warm_up_place(self.shared, self.rng_seed), self.state, about)
        writer = TableWriter(self.shared.results, self.shared.experiment)
        writer.write("epochs", self.name, self.rows)
        writer.write("head_scores", self.name, self._score_rows(measured))
        row = {
            "trial": self.name,
            "network": self.name,
            "rng_seed": self.rng_seed,
            "method": WARM_UP,
            "parameters": self.state.parameters,
            "heads": sum(layer.heads for layer in model.layers),
            "epochs": len(self.rows),
            "train_loss": self.losses[-1],
            **quality_columns(data, judged, self.state.parameters),
            "stabilised_at": step,
            "stabilised_by": self.reason,
            "steps": step,
            "steps_all": step,
            "parameter_steps": step * self.state.parameters,
            "seconds": self.seconds,
            "status": "finished",
            "snapshot": f"{self.options['results']}/snapshots/{self.shared.experiment}/{self.name}",
        }
        writer.write("networks", self.name, [row])

    def _score_rows(self, measured: Measured) -> list[dict[str, Any]]:
        """Of every head what the scores say of it."""
        return [
            {"trial": self.name, "network": self.name, "layer": layer, "index": number}
            | {name: getattr(measured, name)[layer, number] for name in SCORES}
            for layer, number in measured.gradient
        ]
