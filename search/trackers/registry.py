"""The trackers by name, and what an adapter to one of them does. A new one is a file here and an entry."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from structnet.errors import UserError

PROJECT = "structnet"  # under which runs are found, in trackers that have projects


class Point(NamedTuple):
    """What a row of a table says: numbers by column, at a step."""

    table: str
    step: int
    values: Mapping[str, float]

    def named(self) -> dict[str, float]:
        """The numbers as trackers name them: TABLE/COLUMN."""
        return {f"{self.table}/{column}": value for column, value in self.values.items()}


class Begun(NamedTuple):
    """A run as its tracker knows it. id: the tracker's own. points: how many it has been given."""

    id: str
    points: int


class Adapter(Protocol):
    """One experiment in one tracker. A run is named EXPERIMENT, EXPERIMENT/TRIAL or EXPERIMENT/TRIAL/NETWORK."""

    def begin(self, run: str, params: Mapping[str, Any], before: Begun | None) -> str:
        """Opens a run, or the one from before again; the tracker's id of it. params: how it was made."""
        ...

    def log(self, run: str, points: Sequence[Point]) -> None:
        """Stores points of a run that is open."""
        ...

    def end(self, run: str, status: str) -> None:
        """Closes a run. status: as in the tables, such as finished or interrupted."""
        ...


@dataclass(frozen=True)
class Tracker:
    """library: what is imported, and the name of the extra that installs it. look: how to see what is there.

    places: environment variables of the library's own, any of which says that it writes elsewhere than in the results.
    """

    library: str
    look: str
    places: tuple[str, ...] = ()

    @property
    def elsewhere(self) -> str | None:
        """The variable that says where it writes, if one is set."""
        return next((name for name in self.places if os.environ.get(name)), None)


TRACKERS: dict[str, Tracker] = {
    "tensorboard": Tracker("tensorboard", "tensorboard --logdir {folder}"),
    "mlflow": Tracker(
        "mlflow", "mlflow ui --backend-store-uri sqlite:///{folder}/mlflow.db", ("MLFLOW_TRACKING_URI",)
    ),
    "wandb": Tracker("wandb", "wandb sync {folder}/wandb/offline-run-*", ("WANDB_DIR",)),
    "trackio": Tracker(
        "trackio",
        "TRACKIO_DIR={folder} trackio show --project " + PROJECT,
        ("TRACKIO_DIR", "TRACKIO_SERVER_URL", "TRACKIO_SPACE_ID"),
    ),
}


def check_trackers(names: Iterable[str], results: str) -> None:
    """Raises UserError for an unknown tracker, one that is not installed, and one that has nowhere to write."""
    for name in names:
        if name not in TRACKERS:
            raise UserError(f"tracker is '{name}', but must be one of {', '.join(TRACKERS)}")
        tracker = TRACKERS[name]
        if find_spec(tracker.library) is None:
            raise UserError(
                f"tracker is '{name}', but {tracker.library} is not installed: pip install 'structnet[{name}]'"
            )
        if not (tracker.elsewhere or is_folder(results)):
            way = f"set {tracker.places[0]}" if tracker.places else "choose another tracker"
            raise UserError(
                f"tracker is '{name}', but writes to a disk, and results is {results!r}: {way}, or choose a folder "
                "with --results"
            )


def adapter_of(name: str, results: str, experiment: str) -> Adapter:
    """The adapter to a tracker, whose library is imported here; its folder in the results is made if it is used."""
    place = folder_of(name, results)
    if not TRACKERS[name].elsewhere:
        place.mkdir(parents=True, exist_ok=True)
    adapter: Adapter = import_module(f"search.trackers.{name}").Adapter(place, experiment)
    return adapter


def folder_of(name: str, results: str) -> Path:
    """Where a tracker writes if nothing says that it writes elsewhere."""
    from structnet.storage.tables import open_folder

    return Path(open_folder(results)[1]) / "trackers" / name


def look_at(name: str, results: str) -> str:
    """A line on where a tracker has what it was told: a command to look at it, if it is in the results."""
    tracker = TRACKERS[name]
    if tracker.elsewhere:
        return f"In {name}: where {tracker.elsewhere} says"
    return f"In {name}: {tracker.look.format(folder=f'{results}/trackers/{name}')}"


def is_folder(results: str) -> bool:
    """Whether results are on a disk of this machine."""
    from structnet.storage.atomic import is_local
    from structnet.storage.tables import open_folder

    return is_local(open_folder(results)[0])
