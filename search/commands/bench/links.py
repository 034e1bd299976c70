"""`structnet bench links`: a training step on sparse links against the same step on dense × mask.

Both sides train the same network from the same starting weights on the same batches with one thread: forward,
backward and Adam. A side begins with the (batch, inputs) tensor of a batch, so turning it into our features ×
batch layout is on our bill, while taking the images out of a dataset, which is the same for both, is on
neither. The other side is what packages for sparse training do: full weights times a mask, autograd, and the
implementation of torch.optim.Adam that is fastest here.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from statistics import median
from typing import Any

import torch
from torch.nn import functional as F

from search.commands.bench.command import LinksOptions
from search.commands.bench.measuring import (
    Rows,
    check_repeats,
    console_for_tables,
    device_named,
    fastest,
    row_of_pairs,
    time_pairs,
    write_rows,
)
from search.session.console import Console
from search.session.run import one_thread
from search.session.tables import table_of
from structnet.network.network import StructNet, flatten
from structnet.network.state import TrainState
from structnet.training.loop import loss_and_gradient

NETWORKS = ([784, 128, 10], [784, 300, 100, 10], [784, 1000, 1000, 10])
DENSITY, BATCH, LEARNING_RATE = 0.02, 128, 2e-3
BATCHES, AGREEMENT_STEPS = 8, 24
ADAMS: dict[str, dict[str, Any]] = {
    "plain": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}

Batch = tuple[torch.Tensor, torch.Tensor]
Step = Callable[[Batch], torch.Tensor]


def run(options: LinksOptions) -> None:
    """Measures, prints a table and writes the rows to `results`, if given.

    rule: measures what the kernel rule rests on instead. Raises UserError for repeats below 1 or a device that
    is not there.
    """
    check_repeats(options.repeats)
    place = device_named(options.device)
    console = console_for_tables()
    with one_thread():
        if options.rule:
            from search.commands.bench.kernels import measure_rule

            rows = measure_rule(console, options.repeats, place)
        else:
            rows = _measure_steps(console, options.repeats, place)
    write_rows(options.results, "bench-kernels" if options.rule else "bench-links", rows, console)


def _measure_steps(console: Console, repeats: int, device: torch.device) -> Rows:
    console.print(
        f"A training step at density {DENSITY}, batch {BATCH}, one thread, {device}: sparse links against "
        f"dense × mask, {repeats} pairs each",
    )
    headings = (
        "parameters",
        "ms ours",
        "ms theirs",
        "times as fast",
        "bytes a connection",
        "loss ours",
        "theirs",
    )
    table, rows = table_of(["network"], headings), []
    for architecture in NETWORKS:
        network = StructNet(architecture, DENSITY).to(device)
        batches = _batches(network, device)
        agreement = _losses(network, batches)
        # The other side has the implementation of Adam that serves it best on this machine.
        name = fastest({adam: _in_turn(MaskedStep(network, adam), batches) for adam in ADAMS}, device)
        ours, theirs = SparseStep(network), MaskedStep(network, name)
        pairs = time_pairs(_in_turn(ours, batches), _in_turn(theirs, batches), repeats, device)
        table.add_row(
            "-".join(map(str, architecture)),
            f"{network.parameter_count:,}",
            f"{1000 * median(pairs.ours):.3f}",
            f"{1000 * median(pairs.theirs):.3f}",
            pairs.shown(),
            f"{ours.bytes() / network.connection_count:.0f} : "
            f"{theirs.bytes() / network.connection_count:,.0f}",
            f"{agreement[0]:.5f}",
            f"{agreement[1]:.5f}",
        )
        case = f"{'-'.join(map(str, architecture))} density {DENSITY} batch {BATCH} {device.type}"
        rows.append(row_of_pairs("links", case, pairs, f"dense × mask, {name} Adam", device))
    console.print(table)
    console.print(
        "Times as fast: median of the pairs (smallest-largest). Bytes: values, gradient, Adam's moments and all "
        f"index arrays or masks.\nLosses: after {AGREEMENT_STEPS} steps of both on the same batches.",
    )
    return rows


class SparseStep:
    """Our side: a training step of a StructNet on a batch of (batch, inputs) images."""

    def __init__(self, network: StructNet) -> None:
        self.state = TrainState.fresh(network.fork())

    def __call__(self, batch: Batch) -> torch.Tensor:
        """One step; returns the loss before it."""
        network = self.state.network
        values = network.values.detach()
        inputs = flatten(batch[0], values.dtype)
        loss, gradient = loss_and_gradient(network, values, inputs, batch[1])
        self.state.optimizer.update(values, gradient, LEARNING_RATE)
        return loss

    def bytes(self) -> int:
        """What is held for the network: values, gradient, moments, index arrays, topology."""
        network, adam = self.state.network, self.state.optimizer
        flat = 2 * network.values.nbytes + adam.first.nbytes + adam.second.nbytes
        topology = network.topology.source.nbytes + network.topology.target.nbytes
        return flat + topology + sum(link.index_bytes() for link in network.links.values())


class MaskedStep:
    """Their side: full weights × masks, the product's gradient masked by autograd, torch.optim.Adam."""

    def __init__(self, network: StructNet, adam: str) -> None:
        values, topology = network.values.detach(), network.topology
        self.weights, self.masks, self.biases = [], [], []
        for group in range(1, topology.groups):
            link = network.links[(group - 1, group)]
            self.weights.append(link.dense(values[link.span]).requires_grad_())
            self.masks.append(link.dense(torch.ones_like(values[link.span])))
            self.biases.append(values[network.topology.bias_spans[group]].clone().requires_grad_())
        self.adam = torch.optim.Adam([*self.weights, *self.biases], LEARNING_RATE, **ADAMS[adam])

    def __call__(self, batch: Batch) -> torch.Tensor:
        """One step; returns the loss before it."""
        state, last = batch[0], len(self.weights) - 1
        for layer, (weight, mask, bias) in enumerate(zip(self.weights, self.masks, self.biases)):
            state = F.linear(state, weight * mask, bias)
            if layer < last:
                state = torch.relu(state)
        loss = F.cross_entropy(state, batch[1])
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        return loss.detach()

    def bytes(self) -> int:
        """Weights, gradients, two moments each, and the masks."""
        trained = sum(tensor.nbytes for tensor in (*self.weights, *self.biases))
        return 4 * trained + sum(mask.nbytes for mask in self.masks)


def _batches(network: StructNet, device: torch.device) -> list[Batch]:
    """Random images with random labels: neither side's time depends on what is in them."""
    generator = torch.Generator().manual_seed(0)
    inputs, classes = network.architecture[0], network.architecture[-1]
    return [
        (
            torch.rand(BATCH, inputs, generator=generator).to(device),
            torch.randint(classes, (BATCH,), generator=generator).to(device),
        )
        for _ in range(BATCHES)
    ]


def _losses(network: StructNet, batches: list[Batch]) -> tuple[float, float]:
    """The loss of either side after the same steps from the same weights: they have to agree."""
    ours, theirs = SparseStep(network), MaskedStep(network, "plain")
    for index in range(AGREEMENT_STEPS):
        batch = batches[index % len(batches)]
        losses = float(ours(batch)), float(theirs(batch))
    return losses


def _in_turn(step: Step, batches: list[Batch]) -> Callable[[], torch.Tensor]:
    """A function that steps on the next batch at every call."""
    turns = cycle(batches)
    return lambda: step(next(turns))
