"""What follows from the data where `grow` was not told it: architecture, lengths, rates; and the seed and settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search.commands.grow.command import GrowOptions
from search.commands.grow.job import budget_of, front_of, policy_of, rounds_of
from search.options import numbers
from search.session.batch_size import with_batch_size
from search.session.run import architecture_of, check_maps
from structnet.actions import offered
from structnet.errors import UserError

if TYPE_CHECKING:
    from structnet.data.dataset import Dataset
    from structnet.network.architecture import Architecture
    from structnet.network.network import StructNet
    from tournament.settings import Settings

DENSITY, DENSITY_OF_MAPS = 0.01, 0.05
USUAL = "input,100,classes"
BYTES_A_PARAMETER = 5  # of a weight in float32 and its index


def fitted_to(options: GrowOptions, data: Dataset) -> GrowOptions:
    """The options with what follows from the data, where it was not given; raises UserError for what cannot be."""
    from tournament.settings import fitted_epochs

    options = with_batch_size(_with_architecture(options, data), data)
    if options.epochs is None:
        epochs = fitted_epochs(len(data.train), options.batch_size)
        options = options.model_copy(update={"epochs": epochs})
    return _fitted(options, data) if options.budget is None else _within_budget(options, data)


def _with_architecture(options: GrowOptions, data: Dataset) -> GrowOptions:
    """With the architecture that is best known for the data, where none was given.

    A pyramid fits the size that is asked for, so that other shapes do not compete with it unless rounds are asked for.
    On CIFAR-10, for the cost of 10 epochs and with 5,000 parameters, it ends at 72.2 % by itself, and contests, which
    are short then, take wide and narrow ones to 68.3 %. Of 60 epochs, in which they keep it, they take a fifth of the
    time.
    """
    from structnet.network.pyramid import has_pyramid, pyramid
    from tournament.rules.score import POLICIES

    if options.architecture is not None:
        return options
    needs_plain = options.scales is not None or options.dropout > 0
    found, rounds = USUAL, options.rounds
    if has_pyramid(data.input_shape) and not needs_plain:
        limit = options.max_parameters
        if limit is None and options.max_bytes is not None:
            limit = options.max_bytes // BYTES_A_PARAMETER
        found = str(pyramid(data.input_shape, data.classes, limit))
        if rounds is None and POLICIES[policy_of(options)].contests:
            rounds = 0
    return options.model_copy(update={"architecture": found, "rounds": rounds})


def _within_budget(options: GrowOptions, data: Dataset) -> GrowOptions:
    """With as many epochs as the budget is estimated to pay for; raises UserError where it pays for none."""
    from tournament.cost import Cost, epochs_within, tournament_cost

    parameter_steps, minutes = budget_of(options)
    if parameter_steps is not None:
        minutes = None  # a limit of its own, and no estimate
    seed = seed_network(_fitted(options, data), data, options.rng_seed)

    def cost_of(epochs: int) -> Cost:
        fitted = _fitted(options.model_copy(update={"epochs": epochs}), data)
        return tournament_cost(settings_for(fitted, options.rng_seed), seed, len(data.train))

    epochs = epochs_within(cost_of, parameter_steps, 60 * minutes if minutes else None)
    if not epochs:
        raise UserError(
            f"budget is '{options.budget}', but must pay for an epoch, about {cost_of(1).parameter_steps:.2g} "
            "parameter-steps: give more, or a smaller --max-parameters"
        )
    return _fitted(options.model_copy(update={"epochs": epochs}), data)


def _fitted(options: GrowOptions, data: Dataset) -> GrowOptions:
    from structnet.measure.fitting_size import parameters_within, parameters_within_macs
    from structnet.network.random_topology import least_density
    from structnet.training.batches import steps_per_epoch
    from structnet.training.fitted_rate import fitted_rate
    from structnet.training.rates import rates_named
    from structnet.training.recipe import fitted_l1
    from tournament.settings import fitted_lengths

    assert options.epochs is not None
    given = options.batch_size, options.round_steps, options.heat_steps
    batch_size, round_steps, heat_steps = fitted_lengths(len(data.train), options.epochs, *given)
    shape = seed_shape(options, data)
    density = options.density
    if density is None:
        # Where few inputs leave less than it takes to reach every unit, the default is a little above that.
        usual = DENSITY_OF_MAPS if shape.has_maps else DENSITY
        density = min(1.0, max(usual, 1.2 * least_density(shape)))
    rates = rates_named(
        options.rates,
        cycle=round_steps + heat_steps,
        line=options.epochs * steps_per_epoch(len(data.train), batch_size),
        matures_after=options.matures_after,
        freezes_after=options.freezes_after,
    )
    limit = options.max_parameters
    if options.max_bytes is not None:
        fitting = parameters_within(options.max_bytes, shape)
        limit = fitting if limit is None else min(limit, fitting)
    if options.max_macs is not None:
        # Which parameters are dear is known only while they are pruned: of a bound on their number it takes nothing.
        fitting = parameters_within_macs(options.max_macs, shape)
        limit = fitting if limit is None else limit
    found = {
        "max_parameters": limit,
        "batch_size": batch_size,
        "round_steps": round_steps,
        "heat_steps": heat_steps,
        "actions": ",".join(offered(heat_steps)) if options.actions is None else options.actions,
        "density": density,
        "learning_rate": fitted_rate(data.train, shape)
        if options.learning_rate is None
        else options.learning_rate,
        "l1": fitted_l1(shape) if options.l1 is None else options.l1,
        "policy": policy_of(options),
        "rounds": rounds_of(options),
        "matures_after": rates.matures_after if rates else None,
        "freezes_after": rates.freezes_after if rates else None,
    }
    return options.model_copy(update=found)


def settings_for(options: GrowOptions, rng_seed: int) -> Settings:
    """The settings of one repetition, from options that are fitted to the data; raises UserError."""
    from structnet.training.rates import AgeRates
    from structnet.training.recipe import recipe_of
    from tournament.rules.ledger import Economy
    from tournament.settings import Settings

    assert options.round_steps is not None and options.heat_steps is not None and options.rounds is not None
    assert options.learning_rate is not None and options.policy is not None and options.epochs is not None
    assert options.actions is not None
    budget, minutes = budget_of(options)
    rates = None
    if options.matures_after is not None:
        rates = AgeRates(matures_after=options.matures_after, freezes_after=options.freezes_after)
    return Settings(
        epochs=options.epochs,
        rounds=options.rounds,
        round_steps=options.round_steps,
        heat_steps=options.heat_steps,
        candidates=options.candidates,
        actions=tuple(name.strip() for name in options.actions.split(",") if name.strip()),
        trigger=options.trigger,
        policy=options.policy,
        target_accuracy=options.target_accuracy,
        target_loss=options.target_loss,
        target_balanced_accuracy=options.target_balanced_accuracy,
        confident=options.confident,
        front=front_of(options),
        knee=options.knee,
        max_parameters=options.max_parameters,
        max_bytes=options.max_bytes,
        max_macs=options.max_macs,
        overshoot=options.overshoot,
        price=options.price,
        score_floor=options.score_floor,
        information=options.information,
        screening=options.screening,
        scales=scales_of(options),
        indefinite=options.indefinite,
        audits=options.audits,
        audit_factor=options.audit_factor,
        learning_rate=options.learning_rate,
        minutes=minutes,
        budget=budget,
        smaller_batches=options.batch_size_asked is not None,
        recipe=recipe_of(dict(options), rates=rates, rng_seed=rng_seed, weight_decay=options.weight_decay),
        economy=Economy(options.income, options.opening_credits, options.refund, options.fork_price),
    )


def scales_of(options: GrowOptions) -> tuple[int, ...]:
    """The sides of the images in turn, or nothing for full resolution all the time; raises UserError."""
    found = numbers("scales", options.scales or "")
    if any(side != int(side) for side in found):
        raise UserError(f"scales is '{options.scales}', but must be whole numbers of pixels such as 7,14,28")
    return tuple(int(side) for side in found)


def whole_shape(options: GrowOptions, data: Dataset) -> Architecture:
    """The groups of the seed at full resolution; raises UserError."""
    assert options.architecture is not None
    return architecture_of(options.architecture, data)


def seed_shape(options: GrowOptions, data: Dataset) -> Architecture:
    """The groups of the seed: the architecture, with as many inputs as the coarsest images have; raises UserError."""
    from structnet.growth.scales import check_plain, check_scales
    from structnet.network.architecture import Architecture

    shape, scales = whole_shape(options, data), scales_of(options)
    check_maps(shape, options)
    if not scales:
        return shape
    check_plain(shape)
    check_scales(scales, data.input_shape)
    return Architecture((data.input_shape[0] * scales[0] ** 2, *shape[1:]))


def seed_network(options: GrowOptions, data: Dataset, rng_seed: int) -> StructNet:
    """The sparse seed of one repetition, from options that are fitted to the data."""
    from structnet.network.network import StructNet

    assert options.density is not None
    return StructNet(
        seed_shape(options, data),
        options.density,
        rng_seed=rng_seed,
        allocation=options.allocation,
        ensure_paths=True,
    )
