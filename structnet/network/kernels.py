"""The few ways to compute a link, and the rule that picks one.

All take features × batch: a link from n_in to n_out units maps (n_in, batch) to (n_out, batch). `sparse_rows`
keeps the connections as CSR rows and touches nothing else: a CSR product forward, a sampled dense-dense
product for the gradient of the values, and the product with the transposed rows for the gradient of the
source. `masked_dense` scatters the values into a matrix for the moment of a product: more arithmetic, but
in the form the hardware likes best, so it wins for links that are nearly full and for small links on a GPU.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from structnet.network.link import SparseLink


# Said once per process by torch (the second by 2.11); the users of this library can do nothing about them, and
# the tensors made here are valid by construction.
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
warnings.filterwarnings("ignore", message="Sparse invariant checks are implicitly disabled")


class Kernel(Protocol):
    """The three products of a link; `values` is the (connections,) vector of the link."""

    def forward(
        self, link: SparseLink, values: torch.Tensor, source: torch.Tensor, start: torch.Tensor
    ) -> torch.Tensor:
        """start + W @ source: (n_out, batch). start broadcasts over the batch."""

    def value_gradient(
        self, link: SparseLink, error: torch.Tensor, source: torch.Tensor, out: torch.Tensor
    ) -> None:
        """Gradient of the values from the error at the target, (n_out, batch), written to out.

        out: (connections,), zero before; a view of the gradient of the flat vector.
        """

    def source_gradient(self, link: SparseLink, values: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
        """Wᵀ @ error: (n_in, batch)."""


class SparseRows:
    """Compressed sparse rows."""

    def forward(
        self, link: SparseLink, values: torch.Tensor, source: torch.Tensor, start: torch.Tensor
    ) -> torch.Tensor:
        rows = _csr(link.row_pointer, link.column, values, link.n_out, link.n_in)
        return _product(rows, source).add_(start)

    def value_gradient(
        self, link: SparseLink, error: torch.Tensor, source: torch.Tensor, out: torch.Tensor
    ) -> None:
        pattern = _csr(link.row_pointer, link.column, out, link.n_out, link.n_in)
        torch.sparse.sampled_addmm(pattern, error, source.t(), beta=0.0, out=pattern)

    def source_gradient(self, link: SparseLink, values: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
        pointer, column, order = link.transposed
        rows = _csr(pointer, column, values.index_select(0, order), link.n_in, link.n_out)
        return _product(rows, error)


class MaskedDense:
    """A dense matrix that exists for one product."""

    def forward(
        self, link: SparseLink, values: torch.Tensor, source: torch.Tensor, start: torch.Tensor
    ) -> torch.Tensor:
        return torch.addmm(start.expand(link.n_out, source.shape[1]), link.dense(values), source)

    def value_gradient(
        self, link: SparseLink, error: torch.Tensor, source: torch.Tensor, out: torch.Tensor
    ) -> None:
        torch.index_select((error @ source.t()).view(-1), 0, link.cell, out=out)

    def source_gradient(self, link: SparseLink, values: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
        return link.dense(values).t() @ error


KERNELS: dict[str, Kernel] = {"sparse_rows": SparseRows(), "masked_dense": MaskedDense()}


def pick_kernel(n_in: int, n_out: int, connections: int, device: torch.device) -> str:
    """The name of the kernel for a link, from its size alone: a rule, not a timing, so that runs repeat.

    CPU: `structnet bench links --rule` finds both equally fast at a density between 0.2 (64-32) and 0.4
    (1000-10), about 0.25 for the links that cost most. CUDA: not measured yet; reports of others say that a
    dense product wins until a matrix is both large and very empty.
    """
    cells = n_in * n_out
    if device.type == "cuda":
        return "sparse_rows" if cells > 2**24 and connections * 100 < cells else "masked_dense"
    if device.type != "cpu":
        return "masked_dense"
    return "sparse_rows" if connections * 4 < cells else "masked_dense"


def _csr(
    pointer: torch.Tensor, column: torch.Tensor, values: torch.Tensor, rows: int, columns: int
) -> torch.Tensor:
    return torch.sparse_csr_tensor(pointer, column, values, (rows, columns), check_invariants=False)


def _product(rows: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
    """CSR @ dense.

    On a CPU by torch's own loop over the rows rather than MKL's: as fast at a batch of 128 and up to twice as
    fast at 2,000, there on every CPU, and a row is summed in the order of its columns wherever it lies.
    """
    if dense.device.type == "cpu":
        return torch.sparse.mm(rows, dense, "sum")
    return rows @ dense
