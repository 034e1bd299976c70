"""What a fork is worth, information gained against the control per parameter added, and which fork a policy prefers.

Pure functions of per-image log-likelihoods. `gain` is the mean of the per-image paired differences between a
fork and the better control of its heat, so what both get right or wrong cancels; its standard error is that
of the mean. Where the validation set is large, one half of it chooses the best fork and the other half judges
it, and the halves swap every round; where it is small, one set does both and the bar is raised by the number
of forks it chose from (Bonferroni). In both cases it rises from round to round, as every round is another try.

A policy says how the forks of a heat are ranked, and what the best one must prove to be adopted: one entry of
POLICIES. `score` is the product, `random` and `control` are the controls of the comparison. With `surplus` a network
trades at a market and maximises one objective, information − price × parameters ÷ 1000: it buys what surely gains
more than its price and sells what is surely worth less. One price is the dial from accurate to tiny. A constant price
cannot overshoot, so it starts low - the network buys and explores - and rises to the stated price, at which it sells
what does not earn its keep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from structnet.errors import UserError
from structnet.measure.statistics import mean_and_error, paired_gain, t_quantile

HALVES_FROM = 5_000
SIGNIFICANCE = 0.05
OPENING_SHARE = 0.1  # of the stated price, at the first step


@dataclass(frozen=True)
class Bar:
    """Which images choose, which judge, and how many standard errors a gain must exceed."""

    choosing: np.ndarray
    judging: np.ndarray
    z: float


def bar_for(images: int, round_number: int, forks: int) -> Bar:
    """The bar of a round, from 1, with so many validation images and so many forks that entered.

    A tournament in which nothing helps adopts something in 5 % of cases at most: of these a round r has a share of
    1 ÷ r(r + 1), which add up to 1 however long it goes on. Where one set chooses and judges, the share is divided by
    all that entered, as the heats before the last have chosen by it too (Bonferroni).
    """
    everything, share = np.arange(images), SIGNIFICANCE / (round_number * (round_number + 1))
    if images >= HALVES_FROM:
        halves = everything[0::2], everything[1::2]
        choosing, judging = halves[round_number % 2], halves[1 - round_number % 2]
        return Bar(choosing, judging, t_quantile(1 - share, len(judging)))
    return Bar(everything, everything, t_quantile(1 - share / max(1, forks), images))


@dataclass(frozen=True)
class Gain:
    """bits gained per image over the better control, and the standard error of that."""

    bits: float
    standard_error: float

    def lower(self, z: float) -> float:
        """What it is at least, but for z standard errors."""
        return self.bits - z * self.standard_error

    def upper(self, z: float) -> float:
        """What it is at most, but for z standard errors."""
        return self.bits + z * self.standard_error

    def matured(self, rise: float, parameters_added: int) -> Gain:
        """What it may become in the end, by a rise of tournament.audits; only what is added still rises."""
        return Gain(self.bits + rise * max(0, parameters_added) / 1000, self.standard_error)


def gain_over(fork: np.ndarray, controls: list[np.ndarray], images: np.ndarray) -> Gain:
    """Gain of a fork on these images over the control that did better on them.

    fork and controls: (validation images,) log2-likelihoods of the true label.
    """
    better = max(controls, key=lambda control: float(control[images].mean()))
    return Gain(*paired_gain(fork[images], better[images]))


def score(gain: float, parameters_added: int, floor: int) -> float:
    """Bits per thousand parameters: 1000 × gain ÷ max(added, floor), or ÷ freed for what only frees."""
    if parameters_added < 0:
        return 1000 * gain / -parameters_added
    return 1000 * gain / max(parameters_added, floor)


def surplus(gain: Gain, parameters_added: int, price: float, z: float) -> float:
    """Lower bound of the gain, less the price of its parameters (bits per thousand): what a trade brings."""
    return gain.lower(z) - price * parameters_added / 1000


def is_adoptable(gain: Gain, parameters_added: int, price: float, z: float) -> bool:
    """Whether a fork may replace the control.

    Growth needs a lower bound of its gain above 0. What frees parameters needs an upper bound of its loss per
    thousand freed below the price.
    """
    if parameters_added < 0:
        return -gain.lower(z) * 1000 / -parameters_added < price
    return gain.lower(z) > 0


def is_informative(log2_likelihood: np.ndarray, entropy: float, images: np.ndarray, z: float) -> bool:
    """Whether a network holds usable information on these images at all, by more than z standard errors.

    Without this a fork could "gain" on labels that are pure noise just by being wrong less confidently than
    the control. entropy: H(Y) in bits.
    """
    mean, error = mean_and_error(log2_likelihood[images])
    return entropy + mean - z * error > 0


@dataclass(frozen=True)
class Standing:
    """What is known of a fork when it is ranked, by its matured gain. draw: a random number in [0, 1) of its own."""

    gain: float
    score: float
    surplus: float
    draw: float


# (gain, parameters added, price in bits per thousand, z) -> whether a fork may replace the control.
Proof = Callable[[Gain, int, float, float], bool]


def has_surplus(gain: Gain, parameters_added: int, price: float, z: float) -> bool:
    """Whether a trade, bought or sold, surely brings more than its price."""
    return surplus(gain, parameters_added, price, z) > 0


@dataclass(frozen=True)
class Policy:
    """rank: larger is better. proves: what is asked of the best one.

    one_market: whether growth and pruning are ranked together, at a price that rises; otherwise pruning is looked at
    only where no growth is adopted. grows: whether forks enter at all. contests: whether shapes compete instead of
    growths (tournament.contest).
    """

    rank: Callable[[Standing], float]
    proves: Proof = is_adoptable
    one_market: bool = False
    grows: bool = True
    contests: bool = False


POLICIES = {
    "shape": Policy(lambda standing: standing.gain, contests=True),
    "score": Policy(lambda standing: standing.score),
    "surplus": Policy(lambda standing: standing.surplus, has_surplus, one_market=True),
    "gain": Policy(lambda standing: standing.gain),
    "random": Policy(lambda standing: standing.draw, lambda gain, added, price, z: added > 0),
    "control": Policy(lambda standing: 0.0, grows=False),
}


def policy_named(name: str) -> Policy:
    """The policy of this name; raises UserError for an unknown one."""
    if name not in POLICIES:
        raise UserError(f"policy is '{name}', but must be one of {', '.join(POLICIES)}")
    return POLICIES[name]


def price_at(price: float, step: int, growth_stop: int) -> float:
    """Bits per thousand parameters at a step of the line: from a tenth of the price, geometrically, to all of it.

    growth_stop: the step at which growth ends. The price is whole from three quarters of the way on, so that
    there is time to sell at it.
    """
    risen = min(1.0, step / max(1.0, 0.75 * growth_stop))
    return price * float(OPENING_SHARE ** (1.0 - risen))
