"""`structnet bench taps`: training on the taps that exist against the same training on dense convolution × mask.

Both sides train a network of two links of 3 × 3 between groups of as many maps, a mean over positions and ten classes:
forward, cross-entropy, backward and Adam, on one thread and a batch in memory as each side takes it. The other side is
torch.nn.functional.conv2d of full kernels times masks, whose memory format is the faster of two, and the implementation
of torch.optim.Adam that is fastest here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from search.commands.bench.command import TapsOptions
from search.commands.bench.measuring import (
    CPU,
    Pairs,
    check_repeats,
    console_for_tables,
    fastest,
    row_of_pairs,
    time_pairs,
    write_rows,
)
from search.commands.bench.sides import ADAMS, BATCH, LEARNING_RATE, STEPS_IN_A_CALL
from search.session.run import one_thread
from search.session.tables import table_of
from structnet.compiled.arrays import Images
from structnet.compiled.tap_step import train_taps
from structnet.network.architecture import Architecture
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.training.batches import noise_of
from structnet.training.recipe import Recipe
from structnet.training.tap_lockstep import TapLockstep

SIZES = ((8, 14), (32, 14), (64, 16))  # maps, side
DENSITIES = (1.0, 0.5, 0.25, 0.1, 0.05)
CLASSES = 10
AGREEMENT_STEPS = 12
FORMATS = {"rows first": torch.contiguous_format, "channels last": torch.channels_last}


def run(options: TapsOptions) -> None:
    """Measures, prints a table of ratios and writes the rows to `results`, if given. UserError for repeats below 1."""
    check_repeats(options.repeats)
    console = console_for_tables()
    console.print(
        f"A whole step of two links of 3 × 3, batch {BATCH} in memory, one thread: compiled taps, {STEPS_IN_A_CALL} "
        f"steps a call, against conv2d × mask, {options.repeats} pairs each"
    )
    table, rows = table_of(["maps, side"], [f"{density:g}" for density in DENSITIES]), []
    with one_thread():
        for maps, side in SIZES:
            cells = []
            for density in DENSITIES:
                pairs, theirs = _measure(maps, side, density, options.repeats)
                cells.append(pairs.shown(1))
                rows.append(
                    row_of_pairs("taps", f"{maps} → {maps}, {side}, density {density:g}", pairs, theirs)
                )
            table.add_row(f"{maps} → {maps}, {side}", *cells)
    console.print(table)
    write_rows(options.results, "bench-taps", rows, console)


def network_of(maps: int, side: int, density: float) -> StructNet:
    """Of so many maps in three groups and a mean for the classes, without normalising."""
    sides = [(side, side)] * 3 + [(1, 1)]
    return StructNet(
        Architecture([maps, maps, maps, CLASSES], sides, window=3), density, allocation="uniform"
    ).folded()


def _measure(maps: int, side: int, density: float, repeats: int) -> tuple[Pairs, str]:
    network = network_of(maps, side, density)
    sides: dict[str, Callable[[], object]] = {
        f"{name}, Adam {adam}": MaskedConvolutions(network, adam, form)
        for name, form in FORMATS.items()
        for adam in ADAMS
    }
    theirs = fastest(sides)
    pairs = time_pairs(CompiledTaps(network), sides[theirs], repeats, CPU)
    return Pairs([seconds / STEPS_IN_A_CALL for seconds in pairs.ours], pairs.theirs), theirs


class CompiledTaps:
    """Our side: a call makes STEPS_IN_A_CALL steps on a batch that lies in the workspace, block for block."""

    def __init__(self, network: StructNet) -> None:
        self.members = TapLockstep.of(TrainState.fresh(network.fork()))
        self.work = self.members.workspace(BATCH)
        inputs, width = network.topology.architecture.inputs, self.work.state.shape[1]
        images = _images(network)[0][:width]
        self.work.state[:inputs] = images.reshape(width, inputs).t().numpy()
        none, nothing = np.empty(0, dtype=np.float32), np.empty((0, 0), dtype=np.uint8)
        numbers, labels = (
            np.empty((BATCH, 0), dtype=np.float32),
            np.tile(_images(network)[1][:width], BATCH // width),
        )
        # Of no feature that is to be filled in.
        self.images = Images(
            nothing, numbers, none, none, labels, np.empty(0, dtype=np.int64), np.ones(3, dtype=np.int64)
        )

    def __call__(self) -> np.ndarray:
        """The losses of the steps of one call."""
        members, losses = self.members, np.empty((STEPS_IN_A_CALL, 1), dtype=np.float32)
        recipe = Recipe(BATCH)
        train_taps(
            members.plan,
            members.code,
            members.values,
            members.moments,
            np.empty((2, 0), dtype=np.float32),
            members.rules(recipe),
            self.images,
            noise_of(recipe),
            np.tile(np.arange(BATCH), (STEPS_IN_A_CALL, 1)),
            np.full(STEPS_IN_A_CALL, LEARNING_RATE),
            np.ones(1),
            0,
            members.updates,
            self.work,
            losses,
            np.empty((0, 1), dtype=np.float32),
        )
        members.updates += STEPS_IN_A_CALL
        return losses[:, 0]


class MaskedConvolutions:
    """Their side: a call makes one step on full kernels × masks."""

    def __init__(self, network: StructNet, adam: str, form: torch.memory_format) -> None:
        self.kernels, self.masks = zip(*(_kernel(network, pair) for pair in ((0, 1), (1, 2))))
        values, topology = network.values.detach(), network.topology
        classifier = torch.zeros(CLASSES, topology.architecture[2])
        row, column = topology.positions((2, 3))
        classifier[row, column] = values[topology.links[(2, 3)]]
        self.classifier, self.mask = classifier.requires_grad_(), (classifier != 0).float()
        self.biases = [values[span].clone().requires_grad_() for span in topology.bias_spans[1:]]
        images, labels = _images(network)
        width = TapLockstep.of(TrainState.fresh(network)).workspace(BATCH).state.shape[1]
        # As often as blocks see them on our side.
        self.images = images[:width].repeat(BATCH // width, 1, 1, 1).contiguous(memory_format=form)
        self.labels = labels[:width].repeat(BATCH // width)
        self.adam = torch.optim.Adam(
            [*self.kernels, self.classifier, *self.biases], LEARNING_RATE, **ADAMS[adam]
        )

    def __call__(self) -> float:
        """One step; returns the loss before it."""
        state = self.images
        for kernel, mask, bias in zip(self.kernels, self.masks, self.biases):
            state = F.relu(F.conv2d(state, kernel * mask, bias, padding=1))
        logits = F.linear(state.mean(dim=(2, 3)), self.classifier * self.mask, self.biases[-1])
        loss = F.cross_entropy(logits, self.labels)
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        return float(loss.detach())


def _kernel(network: StructNet, pair: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The full kernel of a link, (maps, maps, window, window), and which of its taps exist."""
    topology, window = network.topology, network.topology.architecture.window
    columns, rows = topology.shape_of(pair)
    span, (row, column) = topology.links[pair], topology.positions(pair)
    kernel, mask = (torch.zeros(rows, columns) for _ in range(2))
    kernel[row, column], mask[row, column] = network.values.detach()[span], 1.0
    shape = rows, columns // window**2, window, window
    return kernel.view(shape).requires_grad_(), mask.view(shape)


def _images(network: StructNet) -> tuple[torch.Tensor, torch.Tensor]:
    shape, generator = network.topology.architecture, torch.Generator().manual_seed(0)
    images = torch.randn(BATCH, shape[0], *shape.sides[0], generator=generator)
    return images, torch.randint(CLASSES, (BATCH,), generator=generator)


def agreement(maps: int, side: int, density: float) -> tuple[list[float], list[float]]:
    """The losses of the first AGREEMENT_STEPS steps of both sides."""
    network = network_of(maps, side, density)
    ours, theirs = CompiledTaps(network), MaskedConvolutions(network, "plain", torch.contiguous_format)
    losses = [loss for _ in range(-(-AGREEMENT_STEPS // STEPS_IN_A_CALL)) for loss in ours()]
    return losses[:AGREEMENT_STEPS], [theirs() for _ in range(AGREEMENT_STEPS)]
