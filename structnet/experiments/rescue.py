"""Cliff rescue: can growth bring back a network that is too sparse to learn?

The same starting network, below the cliff of its ladder (structnet.experiments.cliff), trains four times on the same
batches for the same number of steps:

- `static`: it only trains;
- `growth`: at fixed moments in the first half of the training an action adds parameters, up to a budget;
- `random`: at the same moments as many connections as growth added parameters come to random places;
- `rewire`: at the same moments as many of its weakest connections, at most 30 %, move to where the gradient
  is largest (Evci et al. 2020, RigL). It adds nothing and is reported beside the others: moving is free.

What counts as a rescue is stated beforehand (structnet.experiments.verdict).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from structnet.actions import ACTIONS, growing
from structnet.actions.base import Context, Proposal
from structnet.data.dataset import Dataset
from structnet.errors import UserError
from structnet.experiments.rescue_controls import moved, random_places, values_like_an_action
from structnet.measure.diagnosis import Diagnosis, diagnose
from structnet.measure.information import label_entropy
from structnet.network.architecture import Architecture, architecture_of, plain_form
from structnet.network.edit import Edit, connect
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.seeds import stream
from structnet.storage.snapshot import load_snapshot, save_snapshot
from structnet.training.batches import diagnosis_sample, steps_per_epoch
from structnet.training.evaluation import evaluate
from structnet.training.loop import train_steps
from structnet.training.recipe import Recipe
from structnet.training.schedules import cosine

ARMS = ("static", "growth", "random", "rewire")
STRETCH = 500  # steps
LEAST_SHARE = 8  # a growth site adds at least an eighth of what a moment has to


@dataclass(frozen=True)
class RescuePlan:
    """What is tested, and how it is trained.

    mechanism: name of a growth action. budget: parameters it may add, over `growths` moments at equal
    distances, the last one half way through. learning_rate: at the start of a cosine. recipe: its rng_seed is
    that of the plan. Raises UserError for what cannot be.
    """

    architecture: Architecture
    density: float
    mechanism: str
    budget: int
    rng_seed: int = 0
    allocation: str = "proportional"
    epochs: int = 5
    growths: int = 5
    learning_rate: float = 2e-3
    recipe: Recipe = field(default_factory=Recipe)

    def __post_init__(self) -> None:
        if self.mechanism not in growing():
            raise UserError(f"mechanism is '{self.mechanism}', but must be one of {', '.join(growing())}")
        for name in ("budget", "epochs", "growths"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}, but must be at least 1")

    def to_json(self) -> dict[str, Any]:
        """Its fields as plain values."""
        return asdict(self) | {"architecture": plain_form(self.architecture)}


@dataclass(frozen=True)
class Change:
    """One change of an arm: at which step, where, and what it added and moved."""

    step: int
    site: str
    parameters_added: int
    connections_moved: int


@dataclass(frozen=True)
class ArmResult:
    """What became of an arm. accuracy, loss (nats) and information (bits) on validation data.

    parameter_steps: parameters summed over the steps, which is what sparse training costs.
    """

    arm: str
    rng_seed: int
    accuracy: float
    loss: float
    information: float
    parameters: int
    steps: int
    parameter_steps: int
    changes: tuple[Change, ...]
    network: StructNet


class Rescue:
    """The arms of one test, one after the other, in stretches of at most 500 steps.

    data: its test split is never read. results: the arms that are finished. state: the arm in training. Where
    the stretches are cut changes nothing. Raises UserError for a budget that the network has no room for,
    Diverged if training does.
    """

    state: TrainState
    changes: list[Change]
    parameter_steps: int

    def __init__(self, data: Dataset, plan: RescuePlan, *, device: torch.device | str = "cpu") -> None:
        self.data, self.plan, self.device = data, plan, device
        self.recipe = replace(plan.recipe, rng_seed=plan.rng_seed)
        self.steps = plan.epochs * steps_per_epoch(len(data.train), self.recipe.batch_size)
        self.moments = growth_moments(self.steps, plan.growths)
        self.rate = cosine(plan.learning_rate, 0, self.steps)
        self.results: list[ArmResult] = []
        self._begin()
        topology = self.state.network.topology
        if plan.budget > topology.possible() - topology.connections:
            raise UserError(
                f"budget is {plan.budget}, but {topology.connections} of {topology.possible()} connections "
                "exist already: lower the budget or the density"
            )

    @property
    def done(self) -> bool:
        """Whether every arm has its result."""
        return len(self.results) == len(ARMS)

    @property
    def arm(self) -> str:
        """The arm in training; the last one when all are done."""
        return ARMS[min(len(self.results), len(ARMS) - 1)]

    def step(self) -> dict[str, Any]:
        """Trains on to the next moment, or so far as a stretch goes; says where it is."""
        if self.done:
            return {"arm": self.arm, "step": self.steps, "done": True}
        arm = self.arm
        stop = next(moment for moment in (*self.moments, self.steps) if moment > self.state.step)
        stretch = min(STRETCH, stop - self.state.step)
        losses = train_steps(self.state, self.data.train, self.recipe, stretch, self.rate)
        self.parameter_steps += stretch * self.state.network.parameter_count
        if self.state.step in self.moments:
            self._change(self.moments.index(self.state.step))
        said = {
            "arm": arm,
            "step": self.state.step,
            "parameters": self.state.network.parameter_count,
            "train_loss": float(losses.mean()),
        }
        if self.state.step == self.steps:
            self.results.append(self._result())
            said["accuracy"] = self.results[-1].accuracy
            if not self.done:
                self._begin()
        return said | {"done": self.done}

    def save(self, folder: Path | str) -> None:
        """Writes everything to go on from: a snapshot of each network and rescue.json, which comes last."""
        folder = Path(folder)
        for result in self.results:
            self._save(folder / f"arm-{result.arm}", TrainState.fresh(result.network))
        self._save(folder / "training", self.state)
        finished = [
            {
                name: [asdict(change) for change in value] if name == "changes" else value
                for name, value in vars(result).items()
                if name != "network"
            }
            for result in self.results
        ]
        content = {
            "plan": self.plan.to_json(),
            "results": finished,
            "changes": [asdict(change) for change in self.changes],
            "parameter_steps": self.parameter_steps,
        }
        (folder / "rescue.json").write_text(json.dumps(content, indent=2) + "\n")

    def load(self, folder: Path | str) -> None:
        """Goes on exactly where `save` was; raises UserError if the folder is damaged or of another plan."""
        folder = Path(folder)
        try:
            content = json.loads((folder / "rescue.json").read_text())
            same = content["plan"] == json.loads(json.dumps(self.plan.to_json()))
            changes = [Change(**change) for change in content["changes"]]
            finished = [
                row | {"changes": tuple(Change(**change) for change in row["changes"])}
                for row in content["results"]
            ]
            parameter_steps = int(content["parameter_steps"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{folder / 'rescue.json'} cannot be read: start again in another folder"
            ) from error
        if not same:
            raise UserError(f"{folder} has a rescue of another plan: choose another folder")
        self.results = [
            ArmResult(
                **row,
                network=load_snapshot(str(folder / f"arm-{row['arm']}"), self.device).state.network,
            )
            for row in finished
        ]
        self.state = load_snapshot(str(folder / "training"), self.device).state
        self.changes, self.parameter_steps = changes, parameter_steps

    def _save(self, path: Path, state: TrainState) -> None:
        names = self.data.class_names
        save_snapshot(str(path), state, preprocessing=self.data.preprocessing, class_names=names)

    def _begin(self) -> None:
        plan = self.plan
        network = StructNet(
            plan.architecture, plan.density, rng_seed=plan.rng_seed, allocation=plan.allocation
        )
        self.state = TrainState.fresh(network.to(self.device))
        self.changes = []
        self.parameter_steps = 0

    def _result(self) -> ArmResult:
        network, validation = self.state.network, self.data.validation
        found = evaluate(network, validation)
        return ArmResult(
            arm=self.arm,
            rng_seed=self.plan.rng_seed,
            accuracy=found.accuracy,
            loss=found.loss,
            information=label_entropy(validation.labels) + float(found.log2_likelihood.mean()),
            parameters=network.parameter_count,
            steps=self.state.step,
            parameter_steps=self.parameter_steps,
            changes=tuple(self.changes),
            network=network,
        )

    def _change(self, moment: int) -> None:
        if self.arm == "growth":
            due = self.plan.budget * (moment + 1) // len(self.moments)
            self._grow(moment, due - sum(change.parameters_added for change in self.changes))
        elif self.arm in ("random", "rewire"):
            grown = next(result for result in self.results if result.arm == "growth")
            step = self.moments[moment]
            count = sum(change.parameters_added for change in grown.changes if change.step == step)
            if count and self.arm == "random":
                self._place_at_random(moment, count)
            elif count:
                self._edit(moved(self._context(moment, (count,)), count), "to the largest gradients")

    def _grow(self, moment: int, wanted: int) -> None:
        """Applies the best site again and again, until so many parameters are added.

        What finds no site waits for the next moment.
        """
        least, added = -(-wanted // LEAST_SHARE), 0
        while added < wanted:
            context = self._context(moment, (wanted - added,), len(self.changes))
            action = ACTIONS[self.plan.mechanism]
            best = best_site(action.propose(context), wanted - added, least)
            if best is None:
                return
            self._edit(action.apply(self.state.network, best), best.site)
            added += self.changes[-1].parameters_added

    def _place_at_random(self, moment: int, count: int) -> None:
        rng = stream(self.plan.rng_seed, "rescue random", moment)
        source, target = random_places(self.state.network.topology, count, rng)
        values = values_like_an_action(self.state.network, self._diagnosis(), source, target, rng)
        self._edit(connect(self.state.network, source, target, values), "at random")

    def _edit(self, edit: Edit, site: str) -> None:
        step, before = self.state.step, self.state.network.connection_count
        new = len(edit.new_connections)
        gone = before - (edit.network.connection_count - new)
        self.changes.append(Change(step, site, edit.added, gone))
        self.state = self.state.edited(edit)

    def _context(self, moment: int, sizes: tuple[int, ...], turn: int = 0) -> Context:
        rng = stream(self.plan.rng_seed, "rescue", moment, turn)
        return Context(self.state, self._diagnosis(), sizes, self.rate(self.state.step), rng)

    def _diagnosis(self) -> Diagnosis:
        sample = diagnosis_sample(self.data.train, self.plan.rng_seed, self.state.step)
        return diagnose(self.state.network, sample.images, sample.labels)


def rescue(
    data: Dataset,
    architecture: Sequence[int],
    density: float,
    mechanism: str,
    budget: int,
    rng_seed: int = 0,
    *,
    allocation: str = "proportional",
    epochs: int = 5,
    growths: int = 5,
    learning_rate: float = 2e-3,
    recipe: Recipe = Recipe(),  # noqa: B008
) -> list[ArmResult]:
    """All arms of one test, in the order of ARMS; arguments and what they raise as `RescuePlan` and `Rescue`."""
    plan = RescuePlan(
        architecture_of(architecture),
        density,
        mechanism,
        budget,
        rng_seed,
        allocation,
        epochs,
        growths,
        learning_rate,
        recipe,
    )
    test = Rescue(data, plan)
    while not test.done:
        test.step()
    return test.results


def growth_moments(steps: int, growths: int) -> list[int]:
    """The steps at which arms change: equal distances, the last half way; fewer where steps are too few."""
    return sorted({max(1, round(steps / 2 * number / growths)) for number in range(1, growths + 1)})


def accuracies_of(results: Sequence[Sequence[ArmResult]]) -> dict[str, list[float]]:
    """What `structnet.experiments.verdict.judge` takes, from the results of `rescue` for each rng_seed."""
    return {
        arm: [result.accuracy for arms in results for result in arms if result.arm == arm] for arm in ARMS
    }


def best_site(proposals: Sequence[Proposal], most: int, least: int) -> Proposal | None:
    """The site of largest predicted gain per parameter, of those that add at most so many; None if none does.

    Sites of a few parameters would win by division and cost a diagnosis each, so those that add `least` or more
    go first.
    """
    fitting = [found for found in proposals if 0 < found.parameters_added <= most]
    large = [found for found in fitting if found.parameters_added >= least] or fitting
    return max(large, key=lambda found: found.predicted_gain / found.parameters_added, default=None)
