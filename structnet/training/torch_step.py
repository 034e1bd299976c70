"""A training step by torch: what CUDA computes, and any network that asks for a kernel of torch's."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch

from structnet.data.dataset import Split
from structnet.network.block_normalisation import BlockNormalisation, follow, normalisation_of
from structnet.network.network import StructNet
from structnet.network.optimizer import Adam
from structnet.network.propagation import Dropout, backpropagate, propagate
from structnet.training.augmentation import drop_masks, keys_of
from structnet.training.batches import batch_at, batch_indices, noise_seed
from structnet.training.rates import scaled_step
from structnet.training.recipe import COUPLED, Recipe, check_dropout

STRETCH = 256  # steps whose numbers are sent to the device at once
# Steps from which on a CUDA graph is recorded. Not measured, as no GPU was at hand: recording takes about as
# long as a few steps, and saves most of the time that launching some hundred small kernels takes.
RECORDED_FROM = 32
WARM_UP = 3  # steps before it is recorded, on a stream beside, in which libraries set themselves up


def loss_and_gradient(
    network: StructNet,
    values: torch.Tensor,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    dropout: Dropout | None = None,
    normalisation: BlockNormalisation | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean cross-entropy in nats, and its gradient by the flat vector. inputs: (features, batch)."""
    losses, gradient = losses_and_gradient(network, values, inputs, labels, 1, dropout, normalisation)
    return losses[0], gradient


def losses_and_gradient(
    network: StructNet,
    values: torch.Tensor,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    members: int,
    dropout: Dropout | None = None,
    normalisation: BlockNormalisation | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `loss_and_gradient`, of so many networks that lie side by side in one: (members,) losses."""
    activations = propagate(network, values, inputs, dropout, normalisation)
    logits = activations[-1]
    log_probability = torch.log_softmax(logits.view(members, -1, len(labels)), dim=1)
    true_class = labels.expand(members, 1, -1)
    losses = log_probability.gather(1, true_class).sum(dim=(1, 2)).div_(-len(labels))
    error = log_probability.exp_()
    error.scatter_add_(1, true_class, error.new_full((1, 1, 1), -1.0).expand(true_class.shape))
    error = error.div_(len(labels)).view(logits.shape)
    gradient, _ = backpropagate(
        network, values, activations, error, dropout=dropout, normalisation=normalisation
    )
    return losses, gradient


def dropout_of(
    network: StructNet,
    recipe: Recipe,
    inputs: torch.Tensor,
    key: int | torch.Tensor,
    first: int = 0,
    numbers: torch.Tensor | None = None,
) -> Dropout | None:
    """Which hidden units a step drops for its inputs, (features, images); first: position of the first image.

    numbers: (hidden units,), where they are not those of one network alone. Raises UserError for feature maps.
    """
    check_dropout(recipe, network.topology.architecture)
    if not recipe.dropout:
        return None
    hidden = network.topology.hidden
    if numbers is None:
        numbers = torch.arange(hidden.stop - hidden.start, device=inputs.device)
    return Dropout(recipe.dropout, drop_masks(numbers, inputs, recipe.dropout, key, first))


def update(
    optimizer: Adam,
    values: torch.Tensor,
    gradient: torch.Tensor,
    recipe: Recipe,
    learning_rate: float,
    *,
    connections: int,
    age: torch.Tensor | None = None,
) -> None:
    """One step of the optimizer on a flat vector that begins with so many connections, in place.

    age: (parameters,) steps since each came to be, which recipe.rates needs: they scale the whole step, what
    decays included.
    """
    optimizer.step += 1
    root, divisor = _corrections(optimizer, recipe, optimizer.step)
    rate, epsilon = learning_rate * root / divisor, optimizer.epsilon * root
    kept = recipe.kept(learning_rate)
    _move(optimizer, values, gradient, recipe, rate, epsilon, kept, connections, age)


def _corrections(optimizer: Adam, recipe: Recipe, step: int) -> tuple[float, float]:
    """Those of Adam; plain descent has none."""
    return optimizer.corrections(step) if recipe.momentum is None else (1.0, 1.0)


def _move(
    optimizer: Adam,
    values: torch.Tensor,
    gradient: torch.Tensor,
    recipe: Recipe,
    rate: float | torch.Tensor,
    epsilon: float | torch.Tensor,
    kept: float | torch.Tensor,
    connections: int,
    age: torch.Tensor | None,
) -> None:
    """As `update`, not counted, by a rate and an epsilon as Adam.move takes them.

    kept: the share of its value that what decays keeps (decoupled weight decay, Loshchilov & Hutter 2019), a number
    or a tensor, (1,) or as long as what decays. What does not exist has no value to decay.
    """
    if recipe.l1:
        gradient[:connections].add_(values[:connections].sign(), alpha=recipe.l1)
    scale = recipe.rates.scale(age) if recipe.rates is not None and age is not None else None
    before = values if scale is None else values.clone()
    if recipe.decay == COUPLED:
        gradient.add_(values, alpha=recipe.weight_decay)
    elif recipe.weight_decay:
        values[: _decaying(recipe, connections)].mul_(kept)
    if recipe.momentum is not None:
        optimizer.first.mul_(recipe.momentum).add_(gradient)
        values.sub_(optimizer.first * rate)
    else:
        optimizer.move(values, gradient, rate, epsilon)
    if scale is not None:
        values.copy_(scaled_step(before, values, scale))


def _decaying(recipe: Recipe, connections: int) -> int | None:
    """How many parameters at the beginning of a vector decay; None for all."""
    return None if recipe.decays_all else connections


def numbers_of_steps(
    steps: range,
    rate: Callable[[int], float],
    shares: np.ndarray,
    *,
    images: int,
    recipe: Recipe,
    optimizer: Adam,
) -> np.ndarray:
    """All that tells these steps apart, a row each: (steps, batch + 3 + 2 · shares) int64.

    rate: step -> learning rate, times shares, (shares,) float64. In a row are the positions of the images in
    the training set, the number of the step, the key of its noise and then, as the bits of float64, Adam's
    epsilon and rates with the corrections in them, and the shares of their values that connections keep.
    """
    where = np.stack([batch_indices(images, recipe.batch_size, recipe.rng_seed, step) for step in steps])
    keys = keys_of(noise_seed(recipe), steps).numpy()
    # By Python's own powers, as `update` has them, so that a step has the same bits in any stretch.
    pairs = [_corrections(optimizer, recipe, optimizer.step + 1 + index) for index in range(len(steps))]
    root, divisor = np.array(pairs).T[:, :, None]
    rates = np.array([rate(step) for step in steps], dtype=np.float64)[:, None] * shares
    with np.errstate(over="ignore", invalid="ignore"):  # at an absurd rate a member diverges, quietly
        kept = np.broadcast_to(recipe.kept(rates), rates.shape)
        real = np.hstack([optimizer.epsilon * root, rates * root / divisor, kept])
    return np.hstack([where, np.array(steps)[:, None], keys[:, None], real.view(np.int64)])


class TorchSteps:
    """Training steps of networks side by side in one, from tensors that stay where they are on its device.

    The numbers that tell steps apart are sent for a whole stretch at once, and a step reads its row by a
    counter that is on the device too. So no step waits for the host, and one that has been recorded as a CUDA
    graph is every step.

    What is trained is the network and the optimizer themselves; one with feature maps has to be alone. born:
    (parameters,) int64 step at which each came to be. shares: (members,) factors of the learning rates. owner:
    (parameters,) int whose each is; needed where shares differ. numbers: (hidden units,) of each in its network, where
    there are several. All three lie on the device.
    """

    def __init__(
        self,
        network: StructNet,
        optimizer: Adam,
        split: Split,
        recipe: Recipe,
        *,
        born: torch.Tensor,
        shares: np.ndarray | None = None,
        owner: torch.Tensor | None = None,
        numbers: torch.Tensor | None = None,
    ) -> None:
        self._network, self._optimizer, self._split, self._recipe = network, optimizer, split, recipe
        self._values = values = network.values.detach()
        self._born, self._hidden_numbers = born, numbers
        factors = np.ones(1) if shares is None else np.asarray(shares, dtype=np.float64)
        self._members = len(factors)
        is_shared = bool(np.all(factors == factors[0]))
        self._shares = factors[:1] if is_shared else factors
        self._owner = None if is_shared else owner
        self._batch = min(recipe.batch_size, len(split))
        columns = self._batch + 3 + 2 * len(self._shares)
        self._numbers = torch.empty(STRETCH, columns, dtype=torch.int64, device=values.device)
        self._row = torch.zeros(1, dtype=torch.int64, device=values.device)
        self._losses = values.new_empty(STRETCH, self._members)
        self._norms: torch.Tensor | None = None

    def train(
        self, steps: int, rate: Callable[[int], float], step: int, *, norms: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The losses, (steps, members), of so many steps from this one of the line on, in nats and before L1.

        rate: step -> learning rate, times the shares. norms: (steps,) is filled with the lengths of the
        gradients.
        """
        losses = self._losses.new_empty(steps, self._members)
        self._norms = None if norms is None else self._losses.new_empty(STRETCH, 1)
        advance = self.step
        for begin in range(0, steps, STRETCH):
            here = range(step + begin, step + min(steps, begin + STRETCH))
            self.send(here, rate)
            left = len(here)
            if begin == 0 and left >= RECORDED_FROM and _is_recordable(self._network):
                advance, left = recorded(self.step, self._values.device), left - WARM_UP
            for _ in range(left):
                advance()
            self._optimizer.step += len(here)
            losses[begin : begin + len(here)] = self._losses[: len(here)]
            if norms is not None and self._norms is not None:
                norms[begin : begin + len(here)] = self._norms[: len(here), 0]
        return losses

    def send(self, steps: range, rate: Callable[[int], float]) -> None:
        """Makes these, at most STRETCH, the next steps; for the optimizer they follow its last."""
        images, recipe, optimizer = len(self._split), self._recipe, self._optimizer
        numbers = numbers_of_steps(
            steps, rate, self._shares, images=images, recipe=recipe, optimizer=optimizer
        )
        self._numbers[: len(steps)].copy_(torch.from_numpy(numbers))
        self._row.zero_()

    def step(self) -> None:
        """The next step that was sent, from what lies on the device alone; not counted by the optimizer."""
        values, recipe, batch, rates = self._values, self._recipe, self._batch, len(self._shares)
        row = self._numbers.index_select(0, self._row)[0]
        now, key, real = row[batch], row[batch + 1], row[batch + 2 :].view(torch.float64).to(values.dtype)
        epsilon, rate, kept = real[0], real[1 : 1 + rates], real[1 + rates :]
        inputs, labels = batch_at(self._split, recipe, row[:batch], key)
        dropout = dropout_of(self._network, recipe, inputs, key, numbers=self._hidden_numbers)
        normalisation = normalisation_of(self._network, batch, batch)
        losses, gradient = losses_and_gradient(
            self._network, values, inputs, labels, self._members, dropout, normalisation
        )
        if self._network.statistics is not None and normalisation is not None:
            follow(self._network.statistics, self._network.topology, normalisation.seen)
        self._losses.index_copy_(0, self._row, losses[None])
        if self._norms is not None:
            self._norms.index_copy_(0, self._row, torch.linalg.vector_norm(gradient).view(1, 1))
        connections = self._network.connection_count
        if self._owner is not None:
            rate = rate.index_select(0, self._owner)
            if recipe.weight_decay:
                kept = kept.index_select(0, self._owner[: _decaying(recipe, connections)])
        age = now - self._born if recipe.rates is not None else None
        _move(self._optimizer, values, gradient, recipe, rate, epsilon, kept, connections, age)
        self._row.add_(1)


def _is_recordable(network: StructNet) -> bool:
    """On a GPU, and of dense products alone: those of sparse rows may ask the host for memory."""
    kernels = {link.kernel_name for link in network.links.values()}
    return network.values.is_cuda and "sparse_rows" not in kernels


def recorded(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """After WARM_UP steps, what does one as a CUDA graph - or the step itself, with a warning, if that fails.

    The rules of torch.cuda.graph: what the step reads and writes stays at its place, and nothing waits for
    the host.
    """
    current = torch.cuda.current_stream(device)
    aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    aside.wait_stream(current)
    with torch.cuda.stream(aside):
        for _ in range(WARM_UP):
            step()
    current.wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=aside):
            step()
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        warnings.warn(
            f"training steps are launched one by one, as none could be recorded: {reason}", stacklevel=2
        )
        return step
    return graph.replay
