"""A process that compiles and one that reads what the first has compiled come to the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Prints what training and evaluation come to, for a network of single units and one of feature maps.
_TRAIN = """
import hashlib
import sys
import numpy as np
import torch
sys.path.insert(0, sys.argv[1])
from helpers.map_networks import random_map_network
from helpers.training_cases import image_split, skip_network
from structnet.network.architecture import Architecture
from structnet.network.state import TrainState
from structnet.training.evaluation import evaluate
from structnet.training.loop import train_steps
from structnet.training.recipe import Recipe
from structnet.training.schedules import constant
torch.set_num_threads(1)
maps = Architecture((1, 3, 2, 3), ((4, 4), (4, 4), (2, 2), (1, 1)), flat=[2])
of_maps = random_map_network(np.random.default_rng(0), maps, normalised=True, share=0.6, dtype=torch.float32)
split = image_split(140)
for network in (skip_network(dtype=torch.float32), of_maps):
    state = TrainState.fresh(network)
    losses = train_steps(state, split, Recipe(33, l1=1e-3, rng_seed=3, input_dropout=0.2), 5, constant(0.01))
    loss = evaluate(state.network, split).loss
    numbers = np.concatenate([losses, state.network.values.detach().numpy(), [loss]])
    print(hashlib.sha256(numbers.tobytes()).hexdigest())
"""


def run(*arguments: str, folder: Path) -> str:
    """What a process of Python prints that keeps machine code in a folder."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder)}
    command = [sys.executable, "-W", "ignore", *arguments]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=True)
    return done.stdout


def compiled_in(folder: Path) -> list[str]:
    """Names of the files of machine code."""
    return sorted(path.name for path in folder.rglob("*.nbc"))


@pytest.mark.slow
def test_compiled_and_read_again_are_the_same_to_the_bit(tmp_path: Path) -> None:
    """The second process finds in NUMBA_CACHE_DIR all that it needs."""
    kept, printed = [], []
    for _ in range(2):
        printed.append(run("-c", _TRAIN, str(Path(__file__).parents[1]), folder=tmp_path).split())
        kept.append(compiled_in(tmp_path))
    assert len(printed[0]) == 2 and printed[0] == printed[1]
    assert kept[0] == kept[1] != []


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["64,10,10", "1@8,3@4,10"])
def test_no_command_compiles_what_make_install_has_compiled(architecture: str, tmp_path: Path) -> None:
    run("-m", "structnet.training.warm", folder=tmp_path / "code")
    before = compiled_in(tmp_path / "code")
    options = ["--architecture", architecture, "--density", "0.3", "--epochs", "1"]
    run("-m", "search.cli", "grow", *options, "--results", str(tmp_path), folder=tmp_path / "code")
    assert compiled_in(tmp_path / "code") == before != []
