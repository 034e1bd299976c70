"""Options that mean the same in every command, and what a command makes of them.

The command line, a YAML file (`--config`) and the defaults of a dataset are merged in that order of
precedence into one checked model, which is also what the `experiments` table records.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ConfigDict, ValidationError
from rich.console import Console

from structnet.errors import UserError

COMMON, GROWTH, TRAINING, RAY, GRID = "Experiment", "Growth", "Training", "Ray", "Grid"


def growth(text: str) -> Any:
    """An option of the help panel on growth."""
    return typer.Option(help=text, rich_help_panel=GROWTH)


def training(text: str) -> Any:
    """An option of the help panel on training."""
    return typer.Option(help=text, rich_help_panel=TRAINING)


def of_grid(text: str) -> Any:
    """An option of the help panel on what is searched."""
    return typer.Option(help=text, rich_help_panel=GRID)


Dataset = Annotated[
    str | None,
    typer.Option(
        help="digits, mnist, fashion_mnist, kmnist, cifar10, cifar100, teacher, or a path to Parquet or CSV. "
        "Default: digits.",
        rich_help_panel=COMMON,
    ),
]
DataDir = Annotated[
    str | None, typer.Option(help="Where datasets lie. Default: data.", rich_help_panel=COMMON)
]
Results = Annotated[
    str | None,
    typer.Option(help="A folder or an fsspec URL such as s3://… Default: results.", rich_help_panel=COMMON),
]
Name = Annotated[
    str | None,
    typer.Option(
        help="Name of the experiment. Default: from command, dataset and time.", rich_help_panel=COMMON
    ),
]
Resume = Annotated[
    bool | None,
    typer.Option("--resume", help="Go on with the experiment of this name.", rich_help_panel=COMMON),
]
Config = Annotated[
    Path | None, typer.Option(help="A YAML file with these options by name.", rich_help_panel=COMMON)
]
RngSeed = Annotated[
    int | None, typer.Option(help="Starts every random stream. Default: 0.", rich_help_panel=COMMON)
]
TeacherSeed = Annotated[
    int | None,
    typer.Option(help="Which teacher labels the dataset teacher. Default: 0.", rich_help_panel=COMMON),
]
Standardise = Annotated[
    bool | None, typer.Option("--standardise", help="Zero mean, unit spread.", rich_help_panel=COMMON)
]
Workers = Annotated[int | None, typer.Option(help="Ray workers. Default: 2.", rich_help_panel=RAY)]
CpusPerWorker = Annotated[
    float | None, typer.Option(help="CPUs of each worker. Default: 1.", rich_help_panel=RAY)
]
GpusPerWorker = Annotated[
    float | None,
    typer.Option(help="GPUs of each worker; fractions allowed. Default: 0.", rich_help_panel=RAY),
]
Address = Annotated[
    str | None,
    typer.Option(help="A Ray cluster, HOST:PORT. Default: RAY_ADDRESS, or a local Ray.", rich_help_panel=RAY),
]
Device = Annotated[str | None, typer.Option(help="cpu or cuda. Default: cpu.", rich_help_panel=RAY)]


class CommonOptions(BaseModel):
    """The options of DESIGN's «mean the same everywhere»."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str = "digits"
    data_dir: str | None = None
    results: str = "results"
    name: str = ""
    resume: bool = False
    rng_seed: int = 0
    workers: int = 2
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0
    address: str | None = None
    device: str = "cpu"
    standardise: bool = False
    teacher_seed: int = 0


# Options that do not change what is computed, so a resume may change them.
WHERE_NOT_WHAT = frozenset(
    {
        "data_dir",
        "results",
        "name",
        "resume",
        "workers",
        "cpus_per_worker",
        "gpus_per_worker",
        "address",
        "minutes",
        "limit",
    }
)

Options = TypeVar("Options", bound=CommonOptions)


def merged(model: type[Options], given: dict[str, Any], defaults: dict[str, Any]) -> Options:
    """The options of a command: given on the line, else in the `config` file, else in defaults, else the model's.

    given: option -> value, None where not given. Raises UserError for an unknown name or a value of the wrong
    type, naming it.
    """
    line = {name: value for name, value in given.items() if value is not None and name != "config"}
    written = read_config(given["config"]) if given.get("config") else {}
    try:
        options = model(**{**defaults, **written, **line})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise UserError(
                f"unknown option '{name}' in {given['config']}: see --help for the names"
            ) from error
        raise UserError(f"{name} is {first['input']!r}: {first['msg'].lower()}") from error
    if options.workers < 1:
        raise UserError(f"workers is {options.workers}, but must be at least 1")
    if options.cpus_per_worker <= 0 or options.gpus_per_worker < 0:
        raise UserError("cpus_per_worker must be above 0 and gpus_per_worker not negative")
    if not 0 <= options.rng_seed < 2**32:
        raise UserError(f"rng_seed is {options.rng_seed}, but must be in [0, 2³²)")
    return options


def defaults_for(
    given: dict[str, Any], on_digits: dict[str, Any], otherwise: dict[str, Any]
) -> dict[str, Any]:
    """The defaults of the dataset that the line, else the `config` file, names; without one it is digits."""
    written = read_config(given["config"]) if given.get("config") else {}
    dataset = given.get("dataset") or written.get("dataset") or "digits"
    return on_digits if dataset == "digits" else otherwise


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


def wide(console: Console) -> Console:
    """As wide as the terminal; elsewhere wide enough for a table of results."""
    return console if console.is_terminal else Console(width=140, highlight=False)


def sizes(text: str) -> list[int]:
    """`784,100,10` as numbers; raises UserError for anything else."""
    try:
        return [int(part) for part in text.replace("-", ",").split(",")]
    except ValueError as error:
        raise UserError(f"architecture is '{text}', but must be sizes such as 784,100,10") from error


def numbers(name: str, text: str) -> list[float]:
    """`0.01,0.02` or `0.01 0.02` as numbers; raises UserError for anything else."""
    try:
        return [float(part) for part in text.replace(",", " ").split()]
    except ValueError as error:
        raise UserError(f"{name} is '{text}', but must be numbers such as 0.01,0.02") from error
