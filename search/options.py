"""Options of commands, said once: in a model, whose fields say what the command line, a YAML file and the help have.

What is given on the line goes before the file (`--config`), that before the defaults of the dataset, and these before
the defaults of the model; the checked model is also what the `experiments` table records.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from search.trackers.registry import TRACKERS, check_trackers
from structnet.data.datasets import DATASETS
from structnet.errors import UserError

EXPERIMENT, JOB, GROWTH, TRAINING, RAY, GRID = "Experiment", "Job", "Growth", "Training", "Ray", "Grid"


def option(
    default: Any,
    text: str,
    panel: str = "",
    *,
    shown: str = "",
    changes_result: bool = True,
    words: tuple[str, ...] = (),
    deniable: bool = False,
    **rules: Any,
) -> Any:
    """A field of a model that is an option of the command line; a field without a text is for Python only.

    text: what the help says, without the default, which it adds. shown: says the default where it follows from the
    data or is long. changes_result: whether a resume has to keep it. words: that may stand for a number, so that the
    line takes any text, and the model checks it. deniable: of yes or no, where data or a preset may say yes. rules:
    Pydantic's, such as ge=1.
    """
    extra: dict[str, Any] = {"panel": panel, "shown": shown, "changes_result": changes_result}
    extra |= {"words": list(words)} if words else {}
    extra |= {"deniable": True} if deniable or default is True else {}
    return Field(default, description=text, json_schema_extra=extra, **rules)


def one_of(names: Iterable[str]) -> str:
    """Names of a registry, as a help text lists them."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def argument(default: Any, text: str, *, metavar: str | None = None) -> Any:
    """A field that is an argument of the command line; `...` as its default where it has to be there."""
    return Field(default, description=text, json_schema_extra={"argument": True, "metavar": metavar})


class Options(BaseModel):
    """What a command is told."""

    # What checks values is made when there are some, and not for a help.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


def data_dir() -> Any:
    """Where the files of datasets are."""
    return option(None, "Where datasets lie.", EXPERIMENT, shown="data", changes_result=False)


def results_folder() -> Any:
    """Where tables, snapshots and reports are."""
    return option("results", "A folder or an fsspec URL such as s3://…", EXPERIMENT, changes_result=False)


class CommonOptions(Options):
    """The options of DESIGN's «mean the same everywhere»."""

    standardise: bool | None = option(
        None, "Zero mean, unit spread.", EXPERIMENT, shown="for tables", deniable=True
    )
    dataset: str = option(
        "digits", f"{', '.join(DATASETS)}, or a path to Parquet, CSV or folders of pictures.", EXPERIMENT
    )
    label: str | None = option(None, "Column of a table's labels.", EXPERIMENT, shown="label")
    size: str | None = option(
        None,
        "Pixels that pictures are resampled to, such as 28 or 32x48 (height x width).",
        EXPERIMENT,
        shown="as they are",
    )
    balance: bool = option(False, "Rows of rare classes come as often as those of the commonest.", EXPERIMENT)
    data_dir: str | None = data_dir()
    teacher_seed: int = option(0, "Which teacher labels the dataset teacher.", EXPERIMENT)
    results: str = results_folder()
    name: str = option(
        "",
        "Name of the experiment.",
        EXPERIMENT,
        shown="from command, dataset and time",
        changes_result=False,
    )
    resume: bool = option(False, "Go on with the experiment of this name.", EXPERIMENT, changes_result=False)
    tracker: tuple[str, ...] = option(
        (),
        f"Show it there too: {one_of(TRACKERS)}. May be given several times.",
        EXPERIMENT,
        changes_result=False,
    )
    rng_seed: int = option(0, "Starts every random stream.", EXPERIMENT)
    workers: int = option(2, "Ray workers.", RAY, changes_result=False)
    cpus_per_worker: float = option(1.0, "CPUs of each worker.", RAY, changes_result=False)
    gpus_per_worker: float = option(0.0, "GPUs of each worker; fractions allowed.", RAY, changes_result=False)
    address: str | None = option(
        None,
        "A Ray cluster, HOST:PORT.",
        RAY,
        shown="RAY_ADDRESS, or a local Ray",
        changes_result=False,
    )
    device: str = option("cpu", "cpu or cuda.", RAY)
    dashboard: bool = option(
        False, "A local Ray has its dashboard, on this machine alone.", RAY, changes_result=False
    )


def keep_tune() -> Any:
    """Whether the folder stays in which Ray Tune keeps what it needs to go on."""
    return option(False, "Keep Ray Tune's own folder, RESULTS/ray/NAME.", RAY, changes_result=False)


AUTO = "auto"


def batch_size(
    text: str = "Images per step", shown: str = "a 32nd of the training images, at most 128"
) -> Any:
    """Images per step, which may be `auto`: see search.session.batch_size."""
    return option(
        None, f"{text}; auto: as many as the memory has room for.", TRAINING, shown=shown, words=(AUTO,)
    )


class BatchSizeOptions(CommonOptions):
    """A batch size that may be `auto`. Once it is fitted to the memory, both the word and the number are there.

    batch_size_asked: the word. smaller_batches: where memory ran out, what the batches were halved to from there on,
    such as {"epoch 3": 256}.
    """

    batch_size: int | None = batch_size()
    batch_size_asked: Literal["auto"] | None = None
    smaller_batches: dict[str, int] = option({}, "", changes_result=False)

    @model_validator(mode="before")
    @classmethod
    def _split_auto(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("batch_size") == AUTO:
            return {**given, "batch_size": None, "batch_size_asked": AUTO}
        return given

    @field_validator("batch_size", mode="wrap")
    @classmethod
    def _number_or_auto(cls, given: Any, number: ValidatorFunctionWrapHandler) -> int | None:
        try:
            found: int | None = number(given)
        except ValidationError as error:
            raise PydanticCustomError("batch_size", "must be a number of images, or auto") from error
        return found


def allocation(panel: str) -> Any:
    """How links share the connections of a network."""
    return option("proportional", "proportional, uniform or dense_output.", panel)


def activation(panel: str) -> Any:
    """Of hidden units."""
    return option("relu", "relu, tanh, sigmoid, or srelu, whose units learn a shape of their own.", panel)


def rng_seeds(default: int, **rules: Any) -> Any:
    """How many rng_seeds are tried."""
    return option(default, "So many, from --rng-seed on.", GRID, **rules)


Model = TypeVar("Model", bound=Options)


def checked(model: type[Model], values: Mapping[str, Any], file: Path | None = None) -> Model:
    """The model of these values; raises UserError that names the one that is wrong. file: where they may come from."""
    try:
        options = model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise UserError(f"unknown option '{name}' in {file}: see --help for the names") from error
        raise UserError(f"{name} is {first['input']!r}: {first['msg'].lower()}") from error
    if isinstance(options, CommonOptions):
        _check_common(options)
    return options


def _check_common(options: CommonOptions) -> None:
    if options.workers < 1:
        raise UserError(f"workers is {options.workers}, but must be at least 1")
    if options.cpus_per_worker <= 0 or options.gpus_per_worker < 0:
        raise UserError("cpus_per_worker must be above 0 and gpus_per_worker not negative")
    if not 0 <= options.rng_seed < 2**32:
        raise UserError(f"rng_seed is {options.rng_seed}, but must be in [0, 2³²)")
    check_trackers(options.tracker, options.results)


def changeable(model: type[Options]) -> frozenset[str]:
    """The options that change no result, so that a resume may change them."""
    return frozenset(
        name
        for name, field in model.model_fields.items()
        if isinstance(field.json_schema_extra, dict)
        and not field.json_schema_extra.get("changes_result", True)
    )


def read_config(path: Path) -> dict[str, Any]:
    """The options in a YAML file; dashes and underscores in names mean the same."""
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise UserError(f"config '{path}' cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        where = str(error).replace("\n", " ")
        raise UserError(f"config '{path}' is no YAML: {where}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"config '{path}' must hold `option: value` lines")
    return {str(name).replace("-", "_"): value for name, value in content.items()}


# Lists in texts


def numbers(name: str, text: str) -> list[float]:
    """`0.01,0.02` or `0.01 0.02` as numbers; raises UserError for anything else."""
    try:
        return [float(part) for part in text.replace(",", " ").split()]
    except ValueError as error:
        raise UserError(f"{name} is '{text}', but must be numbers such as 0.01,0.02") from error
