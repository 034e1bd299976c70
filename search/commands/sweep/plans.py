"""What a sweep tries: lists given by the user, or generated plans around the defaults of a command.

A plan has the options that matter most for one side of a command, the most important first. A focused sweep is
the full factorial of the first three; a broad one is a star: every option of every plan varied alone. Values
are relative to the defaults of the dataset where that makes sense. Everything here is plain values in and out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from structnet.actions import ACTIONS, offered
from structnet.errors import UserError
from structnet.growth.triggers import TRIGGERS

if TYPE_CHECKING:
    from search.commands.grow.command import GrowOptions

CROSSED = 3  # options of a plan that a focused sweep crosses


@dataclass(frozen=True)
class Axis:
    """What a plan tries for one option: these values, or these multiples of what it is by default.

    for_images: it means something only where the inputs are images.
    """

    option: str
    values: tuple[Any, ...] = ()
    factors: tuple[float, ...] = ()
    for_images: bool = False

    def choices(self, default: Any) -> list[Any]:
        """The different values to try, given what the option is by default."""
        tried = self.values or [scaled(self.option, default, factor) for factor in self.factors]
        return list(dict.fromkeys(tried))


AROUND = (0.5, 1.0, 2.0)
FAR_AROUND = (0.2, 1.0, 5.0)
ALLOCATION = Axis("allocation", ("proportional", "uniform"))


def optimisation(*l1: float) -> tuple[Axis, ...]:
    """The plan for how networks are trained, with these weights of L1."""
    return (
        Axis("learning_rate", factors=AROUND),
        Axis("l1", l1),
        Axis("input_dropout", (0.0, 0.2)),
        Axis("batch_size", factors=AROUND),
        Axis("epochs", factors=AROUND),
        Axis("shift", (0, 1), for_images=True),
    )


# What options of a focus have an effect with.
NEEDED: dict[str, dict[str, Any]] = {"economy": {"policy": "score"}}
# Command -> focus -> its plan.
PLANS: dict[str, dict[str, tuple[Axis, ...]]] = {
    "grow": {
        "growth": (
            Axis("policy", ("shape", "score", "surplus")),
            Axis("heat_steps", factors=AROUND),
            Axis("round_steps", factors=AROUND),
            Axis("candidates", factors=AROUND),
            Axis("trigger", tuple(TRIGGERS)),
            Axis("information", ("decoder", "probe")),
        ),
        "architecture": (
            Axis("architecture", factors=AROUND),
            # Not below the default: that is about the least density that reaches every unit.
            Axis("density", factors=(1.0, 2.0, 4.0)),
            ALLOCATION,
        ),
        "optimisation": optimisation(0.0, 5e-5, 2e-4),
        "economy": (
            Axis("income", factors=FAR_AROUND),
            Axis("price", factors=FAR_AROUND),
            Axis("opening_credits", (None, 0.0)),
            Axis("refund", (0.25, 0.5, 0.75)),
            Axis("score_floor", factors=AROUND),
        ),
    },
    "hunt": {
        "architecture": (
            Axis("architectures", factors=AROUND),
            Axis("densities", factors=(0.5, 1.0)),
            ALLOCATION,
        ),
        "optimisation": optimisation(0.0, 5e-5),
    },
}
FOCUSES = tuple(PLANS["grow"])


def scaled(option: str, default: Any, factor: float) -> Any:
    """A multiple of a default: of a number, of every density in a list, of every hidden width or maps in a text."""
    if option in ("architecture", "architectures"):
        # In a list of architectures commas stand between them, in a single one between its widths.
        between = "-" if option == "architectures" else ",-"
        hidden = rf"(?<=[{between}])\d+(?=[@{between}])"
        return re.sub(hidden, lambda width: str(max(1, round(factor * int(width[0])))), default)
    if option == "densities":
        found = [min(1.0, factor * float(part)) for part in default.replace(",", " ").split()]
        return ",".join(f"{density:g}" for density in dict.fromkeys(found))
    if isinstance(default, int):
        return max(1, round(factor * default))
    value = float(f"{factor * default:.6g}")
    return min(1.0, value) if option == "density" else value


def plan_of(of: str, focus: str | None, *, images: bool, fixed: Iterable[str]) -> list[Axis]:
    """The axes of a focused sweep, or of a broad one, without the options that are fixed.

    Raises UserError for a focus that the command does not have.
    """
    plans = PLANS[of]
    if focus is not None and focus not in plans:
        raise UserError(f"focus is '{focus}', but {of} has only {', '.join(plans)}: choose one of them")
    axes = plans[focus] if focus else [axis for plan in plans.values() for axis in plan]
    free = [axis for axis in axes if axis.option not in set(fixed) and (images or not axis.for_images)]
    return free[:CROSSED] if focus else free


def factorial(choices: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination, the last option changing fastest."""
    return [dict(zip(choices, values)) for values in product(*choices.values())]


def star(choices: Mapping[str, Sequence[Any]], defaults: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The defaults, and every other value of every option alone."""
    alone = [{option: value} for option, values in choices.items() for value in values]
    return [
        {},
        *(change for change in alone if any(value != defaults[name] for name, value in change.items())),
    ]


def lists_of(texts: Iterable[str]) -> dict[str, list[str]]:
    """`learning_rate=0.004,0.008` as option -> values; values with commas are separated by semicolons.

    Raises UserError for what has no name or no values, and for an option given twice.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        name, value = _named("vary", text)
        separator = ";" if ";" in value else ","
        values = [part.strip() for part in value.split(separator) if part.strip()]
        if name in found:
            raise UserError(f"vary is '{text}', but {name} is there twice: name it once")
        found[name] = values
    return found


def fixed_of(texts: Iterable[str]) -> dict[str, str]:
    """`epochs=10` as option -> value. Raises UserError as `lists_of` does."""
    found: dict[str, str] = {}
    for text in texts:
        name, value = _named("set", text)
        if name in found:
            raise UserError(f"set is '{text}', but {name} is there twice: name it once")
        found[name] = value
    return found


def describe(changes: Mapping[str, Any]) -> str:
    """What a setting changes, in one line."""
    if not changes:
        return "defaults"
    return " ".join(f"{name}={_short(value)}" for name, value in changes.items())


def _named(option: str, text: str) -> tuple[str, str]:
    name, equals, value = (part.strip() for part in text.partition("="))
    if not name or not equals or not value.strip(",; "):
        raise UserError(f"{option} is '{text}', but must be such as 'epochs=10': a name, =, and what it is")
    return name.replace("-", "_"), value


# What makes the thresholds of a growth action easy to meet: many rounds, credits for anything, and no proof of a gain.
MANY_ROUNDS = {"rounds": 40}
ABUNDANT = {"opening_credits": 1e6, "income": 1.0, "price": 1e-6, "score_floor": 1, "policy": "random"}
ANY_SALE = {"policy": "score", "price": 1e3}


def lenient(mechanism: str, defaults: GrowOptions) -> dict[str, Any]:
    """Options of `grow` with which a mechanism fires if it can; raises UserError for an unknown one.

    An action is offered alone, in more and shorter rounds, with credits for anything, and is adopted without having
    proved a gain; one that frees parameters, which has to prove its loss, at a price that any loss is below. `economy`
    fires when it binds: nothing to begin with and little to earn. `plateau` gets a loss that falls fast and with little
    noise, and a line long enough for it to go flat. defaults: the options fitted to the data.
    """
    batch_size, round_steps, heat_steps = defaults.batch_size, defaults.round_steps, defaults.heat_steps
    assert batch_size and round_steps and heat_steps and defaults.learning_rate and defaults.epochs
    more = MANY_ROUNDS | {"round_steps": max(1, round_steps // 2), "heat_steps": max(1, heat_steps // 2)}
    overrides = {
        name: {"actions": name} | more | ABUNDANT | (ANY_SALE if ACTIONS[name].role == "pruning" else {})
        for name in offered()
    }
    overrides["economy"] = more | {
        "policy": "score",
        "opening_credits": 0.0,
        "income": defaults.income / 2,
        "refund": 0.0,
    }
    overrides["plateau"] = {
        "trigger": "plateau",
        "round_steps": 60,
        "heat_steps": 60,
        "batch_size": 4 * batch_size,
        "learning_rate": 2 * defaults.learning_rate,
        "epochs": 8 * defaults.epochs,
    }
    if mechanism not in overrides:
        raise UserError(f"lenient is '{mechanism}', but must be one of {', '.join(overrides)}")
    return overrides[mechanism]


def _short(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
