"""Which heads a model on disk has left: `structnet_heads.json` beside its weights, plain data only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from structnet.errors import UserError
from structnet.heads.layers import HeadLayer

SIDECAR = "structnet_heads.json"
_FORMAT, _VERSION = "structnet_heads", 1


def write(folder: Path, config: Any, layers: Sequence[HeadLayer]) -> None:
    """Writes which heads of a model are kept and frozen, if that is more than its configuration says of itself."""
    whole = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    if all(one.kept == list(range(whole)) and not one.frozen for one in layers):
        return
    about = {
        "format": _FORMAT,
        "version": _VERSION,
        "model_type": config.model_type,
        "kept": [one.kept for one in layers],
        "frozen": [sorted(one.frozen) for one in layers],
    }
    (folder / SIDECAR).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def read(folder: Path, config: Any) -> dict[str, Any]:
    """What the file in a folder says, "kept" and "frozen" by layer; empty if there is none.

    config: of the model in the folder. Raises UserError for one that is no such file, or of another model.
    """
    path = folder / SIDECAR
    if not path.exists():
        return {}
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is truncated or no JSON: use another copy") from error
    if not isinstance(about, dict) or about.get("format") != _FORMAT or about.get("version") != _VERSION:
        raise UserError(f"{path} is not of format {_FORMAT}, version {_VERSION}: use another copy")
    if about.get("model_type") != config.model_type:
        raise UserError(
            f"{path} is of a {about.get('model_type')}, the model beside it a {config.model_type}"
        )
    layers = config.num_hidden_layers
    if not _are_heads(about, layers):
        raise UserError(
            f"{path} does not say which heads of each of {layers} layers are kept: use another copy"
        )
    return about


def _are_heads(about: Mapping[str, Any], layers: int) -> bool:
    """Whether kept and frozen are numbers by layer, in order, with one kept at least, and none frozen that is not."""
    for name in ("kept", "frozen"):
        found = about.get(name)
        if not isinstance(found, list) or len(found) != layers:
            return False
        for one in found:
            if not isinstance(one, list) or any(type(number) is not int or number < 0 for number in one):
                return False
            if sorted(set(one)) != one:
                return False
    return all(kept and set(frozen) <= set(kept) for kept, frozen in zip(about["kept"], about["frozen"]))
