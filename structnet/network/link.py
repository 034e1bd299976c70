"""SparseLink: the connections from one group to another, compiled for a device."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch

from structnet.network.kernels import KERNELS, pick_kernel
from structnet.network.topology import Topology


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
        self.n_in, self.n_out = topology.architecture[pair[0]], topology.architecture[pair[1]]
        self.connections = self.span.stop - self.span.start
        self.device = device
        self._row = topology.target[self.span] - np.int32(topology.offsets[pair[1]])
        self._column = topology.source[self.span] - np.int32(topology.offsets[pair[0]])
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

    def index_bytes(self) -> int:
        """Bytes of the index arrays made so far, on the host and on the device; shared memory counts once."""
        held = [self.__dict__.get(name) for name in ("column", "row_pointer", "cell")]
        held += list(self.__dict__.get("transposed", ()))
        sizes = {array.ctypes.data: array.nbytes for array in (self._row, self._column)}
        sizes |= {tensor.data_ptr(): tensor.nbytes for tensor in held if tensor is not None}
        return sum(sizes.values())

    def __repr__(self) -> str:
        return (
            f"SparseLink({self.pair[0]}→{self.pair[1]}, {self.connections:,} of {self.n_in}×{self.n_out}, "
            f"{self.kernel_name})"
        )

    def _on_device(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


def _pointer(index: np.ndarray, length: int) -> np.ndarray:
    pointer = np.zeros(length + 1, dtype=np.int32)
    np.cumsum(np.bincount(index, minlength=length), out=pointer[1:])
    return pointer
