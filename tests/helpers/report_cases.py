"""Experiments made by hand for reports: rows of tables as a tournament would write them, without one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from structnet.storage.tables import TableWriter

BEGAN = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
ACTIONS = ("patch", "widen", "insert_layer", "clone", "skip", "prune")
NASTY = "<script>alert(1)</script>"


def write_run(results: Path, name: str, **columns: Any) -> TableWriter:
    """A row of `experiments`; the writer for more."""
    writer = TableWriter(str(results), name)
    row = {
        "trial": "",
        "command": "grow",
        "dataset": "digits",
        "rng_seed": 0,
        "status": "finished",
        "started_at": BEGAN,
        "heartbeat_at": BEGAN,
        "finished_at": BEGAN,
        "seconds": 12.5,
        "config": json.dumps({"dataset": "digits", "target_accuracy": 0.95, "rounds": 50}),
        "versions": json.dumps({"python": "3.11"}),
        "parameters": 150,
        "connections": 130,
        "accuracy": 0.951,
        "test_accuracy": 0.943,
        "majority": 0.12,
        "bytes": 750,
        "macs": 130,
        "parameter_steps_all": 4_000_000,
        **columns,
    }
    writer.write("experiments", row["trial"] or "run", [row])
    return writer


def round_row(number: int, **columns: Any) -> dict[str, Any]:
    """A row of `rounds`: a network [64, 10 + number, 10] that gets better."""
    hidden = 10 + number
    return {
        "trial": "",
        "round": number,
        "action": "widen" if number else None,
        "site": f"group 1: {number} units" if number else None,
        "architecture": [64, hidden, 10],
        "parameters": 150 + number,
        "connections": 130 + number,
        "accuracy": 0.5 + number / 120,
        "loss": 1 - number / 100,
        "information": 1 + number / 50,
        "gain": 0.01 if number else None,
        "gain_se": 0.004 if number else None,
        "score": 0.3 if number else None,
        "credits_earned": 10.0 * number,
        "credits_spent": 5.0 * number,
        "credits_refunded": 1.0,
        "credits_deciding": 2.0,
        "balance": 100.0 + number,
        "candidates": 200,
        "steps": 100 * number,
        "steps_all": 500 * number,
        "parameter_steps": 1000 * number,
        "parameter_steps_all": 5000 * number,
        "share_deciding": 0.1,
        "rng_seed": 0,
        "seconds": 1.0,
        "snapshot": f"results/snapshots/x/round-{number:04d}",
        "decision": "adopted" if number else "opened",
        "bytes": 700 + number,
        "macs": 130 + number,
        "link_sources": [0, 0, 1],
        "link_targets": [1, 2, 2],
        "link_connections": [90 + number, 10, 30],
        "link_possible": [64 * hidden, 640, 10 * hidden],
        "input_reads": [place % 5 for place in range(64)],
        "group_saturated": [0, number % 3, 0],
        "group_dead": [0, number % 2, 0],
        "sides": None,
        "window": None,
        "flat": None,
        **columns,
    }


def fork_row(number: int, candidate: int, **columns: Any) -> dict[str, Any]:
    """A row of `candidates`, the first two of a round being controls and the third the winner."""
    control = candidate < 2
    gain = None if control else 0.02 - candidate / 10_000
    return {
        "trial": "",
        "round": number,
        "heat": 1,
        "candidate": candidate,
        "action": ("train", "rewire")[candidate] if control else ACTIONS[candidate % len(ACTIONS)],
        "site": f"group 1: {candidate} units by gradient, of round {number}",
        "control": control,
        "parameters_before": 150,
        "parameters_added": 0 if control else candidate,
        "gain": gain,
        "gain_se": None if control else 0.004,
        "score": None if gain is None else 1000 * gain / max(32, candidate),
        "affordable": True,
        "eligible": candidate == 2,
        "survived": candidate < 10,
        "won": candidate == 2,
        "steps": 30,
        "rng_seed": 0,
        "seconds": 0.1,
        "status": "finished",
        "audit": False,
        **columns,
    }


def write_grown(results: Path, name: str, *, rounds: int, forks: int, names: Sequence[str] = ()) -> None:
    """An experiment of `grow`. names: of its classes, for a confusion matrix and mistakes."""
    last = round_row(rounds)
    writer = write_run(results, name, snapshot=last["snapshot"])
    writer.write("rounds", "rounds", [round_row(number) for number in range(rounds + 1)])
    rows = [fork_row(number, place) for number in range(1, rounds + 1) for place in range(forks)]
    if rows:
        writer.write("candidates", "candidates", rows)
    if names:
        pairs = [(truth, said) for truth in range(len(names)) for said in range(len(names))]
        called = [
            {"trial": "", "truth": truth, "said": said, "truth_name": names[truth], "said_name": names[said]}
            for truth, said in pairs
        ]
        writer.write("confusions", "run", [{**row, "images": 1 + row["truth"]} for row in called])
        image = {"confidence": 0.9, "values": [place / 64 for place in range(64)], "shape": [8, 8]}
        wrong = [row for row in called if row["truth"] != row["said"]][:24]
        writer.write("mistakes", "run", [{**row, **image, "image": place} for place, row in enumerate(wrong)])
