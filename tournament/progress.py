"""Where a tournament stands between two rounds: small, JSON, and all that a resume needs beside the network."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from structnet.data.dataset import Dataset
from structnet.errors import UserError
from structnet.network.state import TrainState
from structnet.storage.snapshot import (
    check_preprocessing,
    list_snapshots,
    load_snapshot,
    remove_snapshot,
    save_snapshot,
)
from structnet.storage.tables import TableWriter, read_table
from structnet.training.recipe import Recipe
from tournament.workers.fork import Arrays


@dataclass
class Progress:
    """How far a tournament has come.

    round: the last one that ended. step: along the winning line. earned_until: the step up to which credits
    are in the balance. quiet_rounds: rounds in a row in which nothing was significant. phase: growing, final
    or done. reason: why growth ended. final_size and final_largest: parameters when the final phase began, and at
    most. final_earned: credits earned in it so far. audits: the fields of every Audit so far; scores:
    [action, size class, score] of every fork so far, where screening learns from them. scale: which of the scales the
    input has. seconds_per_step: of the line, by the clock. best_accuracy: on validation after any round so far, first
    in best_round. grown_size and grown_architecture: when growth
    ended. final_limit: what the final phase prunes to, where a size
    was asked for, and final_cost its parameter-steps so far. front: rows of the fronts table, of the sizes that were
    reached before it. hidden: the hidden groups as they were before anything was pruned, shape_move: what led to them
    in a contest of shapes, and cycles: final phases that were begun, where there is one size. pauses: rounds that
    could afford no forks. insisted: whether a target that was missed by little has had its long phase. begins_with:
    the round whose network the next phase begins with; -1: the last. growths: [round, step, action, site] of what was
    adopted and added parameters. smaller_batches: [round, images] where memory ran out and batches were halved.
    """

    round: int = 0
    step: int = 0
    steps_all: int = 0
    parameter_steps: int = 0
    parameter_steps_all: int = 0
    balance: float = 0.0
    earned_until: int = 0
    quiet_rounds: int = 0
    phase: str = "growing"
    reason: str = ""
    final_start: int = 0
    final_stop: int = 0
    final_size: int = 0
    final_largest: int = 0
    final_earned: float = 0.0
    grown_size: int = 0
    grown_architecture: list[int] = field(default_factory=list)
    final_limit: int = 0
    final_cost: int = 0
    front: list[dict[str, Any]] = field(default_factory=list)
    hidden: list[int] = field(default_factory=list)
    shape_move: str = ""
    cycles: int = 0
    pauses: int = 0
    insisted: bool = False
    begins_with: int = -1
    seconds: float = 0.0
    audits: list[list[Any]] = field(default_factory=list)
    scores: list[list[Any]] = field(default_factory=list)
    scale: int = 0
    seconds_per_step: float = 0.0
    best_accuracy: float = -1.0
    best_round: int = 0
    growths: list[list[Any]] = field(default_factory=list)
    smaller_batches: list[list[int]] = field(default_factory=list)

    def trained_by(self, recipe: Recipe) -> Recipe:
        """The recipe with the batches of now, where memory ran out and they were halved."""
        return replace(recipe, batch_size=self.smaller_batches[-1][1]) if self.smaller_batches else recipe

    def spend(self, steps: int, parameters: int, *, winning: bool) -> None:
        """Accounts for training: along the winning line, or a fork, control or screening beside it."""
        self.steps_all += steps
        self.parameter_steps_all += steps * parameters
        if winning:
            self.step += steps
            self.parameter_steps += steps * parameters


@dataclass
class Checkpoint:
    """Snapshots of one tournament, under RESULTS/snapshots/NAME/. No id is ever written twice.

    `round-0007` is the network after round 7; `round-0007-step-00005000` a stretch of the final phase that
    follows, kept until the next one is written. So the names sort by age.
    """

    folder: str
    data: Dataset

    def path(self, name: str) -> str:
        """Where a snapshot of this name lies, without its ending."""
        return f"{self.folder}/{name}"

    def save_round(self, arrays: Arrays, progress: Progress) -> str:
        """Writes network, optimizer state and progress after a round; returns the path without its ending."""
        return self._save(f"round-{progress.round:04d}", arrays, progress)

    def save_stretch(self, arrays: Arrays, progress: Progress) -> None:
        """The same between two rounds, in place of the stretch before."""
        before = [name for name in list_snapshots(self.folder) if "-step-" in name]
        self._save(f"round-{progress.round:04d}-step-{progress.step:08d}", arrays, progress)
        for name in before:
            remove_snapshot(self.path(name))

    def arrays_after(self, number: int) -> Arrays:
        """The state after a round. Raises UserError if its snapshot is missing or damaged."""
        return load_snapshot(self.path(f"round-{number:04d}")).state.to_arrays()

    def newest(self, until: float = math.inf) -> tuple[Arrays, Progress] | None:
        """Arrays and progress of the newest snapshot that can be read, of those up to a round; None if there is none.

        One that was cut short is passed over for the one before it. Raises UserError if every one is damaged, or
        if it was trained on data of another preprocessing.
        """
        damage, later = None, False
        for name in reversed(list_snapshots(self.folder)):
            try:
                snapshot = load_snapshot(self.path(name))
            except UserError as error:
                damage = damage or error
                continue
            check_preprocessing(snapshot, self.data)
            progress = Progress(**snapshot.metadata["progress"])
            if progress.round <= until:
                return snapshot.state.to_arrays(), progress
            later = True
        if damage and not later:
            raise damage
        return None

    def _save(self, name: str, arrays: Arrays, progress: Progress) -> str:
        path = self.path(name)
        save_snapshot(
            path,
            TrainState.from_arrays(arrays),
            preprocessing=self.data.preprocessing,
            class_names=self.data.class_names,
            metadata={"progress": asdict(progress)},
        )
        return path


def last_whole_round(writer: TableWriter, trial: str) -> int:
    """The round up to which all rows of a trial are in the tables; -1 if not even those of round 0 are.

    A part may be damaged though the snapshot after it is whole: its rows come back only if the round is repeated.
    """

    def rows(table: str) -> list[dict[str, Any]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of parts that are damaged: they are written again
            found = read_table(writer.results, table, writer.experiment, skip_damaged=True).to_pylist()
        return [row for row in found if row["trial"] == trial]

    rounds = {row["round"]: row for row in rows("rounds")}
    played = {row["round"] for row in rows("candidates")}
    last = -1
    while (row := rounds.get(last + 1)) and (not row["candidates"] or row["round"] in played):
        last += 1
    return last


class Clock:
    """Seconds of work, counted on over a resume."""

    def __init__(self, before: float = 0.0) -> None:
        self._started = time.monotonic() - before

    def seconds(self) -> float:
        """Of work until now, with those before the resume."""
        return time.monotonic() - self._started
