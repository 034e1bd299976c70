"""Rows of the tables, made from what a tournament knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from structnet.actions.base import Proposal
from structnet.measure.size import multiply_adds, stored_bytes
from structnet.measure.wiring import wiring_columns
from structnet.network.state import TrainState
from structnet.trials.rows import shape_columns
from tournament.heats import Entrant, Terms, Verdict
from tournament.rules.score import score, surplus
from tournament.winning_line import WinningLine
from tournament.workers.fork import Measured


def bits_of(measured: Measured, entropy: float, estimator: str = "decoder") -> float:
    """Usable information in bits: H(Y) plus the mean log2-likelihood."""
    return entropy + float(np.mean(measured.bits_by(estimator)))


def candidate_row(
    line: WinningLine,
    entrant: Entrant,
    heat: int,
    terms: Terms,
    trial: str,
    *,
    eligible: bool = False,
    audit: bool = False,
) -> dict[str, Any]:
    """One fork in one heat. Gains are over the better control of the heat, on the images that choose.

    score and surplus are of the gain as it was measured; a fork is ranked by its gain and `maturity` bits for every
    thousand parameters. audit: whether the row is of an audit, the heat after the last.
    """
    measured, gain, probe, entropy = entrant.measured, entrant.gain, entrant.probe_gain, line.entropy
    has_probe = measured is not None and measured.probe_bits is not None
    return {
        "trial": trial,
        "round": line.progress.round,
        "heat": heat,
        "candidate": entrant.candidate,
        "action": entrant.action,
        "site": entrant.site,
        "control": entrant.control,
        "parameters_before": line.parameters,
        "parameters_added": entrant.parameters_added,
        "connections_moved": entrant.proposal.connections_moved if entrant.proposal else 0,
        "predicted_gain": entrant.proposal.predicted_gain if entrant.proposal else None,
        "information_before": bits_of(line.measured, entropy, terms.estimator),
        "information": bits_of(measured, entropy, terms.estimator) if measured else None,
        "gain": gain.bits if gain else None,
        "gain_se": gain.standard_error if gain else None,
        "score": score(gain.bits, entrant.parameters_added, terms.score_floor) if gain else None,
        "surplus": surplus(gain, entrant.parameters_added, terms.price, terms.bar.z) if gain else None,
        "information_probe": bits_of(measured, entropy, "probe") if measured and has_probe else None,
        "gain_probe": probe.bits if probe else None,
        "gain_probe_se": probe.standard_error if probe else None,
        "accuracy": measured.accuracy if measured else None,
        "loss": measured.loss if measured else None,
        "affordable": True,
        "eligible": eligible,
        "survived": entrant.survived,
        "won": entrant.won,
        "steps": entrant.steps,
        "rng_seed": line.rng_seed,
        "worker": entrant.worker,
        "seconds": entrant.seconds,
        "status": "finished" if measured else "failed",
        "error": entrant.error or None,
        "maturity": entrant.maturity,
        "estimator": entrant.estimator,
        "audit": audit,
    }


def unaffordable_row(
    line: WinningLine, proposal: Proposal, candidate: int, terms: Terms, trial: str
) -> dict[str, Any]:
    """A site that would have entered heat 1, had there been the credits."""
    return {
        "trial": trial,
        "round": line.progress.round,
        "heat": 1,
        "candidate": candidate,
        "action": proposal.action,
        "site": proposal.site,
        "control": False,
        "parameters_before": line.parameters,
        "parameters_added": proposal.parameters_added,
        "connections_moved": proposal.connections_moved,
        "predicted_gain": proposal.predicted_gain,
        "information_before": bits_of(line.measured, line.entropy, terms.estimator),
        "affordable": False,
        "eligible": False,
        "survived": False,
        "won": False,
        "steps": 0,
        "rng_seed": line.rng_seed,
        "status": "unaffordable",
        "audit": False,
    }


def round_row(
    line: WinningLine,
    decision: str,
    *,
    trial: str,
    earned: float,
    spent: float,
    refunded: float,
    paid: float,
    afforded: int | None,
    verdict: Verdict | None,
    unhealthy: tuple[Sequence[int], Sequence[int]],
    candidates: int,
    snapshot: str,
    refined: str = "",
    triggered_by: str = "",
) -> dict[str, Any]:
    """Where the winning line stands after a round. The gain is the winner's, on the images that judge.

    refined: from which resolution of the input to which, where that was the round. triggered_by: what ended the
    training before a round of heats: the trigger of the settings, `clock` where it did not fire, or `end`. spent, paid:
    credits for parameters, and for what was tried. afforded: how many forks the credits covered, of those wanted.
    share_deciding: of all parameter-steps so far, those that were not along the winning line. unhealthy: saturated and
    dead units of each group.
    """
    progress, topology = line.progress, TrainState.from_arrays(line.arrays()).network.topology
    winner = verdict.winner if verdict else None
    gain = verdict.gain if verdict else None
    saturated, dead = unhealthy
    added = winner.parameters_added if winner else 0
    return {
        "trial": trial,
        "round": progress.round,
        "action": "refine_input" if refined else winner.action if winner else None,
        "site": refined or (winner.site if winner else None),
        **shape_columns(topology.architecture),
        "parameters": line.parameters,
        "connections": line.connections,
        "bytes": stored_bytes(topology),
        "macs": multiply_adds(topology),
        **wiring_columns(topology),
        "group_saturated": list(saturated),
        "group_dead": list(dead),
        "accuracy": line.measured.accuracy,
        "loss": line.measured.loss,
        "information": bits_of(line.measured, line.entropy, line.settings.information),
        "gain": gain.bits if gain else None,
        "gain_se": gain.standard_error if gain else None,
        "score": score(gain.bits, added, line.settings.score_floor) if gain else None,
        "price": line.price,
        "credits_earned": earned,
        "credits_spent": spent + paid,
        "credits_deciding": paid,
        "credits_refunded": refunded,
        "balance": line.ledger.balance,
        "candidates": candidates,
        "forks_afforded": afforded,
        "steps": progress.step,
        "steps_all": progress.steps_all,
        "parameter_steps": progress.parameter_steps,
        "parameter_steps_all": progress.parameter_steps_all,
        "rng_seed": line.rng_seed,
        "seconds": progress.seconds,
        "snapshot": snapshot or None,
        "decision": decision,
        "triggered_by": triggered_by or None,
        "share_deciding": (progress.parameter_steps_all - progress.parameter_steps)
        / max(1, progress.parameter_steps_all),
    }
