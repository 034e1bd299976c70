"""Stand-ins for a GPU: what a step asks of the host is seen on the meta device, and a graph is recorded on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from structnet.training import torch_step


class OnHost(TorchDispatchMode):
    """Keeps the names of operations on what does not lie on the meta device, or that wait for it.

    Such a tensor has a shape and no numbers, so whatever asks for numbers of it fails anyway.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        if "_local_scalar_dense" in str(func) or any(tensor.device.type != "meta" for tensor in tensors):
            self.found.append(str(func))
        return result


class FakeGraph(TorchDispatchMode):
    """Keeps operations with their tensors; `replay` does them again, into the memory of their first results.

    So a number that the host has put into an operation stays what it was, as in a CUDA graph.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, list[torch.Tensor]]] = []
        self.replays = 0
        self._inside: set[int] = set()
        self._before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in tensors_in((args, kwargs)):
            memory = tensor.untyped_storage()
            if memory.data_ptr() not in self._inside | self._before.keys():
                self._before[memory.data_ptr()] = memory, memory.clone()
        result = func(*args, **(kwargs or {}))
        results = tensors_in(result)
        new = {tensor.untyped_storage().data_ptr() for tensor in results}
        self._inside |= new - self._before.keys()
        self.operations.append((func, args, kwargs or {}, results))
        return result

    def put_back(self) -> None:
        """What was there before: nothing is computed while a graph is recorded."""
        for memory, before in self._before.values():
            memory.copy_(before)

    def replay(self) -> None:
        self.replays += 1
        for func, args, kwargs, results in self.operations:
            for kept, again in zip(results, tensors_in(func(*args, **kwargs)), strict=True):
                if kept.untyped_storage().data_ptr() != again.untyped_storage().data_ptr():
                    kept.copy_(again)


def tensors_in(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


class FakeStream:
    def __init__(self, device: torch.device) -> None:
        assert device.type == "cpu"

    def wait_stream(self, other: FakeStream) -> None:
        """All is done at once here."""


def fake_graphs(monkeypatch: pytest.MonkeyPatch) -> list[FakeGraph]:
    """Those that are recorded from now on, by networks whose kernels would allow it."""
    made: list[FakeGraph] = []

    def graph() -> FakeGraph:
        made.append(FakeGraph())
        return made[-1]

    @contextmanager
    def recording(graph: FakeGraph, stream: FakeStream) -> Iterator[None]:
        with graph:
            yield
        graph.put_back()

    monkeypatch.setattr(torch.cuda, "CUDAGraph", graph)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    monkeypatch.setattr(torch.cuda, "Stream", FakeStream)
    monkeypatch.setattr(torch.cuda, "current_stream", FakeStream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch_step, "_is_recordable", lambda network: True)
    return made
