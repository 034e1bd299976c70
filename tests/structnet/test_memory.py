"""How large a batch may be: what is free, what an image takes, and that evaluation in any blocks is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from structnet import StructNet
from structnet.data.dataset import Split
from structnet.data.datasets import load_dataset
from structnet.errors import UserError
from structnet.training import evaluation, memory
from structnet.training.evaluation import evaluate
from structnet.training.memory import (
    bytes_per_image,
    devices_like,
    free_bytes,
    halved_on_lack,
    images_at_once,
    largest_batch,
    measure,
)

GIB = 2**30


def network(kernel: str = "sparse_rows", hidden: int = 16) -> StructNet:
    return StructNet([64, hidden, 10], 0.2, kernel=kernel)


def write_group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_what_is_free_on_this_machine() -> None:
    assert 0 < free_bytes("cpu") <= psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("own", "group", "files"),
    [
        (
            "0::/pod/box\n",
            "pod",
            {"memory__max": "5000", "memory__current": "4500", "memory__stat": "anon 1\ninactive_file 300\n"},
        ),
        (
            "3:cpu:/\n4:memory:/pod/box\n0::/\n",
            "memory/pod/box",
            {
                "memory__limit_in_bytes": "5000",
                "memory__usage_in_bytes": "4500",
                "memory__stat": "inactive_file 7\ntotal_inactive_file 300\n",
            },
        ),
        (
            "0::/not/seen/from/inside\n",
            ".",
            {"memory__max": "5000", "memory__current": "4500", "memory__stat": "inactive_file 300\n"},
        ),
    ],
    ids=["version 2, of the group above", "version 1", "a container that is its own root"],
)
def test_a_container_has_what_its_limit_leaves(
    own: str, group: str, files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").write_text(own)
    write_group(tmp_path / "groups" / "pod", memory__max="max", memory__current="1")
    write_group(tmp_path / "groups" / group, **files)
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(memory, "OWN_CGROUP", tmp_path / "own")
    assert free_bytes("cpu") == 5000 - 4500 + 300


def test_without_limits_it_is_what_the_system_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own").write_text("0::/box\n")
    write_group(tmp_path / "groups" / "box", memory__max="max", memory__current="1")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(memory, "OWN_CGROUP", tmp_path / "own")
    assert free_bytes("cpu") > GIB // 8
    monkeypatch.setattr(memory, "OWN_CGROUP", tmp_path / "none")
    assert free_bytes("cpu") > GIB // 8


@pytest.mark.parametrize("device", ["cuda:99", "meta", "nonsense"])
def test_a_device_that_is_not_there_is_refused_in_one_line(device: str) -> None:
    for ask in (free_bytes, devices_like, lambda name: measure([64, 10], name)):
        with pytest.raises(
            UserError, match=f"device is '{device}', but must be cpu, or cuda where"
        ) as mistake:
            ask(device)
        assert "\n" not in str(mistake.value)


def test_a_compiled_image_takes_its_columns_of_the_workspace_and_its_places_in_the_order() -> None:
    # Inputs once, the 26 units behind them twice, 4 bytes each; and 8 bytes in each of 256 steps.
    assert bytes_per_image(network("auto")) == 4 * (64 + 2 * 26) + 8 * 256
    assert measure([64, 16, 10], "cpu")[1] == bytes_per_image(network("auto"))
    wide = StructNet([64, 16, 10], 0.2).double()
    assert bytes_per_image(wide) == 8 * (64 + 2 * 26) + 8 * 256


def test_an_image_takes_the_arrays_that_torch_makes() -> None:
    # Stored and as inputs, 26 activations, in training 26 errors, and one result on its way, at most 64 wide.
    assert bytes_per_image(network(), training=False) == 4 * (64 + 64 + 26 + 64)
    assert bytes_per_image(network()) == 4 * (64 + 64 + 26 + 26 + 64)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_measured_by_its_peak() -> None:
    there = StructNet([784, 512, 10], 0.05).to("cuda")
    assert devices_like("cuda") == [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    assert 0 < free_bytes("cuda") <= torch.cuda.mem_get_info()[1]
    found = bytes_per_image(there)
    assert bytes_per_image(there, training=False) < found
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    memory._passes(there, 4096, True)
    peak = torch.cuda.max_memory_allocated() - before
    assert peak == pytest.approx(4096 * found, rel=0.25)


@pytest.mark.parametrize(
    ("free", "images", "least_steps", "batch"),
    [
        (2 * 1000 * 64, 10**6, 20, 64),  # exactly as many as fit into half of it
        (2 * 1000 * 127, 10**6, 20, 64),  # a power of two below
        (2 * 1000 * 128, 10**6, 20, 128),
        (10**12, 1078, 20, 32),  # 33 steps an epoch; 64 would leave 16
        (10**12, 1280, 20, 64),  # exactly 20 steps
        (10**12, 1078, 1, 1024),
        (10**12, 5, 20, 1),
        (10, 10**6, 20, 1),  # never below 1: whether one fits, training will tell
        (0, 10**6, 20, 1),
    ],
)
def test_the_largest_batch(free: int, images: int, least_steps: int, batch: int) -> None:
    assert largest_batch(free, 1000.0, images, least_steps=least_steps) == batch


def test_a_batch_is_halved_until_it_fits_and_fails_at_one() -> None:
    tried: list[int] = []

    def work(batch: int, most: int) -> str:
        tried.append(batch)
        if batch > most:
            raise torch.OutOfMemoryError(f"no room for {batch}")
        return f"done with {batch}"

    assert halved_on_lack(100, lambda batch: work(batch, 12)) == "done with 12"
    assert tried == [100, 50, 25, 12]
    with pytest.raises(torch.OutOfMemoryError, match=r"no room for 1$"):
        halved_on_lack(2, lambda batch: work(batch, 0))


def widths_of(monkeypatch: pytest.MonkeyPatch, most: int = 10**9) -> list[int]:
    """The numbers of images that evaluation takes at once; more than `most` do not fit."""
    widths: list[int] = []
    real = evaluation.columns

    def columns(split: Split, start: int, stop: int) -> torch.Tensor:
        found = real(split, start, stop)
        widths.append(found.shape[1])
        if found.shape[1] > most:
            raise torch.OutOfMemoryError(f"{found.shape[1]} images")
        return found

    monkeypatch.setattr(evaluation, "columns", columns)
    return widths


def judged(kernel: str, **options: Any) -> evaluation.Evaluation:
    split = load_dataset("digits").train
    return evaluate(network(kernel), split, with_features=True, with_logits=True, **options)


def assert_same(found: evaluation.Evaluation, expected: evaluation.Evaluation) -> None:
    assert (found.loss, found.accuracy) == (expected.loss, expected.accuracy)
    assert np.array_equal(found.log2_likelihood, expected.log2_likelihood)
    assert found.features is not None and expected.features is not None
    assert np.array_equal(found.features, expected.features)
    assert found.logits is not None and expected.logits is not None
    assert torch.equal(found.logits, expected.logits)


@pytest.mark.parametrize("kernel", ["sparse_rows", "masked_dense"])
def test_evaluation_takes_what_fits_and_comes_to_the_same(
    kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plenty = widths_of(monkeypatch)
    expected = judged(kernel)
    assert set(plenty) == {1024, 1078 - 1024}
    per_image = bytes_per_image(network(kernel), training=False)
    monkeypatch.setattr(memory, "free_bytes", lambda device: int(2 * 300 * per_image))
    little = widths_of(monkeypatch)
    assert_same(judged(kernel), expected)
    assert max(little) == 256
    assert images_at_once(network(kernel), 1078) == 256


@pytest.mark.parametrize("kernel", ["sparse_rows", "masked_dense"])
def test_evaluation_goes_on_in_smaller_blocks_where_memory_runs_out(
    kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = judged(kernel)
    widths = widths_of(monkeypatch, most=300)
    assert_same(judged(kernel), expected)
    once = [1024, 512, *[256] * 4, 1078 - 1024]
    assert widths == once + once, "for the logits, and for the features"
    widths_of(monkeypatch, most=0)
    with pytest.raises(torch.OutOfMemoryError, match="1 images"):
        judged(kernel)


def test_a_block_that_is_given_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    widths = widths_of(monkeypatch)
    judged("sparse_rows", block=500)
    assert widths == [500, 500, 78] * 2


def test_a_cpu_takes_no_more_than_its_caches_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 10**15)
    assert images_at_once(network(), 10**6) == memory.MOST_ON_CPU
