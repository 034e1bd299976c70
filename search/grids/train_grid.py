"""A grid of networks, trained in blocks on Ray Tune: what hunt, ladder, sweep and bootstrap have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import Field
from rich.console import Console

from search.experiment import Experiment
from search.grids.blocks import Member, blocks_of, check_memory
from search.grids.cohort_work import CohortWork
from search.grids.progress import GridProgress
from search.grids.trials import train_trials, trial_rows
from search.options import CommonOptions
from search.running import check_shift
from search.tuning import Shared
from structnet.data import Dataset
from structnet.errors import UserError, WorkFailed
from structnet.topology import ALLOCATIONS
from structnet.training import Recipe
from tournament.settings import fitted_lengths


class GridOptions(CommonOptions):
    """How the networks of a grid are trained."""

    epochs: int = Field(default=5, ge=1)
    batch_size: int | None = None
    learning_rate: float = Field(default=2e-3, gt=0)
    l1: float = 0.0
    input_dropout: float = 0.0
    shift: int = 0
    allocation: str = "proportional"
    cull: bool = False
    keep_best: bool = False
    limit: int = Field(default=10_000, ge=1)


Options = TypeVar("Options", bound=GridOptions)


def fitted(options: Options, data: Dataset, *, allocations: Sequence[str] = ()) -> Options:
    """The options with a batch size that fits the data, where none is given; raises UserError for bad ones."""
    batch_size, _, _ = fitted_lengths(len(data.train), options.epochs, options.batch_size)
    Recipe(batch_size, options.l1, options.input_dropout, options.shift)
    if not set(allocations or [options.allocation]) <= set(ALLOCATIONS):
        raise UserError(f"allocation is '{options.allocation}', but must be one of {', '.join(ALLOCATIONS)}")
    check_shift(options.shift, data)
    return options.model_copy(update={"batch_size": batch_size})


def train_grid(
    members: Sequence[Member],
    data: Dataset,
    options: GridOptions,
    experiment: Experiment,
    console: Console,
) -> list[dict[str, Any]]:
    """Trains all networks, on a Ray that is running, and returns their rows. Raises WorkFailed for a lost block."""
    blocks = blocks_of(members)
    if not options.address:
        check_memory(blocks, options.workers)
    configs = [block.to_config() for block in blocks]
    before = []
    if options.resume:
        before = trial_rows(options.results, experiment.name, {block.name for block in blocks})
    with GridProgress(console, blocks, experiment, before) as progress:
        shared = Shared.of(data, options, experiment)
        rows = train_trials(CohortWork, configs, shared, options, experiment, progress.report)
    if len(rows) != len(members):
        raise WorkFailed(f"{len(rows)} rows for {len(members)} networks in experiment {experiment.name}")
    return rows
