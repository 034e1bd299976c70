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
    from structnet.data.dataset import Dataset, RawSplits


class _Module(Protocol):
    """What the file of a dataset defines."""

    def load(
        self, name: str, *, data_dir: str | None, standardise: bool | None, teacher_seed: int
    ) -> Dataset: ...


@dataclass(frozen=True)
class DatasetEntry:
    """Where a dataset is made, and what it asks of commands.

    module: whose `load` gives the dataset, and of a table whose `read` gives its raw values. defaults: command ->
    option -> value, where it differs from the command's.
    """

    module: str
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    is_table: bool = False


SAMPLE_TABLE = DatasetEntry("structnet.data.sample_tables", is_table=True)
TORCHVISION = DatasetEntry("structnet.data.torchvision_sets")
DATASETS: dict[str, DatasetEntry] = {
    "digits": DatasetEntry("structnet.data.digits", FOR_DIGITS),
    "mnist": TORCHVISION,
    "fashion_mnist": TORCHVISION,
    "kmnist": TORCHVISION,
    "cifar10": TORCHVISION,
    "cifar100": TORCHVISION,
    "teacher": DatasetEntry("structnet.data.teacher"),
    "breast_cancer": SAMPLE_TABLE,
    "wine": SAMPLE_TABLE,
    "terrain": SAMPLE_TABLE,
}


def defaults_of(dataset: str, command: str) -> dict[str, Any]:
    """The options of a command that a dataset has defaults of its own for; none for a path."""
    entry = DATASETS.get(dataset)
    return dict(entry.defaults.get(command, {})) if entry else {}


def load_dataset(
    name_or_path: str,
    *,
    data_dir: str | None = None,
    standardise: bool | None = None,
    teacher_seed: int = 0,
    label: str | None = None,
    size: tuple[int, int] | None = None,
) -> Dataset:
    """A dataset by name (`DATASETS`), or from files: a Parquet or CSV file, a folder of them, or folders of pictures.

    Pictures are in [0, 1] by their full scale, or with `standardise` get mean 0 and standard deviation 1 per channel
    over the training split. Columns of a table are standardised, skewed ones straightened, missing values filled and
    texts encoded (structnet.data.columns); with `standardise` false, numbers are between the smallest and the largest
    of the training split instead. The `teacher` is standard normal and left as it is.

    Validation is the last 10 % of the training images, at least 300; where that would be more than half of them, a
    quarter. `digits` is split 60/20/20. Files without a test split give up a fifth of each class for it. `digits` and
    files whose splits are made here are shuffled first, always in the same order.

    data_dir: the folder of the torchvision datasets, "data" when None; nothing is downloaded. label: the column of the
    labels of a table, `label` when None. size: (height, width) that pictures of files are brought to.
    Raises UserError when the name is unknown, files are missing or damaged, or their content does not fit.
    """
    if entry := DATASETS.get(name_or_path):
        for option, value in (("label", label), ("size", size)):
            if value is not None:
                raise UserError(f"{option} is given, but {name_or_path} has its own: leave it out")
        loaded = cast("_Module", import_module(entry.module))
        return loaded.load(
            name_or_path, data_dir=data_dir, standardise=standardise, teacher_seed=teacher_seed
        )
    from structnet.data.own_files import from_path

    return from_path(existing(name_or_path), standardise, label, size)


def load_raw(
    name_or_path: str,
    *,
    data_dir: str | None = None,
    standardise: bool | None = None,
    teacher_seed: int = 0,
    label: str | None = None,
    size: tuple[int, int] | None = None,
) -> tuple[RawSplits, dict[str, Any]]:
    """The raw values of every split, and the preprocessing that makes inputs of them; as `load_dataset`."""
    if name_or_path not in DATASETS:
        from structnet.data.own_files import read

        return read(existing(name_or_path), standardise, label, size)[:2]
    if (entry := DATASETS[name_or_path]).is_table:
        found: tuple[RawSplits, dict[str, Any]] = import_module(entry.module).read(name_or_path, standardise)[
            :2
        ]
        return found
    data = load_dataset(
        name_or_path,
        data_dir=data_dir,
        standardise=standardise,
        teacher_seed=teacher_seed,
        label=label,
        size=size,
    )
    from structnet.data.dataset import raw_splits

    return raw_splits(data), data.preprocessing


def existing(path: str) -> Path:
    """The path of files of the user; raises UserError where there is nothing."""
    place = Path(path)
    if not place.exists():
        raise UserError(
            f"dataset is {path!r}, but must be one of {', '.join(DATASETS)} or an existing file or folder (Parquet, "
            "CSV or pictures): check the spelling"
        )
    return place
