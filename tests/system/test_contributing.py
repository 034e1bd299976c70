"""The growth action that CONTRIBUTING.md writes does what every action must."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from helpers.action_cases import Case, change_of_output, eventful, make

PAGE = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()


@pytest.mark.parametrize("case", [make([9, 7, 4], density=0.3), make([9, 5, 5, 3], skips=True), eventful()])
def test_the_example_proposes_what_it_applies_and_keeps_the_output(case: Case) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    example: dict[str, Any] = {"__name__": "structnet.actions.feed"}
    exec(compile(code, "CONTRIBUTING.md", "exec"), example)
    proposals = example["propose"](case.context())
    assert {proposal.action for proposal in proposals} == {"feed"}
    assert len(proposals) >= 2
    for proposal in proposals:
        edit = example["apply"](case.network, proposal)
        assert edit.added == proposal.parameters_added > 0
        assert change_of_output(case, edit) <= 1
        assert proposal.predicted_gain > 0
