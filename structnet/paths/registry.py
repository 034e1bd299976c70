"""The layouts of plastic networks by name, and how networks begin. A new layout is a file and an entry here."""

from __future__ import annotations

import torch
from torch import nn

from structnet.errors import UserError
from structnet.modules.evaluation import parameters_in
from structnet.paths.blocks import PlasticPath, laid_out, seeded
from structnet.paths.network import Place, Plan, PlasticNetwork, Variant
from structnet.paths.variants import path, sequential, shuffle
from structnet.seeds import stream, torch_seed

VARIANTS: dict[str, Variant] = {
    variant.name: variant for variant in (path.VARIANT, sequential.VARIANT, shuffle.VARIANT)
}
WIDEST = 1024.0  # the factor of a rival, beyond which no plastic network is as large
HALVINGS = 16  # to a factor by which no middle differs by a channel, or hardly one


def variant_named(name: str) -> Variant:
    """The layout of this name; raises UserError for an unknown one."""
    if name not in VARIANTS:
        raise UserError(f"variant is '{name}', but must be one of {', '.join(VARIANTS)}")
    return VARIANTS[name]


def check_plan(plan: Plan, budget: int) -> None:
    """Raises UserError for an unknown layout, a width that no network has, or paths for which there is no room."""
    variant = variant_named(plan.variant)
    if not 0 < plan.width <= 1:
        raise UserError(
            f"width is {plan.width:g}, but must be in (0, 1]: it multiplies the channels of the wide network"
        )
    most = len(variant.places) - 1
    if not 1 <= budget <= most:
        raise UserError(
            f"budget is {budget}, but must be from 1 to {most}: variant {plan.variant} has {most + 1} places, and one "
            "has to be free for a path to come"
        )


def start_network(plan: Plan, budget: int, rng_seed: int) -> PlasticNetwork:
    """A network with so many paths at random, scalars in [0, 1), on the CPU. Raises UserError as `check_plan`."""
    check_plan(plan, budget)
    variant = VARIANTS[plan.variant]
    with seeded(torch_seed(rng_seed, "paths backbone")):
        network = variant.make(plan)
    laid_out(network)
    rng = stream(rng_seed, "paths places")
    chosen = rng.choice(len(variant.places), budget, replace=False)
    for place in sorted(variant.places[number] for number in chosen):
        network.attach(place, fresh_path(network, place, float(rng.random()), rng_seed, 0))
    return network


def fresh_path(network: PlasticNetwork, place: Place, scalar: float, rng_seed: int, step: int) -> PlasticPath:
    """A path for this place that comes after so many steps; on the CPU."""
    with seeded(torch_seed(rng_seed, "paths path", step, *place)):
        return PlasticPath(network.body_at(place), scalar)


def bare_network(plan: Plan, places: list[Place]) -> PlasticNetwork:
    """A network with paths at these places, whose values do not matter as others will be loaded."""
    with seeded(0):
        network = variant_named(plan.variant).make(plan)
        for place in places:
            network.attach(place, PlasticPath(network.body_at(place), 0.0))
    laid_out(network)
    return network


def start_rival(plan: Plan, parameters: int, rng_seed: int) -> nn.Module:
    """The residual network whose parameters are the closest to so many. Raises UserError if even its least is larger.

    The factor of its middles is found by bisection; where two are equally close, the smaller is taken.
    """
    variant = variant_named(plan.variant)

    def size(factor: float) -> int:
        with torch.device("meta"):
            return parameters_in(variant.rival(plan, factor))

    low, high = 0.0, 1.0
    if size(low) > parameters:
        raise UserError(
            f"the plastic network has {parameters:,} parameters, but the residual network of variant {plan.variant} "
            f"and width {plan.width:g} has at least {size(low):,}: raise the budget or the width"
        )
    while size(high) <= parameters and high < WIDEST:
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        half = (low + high) / 2
        low, high = (half, high) if size(half) <= parameters else (low, half)
    closest = min((low, high), key=lambda factor: abs(size(factor) - parameters))
    with seeded(torch_seed(rng_seed, "paths rival")):
        return laid_out(variant.rival(plan, closest))
