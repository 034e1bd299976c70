"""Everything a tournament is told, checked once."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from structnet.actions import ACTIONS, offered
from structnet.data.dataset import Dataset
from structnet.errors import UserError
from structnet.growth.triggers import check_trigger
from structnet.training.batches import steps_per_epoch
from structnet.training.recipe import Recipe, fitted_l1
from tournament.rules.goal import FIGURES, Target, check_target
from tournament.rules.ledger import Economy
from tournament.rules.score import policy_named
from tournament.rules.screening import SCREENINGS

ROUNDS, ROUNDS_WITH_JOB, CONTESTS = 12, 1, 3
KNEE = 0.01
SMALLEST_BATCH, LARGEST_BATCH, LONGEST_ROUND = 8, 128, 100
EPOCHS, MOST_EPOCHS, FEWEST_STEPS = 20, 1000, 5000
ESTIMATORS = ("decoder", "probe")


@dataclass(frozen=True)
class Settings:
    """Options of a tournament; the names are those of the command line.

    epochs: length of the winning line; the learning rate anneals to its end. rounds: upper limit. round_steps: steps
    between two rounds. heat_steps: steps of a fork over all heats. candidates: forks in the first heat, beside the
    controls and the twin. trigger: after `interval` round_steps end the training between two rounds; the others of
    structnet.growth.triggers are asked after every round_steps. growth_share: the share of the line within which
    growth happens; the rest belongs to the final phase. overshoot: most parameters on the way; None for what the
    credits allow, with a job four times the size that is asked for. price: bits per thousand parameters. minutes: a
    limit on the wall time. budget: parameter-steps of everything that is trained, which the final phase keeps to.
    audits: losers of every round that are left running for audit_factor × heat_steps more, to learn what heats
    undervalue. screening: by which rule of tournament.rules.screening proposals enter. scales: sides of square images
    in pixels, rising to that of the data: the seed sees pooled images, and its input is refined to the next scale at
    equal shares of growth. indefinite: growth ends neither with `rounds` nor with growth_share, but when the target
    accuracy or the limit is reached or nothing more comes of it; then the final phase has all the epochs.
    max_bytes: of the network in its smallest form; max_parameters then has to be about what fits. max_macs: of
    multiply-adds of an image, likewise, unless max_parameters is a bound of its own. smaller_batches:
    where a worker runs out of memory on the line, batches are halved from there on; the line has as many steps as
    before.

    A job makes growth end with a path of sizes (tournament.descent) instead of one, each trained for a share of the
    epochs: to the smallest that holds a target on validation, with confident by its 95 % bound; to those that front
    names, in parameters; or to the knee, from which on a doubling gains less than this share of the label's entropy.
    """

    epochs: int = 20
    rounds: int = 12
    round_steps: int = 100
    heat_steps: int = 200
    candidates: int = 16
    actions: tuple[str, ...] = field(default_factory=offered)
    policy: str = "score"
    target_accuracy: float | None = None
    target_loss: float | None = None
    target_balanced_accuracy: float | None = None
    confident: bool = False
    front: tuple[int, ...] = ()
    knee: float | None = None
    max_parameters: int | None = None
    max_bytes: int | None = None
    max_macs: int | None = None
    overshoot: int | None = None
    price: float = 0.005
    score_floor: int = 32
    information: str = "decoder"
    trigger: str = "interval"
    learning_rate: float = 0.012
    growth_share: float = 0.4
    minutes: float | None = None
    budget: float | None = None
    audits: int = 0
    audit_factor: float = 4.0
    screening: str = "promise"
    scales: tuple[int, ...] = ()
    indefinite: bool = False
    smaller_batches: bool = False
    recipe: Recipe = field(default_factory=Recipe)
    economy: Economy = field(default_factory=Economy)

    def __post_init__(self) -> None:
        policy_named(self.policy)
        self._check_numbers()
        _check_choice("screening", self.screening, SCREENINGS)
        unknown = [name for name in self.actions if name not in ACTIONS]
        if unknown or not self.actions:
            raise UserError(f"actions are '{','.join(self.actions)}', but must be among {', '.join(ACTIONS)}")
        _check_choice("information", self.information, ESTIMATORS)
        self._check_job()
        check_trigger(self.trigger)

    @property
    def target(self) -> Target | None:
        """What has to hold on validation, if anything has."""
        given = ((name, getattr(self, f"target_{name}")) for name in FIGURES)
        return next((Target(name, value, self.confident) for name, value in given if value is not None), None)

    @property
    def has_job(self) -> bool:
        """Whether growth ends with a path of sizes."""
        return self.target is not None or bool(self.front) or self.knee is not None

    def bits_at_knee(self, entropy: float) -> float:
        """Bits that a doubling gains at the knee, of labels of this entropy."""
        return (KNEE if self.knee is None else self.knee) * entropy

    def _check_job(self) -> None:
        targets = [name for name in FIGURES if getattr(self, f"target_{name}") is not None]
        if len(targets) > 1:
            raise UserError(f"there are {len(targets)} targets, but must be at most one: choose one")
        for name in targets:
            value = getattr(self, f"target_{name}")
            if FIGURES[name].rises and not 0 < value <= 1:
                raise UserError(f"target_{name} is {value}, but must be in (0, 1]: 0.97 is 97 %")
            if not 0 < value < math.inf:
                raise UserError(
                    f"target_{name} is {value}, but must be above 0: it is a cross-entropy in nats"
                )
        if self.confident and not targets:
            raise UserError("confident is on, but needs something to be sure of: give a target as well")
        if self.indefinite and not targets:
            raise UserError("indefinite is on, but needs an end: give target_accuracy as well, such as 0.97")
        if policy_named(self.policy).contests and (self.scales or self.indefinite):
            what = "scales are given" if self.scales else "indefinite is on"
            raise UserError(f"policy is '{self.policy}', but {what}, which is for growths: choose score")
        if self.knee is not None and not 0 < self.knee < 1:
            raise UserError(
                f"knee is {self.knee}, but must be in (0, 1): it is a share of the label's entropy"
            )

    def _check_numbers(self) -> None:
        for name in ("epochs", "round_steps", "heat_steps", "candidates", "score_floor"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}, but must be at least 1")
        for name in ("rounds", "audits"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} is {getattr(self, name)}, but must not be negative")
        if self.audit_factor <= 0:
            raise UserError(
                f"audit_factor is {self.audit_factor}, but must be above 0: an audit is so many times heat_steps"
            )
        if self.overshoot is not None and self.overshoot < 1:
            raise UserError(
                f"overshoot is {self.overshoot}, but must be at least 1: it is a number of parameters"
            )
        if self.budget is not None and self.budget <= 0:
            raise UserError(
                f"budget is {self.budget:g}, but must be above 0: it is a number of parameter-steps"
            )
        if self.learning_rate <= 0:
            raise UserError(f"learning_rate is {self.learning_rate}, but must be above 0")
        if not 0 < self.growth_share <= 1:
            raise UserError(f"growth_share is {self.growth_share}, but must be in (0, 1]")


def _check_choice(name: str, value: str, choices: Collection[str]) -> None:
    if value not in choices:
        raise UserError(f"{name} is '{value}', but must be one of {', '.join(choices)}")


def check_job(settings: Settings, data: Dataset) -> None:
    """Raises UserError for what no network can do on this data: sizes that none has, and targets that none can hold."""
    limit, least = settings.max_parameters, data.classes + 1
    wanted = {"max_parameters": [] if limit is None else [limit], "front": settings.front}
    for name, sizes in wanted.items():
        if sizes and min(sizes) < least:
            raise UserError(
                f"{name} is {min(sizes)}, but must be at least {least}: a bias for each of {data.classes} classes, and "
                "one connection"
            )
    if limit is not None and settings.front and max(settings.front) > limit:
        raise UserError(f"front has {max(settings.front)}, but must be within max_parameters, {limit}")
    if settings.target:
        check_target(settings.target, data.validation.labels.cpu().numpy())


def fitted_epochs(images: int, batch_size: int | None = None) -> int:
    """Epochs over so many training images where they are not given: enough for FEWEST_STEPS.

    Test, 6 rng_seeds, 20 and 120 epochs of few rows: a table of 50 columns 58.5 and 68.2, moons 96.0 and 97.7.
    """
    batch_size = batch_size or fitted_batch(images)
    return min(MOST_EPOCHS, max(EPOCHS, math.ceil(FEWEST_STEPS / steps_per_epoch(images, batch_size))))


def fitted_batch(images: int) -> int:
    """At most a 32nd of the images, so that small data get enough steps."""
    power = int(math.log2(max(1, images / 32)))
    return min(LARGEST_BATCH, max(SMALLEST_BATCH, int(2**power)))


def fitted_lengths(
    images: int,
    epochs: int,
    batch_size: int | None = None,
    round_steps: int | None = None,
    heat_steps: int | None = None,
) -> tuple[int, int, int]:
    """Batch size, round_steps and heat_steps for so many training images, where they are not given.

    A round is a 40th of the line, and a fork trains for two rounds.
    """
    if batch_size is None:
        batch_size = fitted_batch(images)
    Recipe(batch_size)
    if round_steps is None:
        round_steps = min(LONGEST_ROUND, max(1, epochs * steps_per_epoch(images, batch_size) // 40))
    return batch_size, round_steps, 2 * round_steps if heat_steps is None else heat_steps


def default_policy(*, scales: Sequence[int] = (), indefinite: bool = False, trigger: str = "interval") -> str:
    """What competes: shapes, but growths where something is asked for that only a growing network has."""
    return "score" if scales or indefinite or trigger != "interval" else "shape"


def default_rounds(policy: str, *, has_job: bool) -> int:
    """At most so many rounds.

    Of shapes, three: the way from the usual width to 27 times as many. Of growths, with a job one: what decides then
    is how small, and that tournaments do not ask. On MNIST and digits, 8 rng_seeds, neither none nor three of them
    lead to other sizes, and each costs 3 million parameter-steps on MNIST.
    """
    if policy_named(policy).contests:
        return CONTESTS
    return ROUNDS_WITH_JOB if has_job else ROUNDS


def fitted_settings(images: int, *, architecture: Sequence[int] = (), **options: Any) -> Settings:
    """Settings with these options, the others as `grow` has them or fitted to so many training images.

    architecture: of the seed, if it may have feature maps.
    """
    given: Recipe | None = options.get("recipe")
    asked = given.batch_size if given else None
    epochs = options.get("epochs") or fitted_epochs(images, asked)
    batch_size, round_steps, heat_steps = fitted_lengths(
        images,
        epochs,
        asked,
        options.get("round_steps"),
        options.get("heat_steps"),
    )
    recipe = given or Recipe(batch_size=batch_size, l1=fitted_l1(architecture))
    growing = {name: options[name] for name in ("scales", "indefinite", "trigger") if name in options}
    fitted = {"policy": default_policy(**growing), **options}
    fitted |= {"epochs": epochs, "recipe": recipe, "round_steps": round_steps, "heat_steps": heat_steps}
    fitted.setdefault("actions", offered(heat_steps))
    settings = Settings(**fitted)
    if "rounds" in options:
        return settings
    return replace(settings, rounds=default_rounds(settings.policy, has_job=settings.has_job))
