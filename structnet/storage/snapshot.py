"""Snapshots: a training state on disk, and back to the bit (the format: structnet.storage.snapshot_files)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from structnet.errors import UserError
from structnet.network.state import TrainState
from structnet.storage.snapshot_files import list_snapshots, read_files, remove_snapshot, write_files

if TYPE_CHECKING:
    from structnet.data.dataset import Dataset

__all__ = [
    "Snapshot",
    "check_preprocessing",
    "list_snapshots",
    "load_snapshot",
    "remove_snapshot",
    "save_snapshot",
]


@dataclass(frozen=True)
class Snapshot:
    """A snapshot that was read: `state` goes on training, `state.network` predicts.

    preprocessing: how raw inputs become the network's, as in `structnet.data.dataset.Dataset`. fingerprint: of
    the preprocessing. class_names: one per output, or empty. metadata: what the writer added.
    """

    state: TrainState
    preprocessing: dict[str, Any]
    fingerprint: str
    class_names: tuple[str, ...]
    metadata: dict[str, Any]


def save_snapshot(
    path: str,
    state: TrainState,
    *,
    preprocessing: dict[str, Any],
    class_names: Sequence[str] = (),
    metadata: dict[str, Any] | None = None,
) -> None:
    """Writes path.safetensors and path.json: arguments and errors are those of `write_files`."""
    write_files(
        path, state.to_arrays(), preprocessing=preprocessing, class_names=class_names, metadata=metadata
    )


def load_snapshot(path: str, device: torch.device | str = "cpu") -> Snapshot:
    """Reads what `save_snapshot` wrote; training goes on from it to the bit. Errors are those of `read_files`."""
    files = read_files(path)
    state = TrainState.from_arrays(files.arrays, device)
    return Snapshot(state, files.preprocessing, files.fingerprint, files.class_names, files.metadata)


def check_preprocessing(snapshot: Snapshot, dataset: Dataset) -> None:
    """Raises UserError unless the dataset is preprocessed exactly as what the snapshot was trained on."""
    if snapshot.fingerprint == dataset.fingerprint:
        return
    differing = sorted(
        name
        for name in {*snapshot.preprocessing, *dataset.preprocessing}
        if snapshot.preprocessing.get(name) != dataset.preprocessing.get(name)
    )
    raise UserError(
        f"dataset '{dataset.name}' has preprocessing {dataset.fingerprint[:12]}, but the snapshot was "
        f"trained with {snapshot.fingerprint[:12]} (different: {', '.join(differing) or 'number types'}): "
        "load the dataset that it was trained on, with the same options"
    )
