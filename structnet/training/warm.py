"""`python -m structnet.training.warm`: compiles the steps of a CPU once, so that no command has to wait for it."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch

from structnet.compiled.compiler import cache_folder
from structnet.data.dataset import Scaling, Split
from structnet.measure.diagnosis import diagnose_inputs
from structnet.network.architecture import sizes_of
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.training.batches import sample_inputs
from structnet.training.evaluation import evaluate
from structnet.training.loop import train_steps
from structnet.training.recipe import Recipe
from structnet.training.schedules import constant

NETWORKS = ("4,3,2", "1@2,2@2,2@1,2")  # of single units, and of feature maps


def warm(architecture: str) -> None:
    """Compiles what such networks of float32 need on images of pixels; what is compiled already is only loaded."""
    one = torch.ones(1, 1, 1)
    pixels = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    split = Split(pixels, torch.arange(4) % 2, Scaling(0 * one, one))
    network = StructNet(sizes_of(architecture), density=1.0)
    train_steps(TrainState.fresh(network), split, Recipe(batch_size=2), 1, constant(1e-3))
    evaluate(network, split)
    diagnosis = diagnose_inputs(network, *sample_inputs(split, np.arange(4), torch.float32))
    for pair in network.topology.links:
        diagnosis.outer(*pair)


if __name__ == "__main__":
    if cache_folder() is not None:
        with ProcessPoolExecutor(len(NETWORKS), get_context("spawn")) as pool:
            list(pool.map(warm, NETWORKS))
