"""What every study is: tasks that measure, a judgement of what was measured, and a chart of it. All plain data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from search.report.charts import Chart
    from structnet.data.dataset import Dataset

VERDICTS = ("yes", "no", "in part", "open")


class Scale(NamedTuple):
    """How much a study does. quick: a few minutes, to see that it runs; its verdicts are anecdotes."""

    rng_seeds: tuple[int, ...]
    quick: bool = False


@dataclass(frozen=True)
class Task:
    """One piece of work: an arm of the study with one rng_seed. options: JSON values that `measure` reads."""

    arm: str
    rng_seed: int
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The trial under which its rows stand."""
        return f"{self.arm}-{self.rng_seed:04d}".replace(" ", "-").replace(":", "-")


class Measurement(NamedTuple):
    """A number that a task found out. item: which of many of its kind, such as a candidate or an epoch."""

    quantity: str
    value: float
    item: int = 0


class Row(NamedTuple):
    """A row of the table `measurements`, as a judge reads it."""

    arm: str
    rng_seed: int
    quantity: str
    item: int
    value: float


# A header and rows of texts, to print and to copy into a document.
TextTable = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Place:
    """Where a task may write more than its measurements: rows of other tables, under its own trial."""

    results: str
    experiment: str
    trial: str


@dataclass(frozen=True)
class Finding:
    """What came of a study.

    holds: whether the claim does, one of VERDICTS. sentences: what was found, with its numbers.
    """

    holds: str
    sentences: tuple[str, ...]
    table: TextTable = ()

    def __post_init__(self) -> None:
        if self.holds not in VERDICTS:
            raise ValueError(f"holds is '{self.holds}', but must be one of {', '.join(VERDICTS)}")


@dataclass(frozen=True)
class Study:
    """A named, reproducible study.

    question: what the verdict answers. claim: what the source says, or what we expect. dataset: the default
    one. tasks: what is to be measured, given the data and the scale. measure: does one task, on one core,
    and may be called again for the same task. judge: from all rows to the verdict, nothing else. draw: from
    all rows to a chart, as search.report.charts makes them. seen: what the chart shows. reading: how it is read.
    """

    name: str
    question: str
    claim: str
    dataset: str
    tasks: Callable[[Dataset, Scale], list[Task]]
    measure: Callable[[Task, Dataset, Place], list[Measurement]]
    judge: Callable[[Sequence[Row]], Finding]
    draw: Callable[[Sequence[Row]], Chart]
    seen: str
    reading: str


def verdict(*, yes: bool, no: bool = False, in_part: bool = False, otherwise: str = "no") -> str:
    """The first of yes, no and in part whose condition is met, in this order; `otherwise` if none is."""
    met = {"yes": yes, "no": no, "in part": in_part}
    return next((answer for answer, is_met in met.items() if is_met), otherwise)
