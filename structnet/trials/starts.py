"""StartWork: a way to start a larger network and its controls, trained for one rng_seed.

`hierarchical`: from the small network that was found (structnet.growth.hierarchy). `scales`: coarse to fine
(structnet.growth.scales). Every arm is a row of `networks`; the small network and the method's arm are saved as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from structnet.data.dataset import Dataset
from structnet.experiments.initialisation import Arm, compare_coarse_to_fine, compare_hierarchical
from structnet.network.architecture import sizes_of
from structnet.network.state import TrainState
from structnet.storage.tables import TableWriter, list_parts
from structnet.training.batches import steps_per_epoch
from structnet.training.cohort import Cohort
from structnet.training.evaluation import evaluate
from structnet.training.loop import Diverged
from structnet.training.recipe import Recipe, recipe_of
from structnet.training.schedules import cosine
from structnet.trials.cohort import build
from structnet.trials.grid import Member
from structnet.trials.rows import Reference, shape_columns, structure_columns
from structnet.trials.work import Shared

SMALL = "small"


@dataclass(frozen=True)
class Comparison:
    """A step of `bootstrap`: its title, the arm that is tested, its control, and what every arm is."""

    title: str
    method: str
    control: str
    arms: Mapping[str, str]


COMPARISONS = {
    "hierarchical": Comparison(
        "Hierarchical initialisation",
        "hierarchical",
        "random",
        {
            "hierarchical": "the small network inside, the rest placed by data",
            "untrained": "the same, but from the small network before training",
            "nested": "the small network inside, the rest at random",
            "random": "from nothing",
            "random_longer": "from nothing, as dear as hierarchical and the small one together",
        },
    ),
    "scales": Comparison(
        "Coarse to fine",
        "coarse_to_fine",
        "fixed",
        {
            "coarse_to_fine": "through the scales",
            "regrown": "finest images only, as many parameters on the way",
            "fixed": "finest images only, final size all the time",
        },
    ),
}


class StartWork:
    """One comparison for one rng_seed, in one stretch.

    config: name, comparison (a key of COMPARISONS), rng_seed; for `hierarchical` the small network as well, as
    member (structnet.trials.grid.Member). shared.options: those of `bootstrap`, fitted to the data. An rng_seed of
    which an arm diverges has failed rows instead.
    """

    def __init__(self, config: dict[str, Any], shared: Shared) -> None:
        self.config, self.shared = config, shared
        # Tune takes note of what is finished every few seconds only; rows are there whole or not at all.
        self.done = bool(shared.options["resume"]) and config["name"] in {
            part.name for part in list_parts(shared.results, "networks", shared.experiment)
        }
        self.networks = 0

    def step(self) -> dict[str, Any]:
        """All of it."""
        if not self.done:
            rows = self._compared(self.shared.dataset())
            TableWriter(self.shared.results, self.shared.experiment).write(
                "networks", self.config["name"], rows
            )
            self.done, self.networks = True, len(rows)
        return {"done": True, "name": self.config["name"], "networks": self.networks}

    def save(self, folder: Path) -> None:
        """Writes whether it is done."""
        (folder / "state.json").write_text(json.dumps({"done": self.done}))

    def load(self, folder: Path) -> None:
        """Goes on exactly where `save` was."""
        self.done = json.loads((folder / "state.json").read_text())["done"]

    def _compared(self, data: Dataset) -> list[dict[str, Any]]:
        comparison, options = COMPARISONS[self.config["comparison"]], self.shared.options
        recipe = recipe_of(options, rng_seed=options["rng_seed"])
        start = sizes_of(options["larger"]), options["parameters"]
        how: dict[str, Any] = {
            "learning_rate": options["learning_rate"],
            "recipe": recipe,
            "rng_seed": self.config["rng_seed"],
        }
        rows = []
        try:
            if "member" in self.config:
                small = small_network(self.config["member"], data, recipe, options)
                measured = evaluate(small.network, data.validation)
                arm = Arm(small.network, measured.accuracy, measured.loss, small.step, 0)
                rows.append(self._row(SMALL, arm, data, small))
                arms = vars(compare_hierarchical(small, data, *start, epochs=options["larger_epochs"], **how))
            else:
                epochs = [options["scale_epochs"]] * options["scales"]
                arms = vars(compare_coarse_to_fine(data, *start, epochs=epochs, **how))
        except Diverged as error:
            return rows + [self._failed(name, str(error)) for name in comparison.arms]
        return rows + [
            self._row(name, arms[name], data, TrainState.fresh(arms[name].network))
            if name == comparison.method
            else self._row(name, arms[name], data)
            for name in comparison.arms
        ]

    def _row(self, name: str, arm: Arm, data: Dataset, saved: TrainState | None = None) -> dict[str, Any]:
        network, options = arm.network, self.shared.options
        return {
            **self._key(name),
            **structure_columns(network),
            "epochs": round(arm.steps / steps_per_epoch(len(data.train), options["batch_size"])),
            **Reference(data.validation, data.classes).columns(
                arm.accuracy, arm.loss, network.parameter_count
            ),
            "status": "finished",
            "snapshot": saved and self.shared.save(f"{self.config['name']}-{name}", saved, data),
        }

    def _failed(self, name: str, error: str) -> dict[str, Any]:
        shape = sizes_of(self.shared.options["larger"])
        return {**self._key(name), **shape_columns(shape), "status": "failed", "error": error}

    def _key(self, name: str) -> dict[str, Any]:
        return {"trial": self.config["name"], "network": name, "rng_seed": self.config["rng_seed"]}


def configs_of(comparison: str, members: Mapping[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """A config for every rng_seed; members: rng_seed -> what to add to it."""
    return [
        {"name": f"seed-{rng_seed:04d}-{comparison}", "comparison": comparison, "rng_seed": rng_seed, **more}
        for rng_seed, more in members.items()
    ]


def small_network(
    member: dict[str, Any], data: Dataset, recipe: Recipe, options: dict[str, Any]
) -> TrainState:
    """The small network as the grid trained it, to the bit: networks of a cohort do not touch each other."""
    small = Member(**member)
    steps = options["epochs"] * steps_per_epoch(len(data.train), recipe.batch_size)
    cohort = Cohort([TrainState.fresh(build(small))], [options["learning_rate"]])
    cohort.train(data.train, recipe, steps, cosine(1.0, 0, steps))
    if cohort.diverged()[0]:
        raise Diverged(f"training of the small network {small.key} diverged")
    return cohort.take(0)
