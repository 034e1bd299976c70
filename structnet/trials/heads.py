"""HeadsWork: a warmed-up model that loses attention heads by a strategy and trains on.

All strategies and levels of an rng_seed begin with the same warmed-up model and see the same batches, and all have the
same steps to spend: what a strategy scores and what it tries out is paid from them (`steps_all`), the rest trains the
model.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from structnet.errors import WorkFailed
from structnet.heads.building import decoder_of, model_of, read_state, write_state
from structnet.heads.contest import (
    EXCHANGE,
    Fork,
    Heat,
    RunForks,
    apply,
    columns_of,
    forks_of,
    results_of,
    run_here,
    winner_of,
)
from structnet.heads.layers import HeadModel
from structnet.heads.layout import model_place, write_layout
from structnet.heads.sampling import samples_of
from structnet.heads.scores import SCORES, Measured, Scores, chosen, heads_to_remove, measure
from structnet.heads.strategies import TOURNAMENT, Event, events_of, strategy_named
from structnet.heads.surgery import Head
from structnet.heads.training import (
    SCORED_BATCHES,
    judge,
    scoring_batches,
    train,
)
from structnet.seeds import stream
from structnet.storage.tables import TableWriter
from structnet.training.evaluation import Evaluation
from structnet.training.schedules import cosine
from structnet.trials.head_warm_up import STRETCH_SECONDS, quality_columns, tuning_of, warm_up_place
from structnet.trials.work import Shared

FINE_TUNING = "fine_tuning"
SCORING_STEPS = 2 * SCORED_BATCHES  # what it costs to score all heads: the backward passes of so many steps
FLOOR = 0.1  # of the learning rate at the end

# What a resume needs beside the model.
SAVED = (
    "spent",
    "done_events",
    "parameter_steps",
    "seconds",
    "gone",
    "rows",
    "losses",
    "pruned",
    "samples",
    "is_done",
)


class HeadsWork:
    """Removes heads of a warmed-up model by a strategy and trains on, until the steps are spent.

    config: name, strategy, level, rng_seed. run_forks: where the heats of a tournament are run. Test data is read once,
    at the end. A network that diverges is a failed row.
    """

    def __init__(self, config: dict[str, Any], shared: Shared, run_forks: RunForks = run_here) -> None:
        self.name, self.level, self.rng_seed = config["name"], config["level"], config["rng_seed"]
        self.strategy = strategy_named(config["strategy"])
        self.shared, self.options, self.run_forks = shared, shared.options, run_forks
        self.data = shared.dataset()
        self.tuning = tuning_of(self.options, self.rng_seed)
        self.state, self.warm = read_state(warm_up_place(shared, self.rng_seed), self._fresh())
        self.before = {layer: list(one.kept) for layer, one in enumerate(self.state.model.layers)}
        self.warm_steps = self.state.step
        count = heads_to_remove(self.state.model, self.level) if self.level else 0
        self.events = events_of(self.strategy, count, self.options["stages"])
        self.spent, self.done_events, self.parameter_steps, self.seconds = 0, 0, 0, 0.0
        self.gone: list[list[int]] = []
        self.rows: dict[str, list[dict[str, Any]]] = {"epochs": [], "decisions": [], "candidates": []}
        self.losses: list[float] = []
        self.pruned: dict[str, Any] = {}
        self.samples: dict[str, str] = dict(self.warm["samples"])
        self.is_done = False

    def step(self) -> dict[str, Any]:
        """A stretch; at the end all rows and the files."""
        started = time.perf_counter()
        error = ""
        try:
            while not self.is_done:
                self._go_on()
                if time.perf_counter() - started >= STRETCH_SECONDS:
                    break
        except WorkFailed as failure:
            self.is_done, error = True, str(failure)
        self.seconds += time.perf_counter() - started
        if error:
            self._fail(error)
        elif self.is_done:
            self._end()
        return {
            "done": self.is_done,
            "name": self.name,
            "networks": int(self.is_done),
            "steps": self.spent,
            "loss": self.losses[-1] if self.losses else self.warm["loss"],
        }

    def _go_on(self) -> None:
        """What comes next: a removal that is due, training, or the end."""
        event = self._event_due()
        if event is not None:
            self._remove(event)
            self.done_events += 1
        elif self.spent < self.options["steps"]:
            self._train()
        else:
            self.is_done = True

    def save(self, folder: Path) -> None:
        """Writes the model, and where it is."""
        write_state(str(folder / "state"), self.state)
        (folder / "place.json").write_text(json.dumps({name: getattr(self, name) for name in SAVED}))

    def load(self, folder: Path) -> None:
        """Goes on exactly where `save` was."""
        self.state, _ = read_state(str(folder / "state"), self._fresh())
        for name, value in json.loads((folder / "place.json").read_text()).items():
            setattr(self, name, value)

    def _fresh(self) -> HeadModel:
        return model_of(self.options, self.data, self.rng_seed, self.shared.device)

    # What is trained

    def _rate(self, spent: int) -> float:
        return cosine(self.options["learning_rate"], 0, self.options["steps"], floor=FLOOR)(spent)

    def _train(self) -> None:
        """To the next event, judgement or end, whichever comes first."""
        every, total = self.options["evaluation_steps"], self.options["steps"]
        points = [total, self.spent + every - self.spent % every]
        points += [round(event.share * total) for event in self.events[self.done_events :]]
        steps = max(1, min(points) - self.spent)
        ahead = self.spent - self.state.step
        found = train(self.state, self.data.train, self.tuning, steps, lambda step: self._rate(step + ahead))
        self.losses += found.tolist()
        self.spent += steps
        self.parameter_steps += steps * self.state.parameters
        if self.spent % every == 0 or self.spent == total:
            self._note(judge(self.state.model, self.data.validation))

    def _note(self, judged: Evaluation) -> None:
        self.rows["epochs"].append(
            {
                "trial": self.name,
                "network": self.name,
                "epoch": len(self.rows["epochs"]) + 1,
                "parameters": self.state.parameters,
                "learning_rate": self._rate(self.spent),
                "train_loss": float(np.mean(self.losses[-self.options["evaluation_steps"] :])),
                "loss": judged.loss,
                "accuracy": judged.accuracy,
                "phase": FINE_TUNING,
            }
        )

    # What is removed

    def _event_due(self) -> Event | None:
        if self.done_events == len(self.events):
            return None
        event = self.events[self.done_events]
        return event if self.spent >= round(event.share * self.options["steps"]) else None

    def _remove(self, event: Event) -> None:
        """Takes out what the event says, chosen by the strategy."""
        model, count = self.state.model, event.gone - len(self.gone)
        keys = (self.rng_seed, self.spent)
        measured = measure(model, scoring_batches(self.data.train, self.tuning, self.spent))
        before = judge(model, self.data.validation)
        if self.strategy.kind == TOURNAMENT:
            fork, scores = self._contest(measured, count, keys)
        else:
            scores = SCORES[self.strategy.score](measured, stream(keys[0], "random heads", *keys[1:]))
            fork = Fork(self.strategy.score, tuple(chosen(scores, count, model, self.options["floor"])))
            apply(self.state, fork, keys)
            # Whoever asks nobody pays nothing.
            self._spend(0 if self.strategy.score == "random" else SCORING_STEPS)
        after = judge(self.state.model, self.data.validation)
        self.pruned = {"loss": after.loss, "accuracy": after.accuracy}
        self._sample("pruning")
        self.gone = [head for head in self.gone if tuple(head) not in fork.regrown]
        self.gone += [list(head) for head in fork.removed]
        self.rows["decisions"] += self._decisions(fork, scores, keys[1], before, after)

    def _sample(self, phase: str) -> None:
        """What the model says now is what it said last in this phase."""
        decode = decoder_of(self.options, self.data)
        self.samples[phase] = samples_of(self.state.model, self.data, self.rng_seed, decode)

    def _spend(self, steps: int) -> None:
        """What does not train the model is paid for as well."""
        self.spent += steps
        self.parameter_steps += steps * self.state.parameters

    def _contest(self, measured: Measured, count: int, keys: tuple[int, ...]) -> tuple[Fork, Scores]:
        """A round of the tournament: its winner is the model afterwards."""
        model, steps = self.state.model, self.options["heat_steps"]
        gone: list[Head] = [(head[0], head[1]) for head in self.gone]
        forks = forks_of(measured, count, model, self.options["floor"], gone, keys)
        heat = Heat(self.tuning, steps, self._rate(self.spent), keys)
        cost = steps * len(forks)
        to_score = SCORING_STEPS * (len(self.events) - self.done_events)
        rng = stream(keys[0], "random heads", *keys[1:])
        if len(forks) == 2 or self.spent + to_score + cost >= self.options["steps"]:
            # One set is no contest, and one that cannot be paid for, with a step to train in the end, is not held.
            fork = Fork(
                "saliency",
                tuple(chosen(SCORES["saliency"](measured, rng), count, model, self.options["floor"])),
            )
            apply(self.state, fork, keys)
            self._spend(SCORING_STEPS)
            return fork, SCORES["saliency"](measured, rng)
        before = self.state.parameters
        results = results_of(self.run_forks(self.state, forks, heat, self.data))
        won = winner_of(results)
        if won is None or won.trained.state is None:
            raise WorkFailed(f"all {len(forks) - 1} forks of {self.name} failed: {results[1].trained.error}")
        self._spend(SCORING_STEPS + cost)
        self.state = won.trained.state
        number = self.done_events + 1
        about = {"trial": self.name, "round": number, "parameters_before": before, "rng_seed": self.rng_seed}
        self.rows["candidates"] += [{**about, **row} for row in columns_of(results, won, steps)]
        fork = won.trained.fork
        return fork, SCORES["saliency" if fork.name == EXCHANGE else fork.name](measured, rng)

    def _decisions(
        self, fork: Fork, scores: Scores, step: int, before: Evaluation, after: Evaluation
    ) -> list[dict[str, Any]]:
        """A row for every head that there was, and those that came back."""
        name = f"{TOURNAMENT}:{fork.name}" if self.strategy.kind == TOURNAMENT else fork.name
        rows = []
        for head in sorted({*scores, *fork.regrown}):
            removed = head in fork.removed
            rows.append(
                {
                    "trial": self.name,
                    "network": self.name,
                    "step": step,
                    "layer": head[0],
                    "index": head[1],
                    "method": name,
                    "value": scores.get(head),
                    "removed": removed,
                    "regrown": head in fork.regrown,
                    "loss": before.loss if removed else None,
                    "loss_without": after.loss if removed else None,
                    "accuracy": before.accuracy if removed else None,
                    "accuracy_without": after.accuracy if removed else None,
                }
            )
        return rows

    # What is left

    def _end(self) -> None:
        model = self.state.model
        found, test = (judge(model, split) for split in (self.data.validation, self.data.test))
        writer = TableWriter(self.shared.results, self.shared.experiment)
        for table, rows in self.rows.items():
            if rows:
                writer.write(table, self.name, rows)
        place = f"reports/{self.shared.experiment}/{self.name}"
        snapshot = f"{self.options['results']}/{place}/{model_place(self.options)}"
        row = self._network_row(found, test) | {"snapshot": snapshot}
        self._sample("final")
        folder = f"{self.shared.results}/{place}"
        write_layout(folder, self.state, row, self.warm, self.rows, self.losses, self.samples, self.options)
        # Last, as whoever has this row is done.
        writer.write("networks", self.name, [row])

    def _fail(self, error: str) -> None:
        """To diverge is what comes of a setting: a row, and the other networks go on."""
        row = {
            "trial": self.name,
            "network": self.name,
            "rng_seed": self.rng_seed,
            "method": self.strategy.name,
            "level": self.level,
            "parameters": self.state.parameters,
            "steps_all": self.spent,
            "parameter_steps": self.parameter_steps,
            "seconds": self.seconds,
            "status": "failed",
            "error": error,
        }
        TableWriter(self.shared.results, self.shared.experiment).write("networks", self.name, [row])

    def _network_row(self, found: Evaluation, test: Evaluation) -> dict[str, Any]:
        model, baseline = self.state.model, self.warm["loss"]
        pruned = self.pruned.get("loss")
        fallen = None if pruned is None or pruned <= baseline else (pruned - found.loss) / (pruned - baseline)
        removed = [len(self.before[layer]) - one.heads for layer, one in enumerate(model.layers)]
        return {
            "trial": self.name,
            "network": self.name,
            "rng_seed": self.rng_seed,
            "method": self.strategy.name,
            "level": self.level,
            "heads": sum(one.heads for one in model.layers),
            "heads_removed": removed,
            "parameters": self.state.parameters,
            "epochs": len(self.rows["epochs"]),
            "train_loss": float(np.mean(self.losses[-self.options["evaluation_steps"] :])),
            **quality_columns(self.data, found, self.state.parameters),
            "baseline_loss": baseline,
            "pruned_loss": pruned,
            "recovery": fallen,
            "stabilised_at": self.warm_steps,
            "stabilised_by": self.warm["reason"],
            "steps": self.state.step - self.warm_steps,
            "steps_all": self.spent,
            "parameter_steps": self.parameter_steps,
            "test_loss": test.loss,
            "test_accuracy": test.accuracy,
            "seconds": self.seconds,
            "status": "finished",
        }
