"""Architectures: in text and back, equal to tuples where all groups are plain, ports, and how links lie on maps."""

from __future__ import annotations

import copy
import operator
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers.map_networks import random_architecture
from hypothesis import given
from hypothesis import strategies as st

from structnet.errors import UserError
from structnet.network.architecture import (
    POINT,
    WINDOW,
    Architecture,
    architecture_of,
    bias_count,
    check_architecture,
    dashed,
    density_for,
    hidden_units,
    parameters_dense,
    plain_form,
    possible_connections,
    sizes_of,
)
from structnet.network.topology import Topology

seeds = st.integers(0, 2**32 - 1)


# --- text


@pytest.mark.parametrize(
    ("text", "units", "sides", "flat"),
    [
        ("784,100,10", (784, 100, 10), [POINT] * 3, []),
        ("784-100-10", (784, 100, 10), [POINT] * 3, []),
        ("1@28,8@14,16@7,10", (1, 8, 16, 10), [(28, 28), (14, 14), (7, 7), POINT], []),
        (" 3@32x24 , 5@8×6, 10", (3, 5, 10), [(32, 24), (8, 6), POINT], []),
        ("1@8,4@4,flat,20,10", (1, 4, 20, 10), [(8, 8), (4, 4), POINT, POINT], [1]),
        ("1@8-flat-10", (1, 10), [(8, 8), POINT], [0]),
        ("5@1,10", (5, 10), [POINT] * 2, []),
        ("5@1,flat,10", (5, 10), [POINT] * 2, []),
    ],
)
def test_text_says_units_and_sides(
    text: str, units: tuple[int, ...], sides: list[tuple[int, int]], flat: list[int]
) -> None:
    shape = sizes_of(text)
    assert tuple(shape) == units and list(shape.sides) == sides
    assert sorted(shape.flat) == flat and shape.window == WINDOW == 5


@given(seeds)
def test_text_and_back(rng_seed: int) -> None:
    shape = random_architecture(np.random.default_rng(rng_seed))
    assert sizes_of(str(shape)) == shape
    assert sizes_of(dashed(shape)) == shape
    assert architecture_of(plain_form(shape)) == shape


def test_how_an_architecture_looks() -> None:
    assert str(sizes_of("784-100-10")) == "784,100,10"
    assert repr(sizes_of("784-100-10")) == "(784, 100, 10)"
    assert str(sizes_of("1@28x28,8@14x7,flat,10")) == "1@28,8@14x7,flat,10"
    assert repr(sizes_of("1@28,10")) == "Architecture(1@28,10)"
    assert dashed([784, 10]) == "784-10" and plain_form([784, 10]) == [784, 10]
    assert str(Architecture((1, 10), ((8, 8), POINT), window=3)) == "1@8,3x3,10"
    assert sizes_of("1@8-3x3-10").window == 3 and str(sizes_of("1@8,5x5,10")) == "1@8,10"


@pytest.mark.parametrize(
    "text", ["", "784,,10", "flat,10", "1@,10", "1@28x,10", "8x14,10", "-3,10", "1@2x3x4,10", "1.5,2", "a,b"]
)
def test_text_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(
        UserError,
        match=r"^architecture is '.*', but must be sizes such as 784,100,10, or maps@side such as "
        r"1@28,8@14,16@7,10$",
    ):
        sizes_of(text)


@pytest.mark.parametrize("text", ["784", "784,0", "0,10", "784,0,10"])
def test_fewer_than_two_sizes_or_none_of_a_group_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"must be two or more sizes of at least 1, such as 784,100,10$"):
        sizes_of(text)
    with pytest.raises(UserError, match=f"^architecture is '{text}'"):
        check_architecture([int(part) for part in text.split(",")])


@pytest.mark.parametrize(
    ("units", "sides", "options", "message"),
    [
        ((1, 2), [(3, 3)], {}, "^1 sides for 2 groups, but each group has one$"),
        (
            (1, 2),
            None,
            {"window": 4},
            "^the window is 4, but must be odd and at least 1: it lies around a centre$",
        ),
        ((1, 2), None, {"window": -1}, "^the window is -1, but must be odd and at least 1"),
        (
            (1, 2, 3),
            [(4, 4), (5, 4), POINT],
            {},
            "^group 1 has maps of 5 × 4 after maps of 4 × 4, but sides are at least 1 and may not grow from a group to "
            "the next$",
        ),
        ((1, 2, 3), [(4, 4), (4, 5), POINT], {}, "^group 1 has maps of 4 × 5 after maps of 4 × 4"),
        ((1, 2, 3, 4), [(4, 4), POINT, (2, 1), POINT], {}, "^group 2 has maps of 2 × 1 after maps of 1 × 1"),
        ((1, 2, 3), [(4, 4), (0, 4), POINT], {}, "^group 1 has maps of 0 × 4"),
        (
            (1, 2),
            [(4, 4), (2, 2)],
            {},
            "^the output is 1@4,2@2, but must be plain: classes have no positions, so write their number alone$",
        ),
        ((1, 2), [(4, 4), (1, 2)], {}, "^the output is 1@4,2@1x2, but must be plain"),
    ],
)
def test_sides_that_cannot_be_are_refused(
    units: tuple[int, ...], sides: list[tuple[int, int]] | None, options: dict[str, int], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        Architecture(units, sides, **options)


# --- as a tuple


def test_plain_groups_are_a_tuple() -> None:
    shape, plain = Architecture((784, 100, 10)), (784, 100, 10)
    assert shape == plain and plain == shape
    assert not operator.ne(shape, plain) and shape != (784, 10)
    assert hash(shape) == hash((784, 100, 10)) and shape in {(784, 100, 10): 1}
    assert shape == Architecture((784, 100, 10), window=3), "without maps nobody looks through a window"
    assert not shape.has_maps and shape.inputs == 784 and shape.port_counts == (1, 1, 1)
    assert (shape == 3) is False


def test_maps_are_no_tuple_and_differ_in_all_that_they_have() -> None:
    shape = Architecture((1, 8, 10), ((8, 8), (4, 4), POINT))
    others = [
        (1, 8, 10),
        Architecture((1, 8, 10)),
        Architecture((1, 8, 10), ((8, 8), (4, 2), POINT)),
        Architecture((1, 8, 10), ((8, 8), (4, 4), POINT), window=3),
        Architecture((1, 8, 10), ((8, 8), (4, 4), POINT), flat=[1]),
        Architecture((1, 7, 10), ((8, 8), (4, 4), POINT)),
    ]
    for other in others:
        assert shape != other and other != shape and not operator.eq(shape, other)
    same = sizes_of("1@8,8@4,10")
    assert shape == same and hash(shape) == hash(same)
    assert len({shape, same, *others}) == len(others), "the first two of the others are equal"


@given(seeds)
def test_copies_know_their_sides(rng_seed: int) -> None:
    shape = random_architecture(np.random.default_rng(rng_seed))
    for other in (pickle.loads(pickle.dumps(shape)), copy.copy(shape), copy.deepcopy(shape)):
        assert type(other) is Architecture and other == shape
        assert (other.sides, other.window, other.flat) == (shape.sides, shape.window, shape.flat)
    assert architecture_of(shape) is shape
    assert architecture_of(tuple(shape)) == tuple(shape)


# --- groups that go and come


def test_groups_without_units_go() -> None:
    shape = Architecture((1, 2, 3, 4, 5), ((8, 8), (8, 8), (4, 4), POINT, POINT), window=3, flat=[0, 2])
    smaller = shape.resized([1, 0, 7, 4, 5])
    assert tuple(smaller) == (1, 7, 4, 5) and smaller.sides == ((8, 8), (4, 4), POINT, POINT)
    assert smaller.flat == {0, 1} and smaller.window == 3
    assert shape.resized([1, 2, 0, 1, 5]).flat == {0}
    assert shape.resized(shape) == shape


def test_a_group_comes_between() -> None:
    shape = Architecture((1, 2, 5), ((8, 8), (4, 4), POINT), window=3, flat=[1])
    larger = shape.with_group(1, 3, (6, 6))
    assert tuple(larger) == (1, 3, 2, 5) and larger.sides == ((8, 8), (6, 6), (4, 4), POINT)
    assert larger.flat == {2} and larger.window == 3
    assert shape.with_group(2, 3, (4, 4)).flat == {1}
    assert shape.with_group(2, 3, (4, 4), flat=True).flat == {1, 2}
    assert shape.with_group(2, 3, POINT, flat=True).flat == {1}, "a neuron has but one position"
    with pytest.raises(UserError, match="may not grow"):
        shape.with_group(2, 3, (5, 4))


# --- what is counted


def test_parameters_of_dense_networks_of_maps() -> None:
    """Taps: 1 · 9 · 8, 8 · 9 · 16; of 16 means, or of 16 · 49 positions, 10 each."""
    shape, flat = sizes_of("1@28,3x3,8@14,16@7,10"), sizes_of("1@28,3x3,8@14,16@7,flat,10")
    assert shape.inputs == 784
    assert possible_connections(shape) == 72 + 1152 + 160
    assert possible_connections(flat) == 72 + 1152 + 7840
    assert bias_count(shape) == 34 and hidden_units(shape) == 24
    assert parameters_dense(shape) == 72 + 1152 + 160 + 34
    assert density_for(shape, 726) == pytest.approx(0.5)
    assert possible_connections(sizes_of("1@28,flat,10")) == 7840


# --- ports


def test_ports_of_a_group() -> None:
    """Nine offsets, the mean, and where it is flat six positions."""
    shape = Architecture((2, 3, 4, 5), ((3, 2), (3, 2), POINT, POINT), window=3, flat=[1])
    assert shape.port_counts == (10, 16, 1, 1)
    assert list(shape.port_range((0, 1))) == list(range(9))
    assert list(shape.port_range((0, 2))) == [9]
    assert list(shape.port_range((1, 2))) == list(range(9, 16))
    assert list(shape.port_range((2, 3))) == [0]
    assert list(shape.regular_ports((0, 1))) == list(range(9))
    assert list(shape.regular_ports((0, 2))) == [9]
    assert list(shape.regular_ports((1, 2))) == list(range(10, 16)), "positions say more than their mean"
    assert list(shape.regular_ports((2, 3))) == [0]
    assert shape.possible((0, 1)) == 2 * 9 * 3 and shape.possible((1, 2)) == 3 * 6 * 4
    assert shape.centre == 4 and Architecture((1, 1), window=5).centre == 12
    assert [shape.is_plain(group) for group in range(4)] == [False, False, True, True]
    assert [shape.area(group) for group in range(4)] == [6, 6, 1, 1]


def test_offsets_of_a_window() -> None:
    shape = Architecture((1, 1), ((5, 5), POINT), window=3)
    down, right = shape.offset_of(np.arange(9))
    assert down.tolist() == [-1, -1, -1, 0, 0, 0, 1, 1, 1]
    assert right.tolist() == [-1, 0, 1, -1, 0, 1, -1, 0, 1]
    assert [int(part) for part in shape.offset_of(np.array(shape.centre))] == [0, 0]
    wide = Architecture((1, 1), ((5, 5), POINT), window=5)
    assert [int(part) for part in wide.offset_of(np.array(7))] == [-1, 0]


@given(seeds)
def test_numbers_of_ports_tell_unit_and_code(rng_seed: int) -> None:
    rng = np.random.default_rng(rng_seed)
    shape, nothing = random_architecture(rng), np.empty(0, dtype=np.int32)
    topology = Topology(shape, nothing, nothing)
    every = np.repeat(np.arange(topology.units), np.repeat(shape.port_counts, shape))
    ports = np.arange(topology.port_offsets[-1])
    assert topology.unit_of_port(ports).tolist() == every.tolist()
    codes = topology.code_of_port(ports)
    assert topology.port_of(every, codes).tolist() == ports.tolist()
    assert np.flatnonzero(codes == 0).tolist() == np.searchsorted(every, np.arange(topology.units)).tolist()
    for pair in pairwise(range(len(shape))):
        n_in, n_out = topology.shape_of(pair)
        row, column = np.divmod(np.arange(n_in * n_out), n_in)
        source, target = topology.ends(pair, row, column)
        linked, order = Topology.sorted(shape, source, target)
        assert order.tolist() == list(range(len(order))), (
            "the cells of a matrix are in the order of connections"
        )
        assert [found.tolist() for found in linked.positions(pair)] == [row.tolist(), column.tolist()]
        allowed = shape.port_range(pair)
        assert set(topology.code_of_port(source).tolist()) == set(allowed)


def test_ports_that_a_target_cannot_read_are_refused() -> None:
    """A map reads no mean, and a neuron no window."""
    shape, nothing = sizes_of("1@3,3x3,1@3,2"), np.empty(0, dtype=np.int32)
    bare = Topology(shape, nothing, nothing)
    for code, target in ((9, 1), (4, 2)):
        with pytest.raises(ValueError, match="starts at a port it cannot read"):
            Topology.sorted(shape, bare.port_of(np.array([0]), code), np.array([target]))
    with pytest.raises(ValueError, match="names a unit outside"):
        Topology.sorted(shape, np.array([bare.port_offsets[-1]]), np.array([3]))


# --- geometry


def along(size_in: int, size_out: int) -> tuple[int, int]:
    """Stride and first position from so many positions in a row to so many."""
    shape = Architecture((1, 1, 1), ((2, size_in), (2, size_out), POINT))
    (down, right), (top, left) = shape.geometry((0, 1))
    assert (down, top) == (1, 0)
    return right, left


@pytest.mark.parametrize(
    ("size_in", "size_out", "stride", "start"),
    [
        (28, 28, 1, 0),
        (28, 14, 2, 0),
        (14, 7, 2, 0),
        (7, 4, 2, 0),
        (7, 3, 3, 0),
        (28, 9, 3, 1),
        (32, 7, 5, 0),
        (5, 4, 1, 0),
        (5, 2, 3, 0),
        (6, 4, 1, 1),
        (9, 1, 1, 4),
        (8, 1, 1, 3),
        (2, 2, 1, 0),
    ],
)
def test_strides_by_hand(size_in: int, size_out: int, stride: int, start: int) -> None:
    """Of 28 to 9: (28 - 1 - 8 · 3) // 2. Of 5 to 4 a stride of 2 would leave the source."""
    assert along(size_in, size_out) == (stride, start)


@given(st.integers(2, 40), st.data())
def test_positions_lie_on_their_source_in_its_middle(size_in: int, data: st.DataObject) -> None:
    size_out = data.draw(st.integers(1, size_in))
    stride, start = along(size_in, size_out)
    behind = size_in - 1 - (start + (size_out - 1) * stride)
    assert stride >= 1 and 0 <= start <= behind <= start + 1


@pytest.mark.parametrize("window", [1, 3, 5])
def test_strides_are_those_of_convolutions_where_these_give_the_side(window: int) -> None:
    """The least, where several do; elsewhere the largest that stays on the source."""
    for size_in in range(2, 25):
        line = torch.zeros(1, 1, size_in)
        sizes = {
            stride: torch.conv1d(line, torch.zeros(1, 1, window), stride=stride, padding=window // 2).shape[2]
            for stride in range(1, size_in + 1)
        }
        for size_out in range(2, size_in + 1):
            usual = [stride for stride, size in sizes.items() if size == size_out]
            stride, _ = along(size_in, size_out)
            if usual:
                assert stride == min(usual)
            else:
                assert (size_out - 1) * stride <= size_in - 1 < (size_out - 1) * (stride + 1)
