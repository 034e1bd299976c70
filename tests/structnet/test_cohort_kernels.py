"""The kernels of a cohort: which are taken, and that they compute the same."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from helpers.cohort_cases import (
    CASES,
    assert_close,
    every_case,
    expected,
    judged_split,
    member,
    pool,
    tolerance,
    trained,
)

from structnet import StructNet
from structnet.network.link import SparseLink
from structnet.network.state import TrainState
from structnet.training import cohort_kernels, tile
from structnet.training.cohort import Cohort
from structnet.training.cohort_kernels import BatchedDense, pick_in_tile
from structnet.training.tile import Tile, join


@every_case
@pytest.mark.parametrize("kernel", ["sparse_rows", "masked_dense"])
def test_tiles_compute_what_members_do_alone(case: str, kernel: str) -> None:
    states, rates = pool(case, kernel)
    together, losses = trained(states, rates, case)
    expected_names = {kernel} if kernel == "sparse_rows" else {"masked_dense", "batched_dense"}
    assert names_of(together) == expected_names - ({"batched_dense"} if CASES[case][0] == 2 else set())
    for place, (own, own_losses, _) in enumerate(expected(case, kernel)):
        assert_close(together.take(place), own, tolerance(case))
        close = partial(torch.testing.assert_close, rtol=tolerance(case), atol=tolerance(case))
        close(losses[place], own_losses)


@every_case
@pytest.mark.parametrize("kernel", ["sparse_rows", "masked_dense"])
def test_tiles_compute_what_compiled_steps_do(case: str, kernel: str) -> None:
    """The same networks in both, though of one depth."""
    states, rates = pool(case, kernel)
    together, losses = trained(states, rates, case)
    compiled, compiled_losses = trained([as_compiled(state) for state in states], rates, case)
    # Adam divides by the size of a gradient, and so makes much of the rounding of one that is nearly nothing.
    loose = 100 * tolerance(case)
    torch.testing.assert_close(losses, compiled_losses, rtol=loose, atol=loose)
    for place in range(len(states)):
        assert_close(together.take(place), compiled.take(place), loose)
    judged, other = (cohort.evaluate(judged_split(CASES[case][2])) for cohort in (together, compiled))
    np.testing.assert_allclose(judged.log2_likelihood, other.log2_likelihood, rtol=loose, atol=10 * loose)
    assert np.abs(judged.accuracy - other.accuracy).max() <= 2 / 1100


def as_compiled(state: TrainState) -> TrainState:
    own = state.copy()
    own.network = StructNet.from_parts(
        own.network.topology, own.network.values.detach(), activation=own.network.activation
    )
    return own


def names_of(cohort: Cohort) -> set[str]:
    """Of the kernels of all links."""
    tiles = [part for part in cohort.parts if isinstance(part, Tile)]
    return {link.kernel_name for tile in tiles for link in tile.network.links.values()}


@pytest.mark.parametrize("dense_from_input", [False, True])
@pytest.mark.parametrize("case", ["l1", "double"])
def test_kernels_may_differ_within_a_tile(
    dense_from_input: bool, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where the rule may leave some links sparse."""

    def mixed(shapes: np.ndarray, pair: tuple[int, int], *_: object) -> str:
        dense = "masked_dense" if pair[0] == 0 else "batched_dense"
        return dense if (pair[0] == 0) == dense_from_input else "sparse_rows"

    # What asks for no kernel is compiled on a CPU; the rule is for the other devices.
    real = cohort_kernels.use_tile_kernels
    monkeypatch.setattr(cohort_kernels, "pick_in_tile", mixed)
    monkeypatch.setattr(tile, "use_tile_kernels", lambda network, shapes, _: real(network, shapes, "auto"))
    together, _ = trained(*pool(case, "sparse_rows"), case)
    assert names_of(together) == {"sparse_rows", "masked_dense" if dense_from_input else "batched_dense"}
    for place, (own, *_) in enumerate(expected(case, "sparse_rows")):
        assert_close(together.take(place), own, tolerance(case))


def batched_link(widths_in: list[int], widths_out: list[int]) -> tuple[SparseLink, BatchedDense]:
    """Half of all connections between the two groups of each member."""
    shapes = np.array([[1] * len(widths_in), widths_in, widths_out]).T
    joint, _ = join(
        [member(shape.tolist(), 0.5, place, step=0).network.topology for place, shape in enumerate(shapes)]
    )
    link = SparseLink(joint, (1, 2), torch.device("cpu"))
    return link, BatchedDense(link, shapes[:, 1], shapes[:, 2])


@pytest.mark.parametrize("widths", [([4, 4], [3, 3]), ([4, 4, 4], [1, 5, 2]), ([7, 1, 3], [2, 2, 2])])
def test_batched_products_are_those_of_the_matrix(widths: tuple[list[int], list[int]]) -> None:
    link, kernel = batched_link(*widths)
    values = torch.randn(link.connections)
    source, error, start = torch.randn(link.n_in, 5), torch.randn(link.n_out, 5), torch.randn(link.n_out, 1)
    matrix, gradient = link.dense(values), torch.zeros(link.connections + 2)
    close = torch.testing.assert_close
    close(kernel.forward(link, values, source, start), start + matrix @ source)
    close(kernel.source_gradient(link, values, error), matrix.t() @ error)
    kernel.value_gradient(link, error, source, gradient[1:-1])
    close(gradient[1:-1], (error @ source.t())[link.row.long(), link.column.long()])
    assert gradient[0] == gradient[-1] == 0


@pytest.mark.parametrize("widths", [([4, 4, 4], [3, 3, 3]), ([7, 1, 3], [2, 5, 1])])
def test_batched_products_keep_members_apart(widths: tuple[list[int], list[int]]) -> None:
    """All numbers of the second of three members are NaN."""
    link, kernel = batched_link(*widths)
    units_in, units_out = (torch.arange(3).repeat_interleave(torch.tensor(sizes)) for sizes in widths)

    def sick(owner: torch.Tensor, columns: int) -> torch.Tensor:
        return torch.randn(len(owner), columns).masked_fill((owner == 1)[:, None], torch.nan)

    values, gradient = sick(units_out[link.row], 1)[:, 0], torch.zeros(link.connections)
    source, error = sick(units_in, 4), sick(units_out, 4)
    forward = kernel.forward(link, values, source, torch.zeros(link.n_out, 1))
    kernel.value_gradient(link, error, source, gradient)
    backward = kernel.source_gradient(link, values, error)
    for found, owner in (
        (forward, units_out),
        (backward, units_in),
        (gradient[:, None], units_out[link.row]),
    ):
        assert torch.equal(found.isnan().any(dim=1), owner == 1)


def test_the_rule_of_a_tile() -> None:
    """A CPU takes sparse rows; a GPU takes dense matrices unless they are both large and very empty."""
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    shapes = np.array([[784, 64, 10]] * 256)
    assert pick_in_tile(shapes, (0, 1), 256 * 784 * 64, cpu) == "sparse_rows"
    assert pick_in_tile(shapes, (1, 2), 256 * 640, cpu) == "sparse_rows"
    assert pick_in_tile(shapes, (0, 1), 256 * 1000, cuda) == "masked_dense"
    assert pick_in_tile(shapes, (1, 2), 256 * 100, cuda) == "batched_dense"
    many = np.array([[784, 64, 10]] * 1024)
    assert pick_in_tile(many, (0, 1), 1024 * 100, cuda) == "sparse_rows"
    # One wide network among narrow ones: the padding counts.
    uneven = np.array([[8, 2, 2]] * 999 + [[8, 200, 200]])
    assert pick_in_tile(uneven, (1, 2), 44_000, cuda) == "sparse_rows"
