"""A torch module on disk: `PATH.safetensors` with its tensors, `PATH.json` with what it is; plain data only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import fsspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from structnet.errors import UserError
from structnet.storage.atomic import write_whole


def write_module(path: str, tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> None:
    """Writes both files; the JSON last, with what the other hashes to, so that a module exists only once it is whole.

    path: a local path or an fsspec URL without ending. about: plain data for JSON. Raises StoreFailed.
    """
    data = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})
    content = {**about, "tensors_sha256": hashlib.sha256(data).hexdigest()}
    files, place = fsspec.url_to_fs(path)
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_whole(files, {f"{place}.safetensors": data, f"{place}.json": text.encode()})


def read_module(path: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors and what they are, of `write_module`; raises UserError for what is missing, cut short or foreign."""
    files, place = fsspec.url_to_fs(path.removesuffix(".json").removesuffix(".safetensors"))
    try:
        about = json.loads(files.cat_file(f"{place}.json"))
        data = files.cat_file(f"{place}.safetensors")
    except FileNotFoundError as error:
        raise UserError(
            f"there is no network {path}, which would be {path}.json and .safetensors: check the path"
        ) from error
    except ValueError as error:
        raise UserError(f"{path}.json is truncated or no JSON: use another one") from error
    if not isinstance(about, dict) or hashlib.sha256(data).hexdigest() != about.get("tensors_sha256"):
        raise UserError(f"{path}.safetensors is not the file that {path}.json describes: use another one")
    try:
        return load(data), about
    except SafetensorError as error:
        raise UserError(f"{path}.safetensors is not in the safetensors format: use another one") from error
