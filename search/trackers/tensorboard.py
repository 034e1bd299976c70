"""TensorBoard: a folder of event files for every run, and its parameters for the page HParams.

It keeps float32. What is logged is on disk when `log` returns.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from search.trackers.registry import Begun, Point


class Adapter:
    """See search.trackers.registry."""

    def __init__(self, folder: Path, experiment: str) -> None:
        self.folder = folder
        self.writers: dict[str, EventFileWriter] = {}

    def begin(self, run: str, params: Mapping[str, Any], before: Begun | None) -> str:
        place = self.folder.joinpath(*(_plain(part) for part in run.split("/")))
        self.writers[run] = EventFileWriter(str(place))
        if before is None:
            told = {name: _told(value) for name, value in params.items()}
            self.writers[run].add_event(Event(wall_time=time.time(), summary=hparams_pb(told)))
        return str(place.relative_to(self.folder))

    def log(self, run: str, points: Sequence[Point]) -> None:
        for point in points:
            values = [Summary.Value(tag=name, simple_value=value) for name, value in point.named().items()]
            event = Event(wall_time=time.time(), step=point.step, summary=Summary(value=values))
            self.writers[run].add_event(event)
        self.writers[run].flush()

    def end(self, run: str, status: str) -> None:
        self.writers.pop(run).close()


def _plain(part: str) -> str:
    """A part of the name of a run as the name of a folder, which stays below the others."""
    return re.sub(r"^\.+|[^\w.=-]", "_", part)


def _told(value: Any) -> bool | float | str:
    """HParams has booleans, numbers and texts."""
    return value if isinstance(value, (bool, int, float)) else str(value)
