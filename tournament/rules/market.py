"""The market: what a parameter costs, in bits per thousand, and why trading at that price ends.

With the policy `surplus` a network maximises one objective, information − price × parameters ÷ 1000: it buys what
surely gains more than its price and sells what is surely worth less. One price is the dial from accurate to tiny. A
constant price cannot overshoot, so it starts low - the network buys and explores - and rises to the stated price,
at which it sells what does not earn its keep.
"""

from __future__ import annotations

import math

from tournament.winning_line import Line

OPENING_SHARE = 0.1  # of the stated price, at the first step


def price_at(price: float, step: int, growth_stop: int) -> float:
    """Bits per thousand parameters at a step of the line: from a tenth of the price, geometrically, to all of it.

    growth_stop: the step at which growth ends. The price is whole from three quarters of the way on, so that
    there is time to sell at it.
    """
    risen = min(1.0, step / max(1.0, 0.75 * growth_stop))
    return price * OPENING_SHARE ** (1.0 - risen)


def price_now(line: Line) -> float:
    """What a line is asked for at its step: the price of the market, or the stated one where there is none."""
    settings = line.settings
    if not line.policy.one_market:
        return settings.price
    return price_at(settings.price, line.progress.step, line.growth_stop)


def most_trades(entropy: float, information: float, parameters: int, price: float, least: float) -> int:
    """How many trades there can be at most at a constant price, if each raises the objective by `least` or more.

    entropy, information: H(Y) and what the network holds of it, in bits; the objective ends at H(Y) at the most,
    for no parameters at all. Between trades a network trains on, which no trade takes credit for: that only
    brings it nearer to the end. Raises ValueError unless `least` is above 0: trades that bring nothing could go on
    for ever.
    """
    if least <= 0:
        raise ValueError(f"least is {least}, but must be above 0: otherwise trading need not end")
    room = entropy - information + price * parameters / 1000
    return max(0, math.floor(room / least))
