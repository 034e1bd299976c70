"""The winning line: the network that a tournament grows, where it stands, and the work done on it."""

from __future__ import annotations

from typing import Any

from structnet.data import Dataset
from structnet.errors import WorkFailed
from structnet.information import label_entropy
from structnet.network import StructNet
from structnet.train_state import TrainState
from structnet.training import chance_accuracy, steps_per_epoch
from structnet.triggers import Plateau
from tournament.fork import Measured, Survey
from tournament.heats import Entrant
from tournament.ledger import Ledger
from tournament.policy import policy_named
from tournament.pool import Job, Pool
from tournament.progress import Progress
from tournament.settings import Settings

SIZE_SHARES = (1 / 8, 1 / 4, 1 / 2)
PLATEAU_STRETCHES = 10


class Line:
    """state: a handle to the arrays of the network in training. measured: the network on the validation set.

    progress and ledger say where it stands; settings are those of the tournament.
    """

    measured: Measured
    parameters: int
    connections: int

    def __init__(self, seed: StructNet, data: Dataset, settings: Settings, workers: Pool) -> None:
        self.settings, self.workers = settings, workers
        self.recipe, self.rng_seed = settings.recipe, settings.recipe.rng_seed
        self.policy = policy_named(settings.policy)
        self.uses_probe = settings.information == "probe"
        labels = data.validation.labels
        self.entropy = label_entropy(labels)
        self.validation_images = len(labels)
        self.per_epoch = steps_per_epoch(len(data.train), self.recipe.batch_size)
        self.total_steps = settings.epochs * self.per_epoch
        self.ledger = Ledger.opened(
            settings.economy,
            seed.parameter_count,
            seed.parameters_dense,
            chance_accuracy(labels, data.classes),
        )
        self.progress = Progress()
        self.state: Any = None

    def start(self, seed: StructNet) -> None:
        """Begins at the seed; credits are earned from the end of the first interval on."""
        self.set_state(self.workers.put(TrainState.fresh(seed).to_arrays()))
        self.train()
        self.progress.earned_until = self.progress.step

    def resume(self, arrays: dict[str, Any], progress: Progress) -> None:
        """Goes on where a snapshot was taken."""
        self.progress, self.ledger.balance = progress, progress.balance
        self.set_state(self.workers.put(arrays))
        self.measured, _ = self.call("measure", self.state, "validation", self.uses_probe)

    def call(self, method: str, *arguments: Any) -> tuple[Any, Any]:
        """One piece of work on one worker: (report, handle to the new state). Raises WorkFailed."""
        outcome = self.workers.run([Job(method, arguments)])[0]
        if outcome.error:
            raise WorkFailed(f"{method} failed in round {self.progress.round}: {outcome.error}")
        return outcome.report, outcome.state

    def arrays(self) -> dict[str, Any]:
        """The state as arrays, fetched from where it lies."""
        return self.workers.get(self.state)

    def set_state(self, state: Any) -> None:
        """Takes over a state and counts what it has."""
        self.state = state
        arrays = self.arrays()
        self.connections = len(arrays["source"])
        self.parameters = self.connections + sum(arrays["architecture"][1:])

    def train(self) -> None:
        """One interval; with the plateau trigger, more of them until the loss stops falling."""
        settings = self.settings
        losses: list[float] = []
        for _ in range(PLATEAU_STRETCHES if settings.trigger == "plateau" else 1):
            steps = min(settings.round_steps, self.total_steps - self.progress.step)
            if steps < 1:
                return
            (self.measured, new), self.state = self.call(
                "train_line", self.state, self.recipe, steps, settings.learning_rate, self.uses_probe
            )
            self.progress.spend(steps, self.parameters, winning=True)
            losses += new
            if settings.trigger == "plateau" and Plateau().fires(losses):
                return

    def earn(self) -> float:
        """Credits for the steps since the last earning, at the accuracy of now."""
        steps = self.progress.step - self.progress.earned_until
        self.progress.earned_until = self.progress.step
        return self.ledger.earn(steps, self.measured.accuracy)

    def survey(self) -> Survey:
        """Diagnosis and screened proposals, from one backward pass on a worker."""
        options = {
            "actions": self.settings.actions,
            "sizes": self._sizes(),
            "rate": self.settings.learning_rate,
            "rng_seed": self.rng_seed,
            "round_number": self.progress.round,
            "balance": self.ledger.balance,
            "candidates": self.settings.candidates,
        }
        survey, _ = self.call("survey", self.state, self.recipe, options)
        self.progress.spend(survey.steps, self.parameters, winning=False)
        return survey

    def train_dense(self, architecture: tuple[int, ...]) -> tuple[Measured, Measured]:
        """The dense opponent, trained for as many steps as the line, on validation and test.

        A rate that suits a sparse network can be too high for a dense one, so it is trained at the line's rate
        and at a quarter of it, and the one that does better on validation counts.
        """
        rates = [share * self.settings.learning_rate for share in (1.0, 0.25)]
        jobs = [Job("train_dense", (architecture, self.recipe, self.progress.step, rate)) for rate in rates]
        outcomes = self.workers.run(jobs)
        finished = [outcome.report for outcome in outcomes if not outcome.error]
        if not finished:
            raise WorkFailed(f"the dense opponent failed: {outcomes[0].error}")
        return max(finished, key=lambda measured: measured[0].accuracy)

    def adopt(self, entrant: Entrant) -> None:
        """Takes over the trained state of a fork or control.

        Its steps are in steps_all already, as those of every fork are; now they are the line's as well.
        """
        assert entrant.measured is not None
        self.progress.step += entrant.steps
        self.progress.parameter_steps += entrant.steps * (self.parameters + entrant.parameters_added)
        self.measured = entrant.measured
        self.set_state(entrant.state)

    def _sizes(self) -> tuple[int, ...]:
        """Sizes to aim at, small to large: shares of what the network has."""
        floor = self.settings.score_floor
        return tuple(sorted({max(floor, round(share * self.parameters)) for share in SIZE_SHARES}))
