"""The options of `train`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.options import TRAINING, allocation, batch_size, option
from search.training_options import BatchOptions
from structnet.data.datasets import defaults_of
from structnet.errors import UserError


class TrainOptions(BatchOptions):
    """The options of `train`."""

    snapshot: str | None = option(
        None,
        "A grown network to train on, such as results/snapshots/NAME/round-0009; its optimizer starts anew.",
        TRAINING,
    )
    architecture: str = option(
        "input,100,classes", "Its groups, such as 784,100,10 or 1@28,8@14,10.", TRAINING
    )
    density: float = option(0.01, "Share of connections that exist.", TRAINING)
    allocation: str = allocation(TRAINING)
    epochs: int = option(20, "Passes over the training images.", TRAINING, ge=1)
    learning_rate: float = option(0.006, "Annealed along a cosine.", TRAINING, gt=0)
    batch_size: int | None = batch_size(
        "Images per step, over all workers together",
        "a 32nd of the training images, at most 128, rounded up to a multiple of the workers",
    )
    weight_decay: float = option(0.0, "Share of a connection lost per step and unit of rate.", TRAINING)


def defaults(told: Mapping[str, Any]) -> Mapping[str, Any]:
    """Those of the dataset; raises UserError where the network is told twice."""
    if told.get("snapshot") and (told.get("architecture") or told.get("density")):
        raise UserError("snapshot is given, and so is architecture or density: the snapshot has both")
    return defaults_of(told.get("dataset", TrainOptions.model_fields["dataset"].default), "train")
