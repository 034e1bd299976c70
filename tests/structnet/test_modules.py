"""Torch modules that change: what an optimizer keeps, files, and judgement in evaluation."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from helpers.head_cases import stripes
from torch import nn
from torch.optim import SGD, Adam

from structnet.data.dataset import Dataset
from structnet.errors import UserError
from structnet.modules.evaluation import evaluate_module, image_batch
from structnet.modules.files import read_module, write_module
from structnet.modules.optimizer import (
    add,
    exchange,
    forget,
    ids_of,
    load_state_tensors,
    state_tensors,
    taken,
)
from structnet.training.batches import training_batch
from structnet.training.recipe import Recipe


@pytest.fixture(scope="module")
def data() -> Dataset:
    return stripes()


def stepped(module: nn.Module, optimizer: torch.optim.Optimizer, inputs: torch.Tensor) -> None:
    optimizer.zero_grad()
    module(inputs).square().sum().backward()
    optimizer.step()


def test_what_is_added_is_trained_and_what_is_gone_is_not() -> None:
    one, other, inputs = nn.Linear(3, 2), nn.Linear(2, 2), torch.ones(4, 3)
    optimizer = Adam(one.parameters(), 0.1)
    stepped(one, optimizer, inputs)
    add(optimizer, other.parameters())
    both = nn.Sequential(one, other)
    before = copy.deepcopy(other.state_dict())
    stepped(both, optimizer, inputs)
    assert not torch.equal(before["weight"], other.weight)
    assert optimizer.state[other.weight]["step"] == 1 and optimizer.state[one.weight]["step"] == 2
    forget(optimizer, one.parameters())
    assert (
        ids_of(optimizer) == {id(part) for part in other.parameters()} and one.weight not in optimizer.state
    )
    with pytest.raises(ValueError, match="2 of 2 parameters are not in the optimizer"):
        forget(optimizer, one.parameters())
    with pytest.raises(ValueError, match=r"shape \(2, 2\) is in the optimizer already"):
        add(optimizer, other.parameters())


def test_rows_that_are_left_keep_their_moments() -> None:
    module, inputs = nn.Linear(3, 4, bias=False), torch.randn(5, 3)
    optimizer = Adam(module.parameters(), 0.1)
    stepped(module, optimizer, inputs)
    old, kept = module.weight, torch.tensor([2, 0, -1])
    moments = optimizer.state[old]["exp_avg"].clone()
    new = nn.Parameter(taken(old.detach(), 0, kept))
    exchange(optimizer, old, new, 0, kept)
    assert torch.equal(optimizer.state[new]["exp_avg"], torch.cat([moments[[2, 0]], torch.zeros(1, 3)]))
    assert optimizer.state[new]["step"] == 1 and old not in optimizer.state
    assert ids_of(optimizer) == {id(new)}


def test_an_optimizer_goes_on_to_the_bit(tmp_path: Path) -> None:
    module, inputs = nn.Linear(3, 2), torch.randn(4, 3)
    optimizer = Adam(module.parameters(), 0.1)
    for _ in range(3):
        stepped(module, optimizer, inputs)
    write_module(
        str(tmp_path / "deep" / "one"),
        {
            **{f"m.{name}": value for name, value in module.state_dict().items()},
            **state_tensors(module, optimizer),
        },
        {"steps": 3},
    )
    tensors, about = read_module(str(tmp_path / "deep" / "one"))
    other = nn.Linear(3, 2)
    other.load_state_dict({name[2:]: value for name, value in tensors.items() if name.startswith("m.")})
    theirs = Adam(other.parameters(), 0.1)
    load_state_tensors(other, theirs, {name: value for name, value in tensors.items() if "/" in name})
    for one, its in ((module, optimizer), (other, theirs)):
        for _ in range(3):
            stepped(one, its, inputs)
    assert about["steps"] == 3 and torch.equal(module.weight, other.weight)


def test_an_optimizer_without_state_has_none() -> None:
    module = nn.Linear(1, 1)
    assert state_tensors(module, SGD(module.parameters(), 0.1)) == {}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "one.json").unlink(), "there is no network"),
        (lambda folder: (folder / "one.json").write_text("{"), "truncated or no JSON"),
        (lambda folder: (folder / "one.json").write_text("[]"), "is not the file that"),
        (lambda folder: (folder / "one.safetensors").write_bytes(b"x"), "is not the file that"),
    ],
)
def test_files_that_are_damaged_are_told_by_name(damage: object, said: str, tmp_path: Path) -> None:
    write_module(str(tmp_path / "one"), {"a": torch.ones(2)}, {})
    damage(tmp_path)  # type: ignore[operator]
    with pytest.raises(UserError, match=said) as refused:
        read_module(str(tmp_path / "one"))
    assert "one" in str(refused.value) and "\n" not in str(refused.value)


def test_judging_leaves_batch_statistics_as_they_are(data: Dataset) -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    ).train()
    module(data.train.images[:50])
    before = copy.deepcopy(module.state_dict())
    found = evaluate_module(module, data.test, block=33)
    assert module.training
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    with torch.no_grad():
        logits = module.eval()(data.test.images)
    assert found.loss == pytest.approx(float(nn.functional.cross_entropy(logits, data.test.labels)), rel=1e-5)
    assert found.accuracy == pytest.approx(float((logits.argmax(1) == data.test.labels).float().mean()))


def test_batches_are_those_of_any_network(data: Dataset) -> None:
    recipe = Recipe(20, shift=1, flip=True, rng_seed=3)
    images, labels = image_batch(data.train, recipe, 7)
    columns, same = training_batch(data.train, recipe, 7)
    assert images.shape == (20, 1, 8, 8)
    assert torch.equal(images.flatten(1).t(), columns) and torch.equal(labels, same)


def test_a_reduced_dataset_has_its_first_images(data: Dataset) -> None:
    found = data.reduced(100)
    assert torch.equal(found.train.labels, data.train.labels[:100])
    assert len(found.validation) == 80 and found.test is data.test
    with pytest.raises(UserError, match="images is 241, but must be from 1 to 240"):
        data.reduced(241)
