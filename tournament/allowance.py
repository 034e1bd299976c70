"""What a round may try: forks cost credits as parameters do, so deciding never takes more than was earned.

Before its heats a round pays for the most that they can train; what they did not is given back. Where the credits cover
too few forks, the round is a pause: the line trains on and saves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from structnet.training.shrinking import Shrinking
from tournament.descent import first_size
from tournament.final_phase import whole_cost
from tournament.heats import steps_of_round
from tournament.settings import Settings
from tournament.winning_line import WinningLine

DECIDING = 0.2  # of a run's parameter-steps, at most: what all that can be earned while it grows buys
TRYING = 0.5  # of the balance, in one round: the rest is for what wins
FEWEST = 2  # forks that are worth a round
LARGEST = 1.5  # times the line's parameters that a fork has at most: what actions aim at is half of them


class Allowance(NamedTuple):
    """forks: how many may enter. parameter_steps: the most that deciding among them takes. credits: for that."""

    forks: int
    parameter_steps: float
    credits: float


def price_of(line: WinningLine) -> float:
    """Credits per parameter-step of what only decides: as stated, or such that all that can be earned buys DECIDING."""
    economy = line.settings.economy
    if economy.fork_price is not None:
        return economy.fork_price / 1000
    return line.worth_deciding / (DECIDING / (1 - DECIDING) * whole_cost(line, first_size(line)))


class Deciding:
    """Credits held for what a round tries, from before anything is tried until what it came to is known."""

    def __init__(self, line: WinningLine, credits: float) -> None:
        """Holds so many; raises ValueError if the balance does not cover them."""
        self._line, self._held, self._before = line, credits, _beside(line)
        line.ledger.pay(credits)

    def settled(self) -> float:
        """Gives back what was not needed; returns what was."""
        took = price_of(self._line) * (_beside(self._line) - self._before)
        paid = min(self._held, took)
        self._line.ledger.pay(paid - self._held)
        return paid


def _beside(line: WinningLine) -> int:
    """Parameter-steps so far that were not along the line."""
    return line.progress.parameter_steps_all - line.progress.parameter_steps


def allowance_of(line: WinningLine) -> Allowance:
    """What the next round may try; no forks at all where it has to save first."""
    settings, price = line.settings, price_of(line)
    steps = heat_steps(line)

    def cost(forks: int) -> float:
        return most_to_decide(settings, forks, steps, line.parameters, line.survey_steps)

    limit = TRYING * line.ledger.balance / price if price else math.inf
    if settings.economy.fork_price is None:
        limit = min(limit, _share_left(line))
    forks = most_within(cost, settings.candidates, limit)
    return Allowance(forks, cost(forks), price * cost(forks)) if forks else Allowance(0, 0.0, 0.0)


def _share_left(line: WinningLine) -> float:
    """Parameter-steps of deciding until they are DECIDING of the run, as far as its rest can be foreseen.

    That is a way up by the credits that are left after a round, and down again to the size of now.
    """
    steps = line.total_steps - line.progress.step
    peak = line.parameters + round(TRYING * line.ledger.balance)
    if line.settings.overshoot is not None:
        peak = min(peak, max(line.parameters, line.settings.overshoot))
    rest = Shrinking(0, max(1, steps), line.parameters, peak, line.parameters).mean_parameters
    whole = line.progress.parameter_steps + steps * rest
    return DECIDING / (1 - DECIDING) * whole - _beside(line)


def heat_steps(line: WinningLine) -> int:
    """Steps of a fork over all heats of a round from here."""
    return max(1, min(line.settings.heat_steps, line.total_steps - line.progress.step))


def most_within(cost: Callable[[int], float], most: int, limit: float) -> int:
    """The largest number of forks that costs no more than the limit; 0 where it would be too few."""
    fewest = min(FEWEST, most)
    return next((forks for forks in range(most, fewest - 1, -1) if cost(forks) <= limit), 0)


def most_to_decide(settings: Settings, forks: int, steps: int, parameters: int, survey_steps: int) -> float:
    """Parameter-steps that a round of so many forks takes at most, beside those of the line.

    One of all that run is the line itself.
    """
    grown, kept = steps_of_round(forks, steps, audits=settings.audits, audit_factor=settings.audit_factor)
    return parameters * (survey_steps + LARGEST * grown + kept - steps)
