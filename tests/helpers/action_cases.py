"""Random networks in training, with the images they are diagnosed on: what the tests of growth actions share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st

from structnet.actions import ACTIONS
from structnet.actions.base import Context, Proposal
from structnet.measure.diagnosis import Diagnosis, diagnose
from structnet.network.edit import Edit, connect
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.seeds import stream
from structnet.training.torch_step import loss_and_gradient

torch.set_num_threads(1)

SIZES = (4, 9, 20)
PRESERVING = [name for name, action in ACTIONS.items() if action.preserves_output]


@dataclass(frozen=True)
class Case:
    """A network in training, and the images it was diagnosed on."""

    state: TrainState
    images: torch.Tensor
    labels: torch.Tensor

    @property
    def network(self) -> StructNet:
        return self.state.network

    @property
    def diagnosis(self) -> Diagnosis:
        return diagnose(self.network, self.images, self.labels)

    def context(self, sizes: tuple[int, ...] = SIZES, rate: float = 1e-3) -> Context:
        return Context(self.state, self.diagnosis, sizes, rate, stream(0, "test"))

    def proposals(self, name: str) -> list[Proposal]:
        """What an action proposes, with the random twins where it has any; a sample where there are many."""
        context = self.context()
        found = ACTIONS[name].propose(context)
        found = found[:: 1 + len(found) // 12]
        twins = [ACTIONS[name].twin(context, proposal) for proposal in found[:3]]
        return found + [twin for twin in twins if twin is not None]

    def gradient(self, network: StructNet) -> np.ndarray:
        inputs = self.images.to(network.values.dtype).t().contiguous()
        return loss_and_gradient(network, network.values.detach(), inputs, self.labels)[1].double().numpy()

    @property
    def tolerance(self) -> float:
        """By how much a logit may change."""
        if self.network.values.dtype == torch.float64:
            return 1e-12
        return 1e-6 * (1 + float(self.network(self.images).detach().abs().max()))

    def change_in_training(self, edit: Edit) -> float:
        """The largest change of a logit in training; what is not normalised is the same as in use."""
        return 0.0


def make(
    architecture: list[int],
    *,
    density: float = 0.5,
    seed: int = 0,
    activation: str = "relu",
    dtype: torch.dtype = torch.float64,
    skips: bool = False,
    bias: float = 0.0,
) -> Case:
    """A random network with random biases around `bias` and an optimizer that has been running for a while."""
    rng = np.random.default_rng(seed)
    network = StructNet(architecture, density=density, rng_seed=seed, activation=activation).to(dtype)
    if skips:
        group = network.topology.group_of(np.arange(network.topology.offsets[-1]))
        source, target = np.nonzero(
            (group[:, None] + 1 < group) & (rng.random((len(group), len(group))) < 0.2)
        )
        network = connect(network, source, target, rng.standard_normal(len(source))).network
    with torch.no_grad():
        noise = torch.from_numpy(bias + 0.5 * rng.standard_normal(network.topology.bias_count))
        network.values[network.connection_count :] = noise.to(dtype)
    state = TrainState.fresh(network)
    state.optimizer.first.copy_(torch.from_numpy(rng.standard_normal(network.parameter_count) * 1e-3))
    state.optimizer.second.copy_(torch.from_numpy(rng.exponential(1e-6, network.parameter_count)))
    state.optimizer.step = state.step = 500
    state.born = rng.choice([0, 100, 450], network.parameter_count)
    images = rng.random((64, architecture[0])) * (rng.random((64, architecture[0])) > 0.3)
    labels = torch.from_numpy(rng.integers(0, architecture[-1], 64))
    return Case(state, torch.from_numpy(images).to(dtype), labels)


def eventful(activation: str = "relu") -> Case:
    """Inputs 0 … 11; hidden 12 … 19, of which 13 is saturated and 17 never fires, and 20 … 25, of which 23 is
    saturated and 22 and 25 never fire; outputs 26 … 29. With a bounded activation none of them is silent."""
    case = make([12, 8, 6, 4], density=0.5, seed=3, activation=activation, bias=1.0)
    with torch.no_grad():
        for unit, bias in ((13, 25.0), (17, -50.0), (22, -2000.0)):
            case.network.values[case.network.connection_count + unit - 12] = bias
    return case


@st.composite
def cases(draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64)) -> Case:
    hidden = draw(st.lists(st.integers(1, 7), max_size=3))
    return make(
        [draw(st.integers(3, 9)), *hidden, draw(st.integers(2, 4))],
        density=draw(st.sampled_from([0.1, 0.3, 0.6, 1.0])),
        seed=draw(st.integers(0, 10**6)),
        activation=draw(st.sampled_from(["relu", "tanh", "sigmoid"])),
        dtype=draw(st.sampled_from(dtypes)),
        skips=draw(st.booleans()),
        bias=draw(st.sampled_from([-1.5, -0.5, 0.0, 1.0])),
    )


def change_of_output(case: Case, edit: Edit) -> float:
    """The largest change of a logit, as a share of what is allowed."""
    before, after = case.network(case.images).detach(), edit.network(case.images).detach()
    return float((after - before).abs().max()) / case.tolerance


def reopened(case: Case, edit: Edit, proposal: Proposal) -> np.ndarray:
    """Indices, in the new network, of the fan-out of re-opened units."""
    units = proposal.plan.get("reopened", [])
    return np.flatnonzero(np.isin(edit.network.topology.source_unit, units))
