"""The job of a network, from the options of `grow`."""

from __future__ import annotations

import re

from search.commands.grow.command import GrowOptions
from structnet.errors import UserError

KNEE = 0.01
BUDGET = re.compile(r"(\d+\.?\d*(?:[eE]\+?\d+)?)\s*([kKmMgG]?|min)")
UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9}
TARGETS = ("accuracy", "loss", "balanced_accuracy")


def with_knee(options: GrowOptions) -> GrowOptions:
    """The options as `grow` by itself takes them: where nothing is asked for, the knee is."""
    bounds = options.max_parameters, options.max_bytes, options.max_macs
    asked = _has_job(options) or any(bound is not None for bound in bounds)
    return options if asked else options.model_copy(update={"knee": KNEE})


def rounds_of(options: GrowOptions) -> int:
    """At most so many rounds: as many as are given, or by default."""
    from tournament.settings import default_rounds

    if options.rounds is not None:
        return options.rounds
    return default_rounds(policy_of(options), has_job=_has_job(options))


def policy_of(options: GrowOptions) -> str:
    """What competes, as it is given or by default."""
    from tournament.settings import default_policy

    if options.policy is not None:
        return options.policy
    scales = (1,) if options.scales else ()
    return default_policy(scales=scales, indefinite=options.indefinite, trigger=options.trigger)


def budget_of(options: GrowOptions) -> tuple[float | None, float | None]:
    """(parameter-steps, minutes) that the whole run may cost, each None where it is not limited; raises UserError."""
    if options.budget is None:
        return None, options.minutes
    found = BUDGET.fullmatch(options.budget.strip())
    amount = float(found[1]) if found else 0.0
    if found is None or amount <= 0:
        raise UserError(
            f"budget is '{options.budget}', but must be parameter-steps such as 40M or 4e7, or minutes such as 5min"
        )
    if found[2] != "min":
        return amount * UNITS[found[2].upper()], options.minutes
    if options.minutes is not None:
        raise UserError(f"budget is '{options.budget}' and minutes are {options.minutes:g}: give one of them")
    return None, amount


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
    if options.max_bytes is not None:
        asked.append(f"at most {options.max_bytes:,} bytes")
    if options.max_macs is not None:
        asked.append(f"at most {options.max_macs:,} multiply-adds an image")
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
