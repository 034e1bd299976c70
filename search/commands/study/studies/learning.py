"""When to grow, and how fast each part learns: triggers and rates, as arms of the same tournament."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from search.commands.study.comparison import arm_table, compare, draw_arms, is_above, shown
from search.commands.study.studies.tournaments import measure_tournament, tournament_tasks
from search.commands.study.study import Finding, Row, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = (
    ("accuracy", "validation, %", 100, 2),
    ("test_accuracy", "test, %", 100, 2),
    ("parameters", "parameters", 1, 0),
    ("parameter_steps_all", "parameter-steps, millions", 1e-6, 0),
)


def judge(rows: Sequence[Row], *, base: str) -> Finding:
    """Whether any arm is surely ahead of the base, on validation."""
    arms = compare(rows, "accuracy", base)
    ahead = [name for name, arm in arms.items() if is_above(arm.lead)]
    behind = [name for name, arm in arms.items() if arm.lead is not None and arm.lead.high < 0]
    sentences = [
        f"{name}: {shown(arm.lead, scale=100)} points against {base}."
        for name, arm in arms.items()
        if arm.lead is not None
    ]
    holds = "yes" if ahead else "no" if behind else "open"
    return Finding(holds, tuple(sentences), arm_table(rows, COLUMNS, base))


def draw(rows: Sequence[Row], figure: Figure) -> None:
    draw_arms(figure.subplots(), rows, "accuracy", "Validation accuracy, %", scale=100)


def _study(name: str, question: str, claim: str, arms: Mapping[str, dict[str, Any]]) -> Study:
    tasks: Callable[..., Any] = partial(tournament_tasks, arms)
    base = next(iter(arms))
    return Study(name, question, claim, "mnist", tasks, measure_tournament, partial(judge, base=base), draw)


TRIGGERS = _study(
    "triggers",
    "Does it matter when a network grows?",
    "growing at a plateau, or at a spike of the gradient's variance, is better than at fixed intervals",
    {name: {"trigger": name} for name in ("interval", "plateau", "patience", "gradient_variance")},
)
RATES = _study(
    "rates",
    "Should what is established learn more slowly than what is new?",
    "differential rates (established parts at a fifth of the rate) and progressive freezing protect what was learned",
    {name: {"rates": name} for name in ("none", "age", "freeze")},
)
