"""The winning line: the network that a tournament grows, where it stands, and the work done on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeVar

import numpy as np

from structnet.data.dataset import Dataset
from structnet.errors import LACK_OF_MEMORY, WorkFailed
from structnet.growth.triggers import fitted_trigger
from structnet.measure.information import label_entropy
from structnet.network.architecture import Architecture, bias_count, density_for, parameters_dense
from structnet.network.network import StructNet
from structnet.network.random_topology import least_density
from structnet.network.state import TrainState
from structnet.training.batches import DIAGNOSIS_IMAGES, steps_per_epoch
from structnet.training.evaluation import chance_accuracy
from structnet.training.recipe import Recipe
from tournament.heats import Entrant
from tournament.progress import Progress
from tournament.rules.ledger import Ledger
from tournament.rules.score import policy_named, price_at
from tournament.rules.shapes import reference, with_hidden
from tournament.settings import Settings
from tournament.workers.contender import Work
from tournament.workers.fork import Arrays, Measured, Survey, SurveyPlan
from tournament.workers.pool import Job, Pool, StateHandle
from tournament.workers.work import (
    CountUnhealthy,
    MakeSurvey,
    Measure,
    MeasureUtilisation,
    Refine,
    TrainLine,
)

SIZE_SHARES = (1 / 8, 1 / 4, 1 / 2)
# Credits for a parameter of the size asked for: as many as two ways up to eight times that cost.
MOST_WANTED = 24
LONGEST_WAIT = 10  # intervals that a round waits for its trigger

R = TypeVar("R")


class WinningLine:
    """state: where the network in training lies. measured: the network on the validation set.

    worth_deciding: credits that deciding may take at most, where nothing else does.

    progress and ledger say where it stands; settings are those of the tournament. clock: seconds, from any start.
    """

    state: StateHandle
    measured: Measured
    parameters: int
    connections: int
    worth_deciding: float

    def __init__(
        self,
        seed: StructNet,
        data: Dataset,
        settings: Settings,
        workers: Pool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings, self.workers, self.clock = settings, workers, clock
        self.rng_seed = settings.recipe.rng_seed
        self.policy = policy_named(settings.policy)
        self.trigger = fitted_trigger(settings.trigger, settings.round_steps)
        self.uses_probe = settings.information == "probe"
        labels = data.validation.labels
        self.labels: np.ndarray = labels.cpu().numpy()
        self.entropy = label_entropy(labels)
        self.validation_images = len(labels)
        self.per_epoch = steps_per_epoch(len(data.train), settings.recipe.batch_size)
        shape = seed.topology.architecture
        # The whole architecture, also where the seed sees coarse images: one economy with and without scales.
        self.architecture = shape if shape.has_maps else Architecture((data.input_units, *shape[1:]))
        dense = parameters_dense(self.architecture)
        self.seed_parameters = seed.parameter_count
        self.hidden: tuple[int, ...] = tuple(shape[1:-1])
        self.reference_dense = (
            parameters_dense(reference(self.architecture)) if self.policy.contests else dense
        )
        # A stated job is worth exploring for: credits stand in its way only where the user says how many there are.
        opening = dense if settings.has_job else seed.parameter_count
        earned = settings.economy.income * dense * self.growth_stop / 1000
        # Credits that are for deciding at most: what growth can earn.
        self.worth_deciding = max(1.0, opening + earned)
        if self.policy.contests:
            self.worth_deciding = max(self.reference_dense, MOST_WANTED * (settings.max_parameters or 0))
            opening = 2 * self.worth_deciding  # as much for the parameters on the way
        self.ledger = Ledger.opened(settings.economy, opening, dense, chance_accuracy(labels, data.classes))
        self.progress = Progress()

    @property
    def growth_stop(self) -> int:
        """The step at which growth ends; where it is indefinite, by which the price has risen and the image is fine."""
        return round(self.settings.growth_share * self.settings.epochs * self.per_epoch)

    @property
    def first_step(self) -> int:
        """How long the seed trains before anything else: where shapes compete, only to know what a step takes."""
        if self.policy.contests and self.settings.minutes is None:
            return 0
        return min(self.settings.round_steps, self.settings.epochs * self.per_epoch)

    @property
    def total_steps(self) -> int:
        """Steps of the whole line; where growth is indefinite, those of growth so far and all epochs after it."""
        steps = self.settings.epochs * self.per_epoch
        if not self.settings.indefinite:
            return steps
        growing = self.progress.phase == "growing"
        return steps + (self.progress.step if growing else self.progress.final_start)

    @property
    def survey_steps(self) -> int:
        """What the backward pass over the images of a survey costs, in steps of training."""
        return min(DIAGNOSIS_IMAGES // self.settings.recipe.batch_size, self.per_epoch)

    @property
    def is_coarse(self) -> bool:
        """Whether the network still sees images that are pooled."""
        return self.progress.scale < len(self.settings.scales) - 1

    @property
    def recipe(self) -> Recipe:
        """How the line is trained now, and with it every fork and control.

        Rates by age end with growth. They shelter what works from what is new; in the final phase everything
        settles at one rate that falls to 0. Rates that went on cost digits 0.8 points of validation accuracy by
        age and 3.4 with freezing (8 rng_seeds).
        """
        recipe = self.progress.trained_by(self.settings.recipe)
        return recipe if self.progress.phase == "growing" else replace(recipe, rates=None)

    @property
    def price(self) -> float:
        """Bits per thousand parameters asked for at this step: that of the market, or the stated one without it."""
        if not self.policy.one_market:
            return self.settings.price
        return price_at(self.settings.price, self.progress.step, self.growth_stop)

    def start(self, seed: StructNet) -> None:
        """Begins at the seed; credits are earned from the end of the first interval on.

        Whatever the trigger, as the first round waits for it: twice would be two waits before the first growth.
        """
        self.set_state(self.workers.put(TrainState.fresh(seed).to_arrays()))
        self.progress.hidden = list(self.hidden)
        # Where shapes compete nothing grows before the path: it begins at the seed's size at least.
        self.progress.grown_size = seed.parameter_count if self.policy.contests else 0
        if not self.first_step:
            self.measured, _ = self.do(Measure("validation", self.uses_probe))
        else:
            self._train_interval()
        self.progress.earned_until = self.progress.step

    def resume(self, arrays: Arrays, progress: Progress) -> None:
        """Goes on where a snapshot was taken."""
        self.progress, self.ledger.balance = progress, progress.balance
        self.hidden = tuple(progress.hidden)
        self.set_state(self.workers.put(arrays))
        self.measured, _ = self.do(Measure("validation", self.uses_probe))

    def do(self, work: Work[R]) -> tuple[R, list[StateHandle]]:
        """One piece of work on the line, by one worker: (report, the states that it made). Raises WorkFailed.

        With smaller_batches, what runs out of memory is done again from its start, with half as many images per step.
        """
        while True:
            outcome = self.workers.run([Job(work, (self.state,))])[0]
            if not outcome.error:
                return outcome.value(), outcome.states
            if not (LACK_OF_MEMORY in outcome.error and self._halve_batches(work)):
                raise WorkFailed(f"{work.name} failed in round {self.progress.round}: {outcome.error}")
            again: Any = work
            work = replace(again, recipe=self.recipe)

    def _halve_batches(self, work: Work[Any]) -> bool:
        """Halves the batches from here on; False if that is not wanted, or cannot help this work."""
        batch = self.recipe.batch_size
        if not (self.settings.smaller_batches and hasattr(work, "recipe") and batch > 1):
            return False
        self.progress.smaller_batches.append([self.progress.round, batch // 2])
        return True

    def arrays(self) -> Arrays:
        """The state as arrays, fetched from where it lies."""
        return self.workers.get(self.state)

    def set_state(self, state: StateHandle) -> None:
        """Takes over a state and counts what it has."""
        self.state = state
        arrays = self.arrays()
        self.connections = len(arrays["source"])
        self.parameters = self.connections + bias_count(arrays["architecture"])

    def train(self) -> str:
        """Intervals until the trigger fires, and which did; after the longest wait growth happens anyway: `clock`.

        `end` is that of the line.
        """
        series: list[float] = []
        for _ in range(LONGEST_WAIT):
            series += self._train_interval()
            if self.progress.step >= self.total_steps:
                return "end"
            if self.trigger.fires(series):
                return self.settings.trigger
        return "clock"

    def _train_interval(self) -> list[float]:
        """One interval, shorter at the end of the line; returns what the trigger watches, at every step."""
        settings = self.settings
        steps = min(settings.round_steps, self.total_steps - self.progress.step)
        if steps < 1:
            return []
        started = self.clock()
        work = TrainLine(self.recipe, steps, settings.learning_rate, self.uses_probe, self.trigger.watches)
        (self.measured, series), (self.state,) = self.do(work)
        self.progress.spend(steps, self.parameters, winning=True)
        newest, before = (self.clock() - started) / steps, self.progress.seconds_per_step
        # The newest counts half: a network that grows gets slower, and one interval may have been disturbed.
        self.progress.seconds_per_step = (newest + before) / 2 if before else newest
        return series

    def earn(self) -> float:
        """Credits for the steps since the last earning, at the accuracy of now."""
        steps = self.progress.step - self.progress.earned_until
        self.progress.earned_until = self.progress.step
        return self.ledger.earn(steps, self.measured.accuracy)

    def refinement_due(self) -> bool:
        """Whether the input goes to the next scale now: its share of growth is over, and the credits cover it."""
        progress, scales = self.progress, self.settings.scales
        if not self.is_coarse or progress.step * len(scales) < (progress.scale + 1) * self.growth_stop:
            return False
        arrays = self.arrays()
        from_input = int(np.count_nonzero(arrays["source"] < arrays["architecture"][0]))
        factor = scales[progress.scale + 1] // scales[progress.scale]
        return self.ledger.affords((factor**2 - 1) * from_input)

    def refine(self) -> tuple[str, float, float]:
        """Refines the input to the next scale, after growth to the last one; returns (site, spent, refunded).

        It is one trade. After growth it cannot wait for credits: connections of least worth are pruned with it, until
        the balance covers the rest.
        """
        progress, scales = self.progress, self.settings.scales
        coarse, before = scales[progress.scale], self.parameters
        progress.scale = progress.scale + 1 if progress.phase == "growing" else len(scales) - 1
        fine = scales[progress.scale]
        affordable = before + int(self.ledger.balance)
        self.measured, (state,) = self.do(Refine(fine // coarse, affordable, self.uses_probe))
        self.set_state(state)
        spent, refunded = self.ledger.trade(self.parameters - before)
        return f"{coarse}×{coarse} to {fine}×{fine}", spent, refunded

    def survey(self, candidates: int) -> Survey:
        """Diagnosis and screened proposals, so many at most, from one backward pass on a worker."""
        plan = SurveyPlan(
            actions=self.settings.actions,
            sizes=self._sizes(),
            rate=self.settings.learning_rate,
            rng_seed=self.rng_seed,
            round_number=self.progress.round,
            balance=self.ledger.balance,
            candidates=candidates,
            screening=self.settings.screening,
            scores=tuple((action, size, score) for action, size, score in self.progress.scores),
        )
        survey, _ = self.do(MakeSurvey(self.recipe, plan))
        self.progress.spend(survey.steps, self.parameters, winning=False)
        return survey

    def unhealthy(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Saturated and dead units of each group, each (groups,), as one forward pass on a worker finds them."""
        found, _ = self.do(CountUnhealthy(self.rng_seed))
        return found

    def utilisation(self) -> list[dict[str, Any]]:
        """What became of each growth that was adopted, on the validation set: a row each."""
        growths = self.progress.growths
        uses, _ = self.do(MeasureUtilisation(tuple(step for _, step, _, _ in growths)))
        return [
            {
                "round": number,
                "action": action,
                "site": site,
                **asdict(use),
                "redundant": use.is_redundant(self.settings.price),
            }
            for (number, _, action, site), use in zip(growths, uses)
        ]

    def seed_of(self, hidden: Sequence[int]) -> StructNet:
        """A seed of another shape, with as many parameters as the first where it can have so few or so many."""
        shape = with_hidden(self.architecture, hidden)
        density = min(1.0, max(density_for(shape, self.seed_parameters), least_density(shape)))
        return StructNet(shape, density, rng_seed=self.rng_seed, ensure_paths=True)

    def dense_of(self, hidden: Sequence[int]) -> int:
        """Parameters of a dense network with these hidden groups."""
        return parameters_dense(with_hidden(self.architecture, hidden))

    def adopt(self, entrant: Entrant) -> None:
        """Takes over the trained state of a fork or control.

        Its steps are in steps_all already, as those of every fork are; now they are the line's as well.
        """
        assert entrant.measured is not None and entrant.state is not None
        self.progress.step += entrant.steps
        self.progress.parameter_steps += entrant.steps * (self.parameters + entrant.parameters_added)
        self.measured = entrant.measured
        self.set_state(entrant.state)

    def _sizes(self) -> tuple[int, ...]:
        """Sizes to aim at, small to large: shares of what the network has."""
        floor = self.settings.score_floor
        return tuple(sorted({max(floor, round(share * self.parameters)) for share in SIZE_SHARES}))
