"""Multiply-adds of training are counted wherever networks are trained, in a meter that is open."""

from __future__ import annotations

import torch

from structnet.data.datasets import load_dataset
from structnet.measure.size import training_multiply_adds
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.training.cohort import Cohort
from structnet.training.loop import train_steps
from structnet.training.meter import metered
from structnet.training.recipe import Recipe
from structnet.training.schedules import constant

torch.set_num_threads(1)


def test_every_way_of_training_is_counted_once() -> None:
    data = load_dataset("digits")
    states = [TrainState.fresh(StructNet([64, units, 10], 0.1)) for units in (5, 9)]
    a_step = [16 * training_multiply_adds(state.network.topology) for state in states]
    recipe, rate = Recipe(batch_size=16), constant(1e-3)
    train_steps(states[0], data.train, recipe, 3, rate)  # nothing is open
    with metered() as outer:
        train_steps(states[0], data.train, recipe, 5, rate)
        with metered() as inner:
            Cohort([states[1]], [1e-3]).train(data.train, recipe, 4, rate)
    assert inner.multiply_adds == 4 * a_step[1]
    assert outer.multiply_adds == 5 * a_step[0]
