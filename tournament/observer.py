"""What a tournament tells whoever watches it; the default watches in silence."""

from __future__ import annotations

from typing import Any

from tournament.fork import Survey


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

    def round_done(self, row: dict[str, Any]) -> None:
        """A row of the rounds table is written."""

    def final_progress(self, done: int, total: int) -> None:
        """So many of the steps of the final phase are done."""
