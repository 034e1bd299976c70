"""`structnet import`: a network that a module of the user's makes becomes a snapshot."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.command_cases import Done, assert_refused, structnet
from safetensors.torch import load_file, save_file
from torch import nn

from search.commands.train.command import TrainOptions
from search.commands.train.run import start_network
from structnet import StructNet, fit, load_dataset
from structnet.export.model import Model
from structnet.export.torch_module import source_of, state_of
from structnet.measure.prediction import predict
from structnet.network.architecture import sizes_of
from structnet.network.remap import to_sequential
from structnet.storage.snapshot import Snapshot, load_snapshot
from structnet.training.evaluation import evaluate

torch.set_num_threads(1)

NETS = """
from torch import nn

def digits(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 10))
def flat(): return digits()[1:]
def odd(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.Dropout(0.1), nn.BatchNorm1d(20), nn.Linear(20, 10))
def shorter(): return digits()[:2]
def normed(): return nn.Sequential(*digits(), nn.BatchNorm1d(10))
def double(): return digits().double()
def few(): return nn.Linear(64, 9)
def images(): return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 10))
def pooled(): return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(18, 10))
def maps(): return nn.Sequential(
    nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
    nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10))
def wanting(size): return nn.Linear(size, 10)
def failing(): raise RuntimeError("no\\nway")
def making_text(): return "network"

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = self.second = nn.Linear(64, 64)
        self.last = nn.Linear(64, 10)
    def forward(self, x):
        return self.last(self.second(self.first(x).relu()).relu())

ready = Tied()
number = 3
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the module `their_nets`, and weights of its `digits` that have learned. Snapshots go elsewhere."""
    folder = tmp_path_factory.mktemp("theirs")
    (folder / "their_nets.py").write_text(NETS)
    (folder / "broken_nets.py").write_text("import json\n\n1 / 0\n")
    (folder / "poor_nets.py").write_text("import a_library_that_is_not_there\n")
    network = StructNet([64, 20, 10], 1.0)
    fit(network, load_dataset("digits"), epochs=8, batch_size=32)
    save_file(to_sequential(network).state_dict(), folder / "digits.safetensors")
    yield folder
    for name in ("their_nets", "broken_nets", "poor_nets"):
        sys.modules.pop(name, None)


def imported(place: Path, output: Path, *arguments: str) -> tuple[Done, Snapshot]:
    done = structnet("import", *arguments, "--output", str(output / "one.json"), cwd=place)
    assert done.code == 0, done.err
    assert f"Snapshot: {output}/one.safetensors" in done.out
    return done, load_snapshot(str(output / "one"))


def plain(place: Path) -> nn.Sequential:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 10))
    module.load_state_dict(load_file(place / "digits.safetensors"))
    return module


WITH_DATA = ("their_nets:digits", "--weights", "digits.safetensors", "--dataset", "digits")


def test_a_network_comes_with_the_preprocessing_of_its_dataset(place: Path, tmp_path: Path) -> None:
    done, snapshot = imported(place, tmp_path, *WITH_DATA)
    data, module = load_dataset("digits"), plain(place)
    network = snapshot.state.network
    with torch.no_grad():
        expected = module(data.validation.images)
        torch.testing.assert_close(network(data.validation.images), expected, rtol=1e-5, atol=1e-5)
    accuracy = float((expected.argmax(dim=1) == data.validation.labels).float().mean())
    assert accuracy > 0.8 and f"Validation {accuracy:.2%}" in done.out
    assert (snapshot.preprocessing, snapshot.class_names) == (data.preprocessing, data.class_names)
    assert (snapshot.state.step, snapshot.metadata) == (0, {"imported": "their_nets:digits"})
    assert re.search(
        r"Logits differ by at most \S+ on 1,000 random inputs \(allowed \S+\), \S+ on 359 of", done.out
    )
    # What it says next works.
    assert f"structnet train --dataset digits --snapshot {tmp_path}/one" in done.out
    assert f"structnet export {tmp_path}/one --to torch --dataset digits" in done.out
    again = start_network(TrainOptions(dataset="digits", snapshot=str(tmp_path / "one")), data)
    assert torch.equal(again.values, network.values)
    pixels = [str(int(pixel)) for pixel in (data.validation.images[0] * 16).reshape(-1)]
    (tmp_path / "new.csv").write_text(f"{','.join(f'p{n}' for n in range(64))}\n{','.join(pixels)}\n")
    table = predict(str(tmp_path / "one"), str(tmp_path / "new.csv")).table
    assert table.column("prediction").to_pylist() == [data.class_names[int(expected[0].argmax())]]


def test_without_a_dataset_it_has_no_preprocessing_and_says_so(place: Path, tmp_path: Path) -> None:
    names = "zero,one,two, three,4,5,6,7,8,9"
    done, snapshot = imported(place, tmp_path, "their_nets:digits", "--class-names", names)
    assert snapshot.preprocessing == {} and snapshot.class_names[:4] == ("zero", "one", "two", "three")
    assert "need one made with --dataset" in done.out and "Validation" not in done.out


def test_its_name_is_that_of_the_factory(place: Path, tmp_path: Path) -> None:
    (tmp_path / "other_nets.py").write_text(NETS)
    done = structnet("import", "other_nets:ready", cwd=tmp_path)
    assert "Snapshot: imported/other_nets-ready.safetensors" in done.out
    network = load_snapshot(str(tmp_path / "imported/other_nets-ready")).state.network
    assert network.architecture == [64, 64, 64, 10]
    assert torch.equal(
        network.values[: 64 * 64], sys.modules.pop("other_nets").ready.first.weight.reshape(-1)
    )
    assert str(tmp_path) not in sys.path


def test_what_is_left_out_or_folded_is_said(place: Path, tmp_path: Path) -> None:
    done, _ = imported(place, tmp_path, "their_nets:odd")
    assert "Left out, as it does nothing in evaluation: Dropout '2'" in done.out
    assert "Part of the connections now: BatchNorm1d '3'" in done.out


def test_images_become_feature_maps_that_stay_normalised(place: Path, tmp_path: Path) -> None:
    done, snapshot = imported(place, tmp_path, "their_nets:maps", "--dataset", "digits")
    assert "Taken over: 1@8-3x3-4@8-6@4-10: 332 parameters" in done.out
    assert "Feature maps are normalised by: BatchNorm2d '1', BatchNorm2d '4'" in done.out
    network = snapshot.state.network
    assert network.topology.architecture == sizes_of("1@8,3x3,4@8,6@4,10") and network.statistics is not None
    size = ("--max-parameters", "150", "--epochs", "1")
    _, pruned = imported(place, tmp_path, "their_nets:maps", "--dataset", "digits", *size)
    assert pruned.state.network.parameter_count <= 150
    _, flat = imported(place, tmp_path, "their_nets:images", "--dataset", "digits")
    assert flat.state.network.topology.architecture == (64, 10)


def test_numbers_stay_of_their_type(place: Path, tmp_path: Path) -> None:
    assert imported(place, tmp_path, "their_nets:double")[1].state.network.values.dtype == torch.float64
    assert imported(place, tmp_path, "their_nets:digits")[1].state.network.values.dtype == torch.float32


def test_a_network_without_flatten_takes_the_images_of_a_dataset(place: Path, tmp_path: Path) -> None:
    _, snapshot = imported(place, tmp_path, "their_nets:flat", "--dataset", "digits")
    assert snapshot.state.network.architecture == [64, 20, 10]


def test_it_is_pruned_by_magnitude_or_while_it_trains(place: Path, tmp_path: Path) -> None:
    data, size = load_dataset("digits"), ("--max-parameters", "250")
    found = {
        epochs: imported(place, tmp_path, *WITH_DATA, *size, "--epochs", epochs) for epochs in ("0", "4")
    }
    accuracy = {}
    for epochs, (done, snapshot) in found.items():
        accuracy[epochs] = evaluate(snapshot.state.network, data.validation).accuracy
        assert snapshot.state.network.parameter_count <= 250 and snapshot.state.step == 0
        assert re.search(rf"Pruned: .* validation {accuracy[epochs]:.2%}, \d+.\d+% before", done.out)
        assert done.out.count("epoch ") == int(epochs)
    assert accuracy["4"] > accuracy["0"] + 0.1
    kept = imported(place, tmp_path, *WITH_DATA[:3], *size)[1].state.network
    assert torch.equal(kept.values, found["0"][1].state.network.values)


def test_the_same_rng_seed_prunes_to_the_same_network(place: Path, tmp_path: Path) -> None:
    def values(rng_seed: str) -> torch.Tensor:
        size = ("--max-parameters", "400", "--epochs", "1", "--rng-seed", rng_seed)
        return imported(place, tmp_path, *WITH_DATA, *size)[1].state.network.values

    assert torch.equal(values("3"), values("3"))
    assert not torch.equal(values("3")[:50], values("4")[:50])


def test_a_module_that_was_exported_comes_back_as_it_was(place: Path, tmp_path: Path) -> None:
    """It takes pixels and scales them itself, so that a network of scaled inputs is the one that was exported."""
    before = imported(place, tmp_path, *WITH_DATA, "--max-parameters", "250", "--epochs", "1")[1]
    model = Model("again", before.state.network, before.preprocessing, before.class_names)
    (tmp_path / "again_torch.py").write_text(source_of(model))
    save_file(state_of(model), tmp_path / "again_torch.safetensors")
    arguments = (
        "again_torch:Network",
        "--weights",
        "again_torch.safetensors",
        "--dataset",
        "digits",
        "--raw",
    )
    _, snapshot = imported(tmp_path, tmp_path, *arguments)
    sys.modules.pop("again_torch")
    assert snapshot.state.network.describe() == before.state.network.describe()
    torch.testing.assert_close(snapshot.state.network.values, before.state.network.values, rtol=1e-6, atol=0)


def test_a_layer_that_is_there_twice_may_be_stored_once(place: Path, tmp_path: Path) -> None:
    (tmp_path / "tied_nets.py").write_text(NETS)
    layer, last = nn.Linear(64, 64), nn.Linear(64, 10)
    stored = {"second.weight": layer.weight, "second.bias": layer.bias, "last.weight": last.weight}
    save_file({**stored, "last.bias": last.bias}, tmp_path / "once.safetensors")
    arguments = ("tied_nets:Tied", "--weights", "once.safetensors")
    network = imported(tmp_path, tmp_path, *arguments)[1].state.network
    sys.modules.pop("tied_nets")
    assert torch.equal(network.values[: 64 * 64], layer.weight.reshape(-1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["their_nets.py:digits"], "must be MODULE:FACTORY, such as nets:small"),
        (["folder/their_nets:digits"], "must be MODULE:FACTORY"),
        (["their_nets"], "must be MODULE:FACTORY"),
        (["no_such_nets:digits"], "there is no module 'no_such_nets' in "),
        (["their_nets.inner:digits"], "there is no module 'their_nets.inner'"),
        (["broken_nets:digits"], "(ZeroDivisionError: division by zero, broken_nets.py:3): mend it"),
        (["poor_nets:digits"], "(No module named 'a_library_that_is_not_there'): install what it needs"),
        (["their_nets:nothing"], "module 'their_nets' has no 'nothing'"),
        (["their_nets:number"], "'their_nets:number' is int"),
        (["their_nets:wanting"], "missing 1 required positional argument: 'size'): name a function without arguments"),
        (["their_nets:failing"], "(RuntimeError: no, their_nets.py:"),
        (["their_nets:making_text"], "makes str, but must make a torch.nn.Module"),
        (["their_nets:images"], "Conv2d '0' takes images, but is given (1,) features: give the shape of an image"),
        (["their_nets:pooled", "--dataset", "digits"], "MaxPool2d '2' takes the largest of several positions"),
        (["their_nets:few", "--dataset", "digits"], "digits has 10 classes, but the network 9 outputs"),
        (["their_nets:few", "--dataset", "teacher"], "teacher has 32 inputs, but the network takes 64"),
        (["their_nets:digits", "--class-names", "one,two"], "class_names has 2 names, but the network has 10 outputs"),
        (["their_nets:digits", "--class-names", "a", "--dataset", "digits"], "the dataset has them"),
        (["their_nets:digits", "--raw"], "raw is given, but no dataset"),
        (["their_nets:digits", "--no-standardise"], "standardise is given, but no dataset"),
        (["their_nets:digits", "--max-parameters", "50", "--epochs", "2"], "epochs is given, but no dataset"),
        (["their_nets:digits", "--dataset", "digits", "--epochs", "2"], "epochs is 2, but trains while it prunes"),
        (["their_nets:digits", "--max-parameters", "10"], "the limit is 10 parameters, but must be at least 11"),
        (["their_nets:digits", "--weights", "none.safetensors"], "there is no such file"),
        (["their_nets:digits", "--weights", "their_nets.py"], "cannot be read (SafetensorError"),
        (
            ["their_nets:digits", "--weights", "nets.pt"],
            "save_file(torch.load('nets.pt', weights_only=True), 'nets.safetensors')",
        ),
        (["their_nets:normed", "--weights", "digits.safetensors"], "(missing: 4.weight, 4.bias, 4.running_mean, 4"),
        (["their_nets:odd", "--weights", "digits.safetensors"], "(3.bias has (10,), not (20,), 3.weight has "),
        (["their_nets:shorter", "--weights", "digits.safetensors"], "network (left over: 3.bias, 3.weight): give"),
        (["their_nets:few", "--weights", "digits.safetensors"], "left over: 1.bias, 1.weight, 3.bias, 3.weight"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)  # fmt: skip
def test_what_is_wrong_is_said_in_a_line(
    arguments: list[str], message: str, place: Path, tmp_path: Path
) -> None:
    done = structnet("import", *arguments, "--output", str(tmp_path / "one"), cwd=place)
    assert_refused(done, message)
    assert not list(tmp_path.iterdir())
