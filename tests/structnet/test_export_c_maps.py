"""Networks of feature maps as C headers say what the networks say: compiled, by several compilers' rules, and run."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.c_cases import (
    SANITIZED,
    STRICT,
    Case,
    calibrated,
    compiled,
    computed,
    model_of,
    network_of,
    ran,
)
from helpers.map_exports import map_case, preprocessing_of, raw_for
from helpers.map_networks import random_map_network, random_taps

from structnet.export.c_build import measured
from structnet.export.c_header import write
from structnet.export.c_reference import clearance
from structnet.export.c_source import array_bytes, header, library, multiply_adds, program, table_bytes
from structnet.export.rows import parts_of
from structnet.measure.size import stored_bytes
from structnet.network.architecture import Architecture, sizes_of
from structnet.network.topology import Topology

CASES, MORE = 16, 60
CLEAR = 1e-3  # of a code, from where rounding decides


def assert_right(folder: Path, some: list[Case], *options: str) -> None:
    """float32 to 1e-5 of 1 + the largest logit, integers to the bit."""
    for case, (logits, classes) in zip(some, computed(folder, some, *options), strict=True):
        expected, sure = case.expected(), np.ones(len(case.raw), dtype=bool)
        if case.integers is None:
            allowed = 1e-5 * (1 + np.abs(expected).max())
            np.testing.assert_allclose(logits, expected, rtol=0, atol=allowed)
        else:
            if case.model.preprocessing["kind"] != "image":
                sure = clearance(case.model, case.integers, case.raw) > CLEAR
            np.testing.assert_array_equal(logits[sure], expected[sure])
        np.testing.assert_array_equal(classes, logits.argmax(axis=1))


@pytest.mark.parametrize("in_integers", [False, True])
@pytest.mark.parametrize(
    "rng_seeds", [range(CASES), pytest.param(range(CASES, MORE), marks=pytest.mark.slow)], ids=["few", "more"]
)
def test_random_networks_are_computed_without_a_fault(
    rng_seeds: range, in_integers: bool, tmp_path: Path
) -> None:
    """Strides, sides of 1, windows of 1, 3 and 5, skips, flat groups, every activation, scalings of every kind."""
    some = [map_case(rng_seed, in_integers=in_integers) for rng_seed in rng_seeds]
    assert_right(tmp_path, some, *STRICT, *SANITIZED)


def test_random_networks_need_every_coding_and_every_kind_of_loop() -> None:
    """Or the test above would not look at all of them."""
    some = [map_case(rng_seed, in_integers=True) for rng_seed in range(CASES)]
    texts = [header(case.model, integers) for case in some for integers in (None, case.integers)]
    parts = [part for case in some for group in parts_of(case.model.network.topology) for part in group]
    parts += [part for case in some if case.integers for group in case.integers.parts for part in group]
    assert {(part.kind, part.coding) for part in parts} >= {
        (kind, coding) for kind in ("taps", "positions", "hidden") for coding in ("full", "sources")
    }
    for needed in (
        r"sums\[at\] \+=",  # runs
        r"\+ x \* 2\]",  # strides
        r"total \*",  # means
        "mean_multipliers",
        r"pre_factors\[at / ",  # channels that are scaled in different ways
        r"g0_zeros\[at / ",
        r"raw\[at\] << 3",
        "inputs\\[at\\];",
        "tanhf",
        "net_curve",
    ):
        assert any(re.search(needed, text) for text in texts), needed


def gapped() -> Case:
    """Rows of few taps far from each other, in one byte each and with fillers."""
    shape = sizes_of("150@4,3x3,2@4,2")
    bare = Topology(shape, np.empty(0, np.int32), np.empty(0, np.int32))
    columns = np.concatenate([np.arange(9), [20, 250, 300, 320, 1000], np.arange(1200, 1230), [1340]])
    source, target = bare.ends((0, 1), np.repeat([0, 1], len(columns)), np.tile(columns, 2))
    more = bare.ends((1, 2), np.array([0, 1]), np.array([0, 1]))
    topology, _ = Topology.sorted(shape, np.append(source, more[0]), np.append(target, more[1]))
    model = model_of(network_of(topology, "relu", 0), preprocessing_of(shape, "unit"))
    assert parts_of(topology)[0][0].coding == "gaps"
    return Case(model, raw_for(model, 4))


def crossing() -> Case:
    """11 to 7 positions: the windows of the first and the last one end within the source. Nothing reads the mean."""
    rng = np.random.default_rng(1)
    shape = Architecture([2, 3, 2], [(11, 5), (7, 5), (1, 1)], 3, [1])
    model = model_of(random_map_network(rng, shape, share=0.5), preprocessing_of(shape, "standardised"))
    return Case(model, raw_for(model, 4))


def unread() -> list[Case]:
    """Maps that nothing leads to, maps that lead nowhere, and an input that nothing reads."""
    shape = sizes_of("2@5,2@5,2@3,2")
    bare = Topology(shape, np.empty(0, np.int32), np.empty(0, np.int32))
    one = np.array([0])
    found = []
    for pairs in ([(2, 3)], [(0, 1)], [(0, 3)], []):
        ends = [bare.ends(pair, one, one) for pair in pairs]
        source, target = (
            (np.concatenate([np.empty(0, np.int64), *part]) for part in zip(*ends)) if ends else ([], [])
        )
        topology, _ = Topology.sorted(shape, np.array(source, int), np.array(target, int))
        model = model_of(network_of(topology, "relu", 1), preprocessing_of(shape, "unit"))
        found.append(Case(model, raw_for(model, 3)))
    return found


def replace_integers(case: Case) -> Case:
    return case._replace(integers=calibrated(case.model, raw_for(case.model, 20, 1)))


def special() -> list[Case]:
    return [gapped(), crossing(), *unread()]


def test_special_networks_are_computed_without_a_fault(tmp_path: Path) -> None:
    some = [one for case in special() for one in (case, replace_integers(case))]
    assert_right(tmp_path, some, *STRICT, *SANITIZED)


@pytest.mark.parametrize("options", [("-O3",), ("-O2", "-m32"), ("-O2", "-x", "c++", "-std=c++11")])
def test_compilers_that_optimise_and_other_machines_compute_the_same(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    some = [map_case(rng_seed, in_integers=rng_seed % 2 == 0) for rng_seed in range(4)]
    some += [replace_integers(case) if at % 2 else case for at, case in enumerate(special())]
    if "-m32" in options:
        try:
            compiled(tmp_path, nothing(tmp_path), "-m32", "-o", str(tmp_path / "nothing"))
        except AssertionError as error:
            pytest.skip(f"this compiler makes nothing for 32 bits: {str(error).splitlines()[0]}")
    rules = STRICT if "c++" not in options else ("-Wall", "-Wextra", "-Werror", "-pedantic")
    assert_right(tmp_path, some, *rules, *options)


def nothing(folder: Path) -> Path:
    source = folder / "nothing.c"
    source.write_text("#include <stdio.h>\nint main(void) { return 0; }\n")
    return source


def test_normalised_networks_are_exported_as_they_are_used(tmp_path: Path) -> None:
    """Without means and variances, of as many parameters."""
    network = random_map_network(np.random.default_rng(0), sizes_of("1@6,3@6,2"), normalised=True)
    model = model_of(network, preprocessing_of(network.topology.architecture, "unit"))
    assert model.network.statistics is None and model.network.parameter_count == network.parameter_count
    raw = raw_for(model, 5)
    with torch.no_grad():
        expected = network(torch.from_numpy(model.inputs(raw)))
    ((logits, _),) = computed(tmp_path, [Case(model, raw)], *STRICT, "-O1")
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rng_seed", [5, 7, 10])
def test_tables_in_the_object_file_are_what_was_said(rng_seed: int, tmp_path: Path) -> None:
    case = map_case(rng_seed, in_integers=True)
    for integers in (None, case.integers):
        (tmp_path / "net.h").write_text(header(case.model, integers), encoding="utf-8")
        sizes, said = (
            measured(tmp_path, library(case.model, integers), "-O0"),
            table_bytes(case.model, integers),
        )
        own = sum(size for name, size in sizes.tables.items() if name.startswith(("net_g", "net_sigmoid")))
        topology = case.model.network.topology
        assert own == said.network == (stored_bytes(topology) if integers is None else integers.bytes)
        assert sum(sizes.tables.values()) == sum(said)


def test_a_call_needs_no_more_of_the_stack_than_was_said(tmp_path: Path) -> None:
    shape = sizes_of("1@28,4@28,4@14,5,2")
    model = model_of(
        network_of(random_taps(np.random.default_rng(0), shape, 0.2), "relu", 0),
        preprocessing_of(shape, "unit"),
    )
    for integers in (None, calibrated(model, raw_for(model, 8))):
        (tmp_path / "net.h").write_text(header(model, integers), encoding="utf-8")
        (tmp_path / "net.c").write_text(library(model, integers), encoding="utf-8")
        options = ("-std=c99", "-O2", "-fstack-usage", "-c", "-o", str(tmp_path / "net.o"))
        compiled(tmp_path, tmp_path / "net.c", *options)
        used = [int(line.split("\t")[1]) for line in (tmp_path / "net.su").read_text().splitlines()]
        assert abs(max(used) - array_bytes(model, integers)) < 300


def test_multiply_adds_are_taps_at_all_positions() -> None:
    """Two taps into 3 × 3 positions, one into 2 × 2, and a mean."""
    shape = sizes_of("1@3,1@3,1@2,1")
    bare = Topology(shape, np.empty(0, np.int32), np.empty(0, np.int32))
    one = np.array([0])
    ends = [
        bare.ends((0, 1), one, np.array([4])),
        bare.ends((0, 1), one, np.array([5])),
        bare.ends((1, 2), one, np.array([0])),
        bare.ends((2, 3), one, one),
    ]
    topology, _ = Topology.sorted(shape, *(np.concatenate(part) for part in zip(*ends)))
    model = model_of(network_of(topology, "relu", 0), preprocessing_of(shape, "unit"))
    assert multiply_adds(model) == 2 * 9 + 4 + 1


def test_a_header_is_written_with_a_program_that_tests_it(tmp_path: Path) -> None:
    case = map_case(0, in_integers=True)
    for integers in (None, case.integers):
        written = write(case.model, tmp_path, integers)
        assert written.run is not None and "on the stack for activations" in written.lines[1]
        said = ran(tmp_path, (tmp_path / "net_test.c").read_text(), *STRICT, "-O2").decode()
        assert said.endswith("0 other classes\n")
        expected = replace(case.model).logits(case.raw)
        found = written.run(case.raw)
        tolerance = 1e-5 if integers is None else 0.1
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * (1 + np.abs(expected).max()))
    assert "int main(void)" in program(case.model, case.raw[:2], case.model.logits(case.raw[:2]))
