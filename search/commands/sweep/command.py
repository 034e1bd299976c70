"""The options of `sweep`."""

from __future__ import annotations

from typing import Any, Literal

from search.options import GRID, RAY, CommonOptions, keep_tune, option


class SweepOptions(CommonOptions):
    """The options of `sweep`.

    plan and base: once it is fitted to the data, what each setting changes, and which the others are compared with.
    """

    of: Literal["grow", "hunt"] = option("grow", "The command to sweep: grow or hunt.", GRID)
    vary: tuple[str, ...] = option(
        (),
        "An option and its values, 'epochs=10,20'; with semicolons where values have commas. Once per option; every "
        "combination is tried.",
        GRID,
    )
    set: tuple[str, ...] = option((), "An option for all trials, 'epochs=10'.", GRID)
    focus: str | None = option(
        None,
        "A generated plan: growth, architecture, optimisation or economy.",
        GRID,
        shown="without --vary, the options of all four, one at a time",
    )
    lenient: str | None = option(
        None,
        "Make the thresholds of one mechanism of grow easy to meet, to see whether it fires: an action, economy or "
        "plateau.",
        GRID,
    )
    rng_seeds: int = option(3, "So many per setting, from --rng-seed on.", GRID, ge=1)
    preview: bool = option(False, "Print the plan and its cost, run nothing.", GRID)
    limit: int = option(200, "Refuse a plan of more trials.", GRID, changes_result=False, ge=1)
    plan: dict[str, dict[str, Any]] = option({}, "", changes_result=False)
    base: str = option("", "", changes_result=False)
    workers_each: int = option(
        1, "Of the workers, so many for each tournament; 0 for one without actors.", RAY, ge=0
    )
    keep_tune: bool = keep_tune()

    @property
    def workers_of_a_trial(self) -> int:
        """How many of the workers a trial takes."""
        return max(1, self.workers_each) if self.of == "grow" else 1
