"""When to grow, and how fast each part learns: triggers and rates, as arms of the same tournament."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from search.commands.study.comparison import (
    COST,
    PARAMETERS,
    POINTS,
    TEST,
    VALIDATION,
    arm_table,
    draw_arms,
    in_points,
    leads_over,
)
from search.commands.study.studies.tournaments import measure_tournament, tournament_tasks
from search.commands.study.study import Finding, Row, Study, verdict
from search.report.charts import Chart
from structnet.growth import triggers


def judge(rows: Sequence[Row], *, base: str) -> Finding:
    """Whether any arm is surely ahead of the base, on validation."""
    leads = leads_over(base, rows, "accuracy")
    return Finding(
        verdict(
            yes=any(lead.is_above_zero for lead in leads.values()),
            no=any(lead.is_below_zero for lead in leads.values()),
            otherwise="open",
        ),
        tuple(f"{arm}: {in_points(lead)} points against {base}." for arm, lead in leads.items()),
        arm_table(rows, (VALIDATION, TEST, PARAMETERS, COST), base),
    )


def draw(rows: Sequence[Row]) -> Chart:
    return draw_arms(rows, "accuracy", "Validation accuracy, %", scale=100)


def _study(name: str, question: str, claim: str, arms: Mapping[str, dict[str, Any]]) -> Study:
    tasks: Callable[..., Any] = partial(tournament_tasks, arms)
    base = next(iter(arms))
    return Study(
        name=name,
        question=question,
        claim=claim,
        dataset="mnist",
        tasks=tasks,
        measure=measure_tournament,
        judge=partial(judge, base=base),
        draw=draw,
        seen="Validation accuracy of every arm",
        reading=POINTS,
    )


TRIGGERS = _study(
    "triggers",
    "Does it matter when a network grows?",
    "growing at a plateau, or at a spike of the gradient's variance, is better than at fixed intervals",
    {name: {"trigger": name} for name in triggers.TRIGGERS},
)
RATES = _study(
    "rates",
    "Should what is established learn more slowly than what is new?",
    "differential rates (established parts at a fifth of the rate) and progressive freezing protect what was learned",
    {name: {"rates": name} for name in ("none", "age", "freeze")},
)
