"""What a trial of a search does, and what it shares with the others: plain classes that run in any process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from structnet.data.dataset import Dataset
from structnet.data.packing import unpack
from structnet.network.state import TrainState
from structnet.storage.snapshot import save_snapshot


class TrialWork(Protocol):
    """What a trial does, in stretches that can be saved in between."""

    def step(self) -> dict[str, Any]:
        """One stretch of up to about half a minute; numbers and texts for the display, and `done`, a bool.

        What trains networks tells its `name` and as `networks` of how many the training has ended.
        """

    def save(self, folder: Path) -> None:
        """Writes its state as plain files, without pickle."""

    def load(self, folder: Path) -> None:
        """Goes on exactly where `save` was."""


@dataclass(frozen=True)
class Shared:
    """What all trials of a search share.

    packed: the dataset as arrays (structnet.data.packing), about: the rest of it. results: the folder or URL as any
    process finds it. options: those of the command as plain values, with the results as the user named them.
    """

    packed: Mapping[str, np.ndarray]
    about: dict[str, Any]
    results: str
    experiment: str
    options: dict[str, Any]
    device: str = "cpu"

    def dataset(self) -> Dataset:
        """The dataset on the device; on a CPU without a copy."""
        splits: dict[str, Any] = unpack(self.packed, self.device)
        return Dataset(**self.about, **splits)

    def save(self, name: str, state: TrainState, data: Dataset) -> str:
        """Saves a network of the experiment under this name, with what it needs of the dataset; where, for its row."""
        place = f"snapshots/{self.experiment}/{name}"
        save_snapshot(
            f"{self.results}/{place}",
            state,
            preprocessing=data.preprocessing,
            class_names=data.class_names,
        )
        return f"{self.options['results']}/{place}"
