"""`--keep-tune`: Ray Tune's own folder goes when an experiment has ended, unless it is to be kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.command_cases import structnet
from ray.tune import ExperimentAnalysis

from search.command import Group
from search.commands.registry import COMMANDS, resumable
from search.options import changeable

HUNT = (
    "hunt",
    "--architectures=input-4-classes",
    "--densities=0.5",
    "--rng-seeds=2",
    "--epochs=2",
    "--workers=1",
)
# The tournament and Ray Train run without Tune, and the queue's entries are others.
WITHOUT = {"grow", "train"}


@pytest.mark.parametrize("name", sorted(resumable()))
def test_every_command_that_runs_tune_has_it(name: str) -> None:
    model: Any = resumable()[name].model
    assert ("keep_tune" in model.model_fields) == (name not in WITHOUT)
    if name not in WITHOUT:
        assert "keep_tune" in changeable(model)


def test_no_other_command_has_it() -> None:
    others = [
        each for name, each in COMMANDS.items() if name not in resumable() and not isinstance(each, Group)
    ]
    assert not [each.name for each in others if "keep_tune" in each.model.model_fields]


@pytest.mark.usefixtures("ray_session")
@pytest.mark.slow
def test_what_is_kept_ray_reads(tmp_path: Path) -> None:
    done = structnet(*HUNT, "--keep-tune", "--name", "kept", cwd=tmp_path)
    assert done.code == 0, done.err
    found = ExperimentAnalysis(str(tmp_path / "results" / "ray" / "kept"))
    assert [trial.status for trial in found.trials] == ["TERMINATED"]
    row = found.dataframe().iloc[0]
    assert row["report/networks"] == 2 and row["done"]
    # A resume may change it, and what is finished is not run again.
    done = structnet(*HUNT, "--name", "kept", "--resume", cwd=tmp_path)
    assert done.code == 0 and "finished already" in done.out
