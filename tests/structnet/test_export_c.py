"""Networks as C headers say what the networks say: compiled, by several compilers' rules, and run."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.c_cases import (
    COMPILER,
    ROWS,
    SANITIZED,
    STRICT,
    Case,
    calibrated,
    cases,
    compiled,
    computed,
    image_model,
    network_of,
    ran,
    tables,
)
from helpers.compiled_cases import linked
from helpers.export_cases import COLUMNS, ONLY_TEXTS, TABLE, number
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from structnet import StructNet, fit, load_dataset
from structnet.data.dataset import Dataset
from structnet.data.tables import table_inputs, yeo_johnson
from structnet.export.c_build import measured
from structnet.export.c_header import write
from structnet.export.c_inputs import Codes, coded, sources_of
from structnet.export.c_reference import clearance, reference_inputs
from structnet.export.c_source import array_bytes, header, library, table_bytes
from structnet.export.fine_tune import integers_for
from structnet.export.model import Model
from structnet.export.rows import parts_of
from structnet.measure.size import stored_bytes
from structnet.network.activations import ACTIVATIONS
from structnet.network.topology import Topology

CLEAR = 1e-3  # of a code, from where rounding decides


def assert_right(case: Case, logits: np.ndarray, classes: np.ndarray) -> None:
    expected, sure = case.expected(), np.ones(len(case.raw), dtype=bool)
    if case.integers is None:
        allowed = 1e-5 * (1 + np.abs(expected).max())
        np.testing.assert_allclose(logits, expected, rtol=0, atol=allowed)
    else:
        if case.model.preprocessing["kind"] != "image":
            sure = clearance(case.model, case.integers, case.raw) > CLEAR
        np.testing.assert_array_equal(logits[sure], expected[sure])
    np.testing.assert_array_equal(classes, logits.argmax(axis=1))


def assert_all_right(folder: Path, some: list[Case], *options: str) -> None:
    for case, (logits, classes) in zip(some, computed(folder, some, *options), strict=True):
        assert_right(case, logits, classes)


def plain(
    shape: list[int], shares: list[float], activation: str = "relu", full_scale: float = 255.0
) -> Model:
    """On images of one row; shares of the connections that exist: 0 → 1, 0 → 2, …, 1 → 2, …"""
    return image_model(linked(shape, shares, np.random.default_rng(0)), activation, 1, full_scale)


def positive(model: Model) -> Model:
    """With sums as large as they can be."""
    return replace(model, network=model.network.with_values(model.network.values.detach().abs()))


def both(model: Model) -> list[Case]:
    """In float32 and in int8, on pixels at both ends and in between."""
    most = int(model.preprocessing["full_scale"])
    raw = np.random.default_rng(2).integers(0, most + 1, (ROWS, *model.raw_shape)).astype(np.float64)
    raw[0], raw[1] = 0, most
    return [Case(model, raw), Case(model, raw, calibrated(model, raw))]


def special_cases() -> list[Case]:
    """Every coding and every size of an index; what is large, and what is not there."""
    models = [
        plain([1, 1000], [1.0]),
        plain([1, 1], [0.0]),
        plain([1, 2, 1000], [1.0, 0.0, 0.6], "tanh"),
        plain([3000, 3], [0.002]),
        plain([700, 20, 5], [0.01, 0.0, 0.0]),
        plain([700, 9, 4], [0.1, 0.01, 0.5], "sigmoid"),
        plain([2, 300, 4], [0.5, 0.0, 0.2], "srelu"),
        positive(plain([6000, 2, 2], [0.6, 0.0, 1.0])),
        *(plain([6, 5, 4, 3], [0.5, 0.5, 0.5, 0.9, 0.9, 0.9], each, 16.0) for each in ACTIVATIONS),
        *(plain([6, 5, 4, 3], [0.5, 0.0, 0.0, 0.0, 0.9, 0.0], each) for each in ACTIVATIONS),
    ]
    return [case for model in models for case in both(model)]


def test_special_networks_are_computed_without_a_fault(tmp_path: Path) -> None:
    assert_all_right(tmp_path, special_cases(), *STRICT, *SANITIZED)


def test_special_networks_need_every_coding_and_every_type() -> None:
    """Or the test above would not look at all of them."""
    some = special_cases()
    parts = [part for case in some if case.integers for group in case.integers.parts for part in group]
    parts += [part for case in some for group in parts_of(case.model.network.topology) for part in group]
    found = {(part.coding, part.steps.dtype.name if part.coding == "sources" else "") for part in parts}
    assert found == {("full", ""), ("gaps", ""), ("sources", "uint8"), ("sources", "uint16")}
    assert {part.counts.dtype.name for part in parts if part.coding != "full"} == {"uint8", "uint16"}
    assert any((part.places < 0).any() for part in parts if part.coding == "gaps")
    assert {part.first > 0 for part in parts} == {True, False}
    texts = [header(case.model, case.integers) for case in some]
    for needed in ("int32_t multiplier", "int64_t multiplier", "sum = sum * 16 +"):
        assert any(needed in text for text in texts)


def test_a_column_that_no_connection_reads_does_not_matter(tmp_path: Path) -> None:
    """It lies between others, where rows that are nearly full have a 0 for it, which makes no number of NaN."""
    source, target = np.divmod(np.arange(24), 6)
    topology, _ = Topology.sorted((5, 6), np.array([0, 1, 3, 4])[source], 5 + target)
    assert [part.coding for part in parts_of(topology)[0]] == ["full"]
    names = [str(number) for number in range(6)]
    columns = COLUMNS | {"shape": [5], "columns": names[:5], "offset": [0.0] * 5, "scale": [1.0] * 5}
    model = Model("net", network_of(topology, "relu", 0), columns, tuple(names))
    # Sanitizers keep arrays where no call has left anything.
    assert_all_right(tmp_path, [Case(model, np.random.default_rng(0).random((ROWS, 5)))], *STRICT, "-O0")


def test_codes_end_at_0_and_255_whatever_a_column_holds(tmp_path: Path) -> None:
    """Far beyond what scales were taken from, at either end, and where there is no number."""
    network = network_of(linked([4, 3], [1.0], np.random.default_rng(0)), "relu", 0)
    model = Model("net", network, COLUMNS, ("a", "b", "c"))
    integers = calibrated(model, reference_inputs(model, 32))
    raw = np.array(
        [[1e30, 1e30, 1e30, 1e30], [-1e30, -1e30, -1e30, -1e30], [np.nan, np.inf, -np.inf, np.nan]]
    )
    assert integers.codes_of_raw(raw).tolist() == [[255] * 4, [0] * 4, [0, 255, 0, 0]]
    ((logits, _),) = computed(tmp_path, [Case(model, raw, integers)], *STRICT, *SANITIZED)
    np.testing.assert_array_equal(logits, integers.logits(raw))


@given(made=tables())
def test_inputs_of_a_table_are_those_of_its_preprocessing(made: tuple[dict[str, Any], np.ndarray]) -> None:
    """By the numbers that are in the header."""
    preprocessing, raw = made
    raw = raw.astype(np.float32).astype(np.float64)
    expected = table_inputs(raw, preprocessing["columns"]).astype(np.float64)
    found = coded(preprocessing, Codes.none(expected.shape[1]), raw)
    flags = [
        at for at, source in enumerate(sources_of(preprocessing)) if source.kind in ("category", "missing")
    ]
    found[:, flags] /= 255
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("power", [None, -2.0, -0.5, 0.0, 1e-8, 1.0, 2.0, 3.0])
def test_a_column_far_from_0_loses_no_digits(tmp_path: Path, power: float | None) -> None:
    """Days of a year in single precision, and what lies as far below 0."""
    cases = []
    for sign in (1.0, -1.0):
        raw = sign * (2000.0 + np.linspace(-0.5, 0.7, 41)).astype(np.float32).astype(np.float64)
        seen = raw if power is None else yeo_johnson(raw, power)
        column = number("year", power=power) | {
            "offset": float(seen.mean()),
            "scale": float(seen.std()),
            "fill": raw[0],
        }
        table = TABLE | {"shape": [1], "columns": [column]}
        topology, _ = Topology.sorted((1, 1), np.array([0]), np.array([1]))
        network = StructNet.from_parts(topology, torch.tensor([1.0, 0.0]))
        cases.append(Case(Model("net", network, table, ("only",)), raw[:, None]))
    assert_all_right(tmp_path, cases, *STRICT, "-O1")


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some=st.lists(cases(), min_size=6, max_size=6))
def test_any_network_is_computed_without_a_fault(tmp_path: Path, some: list[Case]) -> None:
    assert_all_right(tmp_path, some, *STRICT, *SANITIZED)


@pytest.mark.slow
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some=st.lists(cases(), min_size=8, max_size=8))
def test_many_more_networks_are_computed_without_a_fault(tmp_path: Path, some: list[Case]) -> None:
    assert_all_right(tmp_path, some, *STRICT, *SANITIZED)


@settings(max_examples=2, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some=st.lists(cases(), min_size=6, max_size=6))
def test_a_machine_of_32_bits_computes_the_same(tmp_path: Path, some: list[Case]) -> None:
    made = built_for(tmp_path, "-m32")
    if made.returncode:
        pytest.skip(f"this compiler makes nothing for 32 bits: {made.stderr.splitlines()[0]}")
    assert_all_right(tmp_path, some, *STRICT, "-O2", "-m32")


def built_for(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Whether anything can be built like that."""
    source = folder / "empty.c"
    source.write_text("#include <stdio.h>\nint main(void) { return 0; }\n")
    command = [COMPILER, *options, str(source), "-o", str(folder / "empty")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("rules", ["-std=c99", "-x c++ -std=c++11"])
def test_a_header_may_lie_unused_in_c_and_in_cpp(tmp_path: Path, rules: str) -> None:
    """Every kind of network in one file that calls none of their functions."""
    if "c++" in rules and shutil.which("c++") is None:
        pytest.skip("no C++ compiler is on the PATH")
    lines = []
    for at, model in enumerate(every_kind()):
        for kind, integers in (("f", None), ("i", calibrated(model, reference_inputs(model, 32)))):
            named = replace(model, name=f"net{at}{kind}")
            (tmp_path / f"{named.name}.h").write_text(header(named, integers), encoding="utf-8")
            lines += 2 * [f'#include "{named.name}.h"']
    source = tmp_path / "unused.c"
    source.write_text("\n".join([*lines, "int main(void) { return 0; }", ""]), encoding="utf-8")
    options = [*rules.split(), "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    compiled(tmp_path, source, *options, "-o", str(tmp_path / "unused"), "-lm")


def every_kind() -> list[Model]:
    """Of every activation and every kind of raw values."""
    models = [plain([6, 5, 3], [0.5, 0.5, 0.5], each) for each in ACTIVATIONS]
    for kind in (COLUMNS, TABLE, ONLY_TEXTS):
        inputs = int(np.prod(kind["shape"]))
        network = network_of(linked([inputs, 4, 2], [0.7, 0.3, 1.0], np.random.default_rng(1)), "tanh", 0)
        models.append(Model("net", network, kind, tuple(kind["class_names"])))
    return models


def test_tables_in_the_object_file_are_what_was_said(tmp_path: Path) -> None:
    """And what is said of a network of float32 is what its front says."""
    for model in every_kind():
        raw = reference_inputs(model, 32)
        for integers in (None, calibrated(model, raw)):
            (tmp_path / "net.h").write_text(header(model, integers), encoding="utf-8")
            sizes, said = measured(tmp_path, library(model, integers), "-O0"), table_bytes(model, integers)
            own = sum(
                size for name, size in sizes.tables.items() if name.startswith(("net_g", "net_sigmoid"))
            )
            shared = sum(size for name, size in sizes.tables.items() if name.startswith("net_pre_"))
            assert own == said.network
            assert own == (stored_bytes(model.network.topology) if integers is None else integers.bytes)
            assert (shared, sizes.tables["net_classes"]) == (said.preprocessing, said.classes)
            assert sum(sizes.tables.values()) == sum(said)
    assert 100 < measured(tmp_path, library(model, integers)).code < sizes.code


def test_a_call_needs_no_more_of_the_stack_than_was_said(tmp_path: Path) -> None:
    """But for what every function needs: the arrays are hidden units and, of a table, inputs."""
    columns = COLUMNS | {"shape": [900], "columns": [str(at) for at in range(900)]}
    columns |= {"offset": [0.0] * 900, "scale": [1.0] * 900}
    network = network_of(linked([900, 2100, 2], [0.001, 0.0, 0.01], np.random.default_rng(0)), "relu", 0)
    for model in (plain([20, 3000, 2], [0.01, 0.0, 0.01]), Model("net", network, columns, ("a", "b"))):
        assert_stack_is_told(model, tmp_path)


def assert_stack_is_told(model: Model, tmp_path: Path) -> None:
    for integers, bytes_of_unit in ((None, 4), (calibrated(model, reference_inputs(model, 8)), 1)):
        (tmp_path / "net.h").write_text(header(model, integers), encoding="utf-8")
        (tmp_path / "net.c").write_text(library(model, integers), encoding="utf-8")
        compiled(
            tmp_path,
            tmp_path / "net.c",
            "-std=c99",
            "-O2",
            "-fstack-usage",
            "-c",
            "-o",
            str(tmp_path / "net.o"),
        )
        used = [int(line.split("\t")[1]) for line in (tmp_path / "net.su").read_text().splitlines()]
        assert array_bytes(model, integers) == bytes_of_unit * 3000
        assert abs(max(used) - bytes_of_unit * 3000) < 300


@pytest.fixture(scope="module")
def digits() -> tuple[Dataset, StructNet]:
    """The dataset, and a network of 80 parameters for it."""
    data = load_dataset("digits")
    network = StructNet([64, 10, 10], 0.5, rng_seed=0)
    fit(network, data, epochs=60, learning_rate=1e-2, max_parameters=80, patience=60)
    assert network.parameter_count <= 80
    return data, network


def test_digits_are_predicted_by_a_header_as_by_their_network(
    digits: tuple[Dataset, StructNet], tmp_path: Path
) -> None:
    data, network = digits
    model = Model("digits", network, data.preprocessing, data.class_names)
    raw, labels = data.test.stored.numpy(), data.test.labels.numpy()
    written = write(model, tmp_path)
    assert [file.name for file in written.files] == ["digits.h", "digits_test.c"]
    assert written.run is not None and written.reason == ""
    expected, found = model.logits(raw), written.run(raw)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * (1 + np.abs(expected).max()))
    np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))
    integers, report = integers_for(model, data)
    assert integers.bytes < 300 and report.exact - report.accuracy <= 0.001
    by_integers = write(model, tmp_path, integers)
    assert by_integers.run is not None
    np.testing.assert_array_equal(by_integers.run(raw), integers.logits(raw) * integers.scale)
    accuracies = [(logits.argmax(axis=1) == labels).mean() for logits in (expected, by_integers.run(raw))]
    assert accuracies[0] - accuracies[1] <= 0.003


def test_what_a_header_takes_is_told(digits: tuple[Dataset, StructNet], tmp_path: Path) -> None:
    data, network = digits
    written = write(Model("digits", network, data.preprocessing, data.class_names), tmp_path)
    flash, ram, multiply_adds = written.lines
    assert f" {stored_bytes(network.topology)} for the network in float32" in flash
    assert "; 20 for the names of the classes; " in flash and "of code, compiled with -Os for" in flash
    assert f" {4 * sum(network.architecture[1:-1])} on the stack" in ram and " 40 for logits" in ram
    assert f" {network.connection_count}." in multiply_adds


@pytest.mark.parametrize("is_int8", [False, True])
def test_the_program_beside_a_header_finds_out_what_was_changed(
    digits: tuple[Dataset, StructNet], tmp_path: Path, is_int8: bool
) -> None:
    data, network = digits
    model = Model("digits", network, data.preprocessing, data.class_names)
    write(model, tmp_path, integers_for(model, data)[0] if is_int8 else None)
    program = (tmp_path / "digits_test.c").read_text()
    said = ran(tmp_path, program, *STRICT, "-O2").decode()
    assert said.startswith("digits: 3 inputs, largest difference of a logit ") and said.endswith(
        "0 other classes\n"
    )
    text = (tmp_path / "digits.h").read_text()
    place = text.index("{", text.index("digits_g2_biases")) + 1
    number = text[place:].split(",")[0].strip()
    changed = f"{float(number[:-1]) + 1e-2:.9g}f" if number.endswith("f") else str(int(number) + 1)
    (tmp_path / "digits.h").write_text(text[:place] + text[place:].replace(number, changed, 1))
    assert subprocess.run([tmp_path / "program"], check=False).returncode == 0
    compiled(tmp_path, tmp_path / "program.c", *STRICT, "-o", str(tmp_path / "program"), "-lm")
    assert subprocess.run([tmp_path / "program"], capture_output=True, check=False).returncode == 1


def test_reference_inputs_of_a_table_have_whatever_it_may_hold() -> None:
    """Missing cells in each column, and texts that are no category."""
    raw = reference_inputs(Model("net", every_kind()[0].network, TABLE, ("a", "b")), 200)
    assert np.isnan(raw).any(axis=0).all()
    for at, column in enumerate(TABLE["columns"]):
        if column["kind"] == "category":
            codes = set(range(len(column["categories"]) + 1))
            assert set(raw[~np.isnan(raw[:, at]), at]) == codes


@pytest.mark.parametrize("is_int8", [False, True])
def test_the_program_beside_the_header_of_a_table_has_missing_cells(tmp_path: Path, is_int8: bool) -> None:
    (model,) = (each for each in every_kind() if each.preprocessing is TABLE)
    write(model, tmp_path, calibrated(model, reference_inputs(model, 64)) if is_int8 else None)
    program = (tmp_path / "net_test.c").read_text()
    assert "NAN" in program
    assert ran(tmp_path, program, *STRICT, "-O2").decode().endswith(" 0 other classes\n")


def test_names_are_printed_as_they_are(tmp_path: Path) -> None:
    names = ('a "quoted" one', "può", "??/", "back\\slash", "*/ /*", "line\nbreak", "1")
    network = network_of(linked([3, len(names)], [1.0], np.random.default_rng(0)), "relu", 0)
    columns = [f"{name} \u202e" for name in names[:3]]
    model = Model(
        "net", network, COLUMNS | {"columns": columns, "offset": [0.0] * 3, "scale": [1.0] * 3}, names
    )
    (tmp_path / "net.h").write_text(header(model), encoding="utf-8")
    program = """#include <stdio.h>
    #include "net.h"
    int main(void) { int at; for (at = 0; at < NET_CLASSES; at++) puts(net_classes[at]); return 0; }
    """
    assert ran(tmp_path, program, *STRICT).decode() == "".join(f"{name}\n" for name in names)


def test_without_a_compiler_the_header_is_there_and_says_why_it_was_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    written = write(plain([3, 2], [1.0]), tmp_path)
    assert written.run is None and written.reason == "no C compiler is on the PATH (cc, gcc, clang)"
    assert all(file.is_file() for file in written.files)
    assert "the size of its code is not known: no C compiler" in written.lines[0]


def test_a_compiler_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "cc").write_text(
        "#!/bin/sh\necho 'in a file' >&2\necho 'fatal error: no stdint.h' >&2\nexit 1\n"
    )
    (tools / "cc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    written = write(plain([3, 2], [1.0]), tmp_path)
    assert written.run is None and written.reason == "cc failed: fatal error: no stdint.h"
