"""Who decides: the tournament over growth actions, its score and its credits."""

from tournament.coordinator import Result, Tournament
from tournament.rules.ledger import Economy
from tournament.settings import Settings

__all__ = ["Economy", "Result", "Settings", "Tournament"]
