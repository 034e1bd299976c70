"""Cohorts of networks of feature maps: each has the same bits alone and in any company, statistics included."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.map_networks import random_architecture, random_images, random_map_network
from helpers.training_cases import arrays_in, memory
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from structnet import StructNet
from structnet.data.dataset import Split
from structnet.measure.diagnosis import diagnose
from structnet.network.architecture import Architecture, sizes_of
from structnet.network.state import TrainState
from structnet.training.cohort import Cohort, cohort_bytes, workspace_bytes
from structnet.training.evaluation import evaluate
from structnet.training.loop import train_steps
from structnet.training.recipe import Recipe
from structnet.training.schedules import cosine

SIDE, CLASSES = (6, 5), 3
FACTOR = cosine(1.0, 0, 60)
RECIPE = Recipe(41, l1=1e-4, input_dropout=0.1, shift=1)
RATES = (1e-2, 3e-2, 1e-3)


def shapes() -> list[Architecture]:
    """Other sides, depths, windows and flat groups, of the same input and classes."""
    return [
        Architecture([1, 3, 4, CLASSES], [SIDE, SIDE, (3, 3), (1, 1)]),
        Architecture([1, 2, CLASSES], [SIDE, (2, 5), (1, 1)], window=3, flat=[1]),
        Architecture([1, 4, 2, 3, CLASSES], [SIDE, SIDE, (3, 2), (1, 1), (1, 1)], window=1),
    ]


@cache
def split(images: int = 90) -> Split:
    return random_images(np.random.default_rng(images), shapes()[0], images)


def members(*, normalised: bool) -> list[TrainState]:
    made = []
    for index, shape in enumerate(shapes()):
        network = random_map_network(np.random.default_rng(index), shape, normalised=normalised, share=0.5)
        made.append(TrainState.fresh(network))
    return made


def alone(state: TrainState, rate: float, steps: int) -> tuple[TrainState, torch.Tensor]:
    own = state.copy()
    return own, train_steps(own, split(), RECIPE, steps, lambda step: rate * FACTOR(step))


def bits(state: TrainState) -> list[object]:
    network, adam = state.network, state.optimizer
    arrays = network.values.detach(), adam.first, adam.second, network.statistics
    numbers = [None if array is None else array.numpy().tobytes() for array in arrays]
    topology = network.topology
    structure = topology.architecture, topology.source.tolist(), topology.target.tolist(), state.born.tolist()
    return [*numbers, *structure, state.step, adam.step]


@pytest.mark.parametrize("sick", [False, True])
@pytest.mark.parametrize("normalised", [True, False])
def test_fifty_steps_together_are_fifty_steps_alone(normalised: bool, sick: bool) -> None:
    """sick: the one in the middle diverges at once, and is NaN all the time."""
    states, rates = members(normalised=normalised), list(RATES)
    if sick:
        states[1].network.values.detach()[0] = torch.nan
    together = Cohort(states, rates)
    losses = together.train(split(), RECIPE, 50, FACTOR)
    judged, units = together.evaluate(split(300)), together.unhealthy_units(split(300).images)
    assert together.diverged().tolist() == [False, sick, False]
    for place in {0, 1, 2} - ({1} if sick else set()):
        own, own_losses = alone(states[place], rates[place], 50)
        assert bits(together.take(place)) == bits(own)
        assert torch.equal(losses[place], own_losses)
        own_judged = evaluate(own.network, split(300))
        assert judged.loss[place] == own_judged.loss
        assert np.array_equal(judged.log2_likelihood[place], own_judged.log2_likelihood)
        found = diagnose(own.network, split(300).images, split(300).labels)
        assert (units[0][place], units[1][place]) == (len(found.saturated), len(found.dead))
        assert bits(own) != bits(states[place])


@settings(max_examples=10)
@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=4), st.booleans(), st.booleans())
def test_any_company_leaves_the_same_bits(seeds: Sequence[int], normalised: bool, double: bool) -> None:
    dtype = torch.float64 if double else torch.float32
    states = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        drawn = random_architecture(rng, SIDE)
        shape = Architecture([1, *drawn[1:-1], CLASSES], drawn.sides, drawn.window, drawn.flat)
        states.append(TrainState.fresh(random_map_network(rng, shape, normalised=normalised, dtype=dtype)))
    images = split().to("cpu")
    images = Split(images.images.to(dtype), images.labels)
    together = Cohort(states, [1e-2] * len(states))
    together.train(images, RECIPE, 3, FACTOR)
    for place, state in enumerate(states):
        own = state.copy()
        train_steps(own, images, RECIPE, 3, lambda step: 1e-2 * FACTOR(step))
        assert bits(together.take(place)) == bits(own)


@pytest.mark.parametrize("normalised", [True, False])
def test_arrays_go_on_to_the_bit(normalised: bool, tmp_path: Path) -> None:
    """Through files, as a hunt goes on after a crash."""
    states = members(normalised=normalised)
    together = Cohort(states, RATES)
    together.train(split(), RECIPE, 4, FACTOR)
    arrays = together.to_arrays()
    plain = {name: arrays.pop(name) for name, value in [*arrays.items()] if not isinstance(value, np.ndarray)}
    save_file(arrays, tmp_path / "cohort.safetensors")
    told = json.loads(json.dumps(plain))
    again = Cohort.from_arrays({**load_file(tmp_path / "cohort.safetensors"), **told})
    for place in range(3):
        assert bits(again.take(place)) == bits(together.take(place))
    again.train(split(), RECIPE, 3, FACTOR)
    for place, state in enumerate(states):
        assert bits(again.take(place)) == bits(alone(state, RATES[place], 7)[0])


def test_dropping_members_does_not_disturb_the_others() -> None:
    states = members(normalised=True)
    together = Cohort(states, RATES)
    together.train(split(), RECIPE, 3, FACTOR)
    rest = together.keep([2, 0])
    rest.train(split(), RECIPE, 3, FACTOR)
    for place, index in enumerate((2, 0)):
        assert bits(rest.take(place)) == bits(alone(states[index], RATES[index], 6)[0])


def _of(text: str) -> Callable[[], StructNet]:
    return lambda: StructNet(sizes_of(text), 1.0)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (_of("16,3"), "the same inputs, but have 1 and 16"),
        (_of("1,2,3"), r"the same sides of the input, but have \(4, 4\) and \(1, 1\)"),
        (_of("1@2x8,2@2,3"), r"the same sides of the input, but have \(4, 4\) and \(2, 8\)"),
        (lambda: _of("1@4,2@2,3")().folded(), "the same normalisation, but have True and False"),
        (_of("1@4,2@2,4"), "the same classes, but have 3 and 4"),
    ],
)
def test_members_that_do_not_fit(other: Callable[[], StructNet], message: str) -> None:
    states = [TrainState.fresh(network) for network in (_of("1@4,5@3,2@2,3")(), other())]
    with pytest.raises(ValueError, match=f"members of a cohort must have {message}"):
        Cohort(states, [1e-2] * 2)


@pytest.mark.parametrize(
    ("text", "density"),
    [("1@28,8@14,16@7,10", 0.5), ("2@9,6@9,4@5,flat,10", 0.2), ("1@28,4@28,8@14,8,10", 1.0)],
)
def test_bytes_as_estimated(text: str, density: float) -> None:
    """What a cohort holds between two steps, shared memory counted once, and what a step writes into."""
    shape = sizes_of(text)
    states = [TrainState.fresh(StructNet(shape, density, rng_seed=rng_seed)) for rng_seed in range(8)]
    together = Cohort(states, [1e-2] * 8)
    images = random_images(np.random.default_rng(0), shape, 40)
    together.train(images, Recipe(40), 1, FACTOR)
    held = sum(dict(memory(thing) for thing in arrays_in(together)).values())
    estimate = sum(cohort_bytes(shape, state.network.connection_count) for state in states)
    assert 0.5 * held < estimate < 2 * held
    (part,) = together.parts
    work = sum(array.nbytes for array in part.workspace(64))  # type: ignore[union-attr]
    assert 0.7 * work < workspace_bytes(shape) < 1.6 * work
    assert workspace_bytes([784, 64, 10]) == 0
