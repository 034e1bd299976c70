"""`structnet export`: where it finds the test set and the name, what it says, and what it refuses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.command_cases import assert_refused, structnet
from helpers.data_files import png
from helpers.export_cases import network, stored
from helpers.map_networks import random_map_network

from search.commands.export.run import Place, identifier, place_of
from structnet.data.datasets import load_dataset, load_raw
from structnet.export.model import Model
from structnet.export.registry import FORMS, write
from structnet.network.activations import ACTIVATIONS
from structnet.network.architecture import sizes_of
from structnet.network.network import StructNet
from structnet.storage.snapshot import load_snapshot

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "EXPORT.md").read_text()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose `results` have a network of digits, as an experiment with several trials leaves it."""
    folder = tmp_path_factory.mktemp("exported")
    digits, grown = load_dataset("digits"), network([64, 12, 10], [(0, 1), (1, 2)], "relu", density=0.3)
    grown.values.data.mul_(0.3)
    for trial in ("", "seed-0001"):
        stored(folder / "results", "my-digits", grown, digits.preprocessing, trial, dataset="digits")
    config = {"dataset": "teacher", "teacher_seed": 1}
    teacher = load_dataset("teacher", standardise=True, teacher_seed=1)
    other = network([32, 4], [(0, 1)], "relu")
    stored(folder / "results", "my-digits", other, teacher.preprocessing, "teacher", **config)
    return folder


def test_the_experiment_says_which_dataset_and_how_files_are_called(results: Path) -> None:
    for trial in ("", "seed-0001/"):
        done = structnet(
            "export", f"results/snapshots/my-digits/{trial}round-0001.json", "--to", "onnx", cwd=results
        )
        assert done.code == 0, done.err
        file = results / "export" / "my_digits.onnx"
        said = done.out.splitlines()
        assert said[0].startswith("my_digits: 64-12-10: 270 parameters")
        assert said[1] == f"export/my_digits.onnx: {file.stat().st_size:,} bytes"
        assert said[2] == "Input raw (batch, 1, 8, 8), pixels from 0 to 16, float32."
        assert re.fullmatch(
            r"Logits differ by at most \S+ on 360 test inputs \(allowed \S+\), 0 predictions change\.",
            said[-1],
        )


def test_each_trial_has_options_of_its_own(results: Path) -> None:
    line = (
        "export",
        "results/snapshots/my-digits/teacher/round-0001",
        "--to",
        "safetensors",
        "--name",
        "other",
    )
    done = structnet(*line, cwd=results)
    assert done.code == 0, done.err
    assert "on 5,000 test inputs" in done.out


def test_a_snapshot_without_an_experiment_needs_a_dataset(results: Path, tmp_path: Path) -> None:
    for file in (results / "results" / "snapshots" / "my-digits").glob("round-0001.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    line = ("export", "round-0001", "--to", "numpy", "--output", "out")
    refused = structnet(*line, cwd=tmp_path)
    assert_refused(
        refused,
        "dataset is not given, and 'round-0001' belongs to no experiment that says it: give --dataset",
    )
    assert structnet(*line, "--dataset", "digits", "--name", "mine", cwd=tmp_path).code == 0
    assert structnet(*line, "--dataset", "digits", cwd=tmp_path).code == 0
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"mine_numpy.py", "round_0001_numpy.py"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ([], "to is '', but must be one of c, onnx, torch, safetensors, numpy: give --to"),
        (
            ["--to", "onnx", "--int8"],
            "int8 is given, but the form onnx has none: give --to c, or leave it out",
        ),
        (["--to", "onnx", "--name", "a/b"], "name is 'a/b', but must be letters, digits and underscores"),
        (["--to", "onnx", "--name", "lambda"], "name is 'lambda', but must be letters"),
        (["--to", "numpy", "--dataset", "teacher"], "dataset 'teacher' has preprocessing"),
        (["--to", "numpy", "--tolerance", "1e-12"], "Nothing was written: give a larger --tolerance"),
        (
            ["--to", "numpy", "--tolerance", "-1"],
            "tolerance is -1.0: input should be greater than or equal to 0",
        ),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_leaves_nothing(
    line: list[str], message: str, results: Path, tmp_path: Path
) -> None:
    snapshot = str(results / "results" / "snapshots" / "my-digits" / "round-0001")
    assert_refused(structnet("export", snapshot, *line, cwd=tmp_path), message)
    assert not list(tmp_path.iterdir())


def test_feature_maps_are_exported_in_every_form(tmp_path: Path) -> None:
    """Normalised ones as they are used; and what is written for torch comes back."""
    data = load_dataset("digits")
    shape = sizes_of("1@8,4@8,6@4,10")
    grown = random_map_network(np.random.default_rng(0), shape, normalised=True, share=0.4)
    place = stored(tmp_path / "results", "maps", grown, data.preprocessing, dataset="digits")
    for form in FORMS:
        done = structnet("export", place, "--to", form, cwd=tmp_path)
        assert done.code == 0, done.err
        assert (
            "0 predictions change." in done.out
            and f"maps: 1@8-4@8-6@4-10: {grown.parameter_count}" in done.out
        )
    done = structnet("export", place, "--to", "c", "--int8", "--name", "small", cwd=tmp_path)
    assert done.code == 0 and "every logit is that of its reference." in done.out
    back = ("maps_torch:Network", "--weights", "maps_torch.safetensors", "--dataset", "digits", "--raw")
    done = structnet("import", *back, "--output", "back", cwd=tmp_path / "export")
    sys.modules.pop("maps_torch")
    assert done.code == 0, done.err
    network, folded = load_snapshot(str(tmp_path / "export" / "back")).state.network, grown.folded()
    np.testing.assert_array_equal(network.topology.source, folded.topology.source)
    np.testing.assert_allclose(network.values.detach(), folded.values.detach(), rtol=1e-5)


def test_a_snapshot_that_says_too_little_is_refused(tmp_path: Path) -> None:
    grown = StructNet([64, 10], 0.3)
    grown.save(str(tmp_path / "bare"))
    grown.save(str(tmp_path / "few"), preprocessing={"kind": "image", "class_names": ["a"]})
    line = ("--to", "numpy", "--dataset", "digits")
    bare, few = (structnet("export", name, *line, cwd=tmp_path) for name in ("bare", "few"))
    assert_refused(bare, "snapshot 'bare' has no preprocessing of a dataset")
    assert_refused(few, "snapshot 'few' has 1 class names, but 10 outputs")


def test_a_table_is_read_as_its_snapshot_says(tmp_path: Path) -> None:
    """Its column of labels, and that its numbers are not standardised, are no options of export."""
    rng = np.random.default_rng(0)
    rows = [
        f"{x:.3f},{colour},{'yes' if x > 0 else 'no'}"
        for x, colour in zip(rng.normal(size=60), rng.choice(["red", "green", ""], 60))
    ]
    file = tmp_path / "rows.csv"
    file.write_text("\n".join(["x,colour,bought", *rows]) + "\n")
    data = load_dataset(str(file), standardise=False, label="bought")
    grown = StructNet([data.input_units, 2], 1.0)
    place = stored(
        tmp_path / "results", "table", grown, data.preprocessing, dataset="rows.csv", label="bought"
    )
    done = structnet("export", place, "--to", "numpy", cwd=tmp_path)
    assert done.code == 0, done.err
    assert (
        "raw (batch, 2), a number a column: nan where none is, of a text its place in `categories`"
        in done.out
    )
    assert "on 12 test inputs" in done.out


def test_pictures_are_resampled_as_those_of_the_snapshot(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for at in range(20):
            (tmp_path / "pictures" / name / f"{at}.png").write_bytes(
                png(rng.integers(0, 256, (6, 5, 3), np.uint8))
            )
    data = load_dataset(str(tmp_path / "pictures"), size=(4, 3))
    assert data.input_shape == (3, 4, 3)
    grown = network([36, 2], [(0, 1)], "relu")
    place = stored(tmp_path / "results", "pets", grown, data.preprocessing, dataset="pictures", size="4x3")
    done = structnet("export", place, "--to", "safetensors", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "raw (batch, 3, 4, 3), pixels from 0 to 255" in done.out and "on 8 test inputs" in done.out


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("results/snapshots/n/round-1.json", Place("results", "n", "", "round-1")),
        ("/a/b/snapshots/n/t/x.safetensors", Place("/a/b", "n", "t", "x")),
        ("s3://bucket/r/snapshots/n/x", Place("s3://bucket/r", "n", "", "x")),
        ("snapshots/n/x", Place(".", "n", "", "x")),
        ("/snapshots/n/x", Place("/", "n", "", "x")),
        ("elsewhere/x", Place("", "", "", "x")),
    ],
)
def test_the_experiment_of_a_snapshot_follows_from_its_path(path: str, place: Place) -> None:
    assert place_of(path) == place


@pytest.mark.parametrize(
    ("text", "name"),
    [("grow-a.b-7", "grow_a_b_7"), ("7up", "network_7up"), ("if", "network_if"), ("größe", "gr__e")],
)
def test_a_name_is_made_of_that_of_the_experiment(text: str, name: str) -> None:
    assert identifier(text) == name


def code_blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_python_of_the_page_runs(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the raw test set of digits, each block by itself."""
    snapshot = str(results / "results" / "snapshots" / "my-digits" / "round-0001")
    for form in ("onnx", "torch", "safetensors", "numpy"):
        done = structnet("export", snapshot, "--to", form, "--name", "digits", cwd=tmp_path)
        assert done.code == 0, done.err
    raw = load_raw("digits")[0]["test"][0]
    expected = load_snapshot(snapshot).state.network(load_dataset("digits").test.images).detach().numpy()
    monkeypatch.chdir(tmp_path / "export")
    monkeypatch.syspath_prepend(str(tmp_path / "export"))
    assert len(code_blocks()) == 4
    for block in code_blocks():
        names = {"raw": raw.astype(np.float32)}
        exec(compile(block, "EXPORT.md", "exec"), names)
        np.testing.assert_allclose(np.asarray(names["logits"]), expected, rtol=0, atol=1e-4)
    for name in ("digits_torch", "digits_numpy"):
        sys.modules.pop(name, None)


@pytest.mark.slow
def test_onnx_and_numpy_run_where_there_is_neither_structnet_nor_torch(tmp_path: Path) -> None:
    """On the whole test set of digits, equal to 1e-5: each activation, skips, groups that nothing leads to."""
    raw, preprocessing = load_raw("digits")
    values = raw["test"][0].astype(np.float32)
    pairs = [(0, 1), (1, 2), (2, 3), (0, 3)]
    networks = [network([64, 16, 8, 10], pairs, activation, density=0.2) for activation in ACTIVATIONS]
    networks += [network([64, 9, 10], [(0, 2)], "relu", density=0.2), network([64, 9, 10], [(1, 2)], "tanh")]
    for at, each in enumerate(networks):
        each.values.data.mul_(0.3)  # logits of some units, of which 1e-5 is more than the last bit
        model = Model(f"case_{at}", each, preprocessing, tuple(preprocessing["class_names"]))
        for form in ("onnx", "numpy"):
            write(FORMS[form], model, tmp_path)
        np.save(tmp_path / f"case_{at}.npy", model.logits(values))
    np.save(tmp_path / "raw.npy", values)
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    pins = ["--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *pins, "onnxruntime", "numpy"], check=True)
    (tmp_path / "check.py").write_text(
        "import importlib, importlib.util\n"
        "import numpy as np, onnxruntime\n"
        "assert not any(map(importlib.util.find_spec, ('structnet', 'torch', 'onnx')))\n"
        "raw = np.load('raw.npy')\n"
        f"for at in range({len(networks)}):\n"
        "    expected = np.load(f'case_{at}.npy')\n"
        "    session = onnxruntime.InferenceSession(f'case_{at}.onnx')\n"
        "    for found in (\n"
        "        session.run(['logits'], {'raw': raw})[0],\n"
        "        np.concatenate([session.run(['logits'], {'raw': one[None]})[0] for one in raw]),\n"
        "        importlib.import_module(f'case_{at}_numpy').logits(raw),\n"
        "    ):\n"
        "        largest = abs(found - expected).max()\n"
        "        assert len(raw) == 360 and abs(expected).max() > 0.1 and largest <= 1e-5, (at, largest)\n"
        "        print(at, len(found), abs(expected).max(), largest)\n"
    )
    done = subprocess.run(
        [python, "-E", "check.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    print(done.stdout)
    assert done.returncode == 0, done.stderr
