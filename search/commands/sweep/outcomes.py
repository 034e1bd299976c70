"""The settings of a sweep and what came of them, read back from the tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from search.commands.sweep.plans import describe
from search.report.records import Records
from structnet.trials.outcomes import compared, network_outcomes, tournament_outcomes

Row = dict[str, Any]
OF_THE_RUN = {"name", "resume", "results", "rng_seed"}  # options of a trial that are no setting


class Settings:
    """The settings of a sweep: what each changes, and what came of it with every rng_seed.

    rows: of the trials, as `compared` gives them, the best first.
    """

    def __init__(self, records: Records) -> None:
        self.of = records.config.get("of") or "grow"
        runs = [row for row in records.runs if row["trial"]]
        self.changes: dict[str, dict[str, Any]] = records.config.get("plan") or _differences(runs)
        if self.of == "grow":
            self.outcomes = tournament_outcomes([(setting_of(row), row) for row in runs])
        else:
            # Steps are not in the table, so neither is what they cost.
            networks = records.rows("networks")
            self.outcomes = network_outcomes([(setting_of(row), row, 1) for row in networks], 1)
        names = sorted({outcome.setting for outcome in self.outcomes} | self.changes.keys())
        self.base = records.config.get("base") or (names[0] if names else "")
        self.rows = compared(self.outcomes, self.base)
        self.configs = {setting_of(row): json.loads(row["config"] or "{}") for row in runs}

    @property
    def options(self) -> list[str]:
        """Those that some setting changes."""
        return list(dict.fromkeys(name for changes in self.changes.values() for name in changes))

    @property
    def is_star(self) -> bool:
        """Whether each setting changes at most one option."""
        return all(len(changes) <= 1 for changes in self.changes.values())

    def said(self, setting: str) -> str:
        """What a setting changes, on one line."""
        changes = self.changes.get(setting)
        found = describe(changes) if changes is not None else setting
        return f"{found} (base)" if setting == self.base else found

    def value(self, setting: str, option: str) -> Any:
        """What an option is in a setting; `default` where no row tells."""
        changes = self.changes.get(setting, {})
        return changes.get(option, self.configs.get(setting, {}).get(option, "default"))

    def alone(self, option: str) -> list[str]:
        """The settings by which an option is judged: all, or in a star those that change nothing else."""
        return [
            name
            for name, changes in self.changes.items()
            if not self.is_star or option in changes or name == self.base
        ]


def setting_of(row: Row) -> str:
    """`set-003` of the trial `set-003-seed-0000` or `set-003-block-0001`."""
    return str(row["trial"]).partition("-seed-")[0].partition("-block-")[0]


def _differences(runs: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """What the settings of tournaments change, told from the options of their trials: of what they differ in."""
    configs = {setting_of(row): json.loads(row["config"] or "{}") for row in runs}
    names = [name for name in next(iter(configs.values()), {}) if name not in OF_THE_RUN]
    different = [name for name in names if len({str(config.get(name)) for config in configs.values()}) > 1]
    return {setting: {name: config.get(name) for name in different} for setting, config in configs.items()}


def short_of(value: Any) -> str:
    """A value as a name on an axis has it."""
    return f"{value:g}" if isinstance(value, float) else str(value)
