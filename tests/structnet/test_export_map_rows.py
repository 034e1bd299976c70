"""Rows and arrays of networks of feature maps: every tap is in its row, and every place holds one thing at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.map_networks import random_architecture, random_taps
from hypothesis import given
from hypothesis import strategies as st

from structnet.export.map_layout import Layout, Sheet
from structnet.export.rows import HIDDEN, POSITIONS, TAPS, Part, packed_bytes, parts_of
from structnet.measure.size import stored_bytes
from structnet.network.architecture import Architecture, sizes_of
from structnet.network.topology import Topology


def walked(part: Part, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Target row and source of each entry, and which connection it is, as a loop in C comes upon them."""
    counts = [part.span] * rows if part.coding == "full" else part.counts.tolist()
    sources, entry = [], 0
    for count in counts:
        source = part.first
        for at in range(count):
            if part.coding == "full":
                source = part.first + at
            elif part.coding == "sources":
                source = part.first + int(part.steps[entry])
            else:
                source += int(part.steps[entry])
            sources.append(source)
            entry += 1
    return np.repeat(np.arange(rows), counts), np.array(sources, dtype=np.int64), part.places


def read_by(layout: Layout, part: Part, sources: np.ndarray) -> np.ndarray:
    """The ports that sources of a part are."""
    topology, shape = layout.topology, layout.shape
    window = shape.window**2
    if part.kind == TAPS:
        unit, code = np.divmod(sources, window)
        return topology.port_of(unit + topology.offsets[part.origin], code)
    if part.kind == POSITIONS:
        sheet = layout.sheets[part.origin]
        unit, place = np.divmod(sources - sheet.origin, sheet.size)
        row, column = np.divmod(place, sheet.pitch)
        code = window + 1 + row * sheet.wide + column
        return topology.port_of(unit + topology.offsets[part.origin], code)
    first, found = layout.first, np.empty(len(sources), dtype=np.int64)
    for group, start in first.items():
        here = (sources >= start) & (sources < start + shape[group])
        unit = sources[here] - start + topology.offsets[group]
        found[here] = topology.port_of(unit, window if group in layout.means else 0)
    return found


@given(rng_seed=st.integers(0, 999), value_bytes=st.sampled_from([1, 4]))
def test_every_connection_is_in_one_row_at_its_place(rng_seed: int, value_bytes: int) -> None:
    """Of links with many connections, and with one."""
    rng = np.random.default_rng(rng_seed)
    share = float(rng.uniform(0.05, 1)) if rng_seed % 3 else 0.0
    topology = random_taps(rng, random_architecture(rng), share)
    layout, seen = Layout(topology), []
    for group, parts in enumerate(parts_of(topology, value_bytes), start=1):
        for part in parts:
            rows, sources, places = walked(part, topology.architecture[group])
            real = places >= 0
            target = rows + topology.offsets[group]
            np.testing.assert_array_equal(topology.target[places[real]], target[real])
            np.testing.assert_array_equal(topology.source[places[real]], read_by(layout, part, sources[real]))
            seen.append(places[real])
            assert part.kind == TAPS or topology.architecture.is_plain(group)
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(topology.connections))


@given(rng_seed=st.integers(0, 999))
def test_bytes_are_those_of_all_tables(rng_seed: int) -> None:
    rng = np.random.default_rng(rng_seed)
    topology = random_taps(rng, random_architecture(rng), float(rng.uniform(0.05, 1)))
    values = np.ones(topology.connections, dtype=np.float32)
    tables = [
        table.nbytes
        for parts in parts_of(topology)
        for part in parts
        for table in part.tables(values).values()
    ]
    assert stored_bytes(topology) == packed_bytes(topology) == sum(tables) + 4 * topology.bias_count


@given(rng_seed=st.integers(0, 999))
def test_without_a_connection_a_network_is_not_larger(rng_seed: int) -> None:
    """But for an entry between two others that lie too far apart now, which is as large as the one that went."""
    rng = np.random.default_rng(rng_seed)
    topology = random_taps(rng, random_architecture(rng), float(rng.uniform(0.05, 1)))
    before = packed_bytes(topology)
    for gone in rng.permutation(topology.connections)[:20]:
        kept = np.delete(np.arange(topology.connections), gone)
        fewer = replace(topology, source=topology.source[kept], target=topology.target[kept])
        assert packed_bytes(fewer) <= before


def test_few_taps_take_five_bytes_each() -> None:
    """Map and offset in one byte as long as 9 · maps fit it; a count for each map and four bytes for its bias."""
    shape = sizes_of("28@7,6@7,2")
    rng = np.random.default_rng(0)
    cells = np.sort(rng.permutation(28 * 9 * 6)[:150])
    bare = Topology(shape, np.empty(0, np.int32), np.empty(0, np.int32))
    topology, _ = Topology.sorted(shape, *bare.ends((0, 1), cells // 252, cells % 252))
    ((part,), _) = parts_of(topology)
    assert (part.kind, part.origin, part.coding, part.steps.dtype) == (TAPS, 0, "sources", np.uint8)
    assert stored_bytes(topology) == 150 * 5 + 6 + 4 * 8


def test_full_kernels_are_stored_without_offsets() -> None:
    shape = sizes_of("2@5,3@5,2")
    bare = Topology(shape, np.empty(0, np.int32), np.empty(0, np.int32))
    cells = np.arange(2 * 9 * 3)
    topology, _ = Topology.sorted(shape, *bare.ends((0, 1), cells // 18, cells % 18))
    assert stored_bytes(topology) == 4 * (54 + 3 + 2)


def test_neurons_means_and_positions_have_parts_of_their_own() -> None:
    """3@2 flat, 2, 2: the second group reads a mean and two positions, the output a neuron and a mean."""
    shape = Architecture([3, 2, 2], [(2, 2), (1, 1), (1, 1)], 3, [0])
    bare = Topology(shape, np.empty(0, np.int32), np.empty(0, np.int32))
    mean, position = 9, 10
    source = bare.port_of(np.array([1, 0, 2, 2]), np.array([mean, position + 3, position, mean]))
    source = np.append(source, bare.port_of(np.array([4])))
    topology, _ = Topology.sorted(shape, source, np.array([3, 3, 4, 6, 5]))
    layout = Layout(topology)
    # Means of three maps, then the neurons; maps of 2 × 2 take 3 × 3 places, behind a border of 4.
    assert (layout.first, layout.hidden, layout.means, layout.kept) == ({0: 0, 1: 3}, 5, {0}, {0})
    assert layout.sheets[0] == Sheet(2, 2, 3, 9, 4, 8, 4 + 27 + 8 - 5)
    first, second = parts_of(topology)
    assert [(part.kind, part.origin, part.first) for part in first] == [(POSITIONS, 0, 8), (HIDDEN, -1, 1)]
    assert walked(first[0], 2)[1].tolist() == [8, 22]
    assert [(part.kind, walked(part, 2)[1].tolist()) for part in second] == [(HIDDEN, [4, 2])]


@given(
    units=st.integers(1, 4),
    high=st.integers(1, 6),
    wide=st.integers(1, 6),
    reach=st.integers(0, 2),
    is_apart=st.booleans(),
)
def test_a_window_around_any_position_stays_on_borders_or_its_map(
    units: int, high: int, wide: int, reach: int, is_apart: bool
) -> None:
    sheet = Sheet.of(units, (high, wide), reach, is_apart=is_apart)
    positions = sheet.places(np.arange(high * wide)) + sheet.size * np.arange(units)[:, None]
    assert len(np.unique(positions)) == units * high * wide
    down, right = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    y, x = np.divmod(np.arange(high * wide), wide)
    inside = ((y[:, None] + down) % high == y[:, None] + down) & (
        (x[:, None] + right) % wide == x[:, None] + right
    )
    seen = positions[:, :, None] + down * sheet.pitch + right
    assert seen.min() >= 0 and seen.max() < sheet.block
    assert not np.isin(seen[:, ~inside], positions).any()
    # A tap from any offset is one run, whose rest lies in the block as well.
    assert sheet.run % 8 == 0 and seen[-1, 0].max() + sheet.run <= sheet.block
    if is_apart:  # borders are of one map
        assert (seen // sheet.size == np.arange(units)[:, None, None]).all()


@given(rng_seed=st.integers(0, 999))
def test_maps_that_are_read_at_a_time_have_places_of_their_own(rng_seed: int) -> None:
    rng = np.random.default_rng(rng_seed)
    topology = random_taps(rng, random_architecture(rng), 0.5)
    layout = Layout(topology)
    last = {
        source: max(
            target
            for (first, target), span in topology.links.items()
            if first == source and (layout.code[span] != topology.architecture.window**2).any()
        )
        for source in layout.kept
    }
    for group in range(1, topology.groups):
        alive = [one for one in layout.kept if one <= group <= last[one]]
        taken = [
            place
            for one in alive
            for place in range(layout.starts[one], layout.starts[one] + layout.sheets[one].block)
        ]
        assert len(set(taken)) == len(taken)
        assert not taken or max(taken) < layout.maps


def test_a_chain_of_maps_needs_room_for_two_of_them() -> None:
    shape = sizes_of("1@9,4@9,4@9,4@9,4@9,2")
    topology = random_taps(np.random.default_rng(0), shape, 1.0)
    chain = topology.group_of(topology.target) - topology.group_of(topology.source_unit) == 1
    topology = replace(topology, source=topology.source[chain], target=topology.target[chain])
    layout = Layout(topology)
    one, four = (layout.sheets[group].block for group in (0, 1))
    # Of the last group only means are read.
    assert layout.kept == {0, 1, 2, 3} and layout.means == {4}
    assert layout.maps == one + 2 * four and layout.starts == {0: 0, 1: one, 2: one + four, 3: 0}


@pytest.mark.parametrize("window", [1, 3, 5])
def test_a_network_without_taps_has_nothing_but_biases(window: int) -> None:
    shape = Architecture([1, 2, 2], [(4, 4), (2, 2), (1, 1)], window)
    topology = Topology(shape, np.empty(0, np.int32), np.empty(0, np.int32))
    assert parts_of(topology) == [[], []] and packed_bytes(topology) == 16
