"""Rows of the smallest arrays hold the connections of a network, all of them and no others."""

from __future__ import annotations

import timeit

import numpy as np
import pytest
from helpers.compiled_cases import linked, topologies
from hypothesis import given
from hypothesis import strategies as st

from structnet.export.rows import Part, packed_bytes, parts_of, smallest
from structnet.network.topology import Topology


def walked(topology: Topology, part: Part) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source and target unit of each entry, and which connection it is, as a loop in C comes upon them."""
    rows = topology.architecture[part.group]
    counts = [part.span] * rows if part.coding == "full" else part.counts.tolist()
    sources, entry = [], 0
    for count in counts:
        place = part.first
        for at in range(count):
            if part.coding == "full":
                place = part.first + at
            elif part.coding == "sources":
                place = part.first + int(part.steps[entry])
            else:
                place += int(part.steps[entry])
            sources.append(place)
            entry += 1
    assert entry == part.entries
    first = 0 if part.from_input else topology.architecture[0]
    target = np.repeat(np.arange(rows), counts) + topology.offsets[part.group]
    return np.array(sources, dtype=np.int64) + first, target, part.places


def assert_holds(topology: Topology, value_bytes: int) -> None:
    parts = [part for group in parts_of(topology, value_bytes) for part in group]
    seen = []
    for part in parts:
        source, target, places = walked(topology, part)
        assert np.all(source < topology.offsets[part.group])  # nothing is read before it is there
        real = places >= 0
        np.testing.assert_array_equal(topology.source[places[real]], source[real])
        np.testing.assert_array_equal(topology.target[places[real]], target[real])
        assert np.all((source < topology.architecture[0]) == part.from_input)
        values = np.ones(topology.connections, dtype=np.int8 if value_bytes == 1 else np.float32)
        np.testing.assert_array_equal(part.filled(values) == 0, ~real)
        tables = part.tables(values)
        assert part.bytes == sum(table.nbytes for table in tables.values())
        seen.append(places[real])
    np.testing.assert_array_equal(np.sort(np.concatenate([*seen, []])), np.arange(topology.connections))
    rows = sum(part.bytes for part in parts)
    assert packed_bytes(topology, value_bytes) == rows + value_bytes * topology.unit_parameters


@given(topology=topologies(), value_bytes=st.sampled_from([1, 4]))
def test_every_connection_is_in_one_row_at_its_place(topology: Topology, value_bytes: int) -> None:
    assert_holds(topology, value_bytes)


@given(
    inputs=st.integers(1, 900),
    columns=st.sets(st.integers(0, 899), max_size=12),
    rows=st.integers(1, 3),
    rng_seed=st.integers(0, 99),
    value_bytes=st.sampled_from([1, 4]),
)
def test_wide_rows_of_few_connections_hold_them_too(
    inputs: int, columns: set[int], rows: int, rng_seed: int, value_bytes: int
) -> None:
    rng = np.random.default_rng(rng_seed)
    source = np.array(sorted(column % inputs for column in columns), dtype=np.int64)
    pairs = np.unique(np.stack([source, inputs + rng.integers(0, rows, len(source))]), axis=1)
    assert_holds(Topology.sorted((inputs, rows), pairs[0], pairs[1])[0], value_bytes)


def only(sizes: tuple[int, ...], source: list[int], target: list[int], value_bytes: int = 4) -> Part:
    """The part of a network that has one."""
    topology, _ = Topology.sorted(sizes, np.array(source), np.array(target))
    assert_holds(topology, value_bytes)
    (part,) = (part for group in parts_of(topology, value_bytes) for part in group)
    return part


def test_a_row_that_is_nearly_full_is_stored_without_sources() -> None:
    """5 of 6 cells: 24 bytes, or 20 and 5 sources and 2 counts."""
    part = only((5, 2), [1, 2, 3, 1, 3], [5, 5, 5, 6, 6])
    assert (part.coding, part.first, part.span, part.bytes) == ("full", 1, 3, 24)
    assert part.places.tolist() == [0, 1, 2, 3, -1, 4]


def test_few_sources_are_stored_from_the_first_one_on() -> None:
    part = only((30, 2), [10, 14, 29], [30, 31, 31])
    assert (part.coding, part.first, part.bytes) == ("sources", 10, 3 * 5 + 2)
    assert (part.counts.tolist(), part.steps.tolist()) == ([1, 2], [0, 4, 19])
    assert part.counts.dtype == part.steps.dtype == np.uint8


def test_sources_beyond_a_byte_become_gaps_of_one() -> None:
    part = only((900, 2), [2, 3, 4, 150, 400, 2, 300, 500], [900] * 5 + [901] * 3)
    assert (part.coding, part.first) == ("gaps", 2)
    assert part.counts.tolist() == [5, 4]
    assert part.steps.tolist() == [0, 1, 1, 146, 250, 0, 255, 43, 200]
    assert part.places.tolist() == [0, 1, 2, 3, 4, 5, -1, 6, 7]
    assert part.bytes == 9 * 5 + 2


@pytest.mark.parametrize(
    ("gap", "steps"),
    [(255, [255]), (256, [255, 1]), (510, [255, 255]), (511, [255, 255, 1])],
)
def test_a_gap_is_split_where_a_byte_ends(gap: int, steps: list[int]) -> None:
    """Into as few entries as there can be; many sources beside it make gaps the smaller coding."""
    near = list(range(40))
    part = only((900, 1), [*near, 39 + gap], [900] * 41)
    assert part.coding == "gaps" and part.steps.tolist()[40:] == steps


def test_hidden_groups_are_one_part_and_numbered_through() -> None:
    """Two links into the output, of which the later begins with the lower row."""
    topology, _ = Topology.sorted(
        (2, 3, 4, 2), np.array([0, 4, 2, 8, 5]), np.array([2, 10, 9, 9, 10]), shape_numbers=4
    )
    (first,), none, (hidden,) = parts_of(topology)
    assert (first.from_input, first.group, none) == (True, 1, [])
    assert (hidden.from_input, hidden.group, hidden.coding, hidden.first) == (False, 3, "sources", 0)
    assert (hidden.counts.tolist(), hidden.steps.tolist()) == ([2, 2], [0, 6, 2, 3])
    assert_holds(topology, 4)
    assert packed_bytes(topology) == (5 + 3) + (4 * 5 + 2) + 4 * (9 + 4 * 7)


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        ([], "uint8"),
        ([0, 255], "uint8"),
        ([256], "uint16"),
        ([65536], "uint32"),
        ([-1, 127], "int8"),
        ([-128], "int8"),
        ([-1, 128], "int16"),
        ([-129], "int16"),
        ([-32768, 32767], "int16"),
        ([-1, 32768], "int32"),
    ],
)
def test_numbers_take_the_smallest_type_that_holds_them(numbers: list[int], kind: str) -> None:
    made = smallest(np.array(numbers, dtype=np.int64))
    assert made.dtype == kind and made.tolist() == numbers


def test_ten_thousand_connections_are_counted_within_a_millisecond() -> None:
    """For each network of a front it is done once."""
    topology = linked([784, 100, 10], [0.12, 0.0, 0.5], np.random.default_rng(0))
    assert topology.connections > 9_900
    assert min(timeit.repeat(lambda: packed_bytes(topology), number=1, repeat=30)) < 1e-3
