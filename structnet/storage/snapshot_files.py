"""The two files of a snapshot: plain data only, checked before use, and nothing in them is ever executed.

`ID.safetensors` has the arrays (values, Adam's moments, ages, connections), `ID.json` everything else: steps,
the preprocessing of the inputs, the SHA-256 of the first file. The JSON is written last, so a snapshot exists
only once it is whole. Connections are told as structnet.network.structure_arrays has them; where feature maps are
normalised, `statistics` has what they were on average.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import numpy as np
from fsspec.implementations.local import LocalFileSystem
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from structnet.data.preprocessing import fingerprint
from structnet.errors import UserError
from structnet.network.activations import ACTIVATIONS
from structnet.network.architecture import architecture_of, unit_parameters
from structnet.network.structure_arrays import (
    OF_MAPS,
    architecture_in,
    check_statistics,
    structure_arrays,
    topology_in,
)
from structnet.network.topology import Topology
from structnet.storage.atomic import write_whole

FORMAT = "structnet snapshot"
FORMAT_VERSION = 1

# Name -> kind of its numbers (numpy's letters: f floating, i signed) and its dimensions.
_TENSORS = {
    "values": ("f", 1),
    "first": ("f", 1),
    "second": ("f", 1),
    "born": ("i", 1),
    "source": ("i", 1),
    "target": ("i", 1),
    "architecture": ("i", 1),
}
_TENSORS_OF_MAPS = dict.fromkeys(OF_MAPS, ("i", 1)) | {"sides": ("i", 2)}
_STATISTICS = {"statistics": ("f", 2)}
FIELDS: dict[str, type] = {
    "activation": str,
    "step": int,
    "optimizer": dict,
    "preprocessing": dict,
    "preprocessing_fingerprint": str,
    "class_names": list,
    "tensors_sha256": str,
    "metadata": dict,
}
_OPTIMIZER_OPTIONS = ("beta1", "beta2", "epsilon")
_OPTIMIZER_FIELDS: dict[str, type] = {"step": int} | dict.fromkeys(_OPTIMIZER_OPTIONS, float)


@dataclass(frozen=True)
class SnapshotFiles:
    """What the two files hold.

    arrays: as `TrainState.to_arrays` gives them. preprocessing: how raw inputs become the network's.
    fingerprint: of the preprocessing. class_names: one per output, or empty. metadata: what the writer added.
    """

    arrays: dict[str, Any]
    preprocessing: dict[str, Any]
    fingerprint: str
    class_names: tuple[str, ...]
    metadata: dict[str, Any]


def write_files(
    path: str,
    arrays: Mapping[str, Any],
    *,
    preprocessing: dict[str, Any],
    class_names: Sequence[str] = (),
    metadata: dict[str, Any] | None = None,
) -> None:
    """Writes path.safetensors and path.json; folders are made, an older snapshot of this path is replaced.

    path: a local path or an fsspec URL, with or without one of the two endings. Each file appears whole or
    not at all. arrays: as `TrainState.to_arrays` gives them. preprocessing and metadata: plain data for JSON,
    without NaN, infinities and numpy numbers. Raises UserError if the class names do not fit the outputs,
    ValueError or TypeError for what JSON cannot hold, StoreFailed if it cannot be stored; nothing is written
    then.
    """
    classes = arrays["architecture"][-1]
    if class_names and len(class_names) != classes:
        raise UserError(
            f"class_names has {len(class_names)} names, but the network has {classes} outputs: "
            "give one name for each"
        )
    tensors = save_tensors(_tensors(arrays))
    options = zip(_OPTIMIZER_OPTIONS, arrays["optimizer_options"])
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "structnet_version": _own_version(),
        "activation": arrays["activation"],
        "step": arrays["step"],
        "optimizer": {"step": arrays["optimizer_step"]} | {name: float(value) for name, value in options},
        "preprocessing": preprocessing,
        "preprocessing_fingerprint": fingerprint(preprocessing),
        "class_names": list(class_names),
        "tensors_sha256": hashlib.sha256(tensors).hexdigest(),
        "metadata": metadata or {},
    }
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    files, place = _located(_stem(path))
    write_whole(files, {f"{place}.safetensors": tensors, f"{place}.json": text.encode()})


def read_files(path: str) -> SnapshotFiles:
    """Reads what `write_files` wrote.

    path: as for `write_files`. Raises UserError, naming the file, if one is missing, truncated or foreign,
    or if the parts do not belong together.
    """
    stem = _stem(path)
    file, tensor_file = f"{stem}.json", f"{stem}.safetensors"
    content = _read_content(file)
    tensors = _read(tensor_file)
    if hashlib.sha256(tensors).hexdigest() != content["tensors_sha256"]:
        raise UserError(
            f"{tensor_file} is not the file that {file} describes, but truncated, changed or of another one: "
            "restore it or use another snapshot"
        )
    try:
        stored = load_tensors(tensors)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise _damaged(tensor_file, "it is not in the safetensors format") from error
    topology = _topology(stored, len(ACTIVATIONS[content["activation"]].shape), tensor_file)
    names = tuple(content["class_names"])
    if names and len(names) != topology.architecture[-1]:
        raise _damaged(file, f"it names {len(names)} classes for {topology.architecture[-1]} outputs")
    optimizer = content["optimizer"]
    arrays: dict[str, Any] = {name: array for name, array in stored.items() if name not in OF_MAPS}
    arrays |= {
        "architecture": topology.architecture,
        "source": topology.source,
        "target": topology.target,
        "activation": content["activation"],
        "step": content["step"],
        "optimizer_step": optimizer["step"],
        "optimizer_options": tuple(optimizer[name] for name in _OPTIMIZER_OPTIONS),
    }
    return SnapshotFiles(
        arrays, content["preprocessing"], content["preprocessing_fingerprint"], names, content["metadata"]
    )


def list_snapshots(folder: str) -> list[str]:
    """The ids of the snapshots in a folder, sorted; none if there is no folder."""
    files, place = _located(folder)
    if not files.isdir(place):
        return []
    names = [PurePosixPath(file).name for file in files.ls(place, detail=False)]
    # The JSON is written last, so only with it a snapshot is there.
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))


def remove_snapshot(path: str) -> None:
    """Removes both files of a snapshot, the JSON first, so that half a snapshot is never taken for one."""
    for ending in (".json", ".safetensors"):
        files, place = _located(_stem(path) + ending)
        if files.exists(place):
            files.rm_file(place)


# What is stored


def _tensors(arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    topology = Topology(architecture_of(arrays["architecture"]), arrays["source"], arrays["target"])
    stored = {**arrays, **structure_arrays(topology)}
    return {name: np.ascontiguousarray(stored[name]) for name in _expected(stored)}


def _expected(arrays: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    """What there must be of a network such as these arrays have."""
    if "sides" not in arrays:
        return _TENSORS
    return _TENSORS | _TENSORS_OF_MAPS | (_STATISTICS if "statistics" in arrays else {})


def _own_version() -> str:
    try:
        return version("structnet")
    except PackageNotFoundError:  # a source tree that was never installed
        return "unknown"


def _read_content(file: str) -> dict[str, Any]:
    """The JSON, with every field present and of its type."""
    text = _read(file)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(file, "it is truncated or not JSON") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(
            f"{file} is not a snapshot of structnet: name the ID of a file ID.json beside ID.safetensors"
        )
    if content.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{file} has format version {content.get('format_version')}, but this structnet reads "
            f"{FORMAT_VERSION}: use structnet {content.get('structnet_version')}"
        )
    _check_fields(content, FIELDS, file)
    _check_fields(content["optimizer"], _OPTIMIZER_FIELDS, file)
    if content["activation"] not in ACTIVATIONS:
        raise _damaged(file, f"activation '{content['activation']}' is not known")
    if content["step"] < 0 or content["optimizer"]["step"] < 0:
        raise _damaged(file, "a number of steps is negative")
    if not all(isinstance(name, str) for name in content["class_names"]):
        raise _damaged(file, "a class name is not text")
    try:
        expected = fingerprint(content["preprocessing"])
    except ValueError as error:
        raise _damaged(file, "its preprocessing has a number that is not finite") from error
    if expected != content["preprocessing_fingerprint"]:
        raise _damaged(file, "its preprocessing does not have the fingerprint beside it")
    return content


def _check_fields(content: Mapping[str, Any], fields: Mapping[str, Any], file: str) -> None:
    for name, kind in fields.items():
        if not isinstance(content.get(name), kind) or isinstance(content[name], bool):
            raise _damaged(file, f"'{name}' is missing or of the wrong type")


def _topology(arrays: Mapping[str, np.ndarray], shape_numbers: int, file: str) -> Topology:
    """The topology in these arrays, once all arrays are known to fit each other; shape_numbers: of the activation."""
    expected = _expected(arrays)
    if set(arrays) != set(expected):
        raise _damaged(file, f"its arrays are {', '.join(sorted(arrays))}, not {', '.join(sorted(expected))}")
    for name, kind in expected.items():
        if (arrays[name].dtype.kind, arrays[name].ndim) != kind:
            raise _damaged(file, f"'{name}' has shape {arrays[name].shape} and type {arrays[name].dtype}")
    try:
        architecture = architecture_in(arrays)
        _check_lengths(arrays, len(arrays["source"]) + unit_parameters(architecture, shape_numbers))
        topology = topology_in(arrays, architecture, shape_numbers)
        if "statistics" in arrays:
            check_statistics(arrays["statistics"], topology)
    except ValueError as error:
        raise _damaged(file, str(error)) from error
    return topology


def _check_lengths(arrays: Mapping[str, np.ndarray], parameters: int) -> None:
    """Raises ValueError where an array of parameters has not so many, or not the number type of the others."""
    lengths = {len(arrays[name]) for name in ("values", "first", "second", "born")}
    if lengths != {parameters} or len(arrays["target"]) != len(arrays["source"]):
        raise ValueError(f"its arrays do not have one entry for each of {parameters} parameters")
    together = [name for name in ("values", "first", "second", "statistics") if name in arrays]
    if len({arrays[name].dtype for name in together}) != 1:
        raise ValueError(f"{', '.join(together[:-1])} and {together[-1]} have different types")


def _damaged(file: str, reason: str) -> UserError:
    return UserError(f"{file} is damaged: {reason}; use another snapshot")


# Files


def _stem(path: str) -> str:
    path = os.fspath(path)
    ending = next((ending for ending in (".safetensors", ".json") if path.endswith(ending)), "")
    return path.removesuffix(ending)


def _read(file: str) -> bytes:
    files, place = _located(file)
    try:
        return bytes(files.cat_file(place))
    except FileNotFoundError as error:
        raise UserError(
            f"there is no file {file}, but a snapshot is ID.safetensors and ID.json: check the path"
        ) from error
    except Exception as error:  # what the library of an object store raises is its own affair
        raise UserError(
            f"{file} cannot be read ({_reason(error)}): check the path and who may read it"
        ) from error


def _located(file: str) -> tuple[Any, str]:
    """The file system of a path or URL, and the path in it."""
    if "://" not in file:
        return LocalFileSystem(), str(Path(file).absolute())
    try:
        files, place = fsspec.url_to_fs(file)
    except (ImportError, ValueError) as error:
        raise UserError(
            f"{file} cannot be reached ({_reason(error)}): check the part before '://'"
        ) from error
    return files, str(place)


def _reason(error: Exception) -> str:
    """The first line of an error's message, or its type if it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
