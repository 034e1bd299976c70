"""TournamentWork: a whole tournament as one trial of a sweep."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import ray

from search.commands.grow.command import GrowOptions
from search.commands.grow.outcome import final_columns, write_answers
from search.commands.grow.run import tournament_of
from search.session.experiment import Experiment
from search.tune.trials import StoredArrays
from structnet.data.dataset import Dataset
from structnet.errors import WorkFailed, one_line
from structnet.trials.work import Shared
from tournament.workers.pool import InlinePool, Pool, RayPool

TOLD = ("status", "accuracy", "parameters", "parameter_steps_all", "seconds")


class TournamentWork:
    """One tournament, in one stretch. After every round its rows and a snapshot are there, so a retry goes on.

    config: `name` of the trial, and the `options` of grow, fitted to the data, with the rng_seed of this one.
    shared.options: those of the sweep; `workers_each` is how many actors the trial's placement group has room for
    beside the trial, and with 0 the tournament runs in the trial's own process.
    """

    def __init__(self, config: dict[str, Any], shared: Shared) -> None:
        self.name, self.shared = config["name"], shared
        self.options = GrowOptions(**config["options"])
        self.told: dict[str, Any] | None = None

    def step(self) -> dict[str, Any]:
        """The tournament from where it is to its end."""
        if self.told is None:
            row = self._row()
            self.told = {"done": True, "name": self.name} | {name: row.get(name) for name in TOLD}
        return self.told

    def save(self, folder: Path) -> None:
        """Writes what it has to report; the rounds are in the tables, and their snapshots beside them."""
        (folder / "told.json").write_text(json.dumps(self.told))

    def load(self, folder: Path) -> None:
        """Takes that up again."""
        self.told = json.loads((folder / "told.json").read_text())

    def _row(self) -> dict[str, Any]:
        """Runs the tournament; its row of the experiments table."""
        name, seed = self.name, self.options.rng_seed
        experiment = _experiment_of(self.options, self.shared)
        if before := experiment.finished(name):
            return before
        experiment.start(name, seed)
        # Forks train where the actors are; here the data only says what their measures are about.
        data = replace(self.shared, device="cpu").dataset()
        folder = f"{self.shared.results}/snapshots/{self.shared.experiment}/{name}"
        try:
            with _pool(data, self.shared) as pool:
                tournament = tournament_of(self.options, data, experiment, pool, seed, name, folder)
                result = tournament.run(resume=True)
            write_answers(experiment, name, result, data)
        except Exception as error:
            experiment.end(name, "failed", error=one_line(error))
            # To diverge is what comes of this setting; anything else is tried again.
            if not (isinstance(error, WorkFailed) and "Diverged" in str(error)):
                raise
        else:
            experiment.end(name, "finished", **final_columns(result, data))
        return experiment.rows[name]


def _experiment_of(options: GrowOptions, shared: Shared) -> Experiment:
    """The sweep as its driver wrote it, with these options as the config of the rows to come."""
    here = options.model_copy(update={"name": shared.experiment, "results": shared.results, "resume": True})
    experiment = Experiment("sweep", here, shared.options, joins=True)
    experiment.config = options.model_dump(mode="json")
    return experiment


@contextmanager
def _pool(data: Dataset, shared: Shared) -> Iterator[Pool]:
    """The actors of this process, which its later trials use too; or a pool without actors."""
    if shared.options["workers_each"]:
        assert isinstance(shared.packed, StoredArrays)
        yield _actors(shared.packed.handle, shared.options["workers_each"], shared.device)
        return
    pool = InlinePool(data, shared.device)
    try:
        yield pool
    finally:
        pool.close()


@lru_cache(maxsize=1)
def _actors(packed: ray.ObjectRef, workers: int, device: str) -> RayPool:
    """As many actors as the placement group of the trial has room for: one more would wait for ever.

    A process keeps its group from trial to trial, and its actors end with it.
    """
    group = ray.util.get_current_placement_group()
    share = group.bundle_specs[0] if group else {"CPU": 1}
    return RayPool(
        packed,
        len(group.bundle_specs) if group else workers,
        cpus_per_worker=share.get("CPU", 0),
        gpus_per_worker=share.get("GPU", 0),
        device=device,
    )
