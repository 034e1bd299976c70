"""One round: who enters, the heats, the verdict, and what it does to the line and its credits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from structnet.actions.base import Proposal
from structnet.seeds import stream
from tournament.audits import Auditor, run_audit
from tournament.bracket import Heat, plan_heats
from tournament.heats import TRAIN, Entrant, Terms, Verdict, is_eligible, judge, run_heats
from tournament.observer import Observer
from tournament.records import bits_of, candidate_row, unaffordable_row
from tournament.rules.market import price_now
from tournament.rules.maturity import Audit, learn
from tournament.rules.score import bar_for
from tournament.rules.screening import arm_of
from tournament.winning_line import Line
from tournament.workers.fork import Survey


@dataclass(frozen=True)
class Played:
    """What came of a round. rows: of the candidates table. entered: forks, controls and twin of heat 1."""

    decision: str
    verdict: Verdict
    rows: list[dict[str, Any]]
    entered: int
    spent: float
    refunded: float


def play_round(line: Line, survey: Survey, trial: str, observer: Observer) -> Played:
    """Runs the bracket over the proposals of a survey and adopts the winner, or the better control."""
    field, rejected = enter(line, survey)
    forks = sum(not entrant.stays for entrant in field)
    steps = max(1, min(line.settings.heat_steps, line.total_steps - line.progress.step))
    heats = plan_heats(forks, steps)
    finalists = heats[-1].survivors + sum(entrant.stays and not entrant.control for entrant in field)
    terms = Terms(
        recipe=line.recipe,
        rate=line.settings.learning_rate,
        bar=bar_for(line.validation_images, line.progress.round, finalists),
        policy=line.policy,
        estimator=line.settings.information,
        price=price_now(line),
        score_floor=line.settings.score_floor,
        maturity=learn(Audit(*row) for row in line.progress.audits),
    )
    verdict, rows = _run(line, field, heats, terms, trial, observer)
    if line.settings.screening == "thompson":
        line.progress.scores += _scores(field, survey.sizes)
    rows += [
        unaffordable_row(
            proposal,
            number,
            trial=trial,
            round_number=line.progress.round,
            information_before=bits_of(line.measured, line.entropy, terms.estimator),
            parameters_before=line.parameters,
            rng_seed=line.rng_seed,
        )
        for number, proposal in enumerate(rejected, start=len(field))
    ]
    chosen = verdict.winner or verdict.control
    if chosen is not None:
        line.adopt(chosen)
    spent = refunded = 0.0
    if verdict.winner is not None:
        decision = "adopted"
        spent, refunded = line.ledger.trade(verdict.winner.parameters_added)
    elif rejected and not any(entrant.parameters_added > 0 for entrant in field):
        decision = "unaffordable"
    else:
        decision = "nothing_significant"
    return Played(decision, verdict, rows, len(field), spent, refunded)


def enter(line: Line, survey: Survey) -> tuple[list[Entrant], list[Proposal]]:
    """The field of heat 1 - the controls, the random twin, the affordable forks - and what was too dear."""
    draws = stream(line.rng_seed, "policy", line.progress.round)
    field = [Entrant(0, TRAIN, "", None, line.state, control=True, stays=True)]
    for move in survey.controls:
        field.append(Entrant(len(field), move.action, move.site, move, line.state, control=True, stays=True))
    if not line.policy.grows:
        return field, []
    entering = [(proposal, False) for proposal in survey.proposals]
    for proposal, stays in ([(survey.twin, True)] if survey.twin else []) + entering:
        field.append(
            Entrant(
                candidate=len(field),
                action=proposal.action,
                site=proposal.site,
                proposal=proposal,
                state=line.state,
                stays=stays,
                draw=draws.random(),
            )
        )
    return field, survey.too_dear


def _run(
    line: Line, field: list[Entrant], heats: list[Heat], terms: Terms, trial: str, observer: Observer
) -> tuple[Verdict, list[dict[str, Any]]]:
    """The heats of a round, and its audit; all steps are accounted for, and every fork has a row per heat."""
    rows: list[dict[str, Any]] = []
    verdict = Verdict(None, None, None)
    auditor = Auditor(line.settings.audits, stream(line.rng_seed, "audits", line.progress.round))

    def add_row(entrant: Entrant, number: int, steps: int, **facts: bool) -> None:
        line.progress.spend(steps, line.parameters + entrant.parameters_added, winning=False)
        rows.append(
            candidate_row(
                entrant,
                trial=trial,
                round_number=line.progress.round,
                heat=number,
                before=line.measured,
                parameters_before=line.parameters,
                entropy=line.entropy,
                terms=terms,
                rng_seed=line.rng_seed,
                **facts,
            )
        )

    def end_of_heat(number: int, entrants: list[Entrant], is_last: bool) -> None:
        nonlocal verdict
        if is_last:
            verdict = judge(entrants, terms, line.entropy, line.ledger.affords)
            if verdict.winner:
                verdict.winner.won = True
        for entrant in entrants:
            eligible = is_last and is_eligible(entrant, terms, line.ledger.affords)
            add_row(entrant, number, heats[number - 1].steps, eligible=eligible)

    finalists = run_heats(
        line.workers,
        field,
        heats,
        terms,
        lambda number, forks: observer.heat_started(number, len(heats), forks),
        observer.fork_done,
        end_of_heat,
        auditor.choose,
    )
    if auditor.chosen:
        controls = [entrant for entrant in finalists if entrant.control]
        number = len(heats) + 1
        observer.heat_started(number, number, len(controls) + len(auditor.chosen))
        steps = max(1, round(line.settings.audit_factor * sum(heat.steps for heat in heats)))
        audited = run_audit(line.workers, auditor.chosen, controls, steps, terms, observer.fork_done)
        line.progress.audits += [list(audit) for audit in audited.audits]
        for entrant, spent in audited.trained:
            add_row(entrant, number, spent, eligible=False, audit=True)
    return verdict, rows


def _scores(field: list[Entrant], sizes: tuple[int, ...]) -> list[list[Any]]:
    """[action, size class, score] of every fork that entered, from the last heat that it ran in."""
    return [
        [*arm_of(entrant.proposal, sizes), entrant.standing.score]
        for entrant in field
        if entrant.proposal and entrant.standing and not entrant.stays
    ]
