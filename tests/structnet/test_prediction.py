"""What a snapshot says of files, with labels and without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from structnet import StructNet
from structnet.errors import UserError
from structnet.measure import prediction
from structnet.measure.prediction import predict
from structnet.network.topology import Topology

torch.set_num_threads(1)

# Two columns, halved: "cat" where the first is larger, "dog" where the second is.
PREPROCESSING = {
    "kind": "columns",
    "shape": [2],
    "scaling": "unit",
    "columns": ["a", "b"],
    "offset": [0.0, 0.0],
    "scale": [2.0, 2.0],
    "class_names": ["cat", "dog"],
}


def save_network(path: Path, preprocessing: dict[str, Any], class_names: list[str]) -> str:
    topology, _ = Topology.sorted([2, 2], [0, 1], [2, 3])  # type: ignore[arg-type]
    network = StructNet.from_parts(topology, torch.tensor([1.0, 1.0, 0.0, 0.0]))
    network.save(str(path), preprocessing=preprocessing, class_names=class_names)
    return str(path)


@pytest.fixture
def saved(tmp_path: Path) -> str:
    return save_network(tmp_path / "net", PREPROCESSING, ["cat", "dog"])


def rows_file(tmp_path: Path, **columns: list[Any]) -> str:
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "rows.parquet")
    return str(tmp_path / "rows.parquet")


def test_with_labels(saved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocks of two rows. Logits of the first row: 1 and 0, so its probability is 1 ÷ (1 + e⁻¹)."""
    monkeypatch.setattr(prediction, "BLOCK", 2)
    file = rows_file(tmp_path, a=[2, 0, 5], b=[0, 4, 1], label=["cat", "cat", "cat"])
    table = predict(saved, file).table
    assert table.column_names == ["row", "prediction", "probability", "label", "correct"]
    assert table.column("row").to_pylist() == [0, 1, 2]
    assert table.column("prediction").to_pylist() == ["cat", "dog", "cat"]
    assert table.column("probability").to_pylist() == pytest.approx([0.7310586, 0.8807971, 0.8807971])
    assert table.column("label").to_pylist() == ["cat", "cat", "cat"]
    assert table.column("correct").to_pylist() == [True, False, True]


def test_rows_keep_their_names_and_may_lack_labels(saved: str, tmp_path: Path) -> None:
    file = rows_file(tmp_path, a=[2, 0], b=[0, 4], label=["cat", None], who=["x", "y"])
    table = predict(saved, file, key="who").table
    assert table.column_names == ["row", "who", "prediction", "probability", "label", "correct"]
    assert table.column("who").to_pylist() == ["x", "y"]
    assert table.column("label").to_pylist() == ["cat", None]
    assert table.column("correct").to_pylist() == [True, None]


def test_the_probability_of_every_class_on_request(saved: str, tmp_path: Path) -> None:
    table = predict(saved, rows_file(tmp_path, a=[2], b=[0]), probabilities=True).table
    assert table.column_names == ["row", "prediction", "probability", "p:cat", "p:dog"]
    assert table.column("p:dog").to_pylist() == pytest.approx([1 - 0.7310586])


def test_a_name_of_the_users_that_is_one_of_ours_is_kept_apart(saved: str, tmp_path: Path) -> None:
    file = rows_file(tmp_path, a=[2], b=[0], prediction=["theirs"])
    table = predict(saved, file, key="prediction").table
    assert table.to_pylist()[0]["prediction (given)"] == "theirs"
    assert table.to_pylist()[0]["prediction"] == "cat"


def test_pictures_are_named_by_their_files(tmp_path: Path) -> None:
    pixels = {"kind": "image", "shape": [1, 1, 2], "full_scale": 255.0, "offset": [0.0], "scale": [255.0]}
    saved = save_network(tmp_path / "net", {**pixels, "class_names": ["cat", "dog"]}, ["cat", "dog"])
    (tmp_path / "photos").mkdir()
    for name, row in (("b.webp", [255, 0]), ("a.png", [0, 255])):
        Image.fromarray(np.array([row], np.uint8)).save(tmp_path / "photos" / name, lossless=True)
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    found = predict(saved, str(tmp_path / "photos"))
    assert found.table.select(["file", "prediction"]).to_pylist() == [
        {"file": "a.png", "prediction": "dog"},
        {"file": "b.webp", "prediction": "cat"},
    ]
    assert len(found.notes) == 1 and "notes.txt" in found.notes[0]


def test_pictures_go_through_maps(tmp_path: Path) -> None:
    network = StructNet("1@4,3x3,2@4,2@2,2", 0.8, rng_seed=1, ensure_paths=True)
    pixels = {"kind": "image", "shape": [1, 4, 4], "full_scale": 255.0, "offset": [0.0], "scale": [255.0]}
    network.save(str(tmp_path / "net"), preprocessing={**pixels, "class_names": ["cat", "dog"]})
    (tmp_path / "photos").mkdir()
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4), np.uint8)
    for name, image in zip("abc", images):
        Image.fromarray(image).save(tmp_path / "photos" / f"{name}.png")
    with torch.no_grad():
        logits = network(torch.from_numpy(images[:, None] / 255).float())
    table = predict(str(tmp_path / "net"), str(tmp_path / "photos")).table
    assert table.column("probability").to_pylist() == pytest.approx(
        logits.softmax(dim=1).amax(dim=1).tolist()
    )
    said = [["cat", "dog"][answer] for answer in logits.argmax(dim=1)]
    assert table.column("prediction").to_pylist() == said


def test_without_labels(saved: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("b,a\n1,0\n")
    table = predict(saved + ".json", str(tmp_path / "rows.csv")).table
    assert table.to_pylist() == [{"row": 0, "prediction": "dog", "probability": pytest.approx(0.6224593)}]


def test_names_of_the_preprocessing_will_do(tmp_path: Path) -> None:
    saved = save_network(tmp_path / "net", PREPROCESSING, [])
    assert predict(saved, rows_file(tmp_path, a=[1], b=[0])).table.column("prediction").to_pylist() == ["cat"]


def test_refusals(saved: str, tmp_path: Path) -> None:
    file = rows_file(tmp_path, a=[1], b=[0])
    with pytest.raises(UserError, match="has no preprocessing"):
        predict(save_network(tmp_path / "bare", {}, []), file)
    names = ["a", "b", "c"]
    with pytest.raises(UserError, match="has 3 class names, but 2 outputs"):
        predict(save_network(tmp_path / "more", {**PREPROCESSING, "class_names": names}, []), file)
    with pytest.raises(UserError, match="there is no file"):
        predict(str(tmp_path / "none"), file)
    wider = {
        **PREPROCESSING,
        "columns": ["a", "b", "c"],
        "offset": [0.0] * 3,
        "scale": [1.0] * 3,
        "shape": [3],
    }
    three = rows_file(tmp_path, a=[1], b=[0], c=[0])
    with pytest.raises(UserError, match="has 3 values per row, but the network takes 2"):
        predict(save_network(tmp_path / "wide", wider, []), three)
