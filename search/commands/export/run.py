"""What `structnet export` does: a snapshot, the test set of its dataset, and one form of the registry."""

from __future__ import annotations

import json
import keyword
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from search.commands.export.command import ExportOptions
from search.session.console import Console, outcome
from search.session.waiting import following, waiting
from structnet.errors import UserError
from structnet.export.registry import form_named

if TYPE_CHECKING:
    from structnet.data.dataset import Dataset, RawSplits
    from structnet.export.model import Model
    from structnet.storage.snapshot import Snapshot


def run(options: ExportOptions) -> None:
    """Runs the command."""
    form = form_named(options.to, options.int8)
    place = place_of(options.snapshot)
    name = checked_name(options.name) if options.name else identifier(place.experiment or place.id)

    console = Console()
    with waiting(f"reading {options.snapshot}", console):
        from structnet.export.checking import export
        from structnet.storage.snapshot import check_preprocessing, load_snapshot

        snapshot = load_snapshot(options.snapshot)
        model = model_of(snapshot, name, options.snapshot)
        raw, data = test_data(options, place, snapshot)
        check_preprocessing(snapshot, data)

    def say(text: str) -> None:
        console.say(text, markup=False)

    integers = None
    if options.int8:
        from structnet.export.fine_tune import integers_for

        with following("steps of training integers", console) as on_part:
            integers, report = integers_for(model, data, on_part=on_part)
        say(str(report))
    with following("test inputs checked", console) as on_part:
        done = export(
            model,
            form,
            Path(options.output),
            *raw["test"],
            tolerance=options.tolerance,
            integers=integers,
            on_part=on_part,
        )
    say(f"{name}: {model.network.describe()}")
    for file in done.files:
        say(f"{file}: {file.stat().st_size:,} bytes")
    for line in (*done.lines, done.check):
        say(line)
    outcome(
        name=name,
        form=options.to,
        parameters=model.network.parameter_count,
        files=[{"path": str(file), "bytes": file.stat().st_size} for file in done.files],
        check=done.check,
    )


class Place(NamedTuple):
    """Where a snapshot is. results and experiment: "" where it lies in no folder of results. trial: or ""."""

    results: str
    experiment: str
    trial: str
    id: str


def place_of(snapshot: str) -> Place:
    """From its path, RESULTS/snapshots/NAME[/TRIAL]/ID."""
    path = re.sub(r"\.(json|safetensors)$", "", snapshot)
    found = re.fullmatch(r"(?:(.*)/)?snapshots/([^/]+)(?:/([^/]+))?/([^/]+)", path)
    if not found:
        return Place("", "", "", path.rsplit("/", 1)[-1])
    results, experiment, trial, identity = found.groups(default="")
    return Place(results or ("/" if path.startswith("/") else "."), experiment, trial, identity)


def identifier(text: str) -> str:
    """A name of C and Python that is like this text."""
    plain = re.sub(r"\W", "_", text, flags=re.ASCII)
    return plain if is_name(plain) else f"network_{plain}"


def is_name(text: str) -> bool:
    """Whether a text can be the name of something in Python and C."""
    return bool(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", text)) and not keyword.iskeyword(text)


def checked_name(name: str) -> str:
    """The name, unchanged; raises UserError unless it can be one of Python and C."""
    if not is_name(name):
        raise UserError(
            f"name is '{name}', but must be letters, digits and underscores, starting with a letter, and no word of "
            "Python: it names what is in the files, too"
        )
    return name


def model_of(snapshot: Snapshot, name: str, path: str) -> Model:
    """What is exported; raises UserError for a snapshot without the preprocessing or the names that it needs."""
    from structnet.export.model import Model

    network, preprocessing = snapshot.state.network, snapshot.preprocessing
    if "kind" not in preprocessing:
        raise UserError(
            f"snapshot '{path}' has no preprocessing of a dataset, which every form has inside: save it with "
            "preprocessing=dataset.preprocessing"
        )
    names = snapshot.class_names or tuple(preprocessing["class_names"])
    if len(names) != network.architecture[-1]:
        raise UserError(
            f"snapshot '{path}' has {len(names)} class names, but {network.architecture[-1]} outputs: save it with "
            "class_names, one for each output"
        )
    return Model(name, network.float(), preprocessing, names)


def test_data(options: ExportOptions, place: Place, snapshot: Snapshot) -> tuple[RawSplits, Dataset]:
    """Raw values of the dataset and the dataset itself, loaded as what the snapshot was trained on.

    Raises UserError where neither an option nor the experiment says which.
    """
    from structnet.data.dataset import dataset_of
    from structnet.data.datasets import load_raw

    config = config_of(place)
    name = options.dataset or config.get("dataset")
    if name is None:
        raise UserError(
            f"dataset is not given, and '{options.snapshot}' belongs to no experiment that says it: give --dataset, on "
            "whose test set the files are checked"
        )
    preprocessing = snapshot.preprocessing
    raw, found = load_raw(
        name,
        data_dir=options.data_dir or config.get("data_dir"),
        teacher_seed=config.get("teacher_seed", 0),
        standardise=preprocessing.get("scaling") == "standardised",
        label=preprocessing.get("label"),
        size=tuple(preprocessing["shape"][1:]) if preprocessing.get("resampled") else None,
    )
    return raw, dataset_of(name, raw, found)


def config_of(place: Place) -> dict[str, Any]:
    """The options of the experiment of a snapshot; none where its tables are not there."""
    from structnet.storage.tables import read_table

    if not place.experiment:
        return {}
    rows = read_table(place.results, "experiments", place.experiment).to_pylist()
    mine = [row for row in rows if row["trial"] == place.trial] or rows
    config: dict[str, Any] = json.loads(mine[0]["config"]) if mine and mine[0]["config"] else {}
    return config
