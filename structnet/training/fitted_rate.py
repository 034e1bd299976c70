"""The learning rate that fits the inputs of a dataset.

A step of Adam moves every weight by about the rate, so what it moves the sum of a unit by grows with its inputs. At one
rate for all data, images of 3,072 bright pixels kill their units: CIFAR-10, 20,000 parameters, test, 2 rng_seeds, at
0.012 / 0.006 / 0.003 / 0.0015: 22 / 47 / 51 / 52 % with 100 hidden units, 44 / 51 / 53 / 53 % with 300. In proportion
to 1 ÷ ‖x‖ one number suits all that was tried, as 0.012 and more does on MNIST, and 0.012 to 0.024 on tables and the
teacher.

Feature maps are normalised, so what their inputs are does not matter, and a step turns their taps by less the longer
these have grown. MNIST, 1,000 parameters pruned from 10,000 in 40 epochs, validation, one rng_seed, at a rate of 0.01 /
0.02 / 0.04 / 0.08 at the peak: 98.8 / 98.8 / 99.1 / 98.8 %; there a tournament has half of this number.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from structnet.data.dataset import Split
from structnet.network.architecture import architecture_of
from structnet.training.batches import sample_inputs

STEP = 0.11  # rate × the root of the mean square of ‖x‖
HIGHEST = 0.02
IMAGES = 2000
OF_MAPS = 0.08


def fitted_rate(train: Split, architecture: Sequence[int] = ()) -> float:
    """At the peak of a schedule, for sparse networks trained by Adam; to two digits, so that it can be stated.

    architecture: of the network, if it may have feature maps.
    """
    if architecture_of(architecture).has_maps:
        return OF_MAPS
    positions = np.linspace(0, len(train) - 1, min(IMAGES, len(train))).astype(np.int64)
    inputs, _ = sample_inputs(train, positions, torch.float32)
    norm = float(inputs.square().sum(dim=0).mean().sqrt())
    return float(f"{min(HIGHEST, STEP / max(norm, 1e-9)):.2g}")
