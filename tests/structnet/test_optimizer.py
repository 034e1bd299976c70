"""Adam on a flat vector: the same numbers as torch, and moments that survive an edit by index."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from structnet import StructNet
from structnet.network.edit import connect, disconnect
from structnet.network.optimizer import Adam

torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("learning_rate", "beta1", "beta2", "epsilon"),
    [(1e-3, 0.9, 0.999, 1e-8), (0.1, 0.5, 0.9, 1e-3), (2e-3, 0.0, 0.99, 1e-8)],
)
def test_the_numbers_are_those_of_torch(
    learning_rate: float, beta1: float, beta2: float, epsilon: float
) -> None:
    random = torch.Generator().manual_seed(0)
    start = torch.randn(7, generator=random, dtype=torch.float64)
    theirs = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.Adam([theirs], lr=learning_rate, betas=(beta1, beta2), eps=epsilon)
    ours = start.clone()
    adam = Adam(torch.zeros_like(ours), torch.zeros_like(ours), 0, beta1, beta2, epsilon)
    for step in range(50):
        gradient = torch.randn(7, generator=random, dtype=torch.float64) * 10.0 ** (step % 5 - 2)
        gradient[0] = 0.0
        optimizer.param_groups[0]["lr"] = rate = learning_rate / (1 + step)
        theirs.grad = gradient.clone()
        optimizer.step()
        adam.update(ours, gradient, rate)
        assert torch.allclose(ours, theirs.detach(), rtol=0, atol=1e-6)
    assert torch.equal(ours[0], start[0])  # no gradient, no step
    assert adam.step == 50


def test_an_update_leaves_the_gradient_alone() -> None:
    gradient = torch.tensor([1.0, -2.0])
    Adam.for_values(torch.zeros(2)).update(torch.zeros(2), gradient, 0.1)
    assert gradient.tolist() == [1.0, -2.0]


def test_moments_of_what_survives_follow_it_through_an_edit() -> None:
    """Four connections and two biases; connection 0→2, the first, goes and comes back."""
    network = StructNet([2, 2], density=1.0)
    adam = Adam(
        torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.0]), step=9
    )
    gone = disconnect(network, np.array([0]))
    carried = adam.carried(gone.origin)
    assert carried.first.tolist() == [2.0, 3.0, 4.0, 5.0, 6.0]
    again = carried.carried(connect(gone.network, np.array([0]), np.array([2])).origin)
    assert again.first.tolist() == [0.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    # The new one: median of .2, .3, .4, .5 without the 0; torch takes the lower of two middle ones.
    assert again.second.tolist() == torch.tensor([0.3, 0.2, 0.3, 0.4, 0.5, 0.0]).tolist()
    assert again.step == 9


@given(st.data())
def test_any_ancestry_is_carried(data: st.DataObject) -> None:
    moments = st.floats(0, 1e6, width=32, allow_subnormal=False)
    second = data.draw(st.lists(moments, min_size=1, max_size=12))
    first = [-value for value in second]
    origin = data.draw(st.lists(st.integers(-1, len(second) - 1), min_size=1, max_size=15))
    adam = Adam(torch.tensor(first), torch.tensor(second), 3, 0.8, 0.95, 1e-6)
    carried = adam.carried(np.array(origin))
    known = sorted(value for value in second if value > 0)
    typical = known[(len(known) - 1) // 2] if known else 0.0
    assert carried.first.tolist() == [first[index] if index >= 0 else 0.0 for index in origin]
    assert carried.second.tolist() == [second[index] if index >= 0 else typical for index in origin]
    assert (carried.step, carried.beta1, carried.beta2, carried.epsilon) == (3, 0.8, 0.95, 1e-6)


def test_before_the_first_step_there_is_nothing_to_carry() -> None:
    carried = Adam.for_values(torch.zeros(3)).carried(np.array([0, -1, 2, -1]))
    assert carried.first.tolist() == carried.second.tolist() == [0.0] * 4
    values = torch.zeros(4)
    carried.update(values, torch.ones(4), 0.1)
    assert torch.allclose(values, torch.full((4,), -0.1))


def test_copies_and_carried_states_share_nothing() -> None:
    adam = Adam(torch.ones(3), torch.ones(3), 5)
    others = [adam.copy(), adam.carried(np.array([0, 1, 2]))]
    adam.update(torch.zeros(3), torch.full((3,), 7.0), 0.1)
    for other in others:
        assert other.first.tolist() == other.second.tolist() == [1.0] * 3
        assert other.step == 5
