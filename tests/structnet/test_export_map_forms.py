"""Every form of an export says what a network of feature maps says; and each form's own promises about maps."""

from __future__ import annotations

import ast
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.c_cases import model_of, network_of
from helpers.map_exports import map_case, preprocessing_of, raw_for
from helpers.map_networks import random_images, random_map_network, random_taps

from structnet import from_module
from structnet.export.arrays import MapLink, Maps, links_of, maps_of
from structnet.export.checking import export
from structnet.export.model import BLOCK, Model, Written
from structnet.export.registry import FORMS, write
from structnet.export.torch_module import source_of, state_of
from structnet.network.architecture import Architecture, sizes_of
from structnet.network.topology import Topology

CASES = 24


def assert_says_the_same(written: Written, model: Model) -> None:
    """On one input and on several, to 1e-5 of 1 + the largest logit."""
    assert written.run is not None
    for count in (1, 7):
        raw = raw_for(model, count)
        expected, found = model.logits(raw), written.run(raw)
        assert found.dtype == np.float32 and found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * (1 + np.abs(expected).max()))


@pytest.mark.parametrize("form", ["onnx", "safetensors", "numpy"])
def test_random_networks(form: str, tmp_path: Path) -> None:
    for rng_seed in range(CASES):
        model = map_case(rng_seed).model
        written = write(FORMS[form], model, tmp_path)
        assert_says_the_same(written, model)


@pytest.mark.parametrize("rng_seed", [0, 4, 8, 9])
def test_random_networks_by_torch_export(rng_seed: int, tmp_path: Path) -> None:
    """One of each scaling, with any number of inputs at once."""
    model = map_case(rng_seed).model
    assert_says_the_same(write(FORMS["torch"], model, tmp_path), model)


def test_random_networks_as_modules(tmp_path: Path) -> None:
    for rng_seed in range(CASES):
        model = map_case(rng_seed).model
        (tmp_path / "net_torch.py").write_text(source_of(model))
        module = runpy.run_path(str(tmp_path / "net_torch.py"))["Network"]()
        module.load_state_dict(state_of(model))
        raw = raw_for(model, 5)
        kind = torch.float64 if model.preprocessing["kind"] == "columns" else torch.float32
        with torch.no_grad():
            found = module(torch.from_numpy(raw).to(kind)).numpy()
        expected = model.logits(raw)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * (1 + np.abs(expected).max()))


def crossing() -> Model:
    """11 to 7 positions, so that the windows of the first and the last one end within the source; nothing else."""
    shape = Architecture([2, 3, 2], [(11, 5), (7, 5), (1, 1)], 3, [1])
    network = random_map_network(np.random.default_rng(1), shape, share=0.5)
    return model_of(network, preprocessing_of(shape, "standardised"))


def lonely() -> list[Model]:
    """Groups of maps and of neurons that nothing leads to, and an output that nothing leads to."""
    shape, found = sizes_of("2@5,2@3,3,2"), []
    bare = Topology(shape, np.empty(0, np.int32), np.empty(0, np.int32))
    one = np.array([0])
    for pairs in ([(1, 3)], [(2, 3)], [(0, 1)]):
        source, target = (
            np.concatenate(part) for part in zip(*(bare.ends(pair, one, one) for pair in pairs))
        )
        topology, _ = Topology.sorted(shape, source, target)
        found.append(model_of(network_of(topology, "relu", 1), preprocessing_of(shape, "unit")))
    return found


@pytest.mark.parametrize("form", ["onnx", "torch", "safetensors", "numpy"])
def test_windows_within_the_source_and_groups_without_connections(form: str, tmp_path: Path) -> None:
    for model in (crossing(), *lonely()):
        assert_says_the_same(write(FORMS[form], model, tmp_path), model)


def test_every_form_is_held_against_the_network_before_it_stays(tmp_path: Path) -> None:
    model = map_case(1).model
    raw = raw_for(model, 30)
    for name, form in FORMS.items():
        done = export(model, form, tmp_path / name, raw, np.zeros(30, int))
        assert "on 30 test inputs" in done.check and "0 predictions change" in done.check


def test_the_logits_of_a_model_are_those_of_its_network_block_by_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert map_case(0).model.block == BLOCK
    monkeypatch.setattr("structnet.export.model.BLOCK_VALUES", 1000)
    shape = sizes_of("4@6,2")
    network = random_map_network(np.random.default_rng(0), shape, share=0.1)
    model = model_of(network, preprocessing_of(shape, "unit"))
    assert model.block == 1000 // (4 * 36 + 2) < BLOCK
    raw = raw_for(model, model.block + 2)
    with torch.no_grad():
        expected = network(torch.from_numpy(model.inputs(raw[-3:])))
    np.testing.assert_allclose(model.logits(raw)[-3:], expected, rtol=0, atol=1e-5)


def test_groups_and_links_by_hand() -> None:
    """28 to 14 positions step by two from the first one on, and 14 to 5 by three from 0."""
    topology = random_taps(np.random.default_rng(0), sizes_of("1@28,3x3,2@14,flat,3@5,2"), 1.0)
    assert maps_of(topology) == [Maps(0, 1, 28, 28), Maps(1, 2, 14, 14), Maps(3, 3, 5, 5), Maps(6, 2, 1, 1)]
    found = {link[:2]: link for link in links_of(topology)}
    assert found[0, 1] == MapLink(0, 1, 0, 18, 0, 9, 2, 2, 0, 0)
    assert found[1, 2][4:] == (0, 9, 3, 3, 0, 0)
    assert found[2, 3][4:] == (9, 1, 1, 1, 0, 0)


def test_onnx_has_a_convolution_a_link_and_the_names(tmp_path: Path) -> None:
    import onnx

    shape = sizes_of("1@6,3@6,2@3,2")
    rng = np.random.default_rng(0)
    model = model_of(network_of(random_taps(rng, shape, 0.5), "relu", 0), preprocessing_of(shape, "unit"))
    (file,) = write(FORMS["onnx"], model, tmp_path).files
    graph = onnx.load(file).graph
    kinds = [node.op_type for node in graph.node]
    links = model.network.topology.links
    assert kinds.count("Conv") == sum(not shape.is_plain(target) for _, target in links)
    assert kinds.count("ReduceMean") == len({source for source, target in links if target == 3})
    assert {node.domain for node in graph.node} == {""}
    about = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    assert json.loads(about["class_names"]) == list(model.class_names)


@pytest.mark.parametrize(("share", "bytes_of_each"), [(0.05, 6), (1.0, 4)])
def test_onnx_stores_few_taps_as_places_and_many_as_a_kernel(
    share: float, bytes_of_each: int, tmp_path: Path
) -> None:
    shape = sizes_of("20@5,3x3,20@5,2")
    bare = Topology(shape, np.empty(0, np.int32), np.empty(0, np.int32))
    cells = np.sort(np.random.default_rng(3).permutation(20 * 180)[: round(share * 3600)])
    topology, _ = Topology.sorted(shape, *bare.ends((0, 1), cells // 180, cells % 180))
    model = model_of(network_of(topology, "relu", 0), preprocessing_of(shape, "unit"))
    (file,) = write(FORMS["onnx"], model, tmp_path).files
    assert 0 < file.stat().st_size - bytes_of_each * topology.connections < 4_000


def test_a_torch_module_needs_torch_only_and_has_a_layer_a_link(tmp_path: Path) -> None:
    model = crossing()
    code, state, _ = write(FORMS["torch"], model, tmp_path).files
    tree = ast.parse(code.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} == {"torch"}
    module: torch.nn.Module = runpy.run_path(str(code))["Network"]()
    links = model.network.topology.links
    kinds = [type(part).__name__ for part in module.modules()]
    assert kinds.count("Conv2d") == sum(target == 1 for _, target in links)
    existing = sum(
        int(weight.count_nonzero()) for name, weight in state_of(model).items() if "weight" in name
    )
    assert existing == model.network.connection_count
    assert state.stat().st_size > 4 * existing


def test_a_torch_module_comes_back_as_the_network_that_it_was(tmp_path: Path) -> None:
    """But for scaling, which is part of the weights then."""
    shape = Architecture([2, 3, 4, 2], [(6, 6), (6, 6), (3, 3), (1, 1)], 3, [2])
    network = random_map_network(np.random.default_rng(0), shape, normalised=False, share=0.5)
    model = model_of(network, preprocessing_of(shape, "unit") | {"scale": [1.0, 1.0]})
    (tmp_path / "net_torch.py").write_text(source_of(model))
    module = runpy.run_path(str(tmp_path / "net_torch.py"))["Network"]()
    module.load_state_dict(state_of(model))
    back = from_module(module, example_shape=(2, 6, 6))
    assert back.topology.architecture == shape
    np.testing.assert_array_equal(back.topology.source, network.topology.source)
    np.testing.assert_array_equal(back.values.detach(), network.values.detach())


def test_a_numpy_file_needs_numpy_only_and_predicts_names(tmp_path: Path) -> None:
    model = map_case(2).model
    (file,) = write(FORMS["numpy"], model, tmp_path).files
    tree = ast.parse(file.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names == {"__future__", "base64", "collections.abc", "numpy", "typing"}
    said, raw = runpy.run_path(str(file)), raw_for(model, 5)
    assert said["predict"](raw) == [model.class_names[at] for at in model.logits(raw).argmax(axis=1)]


def test_a_safetensors_file_by_hand(tmp_path: Path) -> None:
    """One map of 2 × 2, flat, a map of 2 × 1 that reads its centre and the pixel beside, and two ways to the output."""
    from safetensors.numpy import load_file

    shape = Architecture([1, 1, 1], [(2, 2), (2, 1), (1, 1)], 3, [0])
    bare = Topology(shape, np.empty(0, np.int32), np.empty(0, np.int32))
    source = bare.port_of(np.array([0, 0, 0, 1]), np.array([4, 5, 9 + 1 + 3, 9]))
    topology, _ = Topology.sorted(shape, source, np.array([1, 1, 2, 2]))
    network = network_of(topology, "relu", 0).with_values(np.arange(1.0, 7.0))
    model = model_of(network, preprocessing_of(shape, "unit"))
    (file,) = write(FORMS["safetensors"], model, tmp_path).files
    assert {name: array.tolist() for name, array in load_file(file).items()} == {
        "architecture": [1, 1, 1],
        "sides": [[2, 2], [2, 1], [1, 1]],
        "window": [3],
        "flat": [0],
        "values": [1, 2, 3, 4],
        "source": [0, 0, 0, 1],
        "offset": [4, 5, 13, 9],
        "target": [1, 1, 2, 2],
        "biases": [5, 6],
    }
    # (1 · 1 + 2 · 2 + 5, 1 · 3 + 2 · 4 + 5): 10 and 16; 3 · 4 + 4 · 13 + 6.
    assert model.logits(255 * np.array([[[[1, 2], [3, 4]]]])).tolist() == [[70.0]]
    assert write(FORMS["safetensors"], model, tmp_path).run(
        255 * np.array([[[[1, 2], [3, 4]]]])
    ).tolist() == [[70.0]]


def test_images_of_a_split_are_the_inputs_that_a_model_makes() -> None:
    """Pixels by channel, row and column, as everywhere."""
    shape = sizes_of("2@3,2@3,2")
    rng = np.random.default_rng(0)
    network = random_map_network(rng, shape)
    images = random_images(rng, shape, 4).images
    model = model_of(network, preprocessing_of(shape, "unit"))
    with torch.no_grad():
        expected = network(images).numpy()
    np.testing.assert_allclose(model.logits(images.numpy() * 255), expected, rtol=0, atol=1e-5)
