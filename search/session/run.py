"""What every command that trains does around its work: data, Ray, how it ends, and what to look at next."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from search.options import CommonOptions
from search.session.console import Console, outcome
from search.session.experiment import Experiment
from search.session.interrupts import CODE, ending_in_order, line_is_said
from search.session.program import program
from search.session.waiting import waiting
from search.trackers.registry import look_at
from search.training_options import BatchOptions
from structnet.errors import LACK_OF_MEMORY, UserError, WorkFailed, one_line
from structnet.storage.atomic import StoreFailed, remove_unfinished
from structnet.storage.tables import SCHEMAS, open_folder

if TYPE_CHECKING:
    from structnet.data.dataset import Dataset
    from structnet.network.architecture import Architecture


def load_data(options: CommonOptions) -> Dataset:
    """The dataset of the options; says what was left out or decided. Raises UserError."""
    from structnet.data.datasets import load_dataset

    console = Console()
    with waiting(f"reading {options.dataset}", console):
        data = load_dataset(options.dataset, **data_options(options))
    for note in data.notes:
        console.say(note, markup=False)
    return data.balanced() if options.balance else data


def data_options(options: CommonOptions) -> dict[str, Any]:
    """What `load_dataset` and `load_raw` are told beside the name."""
    return {
        "data_dir": options.data_dir,
        "standardise": options.standardise,
        "teacher_seed": options.teacher_seed,
        "label": options.label,
        "size": None if options.size is None else size_of(options.size),
    }


def size_of(text: str) -> tuple[int, int]:
    """`28` or `32x48` as (height, width); raises UserError for anything else."""
    found = re.fullmatch(r"(\d{1,4})(?:[x×](\d{1,4}))?", text.strip())
    sides = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if min(sides) < 1:
        raise UserError(f"size is '{text}', but must be pixels such as 28, or height x width such as 32x48")
    return sides


def architecture_of(text: str, data: Dataset) -> Architecture:
    """`784-64-10`, `input-64-classes` or `1@28-8@14-classes`; raises UserError unless it fits the data.

    `input` is the numbers of an image, or where there are feature maps its channels as maps.
    """
    from structnet.network.architecture import sizes_of

    maps = _input_maps(data) if "@" in text else ""
    ends = text.replace("input", maps or str(data.input_units)).replace("classes", str(data.classes))
    begins = ends.replace("-", ",").split(",")[0]
    if "@" in text and not ("@" in begins and maps):
        raise UserError(_does_not_fit(ends, maps, data))
    shape = sizes_of(ends)
    inputs = sizes_of(f"{maps or data.input_units},1")
    if (shape[0], shape.sides[0], shape[-1]) != (inputs[0], inputs.sides[0], data.classes):
        raise UserError(_does_not_fit(ends, maps, data))
    return shape


def check_maps(shape: Architecture, options: BatchOptions) -> None:
    """Raises UserError for options that networks with feature maps cannot be trained with."""
    from structnet.training.recipe import Recipe, check_dropout

    check_dropout(Recipe(dropout=options.dropout), shape)


def _input_maps(data: Dataset) -> str:
    """The images as a group of an architecture, such as 1@28; empty where inputs are no images."""
    from structnet.network.architecture import POINT, Architecture

    if len(data.input_shape) < 2:
        return ""
    channels = data.input_shape[0] if len(data.input_shape) == 3 else 1
    high, wide = data.input_shape[-2:]
    return str(Architecture([channels, 1], [(high, wide), POINT])).split(",")[0]


def _does_not_fit(text: str, maps: str, data: Dataset) -> str:
    """Why an architecture does not fit the data. maps: the group that its images are, if it has feature maps."""
    has = f"{data.input_units} inputs"
    if "@" in text:
        has = f"images of {' × '.join(map(str, data.input_shape))}" if maps else f"{has} that are no images"
    return (
        f"architecture is {text}, but {data.name} has {has} and {data.classes} classes: begin with "
        f"{maps or data.input_units} and end with {data.classes}"
    )


def shape_of(data: Dataset) -> str:
    """One line on what the dataset holds."""
    counts = f"{len(data.train):,} / {len(data.validation):,} / {len(data.test):,}"
    return f"{data.input_units} inputs, {data.classes} classes, {counts} images to train, validate, test"


@contextmanager
def on_ray(options: CommonOptions) -> Iterator[None]:
    """With a Ray that is running and has room: the one at the address, or one of this process; raises UserError."""
    from tournament.workers.cluster import check_device, check_room, dashboard_of_ray, start_ray, stop_ray

    check_device(options.device, options.gpus_per_worker)
    with waiting("Ray starts", Console()):
        started = start_ray(
            options.workers, options.cpus_per_worker, options.address, dashboard=options.dashboard
        )
    try:
        if options.dashboard:
            Console().say(f"Ray's dashboard: {dashboard_of_ray() or 'this Ray has none'}", markup=False)
        if shortage := check_room(options.workers, options.cpus_per_worker, options.gpus_per_worker):
            Console().say(shortage)
        yield
    finally:
        if started:
            stop_ray()


def unfinished(command: str, options: CommonOptions, console: Console, data: Dataset) -> Experiment | None:
    """The experiment of a command on this data; None, which is said, if it is finished already.

    Exits with 1 if it ended in an error.
    """
    experiment = Experiment(command, options, data=data)
    row = experiment.finished("")
    if row is None:
        return experiment
    console.say(f"{experiment.name} is finished already")
    if row["error"]:
        sys.exit(1)
    return None


@contextmanager
def recorded(
    experiment: Experiment, console: Console, *, trial: str = "", rng_seed: int = 0
) -> Iterator[None]:
    """Marks a trial as running, and as interrupted or failed if the work in it ends so.

    Ctrl-C ends the program with code 130, WorkFailed with code 1 and one line.
    """
    experiment.start(trial, rng_seed)
    try:
        with ending_in_order(), experiment.beating(trial):
            yield
    except KeyboardInterrupt:
        with suppress(StoreFailed):
            experiment.end(trial, "interrupted")
        again = f"{program()} {experiment.command} … --name {experiment.name} --resume"
        console.say(f"\ninterrupted; everything so far is written. Go on with: {again}")
        line_is_said()
        sys.exit(CODE)
    except WorkFailed as error:
        # Where nothing can be written, neither can this; a later run tells the silent experiment by its heartbeat.
        with suppress(StoreFailed):
            experiment.end(trial, "failed", error=str(error)[:300])
        hint = "lower --learning-rate" if "Diverged" in str(error) else "go on with --resume"
        if LACK_OF_MEMORY in str(error):
            hint += " where more memory is free, or begin another --name with a smaller --batch-size"
        console.say(f"{error}; everything so far is written: {hint}")
        sys.exit(1)
    except Exception as error:
        experiment.end(trial, "failed", error=one_line(error))
        raise
    finally:
        _remove_unfinished(experiment)
    if not trial and experiment.finished(trial):
        _forget_tune(experiment)


def _remove_unfinished(experiment: Experiment) -> None:
    """Removes what workers that died while they wrote have left beside the tables and snapshots."""
    fs, root = open_folder(experiment.options.results)
    for table in SCHEMAS:
        remove_unfinished(fs, f"{root}/tables/{table}/experiment={experiment.name}")
    remove_unfinished(fs, f"{root}/snapshots/{experiment.name}")


def _forget_tune(experiment: Experiment) -> None:
    """Removes what Tune kept to go on after a crash, often a hundred times the tables: all is in them now.

    Unless it is to be kept, by a command that has the option.
    """
    if getattr(experiment.options, "keep_tune", False):
        return
    fs, root = open_folder(experiment.options.results)
    folder = f"{root}/ray/{experiment.name}"
    if fs.exists(folder):
        fs.rm(folder, recursive=True)


def print_outcome(experiment: Experiment, sql: str, console: Console) -> None:
    """Where the tables are, the report and what trackers have, and a line that queries them."""
    where = experiment.options.results
    console.say(f"Tables: {where}/tables")
    place = "" if where == "results" else f" --results {where}"
    say_report(experiment, console)
    for tracker in experiment.options.tracker:
        console.say(look_at(tracker, where), markup=False)
    console.say(f'Look closer: {program()} query "{sql}"{place}')


def say_report(experiment: Experiment, console: Console) -> None:
    """Writes the report and says where; where that fails, why: what it tells about is in the tables all the same."""
    from search.report.folder import write_folder
    from search.report.reports import write_report

    results = experiment.options.results
    try:
        with waiting("writing the report", console):
            path = write_report(results, experiment.name)
            write_folder(results)
    except Exception as error:  # of whatever library draws: a picture is no reason to end as failed
        again = f"{program()} report {experiment.name}"
        console.warn(f"No report was written ({one_line(error)}); {again} tries again.")
        return
    console.say(f"Report: {path}")
    outcome(report=path)


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread inside, as in every worker of a tournament."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
