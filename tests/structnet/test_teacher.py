"""The teacher: its size, its labels, and that none of its units is redundant."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.data_files import same_split

from structnet.data.datasets import load_dataset
from structnet.data.teacher import _is_sound, teacher_network, teacher_splits
from structnet.errors import UserError


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_the_teacher_is_what_it_promises(seed: int) -> None:
    teacher = teacher_network(seed)
    assert teacher.architecture == [32, 12, 4]
    assert teacher.connections == (32 * 12 + 12 * 4) // 4 == 108
    assert teacher.parameters == 108 + 12 + 4
    assert len(teacher.relevant_inputs) == 16
    assert (teacher.W1 != 0).any(axis=1).all() and (teacher.W2 != 0).any(axis=0).all()


def test_teacher_data_is_labelled_by_the_teacher() -> None:
    data = load_dataset("teacher", teacher_seed=3)
    teacher = teacher_network(3)
    assert (len(data.train), len(data.validation), len(data.test)) == (40_000, 5_000, 5_000)
    assert (data.input_shape, data.classes) == ((32,), 4)
    W1, b1, W2, b2 = (torch.from_numpy(array).double() for array in teacher)
    for split in (data.train, data.validation, data.test):
        logits = torch.relu(split.images.double() @ W1.T + b1) @ W2.T + b2
        assert logits.argmax(1).equal(split.labels)
        assert torch.bincount(split.labels).min() >= len(split) / 10
    assert abs(data.train.images.mean()) < 0.01
    assert abs(data.train.images.std() - 1) < 0.01


def test_no_unit_of_the_teacher_is_redundant_and_half_of_the_inputs_do_not_matter() -> None:
    teacher = teacher_network(0)
    inputs = np.random.default_rng(0).standard_normal((4000, 32)).astype(np.float32)
    labels = teacher.label(inputs)
    changed = inputs.copy()
    irrelevant = [i for i in range(32) if i not in teacher.relevant_inputs]
    changed[:, irrelevant] = 9.0
    assert (teacher.label(changed) == labels).all()
    for unit in range(12):
        weights = teacher.W2.copy()
        weights[:, unit] = 0
        assert (teacher._replace(W2=weights).label(inputs) != labels).mean() > 0.01


def test_the_teacher_follows_its_seed() -> None:
    one, two = load_dataset("teacher"), load_dataset("teacher", teacher_seed=0)
    other = load_dataset("teacher", teacher_seed=1)
    assert same_split(one, two)
    assert not one.train.images.equal(other.train.images)
    assert not np.array_equal(teacher_network(0).W1, teacher_network(1).W1)
    with pytest.raises(UserError, match="teacher_seed is -1"):
        teacher_network(-1)


def test_a_draw_with_a_needless_unit_an_unused_input_or_a_rare_class_is_not_sound() -> None:
    teacher = teacher_network(0)
    probe = np.random.default_rng(0).standard_normal((4000, 32)).astype(np.float32)
    assert _is_sound(teacher, probe)
    needless, unused, rare = teacher.W2.copy(), teacher.W1.copy(), teacher.b2.copy()
    needless[:, 5] *= 1e-3
    unused[:, teacher.relevant_inputs[0]] = 0
    rare[2] -= 3
    assert not _is_sound(teacher._replace(W2=needless), probe)
    assert not _is_sound(teacher._replace(W1=unused), probe)
    assert not _is_sound(teacher._replace(b2=rare), probe)


@pytest.mark.parametrize("teacher_seed", [0, 1, 2])
def test_every_connection_of_the_teacher_matters(teacher_seed: int) -> None:
    """It is irreducible: without any one of them more than 0.3 % of the labels change."""
    teacher = teacher_network(teacher_seed)
    inputs, labels = teacher_splits(teacher_seed)["validation"]
    for name in ("W1", "W2"):
        weights = getattr(teacher, name)
        for unit, source in zip(*np.nonzero(weights), strict=True):
            without = weights.copy()
            without[unit, source] = 0
            changed = teacher._replace(**{name: without}).label(inputs) != labels
            assert changed.mean() > 0.003
