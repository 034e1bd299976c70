"""A network, or many, on every image of a split."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from structnet.data.dataset import Split
from structnet.measure.imbalance import balanced_accuracy
from structnet.measure.information import log2_of_labels
from structnet.network.network import StructNet
from structnet.network.propagation import flatten, propagate
from structnet.network.state import TrainState
from structnet.training.members import alone, together
from structnet.training.memory import halved_on_lack, images_at_once


@dataclass(frozen=True)
class Evaluation:
    """loss: mean cross-entropy in nats. accuracy: share in [0, 1]. log2_likelihood: (images,) float64.

    balanced_accuracy: the mean over classes of the share that is right. features: (images, units) of the groups that
    feed the output, and logits: (classes, images), if asked for.
    """

    loss: float
    accuracy: float
    log2_likelihood: np.ndarray
    balanced_accuracy: float = math.nan
    features: np.ndarray | None = None
    logits: torch.Tensor | None = None


def evaluate(
    network: StructNet,
    split: Split,
    *,
    block: int | None = None,
    with_features: bool = False,
    with_logits: bool = False,
) -> Evaluation:
    """The network on every image of a split, without gradient.

    block: images that torch takes at once; by default as many as fit the memory. No result depends on it, and where
    memory runs out it is halved.
    """
    found = evaluate_all([network], split, block=block, with_logits=with_logits)[0]
    return replace(found, features=features_of(network, split, block)) if with_features else found


def evaluate_all(
    networks: Sequence[StructNet], split: Split, *, block: int | None = None, with_logits: bool = False
) -> list[Evaluation]:
    """As `evaluate`, several networks, each block of images made once for all that are compiled alike."""
    alike: dict[Any, list[int]] = {}
    for index, network in enumerate(networks):
        shape = network.topology.architecture
        key = (
            network.activation,
            network.values.dtype,
            shape.inputs,
            shape[-1],
            shape.has_maps,
            network.statistics is None,
        )
        alike.setdefault(key if network.is_compiled else index, []).append(index)
    found: dict[int, Evaluation] = {}
    for members in alike.values():
        first = networks[members[0]]
        if first.is_compiled:
            states = [TrainState.fresh(networks[index]) for index in members]
            steps = alone(states[0]) if len(states) == 1 else together(states)
            judged = steps.judge(split, with_logits=with_logits)
            for place, index in enumerate(members):
                logits = None if judged.logits is None else torch.from_numpy(judged.logits[place])
                likelihood, right = judged.log2_likelihood[place], judged.right[place]
                found[index] = _evaluation(likelihood, right, split.labels, logits)
        else:
            likelihood, right, logits = _by_torch(first, split, block)
            found[members[0]] = _evaluation(likelihood, right, split.labels, logits if with_logits else None)
    return [found[index] for index in range(len(networks))]


def _evaluation(
    log2_likelihood: np.ndarray, right: np.ndarray, labels: torch.Tensor, logits: torch.Tensor | None
) -> Evaluation:
    with np.errstate(over="ignore", invalid="ignore"):
        loss = float(-log2_likelihood.mean() * math.log(2))
    accuracy, balanced = int(right.sum()) / len(right), float(balanced_accuracy(right, labels.cpu().numpy()))
    return Evaluation(loss, accuracy, log2_likelihood, balanced, logits=logits)


def _by_torch(
    network: StructNet, split: Split, block: int | None
) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    at_once = images_at_once(network, len(split)) if block is None else block
    return halved_on_lack(at_once, partial(_in_blocks, network, split))


def _in_blocks(network: StructNet, split: Split, block: int) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    values, bits, right, kept = network.values.detach(), [], [], []
    for start in range(0, len(split), block):
        labels = split.labels[start : start + block]
        logits = propagate(network, values, columns(split, start, start + block))[-1]
        bits.append(log2_of_labels(logits, labels))
        right.append(logits.argmax(dim=0) == labels)
        kept.append(logits)
    return torch.cat(bits).cpu().numpy(), torch.cat(right).cpu().numpy(), torch.cat(kept, dim=1)


def features_of(network: StructNet, split: Split, block: int | None = None) -> np.ndarray | None:
    """(images, units) activations of the groups that feed the output; None where only the input does.

    Of maps their means, as the output reads them; of flat ones every position. block: as for `evaluate`.
    """
    feeding = sorted(pair[0] for pair in network.topology.links if pair[1] == network.topology.groups - 1)
    hidden = [group for group in feeding if group > 0]
    if not hidden:
        return None
    at_once = images_at_once(network, len(split)) if block is None else block
    return halved_on_lack(at_once, partial(_features_in_blocks, network, split, hidden))


def _features_in_blocks(network: StructNet, split: Split, hidden: Sequence[int], block: int) -> np.ndarray:
    values, found, shape = network.values.detach(), [], network.topology.architecture
    for start in range(0, len(split), block):
        activations = propagate(network, values, columns(split, start, start + block))
        read = []
        for group in hidden:
            maps = activations[group].view(shape[group], shape.area(group), -1)
            read.append(maps.flatten(0, 1) if group in shape.flat else maps.mean(dim=1))
        found.append(torch.cat(read).t())
    features: np.ndarray = torch.cat(found).cpu().numpy()
    return features


def columns(split: Split, start: int, stop: int) -> torch.Tensor:
    """Images start … stop as (features, block)."""
    images = split.inputs(split.stored[start:stop])
    return flatten(images, images.dtype)


def chance_accuracy(labels: torch.Tensor, classes: int) -> float:
    """Share of the commonest class."""
    return float(torch.bincount(labels, minlength=classes).max()) / max(1, len(labels))
