"""Rates by age, and frozen parameters that do not move by one bit."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from helpers.training_cases import image_split, skip_network
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from structnet.errors import UserError
from structnet.training.rates import AgeRates, rates_named, scaled_step

torch.set_num_threads(1)

floats = st.floats(width=32)  # infinities, NaN, -0.0 and denormals among them


def bits(values: torch.Tensor) -> list[int]:
    return values.view(torch.int32 if values.dtype == torch.float32 else torch.int64).tolist()


# --- the multiplier


def test_scale_by_hand() -> None:
    rates = AgeRates(established=0.25, young=1.0, matures_after=10, freezes_after=20)
    scale = rates.scale(torch.tensor([0, 5, 10, 15, 20, 10**9]))
    assert scale.dtype == torch.float32
    assert scale.tolist() == pytest.approx([1, 0.5, 0.25, 0.125, 0, 0], rel=1e-6)
    assert scale[0] == 1
    assert scale[4] == scale[5] == 0


def test_without_freezing_the_old_stay_established() -> None:
    scale = AgeRates(matures_after=100).scale(torch.tensor([0, 100, 101, 10**12]))
    assert scale.tolist() == pytest.approx([1, 0.2, 0.2, 0.2])


@given(
    young=st.floats(0.01, 5),
    share=st.floats(0.001, 1),
    matures_after=st.integers(1, 2000),
    rest=st.none() | st.integers(1, 2000),
)
def test_scale_falls_with_age(young: float, share: float, matures_after: int, rest: int | None) -> None:
    freezes_after = None if rest is None else matures_after + rest
    rates = AgeRates(young * share, young, matures_after, freezes_after)
    scale = rates.scale(torch.arange(4200))
    assert scale[0] == torch.tensor(young)
    assert (scale.diff() <= 1e-6 * young).all()
    established = young * share
    assert (scale[: matures_after + 1] >= established * (1 - 1e-6)).all()
    if freezes_after is None:
        assert scale[matures_after:].tolist() == pytest.approx(
            [established] * (4200 - matures_after), rel=1e-5
        )
    else:
        assert (scale[freezes_after:] == 0).all()
        assert (scale[:freezes_after] > 0).all()


def test_no_parameters() -> None:
    assert AgeRates().scale(torch.zeros(0, dtype=torch.int64)).shape == (0,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AgeRates(established=0.0), "established is 0.0"),
        (lambda: AgeRates(established=2.0), "established is 2.0"),
        (lambda: AgeRates(young=math.nan), "young, nan"),
        (lambda: AgeRates(young=math.inf), "young, inf"),
        (lambda: AgeRates(matures_after=0), "matures_after is 0"),
        (lambda: AgeRates(matures_after=10, freezes_after=10), "freezes_after is 10"),
    ],
)
def test_refusals(make: Callable[[], AgeRates], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


# --- the step


@given(before=floats, after=floats)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scale_zero_and_one_are_exact(before: float, after: float, dtype: torch.dtype) -> None:
    old, new = torch.tensor([before], dtype=dtype), torch.tensor([after], dtype=dtype)
    assert bits(scaled_step(old, new, torch.zeros(1))) == bits(old)
    assert bits(scaled_step(old, new, torch.ones(1))) == bits(new)


@pytest.mark.parametrize(
    ("before", "after"), [(1.0, math.nan), (-0.0, 5.0), (0.1, math.inf), (3e38, -3e38), (math.nan, 2.0)]
)
def test_where_interpolation_alone_would_not_do(before: float, after: float) -> None:
    old, new = torch.tensor([before]), torch.tensor([after])
    assert bits(scaled_step(old, new, torch.zeros(1))) == bits(old)
    assert bits(scaled_step(old, new, torch.ones(1))) == bits(new)


def test_step_by_hand() -> None:
    before, after = torch.tensor([1.0, 1.0, 1.0, 1.0]), torch.tensor([3.0, 3.0, 3.0, 3.0])
    step = scaled_step(before, after, torch.tensor([0.0, 0.25, 1.0, 2.0]))
    assert step.tolist() == [1, 1.5, 3, 5]
    assert before.tolist() == [1] * 4  # neither input is changed
    assert after.tolist() == [3] * 4


@given(before=st.floats(-100, 100), after=st.floats(-100, 100), scale=st.floats(0, 1, width=32))
def test_step_stays_between(before: float, after: float, scale: float) -> None:
    step = scaled_step(
        torch.tensor([before], dtype=torch.float64),
        torch.tensor([after], dtype=torch.float64),
        torch.tensor([scale]),
    )
    assert min(before, after) - 1e-12 <= float(step) <= max(before, after) + 1e-12


@pytest.mark.parametrize(
    "shapes", [((3,), (3,), (1,)), ((3,), (1,), (3,)), ((1,), (3,), (3,)), ((3,), (3,), (3, 1))]
)
def test_shapes_must_agree(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match="one and the same"):
        scaled_step(*(torch.zeros(shape) for shape in shapes))


# --- with the optimizers themselves

OPTIMIZERS: dict[str, Callable[[list[torch.nn.Parameter]], Optimizer]] = {
    "sgd": lambda p: SGD(p, lr=0.1),
    "momentum and decay": lambda p: SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: Adam(p, lr=0.01),
    "adam with decay": lambda p: Adam(p, lr=0.01, weight_decay=0.1),
    "adamw": lambda p: AdamW(p, lr=0.01, weight_decay=0.1),
    "rmsprop": lambda p: RMSprop(p, lr=0.01),
}


def train(
    make: Callable[[list[torch.nn.Parameter]], Optimizer], scale: Callable[[int], torch.Tensor] | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """20 steps on a quadratic with noise: the 30 parameters before and after; scale by step, or plain."""
    generator = torch.Generator().manual_seed(0)
    flat = torch.nn.Parameter(torch.randn(30, generator=generator))
    start = flat.detach().clone()
    optimizer = make([flat])
    for step in range(20):
        target = torch.randn(30, generator=generator)
        optimizer.zero_grad()
        (flat - target).square().sum().backward()
        before = flat.detach().clone()
        optimizer.step()
        if scale is not None:
            with torch.no_grad():
                flat.copy_(scaled_step(before, flat, scale(step)))
    return start, flat.detach()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_frozen_parameters_do_not_move_by_one_bit(name: str) -> None:
    """10 frozen, 10 established, 10 young: the first do not move, the last move as without any scaling."""
    scale = torch.tensor([0.0, 0.2, 1.0]).repeat_interleave(10)
    start, end = train(OPTIMIZERS[name], lambda step: scale)
    _, plain = train(OPTIMIZERS[name], None)
    assert bits(end[:10]) == bits(start[:10])
    assert bits(end[20:]) == bits(plain[20:])
    assert (end[10:20] != start[10:20]).all()
    assert (end - start)[10:20].norm() < 0.8 * (plain - start)[10:20].norm()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_progressive_freezing_stops_each_parameter_at_its_age(name: str) -> None:
    """Ages 0 to 29 at the start, frozen at age 25: who is 5 or older at the start freezes on the way."""
    rates = AgeRates(matures_after=10, freezes_after=25)
    seen: list[torch.Tensor] = []

    def scale(step: int) -> torch.Tensor:
        seen.append(rates.scale(torch.arange(30) + step))
        return seen[-1]

    start, end = train(OPTIMIZERS[name], scale)
    assert bits(end[25:]) == bits(start[25:])
    assert (end[:25] != start[:25]).all()
    assert (seen[-1][6:] == 0).all()
    assert (seen[-1][:6] > 0).all()


# --- on a network


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_network_with_frozen_connections_learns_with_the_others(name: str) -> None:
    """Under every optimizer, with its own weight decay: the old do not move by one bit, all of the new do."""
    network = skip_network()
    network.values.data = network.values.data.float()
    age = torch.zeros(network.parameter_count, dtype=torch.int64)
    age[::2] = 100
    scale = AgeRates(matures_after=10, freezes_after=100).scale(age)
    split = image_split()
    optimizer, start = OPTIMIZERS[name]([network.values]), network.values.detach().clone()
    for _ in range(5):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(split.images), split.labels).backward()
        before = network.values.detach().clone()
        optimizer.step()
        with torch.no_grad():
            network.values.copy_(scaled_step(before, network.values, scale))
    end = network.values.detach()
    assert bits(end[::2]) == bits(start[::2])
    assert (end[1::2] != start[1::2]).float().mean() > 0.9


# --- by name


def test_rates_by_name_are_fitted_to_the_line() -> None:
    assert rates_named("none", cycle=99, line=1320) is None
    assert rates_named("age", cycle=99, line=1320) == AgeRates(matures_after=297)
    assert rates_named("freeze", cycle=99, line=1320) == AgeRates(matures_after=297, freezes_after=396)
    assert rates_named("freeze", cycle=30, line=50) == AgeRates(matures_after=90, freezes_after=91)


def test_ages_that_are_given_stay() -> None:
    assert rates_named("age", cycle=99, line=1320, matures_after=7) == AgeRates(matures_after=7)
    given = rates_named("freeze", cycle=99, line=1320, matures_after=7, freezes_after=9)
    assert given == AgeRates(matures_after=7, freezes_after=9)
    assert rates_named("freeze", cycle=99, line=1320, freezes_after=50) == AgeRates(
        matures_after=49, freezes_after=50
    )


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("old", {}, "rates is 'old', but must be one of none, age, freeze"),
        ("none", {"matures_after": 5}, "matures_after is 5, but rates is none: it goes with age or freeze"),
        ("age", {"freezes_after": 5}, "freezes_after is 5, but rates is age: it goes with freeze"),
        ("freeze", {"matures_after": 9, "freezes_after": 5}, "freezes_after is 5, but must be above"),
    ],
)
def test_ages_without_a_use_are_refused(name: str, given: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        rates_named(name, cycle=99, line=1320, **given)
