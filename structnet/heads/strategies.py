"""How heads come to be chosen: strategies by name, and when each of them acts within a budget of steps.

`none` removes nothing: the control. `one_shot:SCORE` removes all at once, as the source does; `gradual:SCORE` a few at
a time over the first tenth of the budget, scored anew each time; `tournament` at the same times lets sets of heads by
every score compete (structnet.heads.contest).
"""

from __future__ import annotations

from dataclasses import dataclass

from structnet.errors import UserError
from structnet.heads.scores import SCORES

SPREAD = 0.1  # of the budget; over the first half of it gradual removal ends behind one-shot

NONE, ONE_SHOT, GRADUAL, TOURNAMENT = "none", "one_shot", "gradual", "tournament"
SCORED = (ONE_SHOT, GRADUAL)
ALL = (
    NONE,
    *(f"{kind}:{score}" for kind in SCORED for score in SCORES),
    TOURNAMENT,
)


@dataclass(frozen=True)
class Strategy:
    """kind: none, one_shot, gradual or tournament. score: that a head is chosen by; empty where none or all are."""

    kind: str
    score: str = ""

    @property
    def name(self) -> str:
        """As it is given."""
        return f"{self.kind}:{self.score}" if self.score else self.kind


def strategy_named(name: str) -> Strategy:
    """Of a name such as `one_shot:entropy`; raises UserError for one that is not there."""
    if name not in ALL:
        raise UserError(
            f"strategy is '{name}', but must be {NONE}, {TOURNAMENT}, or {' or '.join(SCORED)} with a score, such as "
            f"{ONE_SHOT}:gradient; scores are {', '.join(SCORES)}"
        )
    kind, _, score = name.partition(":")
    return Strategy(kind, score)


@dataclass(frozen=True)
class Event:
    """So many heads are to go, in all, once a share of the budget is spent."""

    share: float
    gone: int


def events_of(strategy: Strategy, heads: int, stages: int) -> tuple[Event, ...]:
    """When a strategy removes heads; stages: into how many parts those that act more than once share them out."""
    if strategy.kind == NONE:
        return ()
    if strategy.kind == ONE_SHOT:
        return (Event(0.0, heads),)
    parts = max(1, min(stages, heads))
    return tuple(Event(SPREAD * part / parts, round(heads * (part + 1) / parts)) for part in range(parts))
