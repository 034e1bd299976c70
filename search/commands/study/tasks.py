"""What the tasks of a study are made of: arms and rng_seeds, and sizes that suit the dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from search.commands.study.study import Scale, Task

if TYPE_CHECKING:
    from structnet.data.dataset import Dataset

FEW_INPUTS = 200  # such as digits and teacher have


def tasks_of(arms: Mapping[str, Mapping[str, Any]], scale: Scale, **common: Any) -> list[Task]:
    """A task for every arm and rng_seed. arms: name -> the options that set it apart. common: those that all share."""
    return [
        Task(arm, rng_seed, {**common, **options})
        for arm, options in arms.items()
        for rng_seed in scale.rng_seeds
    ]


def has_few_inputs(data: Dataset) -> bool:
    """Whether the networks of a study are made smaller for this dataset, and its batches and sizes with them."""
    return data.input_units < FEW_INPUTS


def batch_size_for(data: Dataset) -> int:
    """Images in a batch of a study that trains without a tournament."""
    return 32 if has_few_inputs(data) else 128
