"""Every form of an export says what the network says, by its files alone; and each form's own promises."""

from __future__ import annotations

import ast
import json
import runpy
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from helpers.export_cases import COLUMNS, IMAGE, ONE_NUMBER, ONLY_TEXTS, TABLE, cases, network, raw_values
from hypothesis import given
from hypothesis import strategies as st

from structnet.data.tables import table_inputs
from structnet.errors import UserError
from structnet.export.arrays import Group, groups_of
from structnet.export.checking import compare, compare_integers, export
from structnet.export.model import Model, Written
from structnet.export.registry import FORMS, Form, form_named, write
from structnet.export.table_arrays import table_arrays

KINDS = {"image": IMAGE, "columns": COLUMNS, "table": TABLE, "texts": ONLY_TEXTS, "one number": ONE_NUMBER}
QUICK = ["onnx", "safetensors", "numpy"]  # those that neither compile nor trace


def assert_says_the_same(written: Written, model: Model, rng_seed: int = 0) -> None:
    """On one input and on several, to 1e-5 of the largest logit; raw values may be of any type."""
    assert written.run is not None
    for count in (1, 7):
        raw = raw_values(model.preprocessing, count, rng_seed)
        expected, found = model.logits(raw), written.run(raw)
        assert found.dtype == np.float32 and found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * (1 + np.abs(expected).max()))


def skip_without_compiler(written: Written) -> None:
    """Nothing else may be in the way of running what was written."""
    if "no C compiler" in written.reason:
        pytest.skip(written.reason)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("kind", "some"), [("image", slice(None)), ("columns", slice(2, 5)), ("table", slice(2, 5))]
)
def test_every_form_says_what_the_network_says(form: str, kind: str, some: slice, tmp_path: Path) -> None:
    """Every network on images; on the others two activations, and a network that looks at no input at all."""
    plain = tmp_path / "plain"
    plain.touch()
    for at, model in enumerate(cases(KINDS[kind])[some]):
        folder = tmp_path / str(at)
        folder.mkdir()
        written = write(FORMS[form], model, folder)
        skip_without_compiler(written)
        assert_says_the_same(written, model)
        assert sorted(written.files) == sorted(folder.iterdir())
        assert all(file.name.startswith("case") and file.stat().st_size for file in written.files)
        # Whoever may read other files here may read these.
        assert {file.stat().st_mode for file in written.files} == {plain.stat().st_mode}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["texts", "one number"])
def test_a_table_may_lack_numbers_or_texts(form: str, kind: str, tmp_path: Path) -> None:
    model = cases(KINDS[kind])[0]
    written = write(FORMS[form], model, tmp_path)
    skip_without_compiler(written)
    assert_says_the_same(written, model)


@pytest.mark.parametrize("form", QUICK)
@given(
    kind=st.sampled_from(list(KINDS)),
    sizes=st.lists(st.integers(1, 6), max_size=3),
    activation=st.sampled_from(["relu", "tanh", "sigmoid", "srelu"]),
    density=st.floats(0, 1),
    rng_seed=st.integers(0, 99),
    links=st.randoms(use_true_random=False),
)
def test_random_networks(
    form: str,
    kind: str,
    sizes: list[int],
    activation: str,
    density: float,
    rng_seed: int,
    links: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    about = KINDS[kind]
    groups = [int(np.prod(about["shape"])), *sizes, 2]
    pairs = [(a, b) for b in range(1, len(groups)) for a in range(b) if links.random() < 0.6]
    model = Model("case", network(groups, pairs, activation, rng_seed, density), about, ("a", "b"))
    assert_says_the_same(write(FORMS[form], model, tmp_path_factory.mktemp("random")), model, rng_seed)


# What they share


def test_the_groups_of_a_network_by_hand() -> None:
    """3-2-1-2: the second hidden unit takes nothing, the output looks at the input and at the hidden groups."""
    made = network([3, 2, 1, 2], [(0, 1), (0, 3), (2, 3)], "relu", density=1.0)
    assert groups_of(made.topology) == [
        Group(0, 3, 5, 0, 6),
        Group(5, 5, 6, 6, 6),
        Group(0, 6, 8, 6, 14),
    ]


@given(rng_seed=st.integers(0, 99))
def test_inputs_made_part_by_part_are_those_of_the_columns(rng_seed: int) -> None:
    raw, table = raw_values(TABLE, 5, rng_seed), table_arrays(TABLE["columns"])
    assert table.is_straightened and not table_arrays(ONE_NUMBER["columns"]).is_straightened
    numbers = raw[:, table.number]
    numbers = np.where(np.isnan(numbers), table.fill, numbers)
    plain = table.power == 1
    parts = [
        (numbers - table.offset) / table.scale,
        raw[:, table.text] == table.category,
        np.isnan(raw[:, table.unknown]),
    ]
    found, expected = np.concatenate(parts, axis=1)[:, table.order], table_inputs(raw, TABLE["columns"])
    same = np.concatenate([plain, np.ones(found.shape[1] - len(plain), bool)])[table.order]
    np.testing.assert_array_equal(found.astype(np.float32)[:, same], expected[:, same])
    assert sorted(table.order) == list(range(TABLE["shape"][0]))


def test_an_unknown_form_and_int8_of_one_that_has_none_are_refused() -> None:
    with pytest.raises(UserError, match=r"to is 'onyx', but must be one of c, onnx, torch"):
        form_named("onyx")
    with pytest.raises(UserError, match=r"int8 is given, but the form onnx has none: give --to c"):
        form_named("onnx", is_int8=True)
    assert form_named("c", is_int8=True) is FORMS["c"]


# Each form


def test_without_the_libraries_of_onnx_one_line_says_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        UserError, match=r"onnxruntime, which is not installed: run pip install 'structnet\[onnx\]'"
    ):
        write(FORMS["onnx"], cases(IMAGE)[0], tmp_path)


def test_onnx_has_standard_operators_a_prediction_and_the_names(tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    model = cases(TABLE)[0]
    (file,) = write(FORMS["onnx"], model, tmp_path).files
    graph = onnx.load(file)
    assert {node.domain for node in graph.graph.node} == {""}
    assert [(each.domain, each.version) for each in graph.opset_import] == [("", 17)]
    session = onnxruntime.InferenceSession(file)
    raw = raw_values(TABLE, 9)
    logits, prediction = session.run(["logits", "prediction"], {"raw": raw})
    np.testing.assert_array_equal(prediction, logits.argmax(axis=1))
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["class_names"]) == list(model.class_names)
    columns = json.loads(about["columns"])
    assert columns[:2] == [{"name": "plain"}, {"name": "colour", "categories": ["red", "green", "blue"]}]


def test_onnx_says_the_same_where_nothing_is_folded(tmp_path: Path) -> None:
    """Another implementation of the standard, which computes every node as it stands."""
    from onnx.reference import ReferenceEvaluator

    model = cases(TABLE)[3]
    (file,) = write(FORMS["onnx"], model, tmp_path).files
    raw = raw_values(TABLE, 5)
    with np.errstate(all="ignore"):  # of branches that are not taken
        (found,) = ReferenceEvaluator(str(file)).run(["logits"], {"raw": raw})
    np.testing.assert_allclose(found, model.logits(raw), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("density", "bytes_of_each"), [(0.05, 6), (1.0, 4)])
def test_onnx_stores_few_connections_as_places_and_many_as_a_matrix(
    density: float, bytes_of_each: int, tmp_path: Path
) -> None:
    """A place of 60·50 takes two bytes."""
    about = COLUMNS | {"shape": [60], "columns": [f"c{at}" for at in range(60)]}
    about |= {"offset": [0.0] * 60, "scale": [1.0] * 60}
    made = network([60, 50, 2], [(0, 1), (1, 2)], "relu", density=density)
    (file,) = write(FORMS["onnx"], Model("case", made, about, ("a", "b")), tmp_path).files
    rest = file.stat().st_size - bytes_of_each * made.connection_count
    assert 0 < rest < 4_500


def test_a_torch_module_has_the_parameters_of_the_network_and_learns(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = cases(IMAGE)[3]  # of SReLU
    code, state, _ = write(FORMS["torch"], model, tmp_path).files
    plain = runpy.run_path(str(code))
    module: torch.nn.Module = plain["Network"]()
    module.load_state_dict(load_file(state))
    assert plain["CLASS_NAMES"] == list(model.class_names)
    assert sum(each.numel() for each in module.parameters()) == model.network.parameter_count
    raw = torch.from_numpy(raw_values(IMAGE, 4))
    torch.testing.assert_close(module(raw), torch.from_numpy(model.logits(raw.numpy())), atol=1e-4, rtol=0)
    module(raw).square().sum().backward()
    inputs = torch.from_numpy(model.inputs(raw.numpy()))
    model.network(inputs).square().sum().backward()
    expected = model.network.values.grad
    assert expected is not None and module.values.grad is not None
    found = torch.cat([module.values.grad, module.biases.grad, module.shapes.grad.flatten()])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-2)


def test_a_torch_module_is_short_and_needs_torch_only(tmp_path: Path) -> None:
    code = write(FORMS["torch"], cases(IMAGE)[0], tmp_path).files[0]
    tree = ast.parse(code.read_text())
    assert imported(tree) == {"torch"}
    (module,) = (node for node in tree.body if isinstance(node, ast.ClassDef))
    assert module.end_lineno is not None and module.end_lineno - module.lineno < 23


def test_a_numpy_file_needs_numpy_only_and_predicts_names(tmp_path: Path) -> None:
    model = cases(IMAGE)[0]
    (file,) = write(FORMS["numpy"], model, tmp_path).files
    assert imported(ast.parse(file.read_text())) == {"__future__", "base64", "collections", "numpy", "typing"}
    said, raw = runpy.run_path(str(file)), raw_values(IMAGE, 5)
    names = [model.class_names[at] for at in model.logits(raw).argmax(axis=1)]
    assert said["predict"](raw) == names
    assert said["predict"](raw[0]) == names[:1]  # one input without a batch


def test_a_numpy_file_takes_rows_with_texts(tmp_path: Path) -> None:
    (file,) = write(FORMS["numpy"], cases(TABLE)[0], tmp_path).files
    full = {"plain": "1.5", "colour": "blue", "holes": 2, "logarithm": 0.5, "square": 1, "known": True}
    rows = [
        full | {"tiny": 1e-12, "half": "x"},
        {"colour": "pink", "plain": "", "known": "false", "half": None},
    ]
    found = runpy.run_path(str(file))["raw_of"](rows)
    nan = np.nan
    expected = [[1.5, 2, 2, 0.5, 1, 1, 1e-12, 0], [nan, 3, nan, nan, nan, 0, nan, nan]]
    np.testing.assert_array_equal(found, expected)


def imported(tree: ast.Module) -> set[str]:
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}


def test_a_safetensors_file_by_hand(tmp_path: Path) -> None:
    from safetensors import safe_open

    made = network([2, 1, 1], [(0, 1), (1, 2)], "srelu", density=1.0)
    with torch.no_grad():
        made.values.copy_(torch.arange(9.0))
    about = COLUMNS | {"shape": [2], "columns": ["a", "b"], "offset": [0, 0], "scale": [1, 1]}
    (file,) = write(FORMS["safetensors"], Model("hand", made, about, ("only",)), tmp_path).files
    with safe_open(file, "np") as opened:
        arrays = {name: opened.get_tensor(name) for name in list(opened.keys())}
        metadata = opened.metadata()
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "architecture": [2, 1, 1],
        "values": [0, 1, 2],
        "source": [0, 1, 2],
        "target": [2, 2, 3],
        "biases": [3, 4],
        "shapes": [[5, 6, 7, 8]],
    }
    assert metadata.pop("preprocessing") == json.dumps(about, ensure_ascii=False)
    assert metadata == {
        "format": "structnet export",
        "format_version": "1",
        "activation": "srelu",
        "class_names": '["only"]',
    }


# The check


def test_logits_may_differ_by_a_share_of_the_largest() -> None:
    raw = np.zeros((3, 1))
    expected = np.array([[0.0, 9.0], [2.0, 1.0], [1.0, 0.0]], np.float32)
    found = expected + np.array([[0, 0.5], [0, 1.5], [0, 0]], np.float32)
    check = compare(lambda _: expected, lambda _: found, raw, 0.1)
    assert (
        check.line
        == "Logits differ by at most 1.5e+00 on 3 test inputs (allowed 1.0e+00), 1 predictions change."
    )
    assert not check.holds
    assert compare(lambda _: expected, lambda _: found, raw, 0.15).holds  # 0.15 · (1 + 9)
    assert compare(lambda _: expected, lambda _: expected, raw, 0.0).holds


@pytest.mark.parametrize("where", [0, 2])
def test_what_is_no_number_is_never_close_enough(where: int) -> None:
    raw, expected = np.zeros((2_001, 1)), np.zeros((2_001, 2), np.float32)
    found = expected.copy()
    found[where * 1_000, 1] = np.nan  # in the first block and in the second
    blocks = {len(expected[:2_000]): 0, 1: 2_000}

    def said(of: np.ndarray) -> Any:
        return lambda raw: of[blocks[len(raw)] :][: len(raw)]

    assert not compare(said(expected), said(found), raw, 1e9).holds


def test_integers_have_to_be_those_of_their_reference_and_as_good_as_the_network() -> None:
    raw, labels = np.zeros((4, 1)), np.array([0, 0, 0, 1])
    model = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float32)
    good = np.array([[7, 0], [7, 0], [0, 7], [0, 7]])

    def holds(found: np.ndarray, tolerance: float) -> bool:
        checked = compare_integers(lambda _: model, lambda _: good, lambda _: found, raw, labels, tolerance)
        return checked.holds

    assert holds(good, 0.25) and not holds(good, 0.2)
    wrong = good + [[0, 0], [0, 0], [0, 0], [0, 1]]
    assert not holds(wrong, 0.25)
    unequal = compare_integers(lambda _: model, lambda _: good, lambda _: wrong, raw, labels)
    assert unequal.line == "int8 is computed otherwise than by its reference for 1 of 4 test inputs."
    assert "tolerance" not in unequal.way_out
    line = compare_integers(lambda _: model, lambda _: good, lambda _: good, raw, labels).line
    assert (
        "accuracy 75.00% on 4 test inputs, float32 100.00% (allowed to lose 1.00%), 1 predictions change"
        in line
    )


def test_an_export_replaces_what_is_there_and_leaves_nothing_where_its_check_fails(tmp_path: Path) -> None:
    model, raw = cases(IMAGE)[0], raw_values(IMAGE, 50)
    labels = np.zeros(50, int)
    done = export(model, FORMS["numpy"], tmp_path / "a" / "b", raw, labels)
    assert done.files == [tmp_path / "a" / "b" / "case_numpy.py"] == list((tmp_path / "a" / "b").iterdir())
    assert "on 50 test inputs" in done.check and "0 predictions change" in done.check
    before = done.files[0].read_text()
    changed = Model("case", network([12, 2], [(0, 1)], "relu"), IMAGE, model.class_names)
    assert export(changed, FORMS["numpy"], tmp_path / "a" / "b", raw, labels).files == done.files
    after = done.files[0].read_text()
    assert after != before
    for output in (tmp_path / "a" / "b", tmp_path / "c"):
        with pytest.raises(
            UserError, match=r"Logits differ .*Nothing was written: give a larger --tolerance"
        ):
            export(model, FORMS["numpy"], output, raw, labels, tolerance=1e-12)
    assert done.files[0].read_text() == after
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "case_numpy.py"]
    with pytest.raises(UserError, match=r"output is .*cannot be written to \(Not a directory\)"):
        export(model, FORMS["numpy"], done.files[0] / "below", raw, labels)


def test_what_this_machine_cannot_run_is_written_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Toy(ModuleType):
        @staticmethod
        def write(model: Model, folder: Path) -> Written:
            (folder / model.name).write_text("toy")
            return Written([folder / model.name], ["A toy."], reason="there is no machine for it")

    monkeypatch.setitem(sys.modules, "toy_form", Toy("toy_form"))
    done = export(
        cases(IMAGE)[0], Form("toy_form", "a toy"), tmp_path, raw_values(IMAGE, 2), np.zeros(2, int)
    )
    assert done.check == "Not checked: there is no machine for it." and done.lines == ["A toy."]
    assert done.files == [tmp_path / "case"] and done.files[0].read_text() == "toy"
