"""SparseLink: the connections from one group to another, and the few ways in which torch computes them.

On a CPU networks are compiled (structnet.compiled) unless they ask for one of these kernels, which are what CUDA has.
All take features × batch: a link from n_in to n_out units maps (n_in, batch) to (n_out, batch). `sparse_rows` keeps the
connections as CSR rows and touches nothing else: a CSR product forward, a sampled dense-dense product for the gradient
of the values, and the product with the transposed rows for the gradient of the source. `masked_dense` scatters the
values into a matrix for the moment of a product: more arithmetic, but in the form that GPUs like best.
"""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from typing_extensions import override

from structnet.network.topology import Topology

# Said once per process by torch (the second by 2.11); the users of this library can do nothing about them, and
# the tensors made here are valid by construction.
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
warnings.filterwarnings("ignore", message="Sparse invariant checks are implicitly disabled")


class SparseLink:
    """One slice of a network's connections, with the index arrays its kernel needs and nothing else.

    pair: (source group, target group). span: where its values lie in the network's flat vector. row and
    column: (connections,) int32 positions within the target and the source group.
    """

    def __init__(
        self, topology: Topology, pair: tuple[int, int], device: torch.device, kernel: str = "auto"
    ) -> None:
        self.pair = pair
        self.span = topology.links[pair]
        self.n_in, self.n_out = topology.shape_of(pair)
        self.connections = int(self.span.stop - self.span.start)
        self.device = device
        self._row, self._column = topology.positions(pair)
        if kernel == "auto":
            kernel = pick_kernel(self.n_in, self.n_out, self.connections, device)
        self.kernel_name = kernel
        self.kernel = KERNELS[kernel]

    @property
    def density(self) -> float:
        """Connections that exist ÷ n_in · n_out."""
        return self.connections / (self.n_in * self.n_out)

    @property
    def row(self) -> torch.Tensor:
        """(connections,) int32 positions in the target group."""
        return self._on_device(self._row)

    @cached_property
    def column(self) -> torch.Tensor:
        """(connections,) int32 positions in the source group."""
        return self._on_device(self._column)

    @cached_property
    def row_pointer(self) -> torch.Tensor:
        """(n_out + 1,) int32: where each row starts."""
        return self._on_device(_pointer(self._row, self.n_out))

    @cached_property
    def transposed(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Row pointer, columns and order of the values of the transposed link, int32."""
        order = np.argsort(self._column, kind="stable")
        pointer = _pointer(self._column, self.n_in)
        return (
            self._on_device(pointer),
            self._on_device(self._row[order]),
            self._on_device(order.astype(np.int32)),
        )

    @cached_property
    def cell(self) -> torch.Tensor:
        """(connections,) int64 position of each connection in the flattened (n_out, n_in) matrix."""
        return self._on_device(self._row.astype(np.int64) * self.n_in + self._column)

    def dense(self, values: torch.Tensor) -> torch.Tensor:
        """The (n_out, n_in) matrix of these values, zero where no connection exists."""
        matrix = values.new_zeros(self.n_out * self.n_in)
        return matrix.scatter_(0, self.cell, values).view(self.n_out, self.n_in)

    def __repr__(self) -> str:
        return (
            f"SparseLink({self.pair[0]}→{self.pair[1]}, {self.connections:,} of {self.n_in}×{self.n_out}, "
            f"{self.kernel_name})"
        )

    def _on_device(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


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


class SparseRows(Kernel):
    """Compressed sparse rows."""

    @override
    def forward(
        self, link: SparseLink, values: torch.Tensor, source: torch.Tensor, start: torch.Tensor
    ) -> torch.Tensor:
        rows = _csr(link.row_pointer, link.column, values, link.n_out, link.n_in)
        return _product(rows, source).add_(start)

    @override
    def value_gradient(
        self, link: SparseLink, error: torch.Tensor, source: torch.Tensor, out: torch.Tensor
    ) -> None:
        pattern = _csr(link.row_pointer, link.column, out, link.n_out, link.n_in)
        torch.sparse.sampled_addmm(pattern, error, source.t(), beta=0.0, out=pattern)

    @override
    def source_gradient(self, link: SparseLink, values: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
        pointer, column, order = link.transposed
        rows = _csr(pointer, column, values.index_select(0, order), link.n_in, link.n_out)
        return _product(rows, error)


class MaskedDense(Kernel):
    """A dense matrix that exists for one product."""

    @override
    def forward(
        self, link: SparseLink, values: torch.Tensor, source: torch.Tensor, start: torch.Tensor
    ) -> torch.Tensor:
        return torch.addmm(start.expand(link.n_out, source.shape[1]), link.dense(values), source)

    @override
    def value_gradient(
        self, link: SparseLink, error: torch.Tensor, source: torch.Tensor, out: torch.Tensor
    ) -> None:
        torch.index_select((error @ source.t()).view(-1), 0, link.cell, out=out)

    @override
    def source_gradient(self, link: SparseLink, values: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
        return link.dense(values).t() @ error


KERNELS: dict[str, Kernel] = {"sparse_rows": SparseRows(), "masked_dense": MaskedDense()}


def pick_kernel(n_in: int, n_out: int, connections: int, device: torch.device) -> str:
    """The name of the kernel for a link, from its size alone: a rule, not a timing, so that runs repeat.

    CUDA: not measured yet; reports of others say that a dense product wins until a matrix is both large and very empty.
    """
    cells = n_in * n_out
    if device.type == "cuda":
        return "sparse_rows" if cells > 2**24 and connections * 100 < cells else "masked_dense"
    return "sparse_rows" if device.type == "cpu" else "masked_dense"


def _pointer(index: np.ndarray, length: int) -> np.ndarray:
    pointer = np.zeros(length + 1, dtype=np.int32)
    np.cumsum(np.bincount(index, minlength=length), out=pointer[1:])
    return pointer


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
        product: torch.Tensor = torch.sparse.mm(rows, dense, "sum")
        return product
    return rows @ dense
