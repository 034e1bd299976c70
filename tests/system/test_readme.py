"""The README's Python runs as it stands; its commands are checked in test_docs_commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from search.commands.grow.fitting import seed_network, settings_for
from search.commands.study.studies.tournaments import options_of_grow
from structnet.data.datasets import load_dataset
from tournament import Tournament

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_python_of_the_readme_runs() -> None:
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(code) == 1
    names: dict[str, object] = {}
    exec(compile(code[0], "README.md", "exec"), names)
    assert names["result"].test.accuracy > 0.9  # type: ignore[attr-defined]


@pytest.mark.parametrize("rng_seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_what_make_grow_finds_is_what_the_readme_says(rng_seed: int) -> None:
    """Whatever the machine: the last bits of a sum differ between them, and from there on everything as by a seed."""
    torch.set_num_threads(1)
    said = re.search(r"(\d+) to (\d+) parameters, with (\d+) to (\d+) % on test", README)
    assert said, "the README says what is found on another machine"
    least, most, worst, best = map(int, said.groups())
    assert most < 2 * least and best - worst <= 15, "such a range says nothing"
    digits = load_dataset("digits")
    options = options_of_grow(digits, {"target_accuracy": 0.9})
    seed = seed_network(options, digits, rng_seed)
    result = Tournament(seed, digits, settings=settings_for(options, rng_seed)).run()
    assert result.held
    assert least <= result.network.parameter_count <= most
    assert worst <= 100 * result.test.accuracy <= best
