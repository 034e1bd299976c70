"""Credits: the right to hold parameters and to try forks, earned by correct predictions.

Every change of the balance is a row of the `rounds` table, and the table alone proves it:
previous balance + earned + refunded − spent = balance, from the opening balance in round 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from structnet.errors import UserError


@dataclass(frozen=True)
class Economy:
    """How credits come and go.

    income: credits per 1,000 steps and dense parameter of the first architecture, at perfect accuracy.
    opening_credits: the balance at the start; None for as many as the seed has parameters. refund: what a
    freed parameter brings, always below 1. fork_price: credits per 1,000 parameter-steps of training that only decides,
    such as that of forks; None for what tournament.allowance fits to the run, 0 for forks that cost nothing.
    """

    income: float = 0.05
    opening_credits: float | None = None
    refund: float = 0.5
    fork_price: float | None = None

    def __post_init__(self) -> None:
        if self.income < 0:
            raise UserError(
                f"income is {self.income}, but must not be negative: it is credits per dense parameter"
            )
        if self.fork_price is not None and self.fork_price < 0:
            raise UserError(
                f"fork_price is {self.fork_price}, but must not be negative: it is credits per 1,000 parameter-steps"
            )
        if self.opening_credits is not None and self.opening_credits < 0:
            raise UserError(f"opening_credits is {self.opening_credits}, but must not be negative")
        if not 0 <= self.refund < 1:
            raise UserError(
                f"refund is {self.refund}, but must be in [0, 1): a refund of 1 would make trades free"
            )


@dataclass
class Ledger:
    """The balance of one tournament, in credits."""

    economy: Economy
    parameters_dense: int
    chance: float
    balance: float

    @classmethod
    def opened(cls, economy: Economy, parameters: int, parameters_dense: int, chance: float) -> Ledger:
        """A new ledger; parameters and parameters_dense are those of the seed, chance in [0, 1]."""
        opening = float(parameters) if economy.opening_credits is None else economy.opening_credits
        return cls(economy, parameters_dense, chance, opening)

    def earn(self, steps: int, accuracy: float) -> float:
        """Credits for so many steps of the winning line at this validation accuracy; returns the amount."""
        amount = self.worth(steps, accuracy)
        self.balance += amount
        return amount

    def worth(self, steps: float, accuracy: float) -> float:
        """Credits that so many steps at this validation accuracy bring."""
        above_chance = max(0.0, (accuracy - self.chance) / max(1e-12, 1 - self.chance))
        return self.economy.income * self.parameters_dense * above_chance * steps / 1000

    def trade(self, parameters_added: int) -> tuple[float, float]:
        """Pays for parameters added, or takes the refund for parameters freed; returns (spent, refunded).

        Raises ValueError if the balance does not cover it: it is never negative.
        """
        if not self.affords(parameters_added):
            raise ValueError(f"{parameters_added} parameters cost more than {self.balance:.1f} credits")
        spent, refunded = float(max(0, parameters_added)), self.economy.refund * max(0, -parameters_added)
        self.balance += refunded - spent
        return spent, refunded

    def affords(self, parameters_added: int) -> bool:
        """Whether the balance covers so many parameters; what frees some costs nothing."""
        return max(0, parameters_added) <= self.balance

    def pay(self, credits: float) -> None:
        """Takes credits for what is tried, before it is known what it comes to; negative: gives some back.

        Raises ValueError if the balance does not cover it.
        """
        if credits > self.balance:
            raise ValueError(f"{credits:.1f} credits are more than {self.balance:.1f}")
        self.balance -= credits
