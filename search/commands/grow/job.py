"""The job of a network, from the options of `grow`."""

from __future__ import annotations

from search.commands.grow.command import GrowOptions
from structnet.errors import UserError

KNEE = 0.01
ROUNDS, ROUNDS_WITH_JOB, CONTESTS = 12, 1, 3
TARGETS = ("accuracy", "loss", "balanced_accuracy")


def with_knee(options: GrowOptions) -> GrowOptions:
    """The options as `grow` by itself takes them: where nothing is asked for, the knee is."""
    asked = _has_job(options) or options.max_parameters is not None
    return options if asked else options.model_copy(update={"knee": KNEE})


def rounds_of(options: GrowOptions) -> int:
    """At most so many rounds.

    Of shapes, three: the way from the usual width to 27 times as many. Of growths, with a job one: what decides then
    is how small, and that tournaments do not ask. On MNIST and digits, 8 rng_seeds, neither none nor three of them
    lead to other sizes, and each costs 3 million parameter-steps on MNIST.
    """
    if options.rounds is not None:
        return options.rounds
    if policy_of(options) == "shape":
        return CONTESTS
    return ROUNDS_WITH_JOB if _has_job(options) else ROUNDS


def policy_of(options: GrowOptions) -> str:
    """What competes: shapes, but growths where something is asked for that only a growing network has."""
    if options.policy is not None:
        return options.policy
    growing = options.scales or options.indefinite or options.trigger != "interval"
    return "score" if growing else "shape"


def front_of(options: GrowOptions) -> tuple[int, ...]:
    """The sizes that the front is to have, in parameters; raises UserError."""
    sizes = (options.front or "").replace(",", " ").split()
    if not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise UserError(
            f"front is '{options.front}', but must be numbers of parameters such as 500,1000,2000"
        )
    return tuple(sorted({int(size) for size in sizes}))


def job_of(options: GrowOptions) -> str:
    """What is asked for, as a line."""
    asked = [
        f"{name.replace('_', ' ')} {value:g} on validation"
        + (", by its 95 % bound" if options.confident else "")
        for name in TARGETS
        if (value := getattr(options, f"target_{name}")) is not None
    ]
    if options.max_parameters is not None:
        asked.append(f"at most {options.max_parameters:,} parameters")
    if sizes := front_of(options):
        asked.append("networks of " + ", ".join(f"{size:,}" for size in sizes) + " parameters")
    if options.knee is not None:
        share = f"{options.knee:.2g} of the label's entropy"
        asked.append(f"the size from which on a doubling gains less than {share}")
    return "; ".join(asked) or "as small as growth leaves it"


def _has_job(options: GrowOptions) -> bool:
    targets = any(getattr(options, f"target_{name}") is not None for name in TARGETS)
    return targets or bool(front_of(options)) or options.knee is not None
