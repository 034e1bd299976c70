"""One round: who enters, the heats, the verdict, and what it does to the winning line and its credits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from structnet.actions.base import Proposal
from structnet.seeds import stream
from tournament.allowance import heat_steps
from tournament.audits import Audit, draw_audited, learn, run_audit
from tournament.heats import TRAIN, Entrant, Terms, Verdict, is_eligible, judge, plan_heats, run_heats
from tournament.observer import Observer
from tournament.records import candidate_row, unaffordable_row
from tournament.rules.score import bar_for
from tournament.rules.screening import arm_of
from tournament.winning_line import WinningLine
from tournament.workers.fork import Survey


@dataclass(frozen=True)
class PlayedRound:
    """What came of a round. rows: of the candidates table. entered: forks, controls and twin of heat 1."""

    decision: str
    verdict: Verdict
    rows: list[dict[str, Any]]
    entered: int
    spent: float
    refunded: float


def play_round(line: WinningLine, survey: Survey, trial: str, observer: Observer) -> PlayedRound:
    """Runs the heats over the proposals of a survey and adopts the winner, or the better control."""
    entrants, rejected = enter(line, survey)
    forks = sum(not entrant.stays for entrant in entrants)
    steps = heat_steps(line)
    heats = plan_heats(forks, steps)
    terms = Terms(
        recipe=line.recipe,
        rate=line.settings.learning_rate,
        bar=bar_for(line.validation_images, line.progress.round, forks),
        policy=line.policy,
        estimator=line.settings.information,
        price=line.price,
        score_floor=line.settings.score_floor,
        rise=learn(Audit(*row) for row in line.progress.audits).rise,
    )
    rows: list[dict[str, Any]] = []
    verdict, audited, controls = Verdict(None, None, None), list[Entrant](), list[Entrant]()
    for heat in run_heats(line.workers, entrants, heats, terms, observer):
        if heat.number == 1:
            rng = stream(line.rng_seed, "audits", line.progress.round)
            audited = draw_audited(heat, line.settings.audits, rng)
        if heat.is_last:
            verdict = judge(heat.entrants, terms, line.entropy, line.ledger.affords)
            controls = [entrant for entrant in heat.survivors if entrant.control]
            if verdict.winner:
                verdict.winner.won = True
        for entrant in heat.entrants:
            eligible = heat.is_last and is_eligible(entrant, terms, line.ledger.affords)
            rows.append(_counted(line, entrant, heat.number, heat.steps, terms, trial, eligible=eligible))
    if audited:
        longer = max(1, round(line.settings.audit_factor * steps))
        rows += _audit(line, audited, controls, len(heats) + 1, longer, terms, trial, observer)
    if line.settings.screening == "thompson":
        line.progress.scores += _scores(entrants, survey.sizes)
    rows += [
        unaffordable_row(line, proposal, number, terms, trial)
        for number, proposal in enumerate(rejected, start=len(entrants))
    ]
    decision, spent, refunded = _settle(line, verdict, entrants, rejected)
    return PlayedRound(decision, verdict, rows, len(entrants), spent, refunded)


def enter(line: WinningLine, survey: Survey) -> tuple[list[Entrant], list[Proposal]]:
    """Who runs in heat 1 - the controls, the random twin, the affordable forks - and what was too dear."""
    draws = stream(line.rng_seed, "policy", line.progress.round)
    entrants = [Entrant(0, TRAIN, "", None, line.state, control=True, stays=True)]
    for move in survey.controls:
        number = len(entrants)
        entrants.append(Entrant(number, move.action, move.site, move, line.state, control=True, stays=True))
    if not line.policy.grows:
        return entrants, []
    entering = [(proposal, False) for proposal in survey.proposals]
    for proposal, stays in ([(survey.twin, True)] if survey.twin else []) + entering:
        entrants.append(
            Entrant(
                candidate=len(entrants),
                action=proposal.action,
                site=proposal.site,
                proposal=proposal,
                state=line.state,
                stays=stays,
                draw=draws.random(),
            )
        )
    return entrants, survey.too_dear


def _counted(
    line: WinningLine, entrant: Entrant, heat: int, steps: int, terms: Terms, trial: str, **facts: bool
) -> dict[str, Any]:
    """The row of a fork in a heat, whose steps are accounted for with it."""
    line.progress.spend(steps, line.parameters + entrant.parameters_added, winning=False)
    return candidate_row(line, entrant, heat, terms, trial, **facts)


def _audit(
    line: WinningLine,
    chosen: list[Entrant],
    controls: list[Entrant],
    heat: int,
    steps: int,
    terms: Terms,
    trial: str,
    observer: Observer,
) -> list[dict[str, Any]]:
    """The audit of a round, as the heat after the last; its rows."""
    observer.heat_started(heat, heat, len(controls) + len(chosen))
    audited = run_audit(line.workers, chosen, controls, steps, terms, observer.fork_done)
    line.progress.audits += [list(audit) for audit in audited.audits]
    return [
        _counted(line, entrant, heat, spent, terms, trial, audit=True) for entrant, spent in audited.trained
    ]


def _settle(
    line: WinningLine, verdict: Verdict, entrants: list[Entrant], rejected: list[Proposal]
) -> tuple[str, float, float]:
    """Adopts the winner, or the better control, and pays for it; (decision, spent, refunded)."""
    chosen = verdict.winner or verdict.control
    if chosen is not None:
        line.adopt(chosen)
    if verdict.winner is not None:
        return "adopted", *line.ledger.trade(verdict.winner.parameters_added)
    if rejected and not any(entrant.parameters_added > 0 for entrant in entrants):
        return "unaffordable", 0.0, 0.0
    return "nothing_significant", 0.0, 0.0


def _scores(entrants: list[Entrant], sizes: tuple[int, ...]) -> list[list[Any]]:
    """[action, size class, score] of every fork that entered, from the last heat that it ran in."""
    return [
        [*arm_of(entrant.proposal, sizes), entrant.standing.score]
        for entrant in entrants
        if entrant.proposal and entrant.standing and not entrant.stays
    ]
