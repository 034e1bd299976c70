"""One round: who enters, the heats, the verdict, and what it does to the line and its credits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from structnet.actions.base import Proposal
from structnet.seeds import stream
from tournament.bracket import Heat, plan_heats
from tournament.fork import Survey
from tournament.heats import REWIRE, TRAIN, Entrant, Terms, Verdict, is_eligible, judge, run_heats
from tournament.line import Line
from tournament.observer import Observer
from tournament.records import bits_of, candidate_row, unaffordable_row
from tournament.score import bar_for


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
        price=line.settings.price,
        score_floor=line.settings.score_floor,
    )
    verdict, rows = _run(line, field, heats, terms, trial, observer)
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
    """The field of heat 1 - both controls, the random twin, the affordable forks - and what was too dear."""
    draws = stream(line.rng_seed, "policy", line.progress.round)
    field = [Entrant(0, TRAIN, "", None, line.state, control=True, stays=True)]
    if survey.rewire:
        site, plan = survey.rewire.site, survey.rewire
        field.append(Entrant(1, REWIRE, site, plan, line.state, control=True, stays=True))
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
    """The heats of a round; every fork's steps are accounted for, and every fork has a row per heat."""
    rows: list[dict[str, Any]] = []
    verdict = Verdict(None, None, None)

    def end_of_heat(number: int, entrants: list[Entrant], is_last: bool) -> None:
        nonlocal verdict
        if is_last:
            verdict = judge(entrants, terms, line.entropy, line.ledger.affords)
            if verdict.winner:
                verdict.winner.won = True
        for entrant in entrants:
            size = line.parameters + entrant.parameters_added
            line.progress.spend(heats[number - 1].steps, size, winning=False)
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
                    eligible=is_last and is_eligible(entrant, terms, line.ledger.affords),
                    rng_seed=line.rng_seed,
                )
            )

    run_heats(
        line.workers,
        field,
        heats,
        terms,
        lambda number, forks: observer.heat_started(number, len(heats), forks),
        observer.fork_done,
        end_of_heat,
    )
    return verdict, rows
