"""Handwritten digits that ship inside scikit-learn: 1,797 images of 8 × 8 pixels, 0 to 16 (Alpaydin & Kaynak 1998)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from structnet.errors import UserError

if TYPE_CHECKING:
    from structnet.data.dataset import Dataset

HIDDEN = {"architecture": "input,32,classes"}
# Command -> option -> value, where the command's own default is meant for larger images and more of them.
DEFAULTS: dict[str, dict[str, Any]] = {
    "grow": {**HIDDEN, "density": 0.05},
    "validate": {**HIDDEN, "density": 0.05, "epochs": 10},
    "train": {**HIDDEN, "density": 0.05, "epochs": 40},
    "hunt": {
        "architectures": "input-classes input-16-classes input-32-classes input-64-classes input-32-16-classes",
        "densities": "0.02,0.05,0.1,0.2",
        "rng_seeds": 5,
        "epochs": 20,
    },
    "ladder": {
        "architecture": "input-64-classes",
        "densities": "0.5,0.2,0.1,0.05,0.02,0.01",
        "epochs": 20,
    },
    "rescue": {"architecture": "input-64-classes", "density": 0.02, "epochs": 20},
    "bootstrap": {
        "architectures": "input-classes input-4-classes input-8-classes input-16-classes input-8-8-classes",
        "densities": "0.02,0.05,0.1,0.2,0.5",
        "epochs": 20,
        "larger": "input-32-classes",
        "parameters": 600,
        "larger_epochs": 20,
        "scale_epochs": 10,
    },
    "evolve": {
        "architecture": "input-32-classes",
        "parameters": "150,300,600,1200",
        "learning_rate": 0.01,
    },
    "study": {"max_parameters": 300, "input_dropout": 0.0, "quick_epochs": 4},
    "study economy": {"prices": (0.02, 0.1, 0.3, 1.0, 3.0)},
}


def load(name: str, *, data_dir: str | None, standardise: bool | None, teacher_seed: int) -> Dataset:
    """Split 60/20/20 by position after one fixed shuffle; data_dir and teacher_seed do not matter."""
    import numpy as np

    from structnet.data.dataset import fixed_order, images_dataset

    # 64 pixels and the label. Importing scikit-learn, to have it read its file, takes a second.
    rows = np.loadtxt(_file(), delimiter=",", dtype=np.uint8)
    order = fixed_order(len(rows))
    pixels = rows[:, :-1].reshape(-1, 8, 8)[order, None]
    labels = rows[order, -1].astype(np.int64)
    first, second = len(order) * 60 // 100, len(order) * 80 // 100
    parts = {"train": slice(0, first), "validation": slice(first, second), "test": slice(second, None)}
    raw = {split: (pixels[part], labels[part]) for split, part in parts.items()}
    return images_dataset(name, raw, tuple("0123456789"), 16.0, standardise)


def _file() -> Path:
    """Where scikit-learn has the digits. Raises UserError if it is not installed, or keeps them elsewhere."""
    found = find_spec("sklearn")
    folder = Path(found.origin).parent if found and found.origin else Path()
    file = folder / "datasets" / "data" / "digits.csv.gz"
    if not file.is_file():
        raise UserError(
            f"digits are not in '{file}', where scikit-learn keeps them: install scikit-learn again"
        )
    return file
