"""Datasets from files of the user: each kind of input that once went wrong in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers.data_files import grey_images, image_rows, write_all_splits

from structnet.data.dataset import Dataset
from structnet.data.datasets import load_dataset, load_raw
from structnet.data.new_inputs import read_inputs
from structnet.data.preprocessing import preprocess
from structnet.errors import UserError
from structnet.experiments.checks import no_column_tells, preprocessing_replicates
from structnet.experiments.validation import quick_checks
from structnet.network.network import StructNet

NAMES = ["zero", "one", "two"]
RNG = np.random.default_rng(0)


def hub_rows(images: list[Any], labels: list[int]) -> pa.Table:
    """With the class names in the schema, as the hub writes it."""
    meta = {"info": {"features": {"label": {"names": NAMES, "_type": "ClassLabel"}}}}
    return image_rows(images, labels).replace_schema_metadata({"huggingface": json.dumps(meta)})


def noise_frame(rows: int = 300) -> pd.DataFrame:
    """Four columns of noise, and labels in the order of the rows."""
    return pd.DataFrame(RNG.normal(size=(rows, 4)), columns=list("abcd")).assign(
        label=np.arange(rows) * 3 // rows
    )


def column_names(data: Dataset) -> list[str]:
    return [column["name"] for column in data.preprocessing["columns"]]


# Bookkeeping columns


def test_an_unnamed_first_column_is_left_out_and_said(tmp_path: Path) -> None:
    noise_frame().to_csv(tmp_path / "rows.csv")
    data = load_dataset(str(tmp_path / "rows.csv"))
    assert column_names(data) == list("abcd")
    assert data.notes == ("Column 'unnamed column 1' is an index, no input: left out.",)


def test_an_index_of_pandas_is_left_out_and_said(tmp_path: Path) -> None:
    noise_frame().rename_axis("who").to_parquet(tmp_path / "rows.parquet", index=True)
    frame = noise_frame()
    frame.index = pd.Index(RNG.permutation(300) * 7)
    frame.to_parquet(tmp_path / "odd.parquet")
    assert column_names(load_dataset(str(tmp_path / "rows.parquet"))) == list("abcd")
    data = load_dataset(str(tmp_path / "odd.parquet"))
    assert column_names(data) == list("abcd") and "'__index_level_0__'" in data.notes[0]


def test_a_column_that_tells_the_label_is_named(tmp_path: Path) -> None:
    frame = noise_frame().sample(frac=1, random_state=0)
    frame.to_csv(tmp_path / "plain.csv", index=False)
    check = no_column_tells(load_dataset(str(tmp_path / "plain.csv")))
    assert check.passed and "alone is right on" in check.value
    frame.assign(told=frame["label"] * 10 + 0.5).to_csv(tmp_path / "told.csv", index=False)
    check = no_column_tells(load_dataset(str(tmp_path / "told.csv")))
    assert not check.passed and check.value == "'told' alone is right on 100.0%" and "'told'" in check.advice
    frame.assign(told=[NAMES[label] for label in frame["label"]]).to_csv(tmp_path / "text.csv", index=False)
    data = load_dataset(str(tmp_path / "text.csv"))
    assert "'told' alone" in next(check.value for check in quick_checks(data) if not check.passed)


# Labels


def test_names_in_one_file_and_numbers_in_another_are_refused_with_both(tmp_path: Path) -> None:
    train = noise_frame().assign(label=lambda frame: np.where(frame["a"] > 0, "ok", "fraud"))
    train.to_csv(tmp_path / "train.csv", index=False)
    train.assign(label=(train["a"] > 0).astype(int)).to_csv(tmp_path / "test.csv", index=False)
    with pytest.raises(UserError, match=r"test.csv has the label '[01]', .*'fraud', 'ok': .*\('0', '1'\)"):
        load_dataset(str(tmp_path))


def test_numbers_are_positions_where_the_schema_says_so(tmp_path: Path) -> None:
    tables = {
        split: hub_rows(grey_images(30, seed), [2, 0, 1] * 10) for seed, split in enumerate(("train", "test"))
    }
    data = load_dataset(write_all_splits(tmp_path, tables))
    assert data.class_names == ("zero", "one", "two")
    assert data.test.labels.tolist() == [2, 0, 1] * 10
    new = read_inputs(str(tmp_path / "test.parquet"), data.preprocessing)
    assert new.labels is not None and new.labels.equal(data.test.labels)
    # New files of the same dataset need not say so again.
    pq.write_table(image_rows(grey_images(2), [2, 0]), tmp_path / "new.parquet")
    bare = read_inputs(str(tmp_path / "new.parquet"), data.preprocessing)
    assert bare.labels is not None and bare.labels.tolist() == [2, 0]


def test_a_test_split_without_labels_is_taken_from_the_training_rows_instead(tmp_path: Path) -> None:
    train, blank = hub_rows(grey_images(60), [2, 0, 1] * 20), hub_rows(grey_images(30, 1), [-1] * 30)
    data = load_dataset(write_all_splits(tmp_path, {"train": train, "test": blank}))
    assert (len(data.train), len(data.validation), len(data.test)) == (36, 12, 12)
    assert data.notes == ("test.parquet has no labels: test is taken from the training rows.",)
    found = read_inputs(str(tmp_path / "test.parquet"), data.preprocessing)
    assert found.labels is None and len(found.inputs) == 30


def test_minus_one_is_a_class_where_training_rows_have_it(tmp_path: Path) -> None:
    frame = noise_frame().assign(label=[-1, 1] * 150)
    frame.to_csv(tmp_path / "rows.csv", index=False)
    data = load_dataset(str(tmp_path / "rows.csv"))
    assert data.class_names == ("-1", "1")
    labels = read_inputs(str(tmp_path / "rows.csv"), data.preprocessing).labels
    assert labels is not None and labels.tolist() == [0, 1] * 150


def test_whole_numbers_are_labels_though_their_type_is_real(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"x": RNG.normal(size=30), "label": [1.0, 2.0, 3.0] * 10}), tmp_path / "rows.parquet"
    )
    assert load_dataset(str(tmp_path / "rows.parquet")).class_names == ("1", "2", "3")


def test_the_column_of_the_labels_may_have_another_name(tmp_path: Path) -> None:
    noise_frame().rename(columns={"label": "Species"}).to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(UserError, match=r"no column 'label', it has .*'Species': name .* --label"):
        load_dataset(str(tmp_path / "rows.csv"))
    data = load_dataset(str(tmp_path / "rows.csv"), label="Species")
    assert column_names(data) == list("abcd") and data.preprocessing["label"] == "Species"
    labels = read_inputs(str(tmp_path / "rows.csv"), data.preprocessing).labels
    assert labels is not None and labels.bincount().tolist() == [100] * 3
    with pytest.raises(UserError, match="label is given, but digits has its own"):
        load_dataset("digits", label="Species")


# Splits and classes that are rare


def test_a_rare_class_is_in_every_split(tmp_path: Path) -> None:
    frame = noise_frame(1000).assign(label=["often"] * 990 + ["now and then"] * 7 + ["rare"] * 3)
    frame.to_csv(tmp_path / "rows.csv", index=False)
    data = load_dataset(str(tmp_path / "rows.csv"))
    counts = [
        torch.bincount(split.labels, minlength=3).tolist()
        for split in (data.train, data.validation, data.test)
    ]
    assert sum(map(sum, counts)) == 1000
    assert [row[0] for row in counts] == [4, 2, 1] and [row[2] for row in counts] == [1, 1, 1]


def test_every_one_of_many_rare_classes_is_in_every_split(tmp_path: Path) -> None:
    frame = noise_frame(1000).assign(label=["often"] * 970 + [f"rare {at}" for at in range(10)] * 3)
    frame.to_csv(tmp_path / "rows.csv", index=False)
    data = load_dataset(str(tmp_path / "rows.csv"))
    for split in (data.train, data.validation, data.test):
        assert torch.bincount(split.labels)[1:].tolist() == [1] * 10


def test_balancing_repeats_rows_until_each_class_is_as_common_as_the_commonest(tmp_path: Path) -> None:
    frame = noise_frame(400).assign(label=["a"] * 340 + ["b"] * 50 + ["c"] * 10)
    frame.to_csv(tmp_path / "rows.csv", index=False)
    data = load_dataset(str(tmp_path / "rows.csv"))
    even = data.balanced()
    before, after = (torch.bincount(each.train.labels).tolist() for each in (data, even))
    assert before == [204, 30, 6] and after == [204, 210, 204]
    assert even.validation is data.validation and even.test is data.test
    rows, times = torch.unique(even.train.images, dim=0, return_counts=True)
    assert len(rows) == 240 and sorted(times.tolist()) == [1] * 204 + [7] * 30 + [34] * 6


# Tables


def test_a_table_is_standardised_and_straightened_unless_it_is_denied(tmp_path: Path) -> None:
    frame = noise_frame().assign(money=lambda frame: np.exp(2 * frame["a"]) * 1e5)
    frame.to_csv(tmp_path / "rows.csv", index=False)
    data, plain = (
        load_dataset(str(tmp_path / "rows.csv")),
        load_dataset(str(tmp_path / "rows.csv"), standardise=False),
    )
    money, as_it_is = (each.preprocessing["columns"][-1]["power"] for each in (data, plain))
    assert money is not None and as_it_is is None
    assert abs(data.train.images.mean()) < 1e-5 and data.train.images.std(correction=0) == pytest.approx(
        1, abs=1e-3
    )
    assert plain.train.images.min() == 0 and plain.train.images.max() == 1
    assert data.fingerprint != plain.fingerprint


def test_columns_are_fitted_to_training_rows_alone(tmp_path: Path) -> None:
    frame = noise_frame(200)
    splits = {"train": frame, "validation": frame + 1e3, "test": frame.assign(a=np.nan)}
    for split, rows in splits.items():
        rows.assign(label=frame["label"]).to_csv(tmp_path / f"{split}.csv", index=False)
    data = load_dataset(str(tmp_path))
    assert abs(data.train.images.mean()) < 1e-5 and data.validation.images.min() > 100
    assert data.input_units == 4 and data.test.images[:, 0].unique().numel() == 1


def test_raw_values_and_the_preprocessing_make_the_inputs(tmp_path: Path) -> None:
    frame = noise_frame().assign(kind=list("uvw") * 100, gap=[1.0, np.nan, 2.0] * 100)
    frame.to_csv(tmp_path / "rows.csv", index=False)
    for name in (str(tmp_path / "rows.csv"), "digits", "teacher"):
        data, (raw, preprocessing) = load_dataset(name), load_raw(name)
        assert preprocessing == data.preprocessing
        for split in ("train", "validation", "test"):
            values, labels = raw[split]
            assert torch.allclose(preprocess(values, preprocessing), getattr(data, split).images, atol=1e-6)
            assert labels.tolist() == getattr(data, split).labels.tolist()


def test_what_a_snapshot_stores_replicates_the_inputs_of_a_table(tmp_path: Path) -> None:
    frame = noise_frame().assign(
        kind=list("uvw") * 100, gap=[1.0, np.nan, 2.0] * 100, flag=[True, False] * 150
    )
    frame.to_csv(tmp_path / "rows.csv", index=False)
    data = load_dataset(str(tmp_path / "rows.csv"))
    network = StructNet([data.input_units, 5, 3], 0.5)
    check = preprocessing_replicates(network, data)
    assert check.passed, check
    again = read_inputs(str(tmp_path / "rows.csv"), json.loads(json.dumps(data.preprocessing)))
    every = torch.cat([data.train.images, data.validation.images, data.test.images])
    assert sorted(map(tuple, again.inputs.tolist())) == sorted(map(tuple, every.tolist()))


# New rows


def test_new_rows_keep_what_names_them(tmp_path: Path) -> None:
    frame = noise_frame().assign(who=[f"person {at}" for at in range(300)])
    frame.to_csv(tmp_path / "rows.csv")
    data = load_dataset(str(tmp_path / "rows.csv"))
    new = frame.head(3).drop(columns="label").assign(place=["x", "y", "z"])
    new.to_csv(tmp_path / "new.csv")
    found = read_inputs(str(tmp_path / "new.csv"), data.preprocessing)
    assert found.labels is None
    assert found.keys == {"unnamed column 1": [0, 1, 2], "who": ["person 0", "person 1", "person 2"]}
    assert read_inputs(str(tmp_path / "new.csv"), data.preprocessing, "place").keys["place"] == [
        "x",
        "y",
        "z",
    ]
    frame.drop(columns="who").to_csv(tmp_path / "plain.csv", index=False)
    plain = load_dataset(str(tmp_path / "plain.csv")).preprocessing
    assert read_inputs(str(tmp_path / "new.csv"), plain).keys == {"unnamed column 1": [0, 1, 2]}
    with pytest.raises(UserError, match=r"key is 'plaice', but .*new.csv has no such column"):
        read_inputs(str(tmp_path / "new.csv"), data.preprocessing, "plaice")


@pytest.mark.parametrize("placeholder", ["-1", "", "?"])
def test_rows_with_a_placeholder_have_no_label(placeholder: str, tmp_path: Path) -> None:
    noise_frame().to_csv(tmp_path / "rows.csv", index=False)
    data = load_dataset(str(tmp_path / "rows.csv"))
    (tmp_path / "new.csv").write_text(f"a,b,c,d,label\n0,0,0,0,2\n0,0,0,0,{placeholder}\n")
    labels = read_inputs(str(tmp_path / "new.csv"), data.preprocessing).labels
    assert labels is not None and labels.tolist() == [2, -1]
    (tmp_path / "new.csv").write_text(f"a,b,c,d,label\n0,0,0,0,{placeholder}\n" * 1)
    assert read_inputs(str(tmp_path / "new.csv"), data.preprocessing).labels is None
    (tmp_path / "new.csv").write_text("a,b,c,d,label\n0,0,0,0,2\n0,0,0,0,7\n")
    with pytest.raises(
        UserError, match="has the label '7', but the classes of the training data are '0', '1', '2'"
    ):
        read_inputs(str(tmp_path / "new.csv"), data.preprocessing)


def test_pictures_that_are_all_the_same_are_refused(tmp_path: Path) -> None:
    pq.write_table(image_rows([np.full((3, 4), 9, np.uint8)] * 30, [0, 1, 2] * 10), tmp_path / "rows.parquet")
    with pytest.raises(UserError, match=r"all training pictures of .* are the same"):
        load_dataset(str(tmp_path / "rows.parquet"))


def test_a_size_is_for_pictures(tmp_path: Path) -> None:
    noise_frame().to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(UserError, match=r"size is 3x4, but .* holds no pictures"):
        load_dataset(str(tmp_path / "rows.csv"), size=(3, 4))
