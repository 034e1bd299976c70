"""Snapshots: back to the bit, on with training to the bit, and every damaged file refused by name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from structnet import StructNet
from structnet.data.dataset import Dataset, Split
from structnet.data.preprocessing import fingerprint
from structnet.errors import UserError
from structnet.network.edit import connect
from structnet.network.state import TrainState
from structnet.network.topology import Topology
from structnet.storage.snapshot import check_preprocessing, load_snapshot, save_snapshot
from structnet.storage.snapshot_files import FIELDS

torch.set_num_threads(1)

PREPROCESSING = {"kind": "image", "shape": [1, 2, 2], "offset": [0.1], "scale": [255.0]}


def train(state: TrainState, steps: int) -> None:
    """Adam steps on batches that depend on the step alone."""
    for _ in range(steps):
        rng = np.random.default_rng(state.step)
        images = torch.from_numpy(rng.random((8, state.network.architecture[0]))).to(
            state.network.values.dtype
        )
        labels = torch.from_numpy(rng.integers(0, state.network.architecture[-1], 8))
        loss = torch.nn.functional.cross_entropy(state.network(images), labels)
        (gradient,) = torch.autograd.grad(loss, state.network.values)
        state.optimizer.update(state.network.values.detach(), gradient, 0.01)
        state.step += 1


def trained_state(dtype: torch.dtype = torch.float32) -> TrainState:
    """Three groups with a skip link, trained, then grown by a connection that is younger than the rest."""
    topology, _ = Topology.sorted([4, 3, 2], np.array([0, 1, 2, 3, 4, 5, 0]), np.array([4, 4, 5, 6, 7, 8, 8]))
    values = torch.from_numpy(np.random.default_rng(0).standard_normal(topology.parameters)).to(dtype)
    state = TrainState.fresh(StructNet.from_parts(topology, values, activation="tanh"))
    train(state, 5)
    state = state.edited(connect(state.network, np.array([2]), np.array([8]), 0.5))
    train(state, 3)
    return state


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and one.detach().numpy().tobytes() == other.detach().numpy().tobytes()


def assert_same(one: TrainState, other: TrainState) -> None:
    assert same_bits(one.network.values, other.network.values)
    assert same_bits(one.optimizer.first, other.optimizer.first)
    assert same_bits(one.optimizer.second, other.optimizer.second)
    assert np.array_equal(one.born, other.born)
    assert one.network.architecture == other.network.architecture
    assert np.array_equal(one.network.topology.source, other.network.topology.source)
    assert np.array_equal(one.network.topology.target, other.network.topology.target)
    assert (one.step, one.optimizer.step) == (other.step, other.optimizer.step)
    assert one.network.activation == other.network.activation


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """The stem of a snapshot."""
    save_snapshot(
        str(tmp_path / "best"), trained_state(), preprocessing=PREPROCESSING, class_names=["a", "b"]
    )
    return tmp_path / "best"


# --- there and back


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_training_goes_on_to_the_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    state = trained_state(dtype)
    assert set(state.born.tolist()) == {0, 5}
    save_snapshot(str(tmp_path / "a"), state, preprocessing={})
    loaded = load_snapshot(str(tmp_path / "a")).state
    assert_same(loaded, state)
    train(state, 4)
    assert not same_bits(loaded.network.values, state.network.values)
    train(loaded, 4)
    assert_same(loaded, state)


def test_the_options_of_adam_are_kept(tmp_path: Path) -> None:
    state = trained_state()
    state.optimizer.beta1, state.optimizer.beta2, state.optimizer.epsilon = 0.8, 0.99, 1e-6
    save_snapshot(str(tmp_path / "a"), state, preprocessing={})
    loaded, sent = load_snapshot(str(tmp_path / "a")).state, TrainState.from_arrays(state.to_arrays())
    for optimizer in (loaded.optimizer, sent.optimizer):
        assert (optimizer.beta1, optimizer.beta2, optimizer.epsilon) == (0.8, 0.99, 1e-6)


def test_everything_beside_the_state(tmp_path: Path) -> None:
    metadata = {"round": 3, "accuracy": 0.1 + 0.2, "note": "naïve"}
    save_snapshot(
        str(tmp_path / "a"),
        trained_state(),
        preprocessing=PREPROCESSING,
        class_names=["yes", "no"],
        metadata=metadata,
    )
    loaded = load_snapshot(str(tmp_path / "a"))
    assert (loaded.preprocessing, loaded.class_names, loaded.metadata) == (
        PREPROCESSING,
        ("yes", "no"),
        metadata,
    )
    assert loaded.fingerprint == fingerprint(PREPROCESSING)
    content = json.loads((tmp_path / "a.json").read_text())
    assert (content["format_version"], content["activation"], content["step"]) == (1, "tanh", 8)
    assert content["optimizer"]["step"] == 8
    assert content["tensors_sha256"] == hashlib.sha256((tmp_path / "a.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("ending", ["", ".json", ".safetensors"])
def test_any_name_of_a_snapshot_will_do(tmp_path: Path, ending: str) -> None:
    path = str(tmp_path / "new folder" / "v1.2" / "round-3") + ending
    save_snapshot(path, trained_state(), preprocessing={})
    folder = tmp_path / "new folder" / "v1.2"
    assert sorted(file.name for file in folder.iterdir()) == ["round-3.json", "round-3.safetensors"]
    for other in ("", ".json", ".safetensors"):
        load_snapshot(str(folder / "round-3") + other)


def test_on_another_file_system() -> None:
    state = trained_state()
    save_snapshot("memory://results/snapshots/a", state, preprocessing={})
    assert_same(load_snapshot("memory://results/snapshots/a.json").state, state)
    assert fsspec.filesystem("memory").exists("/results/snapshots/a.safetensors")
    with pytest.raises(UserError, match=r"there is no file memory://results/b\.json"):
        load_snapshot("memory://results/b")


def test_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_snapshot("a", trained_state(), preprocessing={})
    assert (tmp_path / "a.json").exists()
    load_snapshot("a")
    load_snapshot(f"file://{tmp_path}/a")


def test_an_unknown_protocol() -> None:
    with pytest.raises(UserError, match="cannot be reached"):
        load_snapshot("nowhere://bucket/a")


def test_networks_without_connections(tmp_path: Path) -> None:
    empty = np.empty(0, dtype=np.int32)
    topology, _ = Topology.sorted([3, 2], empty, empty)
    network = StructNet.from_parts(topology, torch.tensor([1.0, 2.0]))
    network.save(str(tmp_path / "a"))
    assert StructNet.load(str(tmp_path / "a"))(torch.ones(1, 3)).tolist() == [[1.0, 2.0]]


def test_save_and_load_of_a_network(tmp_path: Path) -> None:
    network = StructNet([6, 4, 3], 0.5, rng_seed=3, activation="sigmoid")
    network.save(str(tmp_path / "net"), preprocessing=PREPROCESSING, class_names="xyz")
    loaded, images = StructNet.load(str(tmp_path / "net")), torch.rand(5, 6)
    assert torch.equal(loaded(images), network(images))
    assert load_snapshot(str(tmp_path / "net")).class_names == ("x", "y", "z")
    assert loaded.values.requires_grad


# --- writing


def test_a_snapshot_replaces_an_older_one(written: Path) -> None:
    state = trained_state()
    train(state, 1)
    save_snapshot(str(written), state, preprocessing={})
    assert_same(load_snapshot(str(written)).state, state)


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine stops when the second file is about to be written, then before the second is renamed."""
    steps: list[Path] = []

    def stop(replace: Callable[[Path, Path], Path], at: int) -> Callable[[Path, Path], Path]:
        def stopping(self: Path, target: Path) -> Path:
            steps.append(target)
            if len(steps) == at:
                raise KeyboardInterrupt
            return replace(self, target)

        return stopping

    original = Path.replace
    monkeypatch.setattr(Path, "replace", stop(original, 2))
    with pytest.raises(KeyboardInterrupt):
        save_snapshot(str(tmp_path / "a"), trained_state(), preprocessing={})
    assert [step.name for step in steps] == ["a.safetensors", "a.json"]
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]
    with pytest.raises(UserError, match=r"there is no file .*a\.json"):
        load_snapshot(str(tmp_path / "a"))


@pytest.mark.parametrize("bad", [{"loss": float("nan")}, {"loss": np.float32(1)}, {"state": {1, 2}}])
def test_what_json_cannot_hold_is_not_written(tmp_path: Path, bad: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        save_snapshot(str(tmp_path / "a"), trained_state(), preprocessing={}, metadata=bad)
    assert not list(tmp_path.iterdir())


def test_class_names_must_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="class_names has 3 names, but the network has 2 outputs"):
        save_snapshot(str(tmp_path / "a"), trained_state(), preprocessing={}, class_names="abc")


# --- what is refused


@pytest.mark.parametrize("ending", [".json", ".safetensors"])
def test_missing_files(written: Path, ending: str) -> None:
    written.with_suffix(ending).unlink()
    with pytest.raises(UserError, match=rf"there is no file .*best{ending}"):
        load_snapshot(str(written))


@pytest.mark.parametrize("ending", [".json", ".safetensors"])
@given(data=st.data())
def test_truncated_files(tmp_path_factory: pytest.TempPathFactory, ending: str, data: st.DataObject) -> None:
    stem = tmp_path_factory.mktemp("truncated") / "best"
    save_snapshot(str(stem), trained_state(), preprocessing=PREPROCESSING)
    file = stem.with_suffix(ending)
    whole = file.read_bytes()
    # The last byte of the JSON is a line break, which may be missing.
    file.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 2))])
    with pytest.raises(UserError, match=f"best{ending} is "):
        load_snapshot(str(stem))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"[1, 2]", b'{"a": 1}', b"null", b"[" * 100_000])
def test_foreign_json(written: Path, content: bytes) -> None:
    written.with_suffix(".json").write_bytes(content)
    with pytest.raises(UserError, match=r"best\.json is "):
        load_snapshot(str(written))


def test_a_folder_in_the_place_of_a_file(written: Path) -> None:
    written.with_suffix(".json").unlink()
    written.with_suffix(".json").mkdir()
    with pytest.raises(UserError, match=r"best\.json cannot be read"):
        load_snapshot(str(written))


def test_tensors_of_another_snapshot(written: Path) -> None:
    state = trained_state()
    train(state, 1)
    save_snapshot(str(written.with_name("other")), state, preprocessing={})
    written.with_name("other.safetensors").rename(written.with_suffix(".safetensors"))
    with pytest.raises(UserError, match=r"best\.safetensors is not the file that .*best\.json describes"):
        load_snapshot(str(written))


def _set(*path: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for name in path[:-1]:
            content = content[name]
        content[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("format", to="pickle"), "not a snapshot of structnet"),
        (_set("format_version", to=2), "has format version 2, but this structnet reads 1"),
        (_set("activation", to="step"), "activation 'step' is not known"),
        (_set("step", to="8"), "'step' is missing or of the wrong type"),
        (_set("step", to=True), "'step' is missing or of the wrong type"),
        (_set("step", to=-1), "a number of steps is negative"),
        (_set("optimizer", to={"step": 8}), "'beta1' is missing"),
        (_set("optimizer", "beta1", to=None), "'beta1' is missing or of the wrong type"),
        (_set("class_names", to=["a"]), "names 1 classes for 2 outputs"),
        (_set("class_names", to=[1, 2]), "a class name is not text"),
        (_set("preprocessing", "scale", to=[256.0]), "does not have the fingerprint beside it"),
        (_set("preprocessing", "scale", to=[float("nan")]), "a number that is not finite"),
        (_set("tensors_sha256", to="0" * 64), "is not the file that"),
    ],
)
def test_inconsistent_json(written: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    file = written.with_suffix(".json")
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message) as refused:
        load_snapshot(str(written))
    assert str(file) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("field", sorted(FIELDS))
def test_missing_fields(written: Path, field: str) -> None:
    file = written.with_suffix(".json")
    content = json.loads(file.read_text())
    del content[field]
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"best\.json is damaged: '{field}' is missing"):
        load_snapshot(str(written))


Arrays = dict[str, np.ndarray]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("born"), "its arrays are"),
        (lambda a: a.update(extra=a["born"]), "its arrays are"),
        (lambda a: a.update(values=a["values"][:-1]), "one entry for each of 13 parameters"),
        (lambda a: a.update(target=a["target"][:-1]), "one entry for each of 13 parameters"),
        (lambda a: a.update(values=a["values"].astype(np.float64)), "have different types"),
        (lambda a: a.update(born=a["born"].astype(np.float32)), "'born' has shape"),
        (lambda a: a.update(values=a["values"][None]), "'values' has shape"),
        (lambda a: a.update(architecture=np.array([9])), "two or more sizes"),
        (lambda a: a.update(architecture=np.array([4, 0, 5])), "two or more sizes"),
        (lambda a: a.update(architecture=np.array([2**40, 3, 2])), "more units than can be numbered"),
        (lambda a: a.update(architecture=np.array([2, 3, 2])), "outside 0 … 6"),
        (lambda a: a.update(source=a["target"], target=a["source"]), "to a later one"),
        (lambda a: a.update(source=a["source"][::-1], target=a["target"][::-1]), "not in their order"),
        (lambda a: a.update(source=a["source"] * 0, target=a["target"] * 0 + 4), "given twice"),
    ],
)
def test_inconsistent_tensors(written: Path, change: Callable[[Arrays], Any], message: str) -> None:
    """Whoever writes the tensors can write their checksum as well, so the checksum is not enough."""
    file = written.with_suffix(".safetensors")
    arrays = load(file.read_bytes())
    change(arrays)
    replace_tensors(written, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))
    with pytest.raises(UserError, match=message) as refused:
        load_snapshot(str(written))
    assert str(file) in str(refused.value)


def test_tensors_in_another_format(written: Path) -> None:
    replace_tensors(written, b"PK\x03\x04 a pickle in a zip archive")
    with pytest.raises(UserError, match=r"best\.safetensors is damaged: it is not in the safetensors format"):
        load_snapshot(str(written))


def replace_tensors(stem: Path, data: bytes) -> None:
    stem.with_suffix(".safetensors").write_bytes(data)
    content = json.loads(stem.with_suffix(".json").read_text())
    content["tensors_sha256"] = hashlib.sha256(data).hexdigest()
    stem.with_suffix(".json").write_text(json.dumps(content))


# --- preprocessing


def dataset_with(preprocessing: dict[str, Any]) -> Dataset:
    split = Split(torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64))
    return Dataset("toy", split, split, split, 2, ("a", "b"), preprocessing)


def test_the_preprocessing_must_be_the_same(written: Path) -> None:
    loaded = load_snapshot(str(written))
    reordered = dict(reversed(PREPROCESSING.items()))
    check_preprocessing(loaded, dataset_with(reordered))
    with pytest.raises(UserError, match=r"dataset 'toy' has preprocessing .* \(different: scale\)"):
        check_preprocessing(loaded, dataset_with({**PREPROCESSING, "scale": [256.0]}))
