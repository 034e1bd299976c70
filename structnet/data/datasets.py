"""The datasets by name, and how any of them is loaded. A new one is a file of this folder and an entry here.

An entry is known without torch; what loads it is imported when it is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from structnet.data.digits import DEFAULTS as FOR_DIGITS
from structnet.errors import UserError

if TYPE_CHECKING:
    from structnet.data.dataset import Dataset


class _Module(Protocol):
    """What the file of a dataset defines."""

    def load(self, name: str, *, data_dir: str | None, standardise: bool, teacher_seed: int) -> Dataset: ...


@dataclass(frozen=True)
class DatasetEntry:
    """Where a dataset is made, and what it asks of commands.

    module: whose `load` gives the dataset. defaults: command -> option -> value, where it differs from the command's.
    """

    module: str
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


TORCHVISION = DatasetEntry("structnet.data.torchvision_sets")
DATASETS: dict[str, DatasetEntry] = {
    "digits": DatasetEntry("structnet.data.digits", FOR_DIGITS),
    "mnist": TORCHVISION,
    "fashion_mnist": TORCHVISION,
    "kmnist": TORCHVISION,
    "cifar10": TORCHVISION,
    "cifar100": TORCHVISION,
    "teacher": DatasetEntry("structnet.data.teacher"),
}


def defaults_of(dataset: str, command: str) -> dict[str, Any]:
    """The options of a command that a dataset has defaults of its own for; none for a path."""
    entry = DATASETS.get(dataset)
    return dict(entry.defaults.get(command, {})) if entry else {}


def load_dataset(
    name_or_path: str, *, data_dir: str | None = None, standardise: bool = False, teacher_seed: int = 0
) -> Dataset:
    """A dataset by name (`DATASETS`), or from a Parquet or CSV file, or a folder with one for each split.

    Inputs are in [0, 1]: images by their full scale, numeric columns by the smallest and largest value of the
    training split (validation and test may reach beyond). With `standardise` they get mean 0 and standard
    deviation 1 over the training split instead, per channel or per column. The `teacher` is standard normal
    and left as it is.

    Validation is the last 10 % of the training images, at least 300; where that would be more than half of
    them, a quarter. `digits` is split 60/20/20. A path without a test file gives up its last 20 % for it.
    `digits` and a path whose splits are made here are shuffled first, always in the same order.

    data_dir: the folder of the torchvision datasets, "data" when None; nothing is downloaded.
    Raises UserError when the name is unknown, files are missing or damaged, or their content does not fit.
    """
    if entry := DATASETS.get(name_or_path):
        loaded = cast("_Module", import_module(entry.module))
        return loaded.load(
            name_or_path, data_dir=data_dir, standardise=standardise, teacher_seed=teacher_seed
        )
    path = Path(name_or_path)
    if not path.exists():
        raise UserError(
            f"dataset is {name_or_path!r}, but must be one of {', '.join(DATASETS)} or an existing Parquet "
            "or CSV file or folder: check the spelling"
        )
    from structnet.data.own_files import from_path

    return from_path(path, standardise)
