"""The files of one network of `heads`, in folders by phase, as users of the source know them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from tempfile import TemporaryDirectory
from typing import Any

import fsspec
import numpy as np

from structnet.heads.building import write_state
from structnet.heads.stabilisation import smoothed
from structnet.heads.training import HeadState
from structnet.storage.atomic import write_whole

SEGMENTS = 5


def write_layout(
    folder: str,
    state: HeadState,
    row: Mapping[str, Any],
    warm: Mapping[str, Any],
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    losses: Sequence[float],
    samples: Mapping[str, str],
    options: Mapping[str, Any],
) -> None:
    """Writes warmup/, pruning/, fine_tuning/, inference/, metrics/, model/ and parameters.json.

    row: of the network in `networks`. warm: what is known of the warm-up. rows: those of `epochs` and `decisions`.
    losses: of the steps behind the warm-up, nats. samples: by phase. Raises StoreFailed.
    """
    removed = [
        pick(one, "step", "layer", "index", "method", "value") for one in rows["decisions"] if one["removed"]
    ]
    regrown = [pick(one, "step", "layer", "index") for one in rows["decisions"] if one["regrown"]]
    curve = [pick(one, "epoch", "parameters", "train_loss", "loss", "accuracy") for one in rows["epochs"]]
    left = [layer.kept for layer in state.model.layers]
    metrics = {
        "warmup": {
            "steps": len(warm["losses"]),
            "stabilised_by": warm["reason"],
            "first_loss": warm["first_loss"],
            "loss": warm["loss"],
            "accuracy": warm["accuracy"],
        },
        "scores": warm["scores"],
        "network": dict(row),
    }
    files = {
        "parameters.json": plain(options),
        "warmup/warmup_loss_data.txt": numbers_of(warm["losses"]),
        "warmup/segment_analysis.txt": segments_of(warm["losses"], warm["reason"]),
        "pruning/pruned_heads.json": plain({"removed": removed, "regrown": regrown, "kept": left}),
        "fine_tuning/losses.txt": numbers_of(losses),
        "fine_tuning/evaluations.json": plain(curve),
        **{f"inference/{phase}_samples.txt": text for phase, text in samples.items()},
        "metrics/experiment_metrics.json": plain(metrics),
    }
    fs, root = fsspec.url_to_fs(folder)
    for name, text in files.items():
        write_whole(fs, {f"{root}/{name}": text.encode()})
    write_model(f"{folder}/model", state, options)


def model_place(options: Mapping[str, Any]) -> str:
    """Where in the folder of a network its model is: files of our own, or a folder of transformers."""
    return "model/hugging_face" if options["model"] else "model/model"


def write_model(folder: str, state: HeadState, options: Mapping[str, Any]) -> None:
    """Writes the model as whoever made it loads it again."""
    if not options["model"]:
        write_state(f"{folder}/model", state)
        return
    from structnet.heads.hugging_face import load_tokenizer, save_pruned

    fs, root = fsspec.url_to_fs(f"{folder}/hugging_face")
    with TemporaryDirectory() as place:
        save_pruned(state.model, f"{place}/model", load_tokenizer(options["model"]))
        # A trial that is tried again replaces what it wrote before.
        if fs.exists(root):
            fs.rm(root, recursive=True)
        fs.put(f"{place}/model", root, recursive=True)


def pick(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Some columns of a row."""
    return {name: row[name] for name in names}


def plain(content: Any) -> str:
    """As JSON to be read by people too."""
    return json.dumps(content, indent=2, default=str) + "\n"


def numbers_of(losses: Sequence[float]) -> str:
    """A loss a line."""
    return "".join(f"{loss:.6f}\n" for loss in losses)


def segments_of(losses: Sequence[float], reason: str) -> str:
    """How the loss went, fifth by fifth, in nats."""
    curve, lines = smoothed(losses), [f"{len(losses)} steps, ended by: {reason}"]
    for number, part in enumerate(np.array_split(curve, min(SEGMENTS, len(curve)))):
        lines.append(f"part {number + 1}: from {part[0]:.4f} to {part[-1]:.4f}, {part[-1] - part[0]:+.4f}")
    return "\n".join(lines) + "\n"
