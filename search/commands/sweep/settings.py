"""The settings of a sweep and their trials: from options to what Tune is given."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel

from search.commands.grow.command import GrowOptions
from search.commands.grow.fitting import fitted_to, seed_network, settings_for
from search.commands.hunt.command import HuntOptions
from search.commands.hunt.run import members_of
from search.commands.sweep.command import SweepOptions
from search.commands.sweep.plans import (
    NEEDED,
    describe,
    factorial,
    fixed_of,
    lenient,
    lists_of,
    plan_of,
    star,
)
from search.grid.train_grid import fitted
from search.options import BatchSizeOptions, CommonOptions, checked
from search.session.augmentation import augmented
from structnet.data.dataset import Dataset
from structnet.data.datasets import defaults_of
from structnet.errors import UserError
from structnet.trials.grid import Block, blocks_of
from tournament.cost import Cost, block_cost, tournament_cost
from tournament.settings import check_job

Varied = GrowOptions | HuntOptions
MODELS: dict[str, type[Varied]] = {"grow": GrowOptions, "hunt": HuntOptions}
# Options that are the same for all trials: those of the sweep itself, and those it takes the place of.
FOUND = frozenset({*BatchSizeOptions.model_fields} - {*CommonOptions.model_fields, "batch_size"})
OF_THE_SWEEP = FOUND | {*CommonOptions.model_fields, "repeats", "rng_seeds", "keep_best", "limit"}
HUNT_LIMIT = 1_000_000  # networks of one setting; the trials of all together have a limit of their own


@dataclass(frozen=True)
class Trial:
    """name and config: what Tune is given. block: of a hunt."""

    name: str
    config: dict[str, Any]
    cost: Cost
    block: Block | None = None


@dataclass(frozen=True)
class Setting:
    """What one point of the plan changes, the options that makes, fitted to the data, and its trials."""

    name: str
    changes: dict[str, Any]
    options: Varied
    trials: tuple[Trial, ...]

    @property
    def cost(self) -> Cost:
        """Of all its trials."""
        return sum((trial.cost for trial in self.trials), Cost())


@dataclass(frozen=True)
class Plan:
    """settings: what is tried. base: the one that others are compared with. fixed: options that all have."""

    settings: list[Setting]
    base: Setting
    fixed: dict[str, Any]

    @property
    def trials(self) -> list[Trial]:
        """Those of all settings."""
        return [trial for setting in self.settings for trial in setting.trials]


def plan_for(options: SweepOptions, data: Dataset) -> Plan:
    """What the options ask for.

    The base has the defaults, beside what `set` and `lenient` fix; without such a setting it is the first.
    Raises UserError for options that cannot be, and for a plan above the limit.
    """
    needed = NEEDED.get(options.focus or "", {}) if options.of == "grow" else {}
    fixed: dict[str, Any] = needed | fixed_of(options.set)
    varied = lists_of(options.vary)
    _check_together(options, fixed, varied)
    if options.lenient:
        plain = _fitted(options, {}, data)
        assert isinstance(plain, GrowOptions)
        fixed = lenient(options.lenient, plain) | fixed
        fixed = {name: value for name, value in fixed.items() if name not in varied}
    defaults = _fitted(options, fixed, data)
    changes = _changes(options, varied, fixed, defaults, data)
    if len(changes) > options.limit:
        raise _too_many(f"{len(changes):,} settings", options)
    settings: list[Setting] = []
    base = None
    for change in changes:
        fitted_options = _fitted(options, fixed | change, data)
        same = next((setting for setting in settings if setting.options == fitted_options), None)
        if same and varied:
            raise UserError(
                f"vary has {describe(same.changes)} twice, defaults filled in: name each value once"
            )
        if not same:
            name = f"set-{len(settings):03d}"
            typed = {name: getattr(fitted_options, name) for name in change}
            trials = tuple(_trials(name, fitted_options, options, data))
            settings.append(Setting(name, typed, fitted_options, trials))
            if fitted_options == defaults:
                base = settings[-1]
    count = sum(len(setting.trials) for setting in settings)
    if count > options.limit:
        raise _too_many(f"{count:,} trials", options)
    typed = {name: getattr(defaults, name) for name in fixed}
    return Plan(settings, base or settings[0], typed)


def _check_together(options: SweepOptions, fixed: dict[str, Any], varied: dict[str, list[str]]) -> None:
    """Raises UserError for options that exclude each other, and for names that the command swept does not have."""
    if options.vary and options.focus:
        raise UserError("vary and focus are both given, but a plan has one origin: leave one out")
    if options.lenient and options.of != "grow":
        raise UserError(f"lenient is '{options.lenient}', but hunt has no mechanisms: leave it out")
    _check_names(options.of, [*fixed, *varied])
    if both := sorted(fixed.keys() & varied.keys()):
        raise UserError(f"{both[0]} is both varied and set: choose one")


def _too_many(what: str, options: SweepOptions) -> UserError:
    return UserError(
        f"the plan has {what}, but limit is {options.limit:,} trials: raise --limit or thin it out"
    )


def _check_names(of: str, names: Sequence[str]) -> None:
    own = [name for name in MODELS[of].model_fields if name not in OF_THE_SWEEP]
    for name in names:
        if name in OF_THE_SWEEP:
            raise UserError(f"{name} cannot be varied or set: it is the same for all trials of a sweep")
        if name not in own:
            raise UserError(f"{of} has no option '{name}', but {', '.join(own)}: choose one of them")


def _changes(
    options: SweepOptions,
    varied: dict[str, list[str]],
    fixed: dict[str, Any],
    defaults: Varied,
    data: Dataset,
) -> list[dict[str, Any]]:
    """The plan as what each setting changes."""
    if varied:
        size = math.prod(len(values) for values in varied.values())
        if size > options.limit:
            raise _too_many(f"{size:,} settings", options)
        return factorial(varied)
    if options.lenient and not options.focus:
        return [{}]
    axes = plan_of(options.of, options.focus, images=len(data.input_shape) > 1, fixed=fixed)
    plain = {name: getattr(defaults, name) for name in MODELS[options.of].model_fields}
    choices = {axis.option: axis.choices(plain[axis.option]) for axis in axes}
    return factorial(choices) if options.focus else star(choices, plain)


def _fitted(options: SweepOptions, changes: dict[str, Any], data: Dataset) -> Varied:
    """The options of the command with these changes, fitted to the data; raises UserError naming a bad one."""
    common = {name: getattr(options, name) for name in CommonOptions.model_fields}
    mine = (
        {}
        if options.of == "grow"
        else {"rng_seeds": options.rng_seeds, "keep_best": False, "limit": HUNT_LIMIT}
    )
    defaults = defaults_of(options.dataset, options.of)
    texts = {name: _plain(value) for name, value in changes.items()}
    whole = checked(MODELS[options.of], {**defaults, **common, **mine, **texts})
    _check_finite(whole)
    if whole.batch_size_asked:
        raise UserError(
            "batch_size is auto, but the settings of a sweep are compared, and batches that follow the hardware change "
            "the result: give a number"
        )
    if isinstance(whole, HuntOptions):
        return fitted(whole, data)
    return fitted_to(augmented(whole, data), data)


def _plain(value: Any) -> Any:
    """A value as pydantic takes it: `none` stands for an option that is not given."""
    return None if isinstance(value, str) and value.lower() == "none" else value


def _check_finite(options: BaseModel) -> None:
    for name, value in options:
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{name} is {value}, but must be a finite number")


def _trials(name: str, setting: Varied, options: SweepOptions, data: Dataset) -> Iterator[Trial]:
    """The trials of a setting: a tournament per rng_seed, or the blocks of its grid."""
    images = len(data.train)
    if isinstance(setting, HuntOptions):
        plain = setting.model_dump(mode="json")
        for block in blocks_of(members_of(setting, data)):
            mine = replace(block, name=f"{name}-{block.name}")
            config = {**mine.to_config(), "options": plain}
            cost = block_cost(mine, setting.epochs, setting.batch_size or 1, images)
            yield Trial(mine.name, config, cost, mine)
        return
    settings = settings_for(setting, setting.rng_seed)
    check_job(settings, data)
    cost = tournament_cost(settings, seed_network(setting, data, setting.rng_seed), images)
    for rng_seed in range(options.rng_seed, options.rng_seed + options.rng_seeds):
        trial = f"{name}-seed-{rng_seed:04d}"
        own = setting.model_copy(update={"rng_seed": rng_seed}).model_dump(mode="json")
        yield Trial(trial, {"name": trial, "options": own}, cost)
