"""What a tournament tells whoever watches it; the default watches in silence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tournament.workers.fork import Survey


class Observer:
    """Override what you want to show. Nothing here may change what the tournament does."""

    def round_started(self, number: int) -> None:
        """A round begins."""

    def surveyed(self, survey: Survey) -> None:
        """The network was diagnosed and its growth sites are screened."""

    def heat_started(self, heat: int, heats: int, forks: int) -> None:
        """A heat of so many forks begins."""

    def fork_done(self) -> None:
        """A fork of the running heat has ended, well or badly."""

    def candidates_judged(self, rows: Sequence[dict[str, Any]]) -> None:
        """The rows of a round in the candidates table are written."""

    def round_done(self, row: dict[str, Any]) -> None:
        """A row of the rounds table is written."""

    def final_progress(self, done: int, total: int) -> None:
        """So many of the steps of the final phase are done."""

    def ended(self) -> None:
        """The tournament has ended, well or badly."""


class Observers(Observer):
    """Tells each of several observers, in their order."""

    def __init__(self, *observers: Observer) -> None:
        self.observers = observers

    def round_started(self, number: int) -> None:
        for one in self.observers:
            one.round_started(number)

    def surveyed(self, survey: Survey) -> None:
        for one in self.observers:
            one.surveyed(survey)

    def heat_started(self, heat: int, heats: int, forks: int) -> None:
        for one in self.observers:
            one.heat_started(heat, heats, forks)

    def fork_done(self) -> None:
        for one in self.observers:
            one.fork_done()

    def candidates_judged(self, rows: Sequence[dict[str, Any]]) -> None:
        for one in self.observers:
            one.candidates_judged(rows)

    def round_done(self, row: dict[str, Any]) -> None:
        for one in self.observers:
            one.round_done(row)

    def final_progress(self, done: int, total: int) -> None:
        for one in self.observers:
            one.final_progress(done, total)

    def ended(self) -> None:
        for one in self.observers:
            one.ended()
