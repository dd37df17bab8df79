"""Weights of a checkpoint in the modules that use them: by name, in one dtype, on one device, one layer at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from vita_edge.export.checkpoint.tensor import LazyTensor

__all__ = ["Layers", "Table", "Weights"]

Module = TypeVar("Module", bound=nn.Module)
BLOCK_ROWS = 8192
"""Rows of the output layer that are in memory at once."""


@dataclass(frozen=True)
class Weights:
    """Tensors whose names begin with ``prefix``; a module asks for them by the rest of the name."""

    tensors: Mapping[str, LazyTensor]
    dtype: torch.dtype
    device: torch.device
    prefix: str = ""

    def below(self, prefix: str) -> Weights:
        return replace(self, prefix=f"{self.prefix}{prefix}")

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Rows of a tensor: dtype and device of these weights, [stop - start, ...]."""
        tensor = self.tensors[self.prefix + name]
        stored = tensor.raw_rows(start, tensor.shape[0] if stop is None else stop)
        if tensor.dtype == "bfloat16":
            return torch.from_numpy(stored.view(np.int16)).view(torch.bfloat16).to(self.device, self.dtype)
        return torch.from_numpy(stored).to(self.device, self.dtype)

    def load(self, make: Callable[[], Module]) -> Module:
        """The module that ``make`` makes, with these weights; its parameters bear the names of the release."""
        with torch.device("meta"):
            module = make()
        module.load_state_dict({name: self.rows(name) for name in module.state_dict()}, assign=True)
        return module.eval().requires_grad_(False)

    @property
    def nbytes(self) -> int:
        """Bytes of all these tensors in ``dtype``."""
        sizes = (tensor.size for name, tensor in self.tensors.items() if name.startswith(self.prefix))
        return sum(sizes) * self.dtype.itemsize


class Layers:
    """Equal layers, one after the other.

    They stay in memory when all of them take at most ``resident_bytes``. Otherwise each is read when its turn comes.
    """

    def __init__(
        self, weights: Weights, count: int, make: Callable[[], nn.Module], resident_bytes: int = 1 << 30
    ) -> None:
        self._weights, self._count, self._make = weights, count, make
        self._resident: list[nn.Module] | None = None
        if weights.nbytes <= resident_bytes:
            self._resident = list(self._read())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._resident) if self._resident is not None else self._read()

    def __len__(self) -> int:
        return self._count

    def _read(self) -> Iterator[nn.Module]:
        for i in range(self._count):
            yield self._weights.below(f"{i}.").load(self._make)


class Table:
    """A large matrix of rows, never whole in memory: token embeddings, or the output layer."""

    def __init__(self, weights: Weights, name: str, count: int) -> None:
        self._weights, self._name, self._count = weights, name, count

    def rows(self, ids: list[int]) -> Tensor:
        """[len(ids), width]"""
        width = self._weights.tensors[self._weights.prefix + self._name].shape[1]
        if not ids:
            return torch.zeros(0, width, dtype=self._weights.dtype, device=self._weights.device)
        return torch.cat([self._weights.rows(self._name, i, i + 1) for i in ids])

    def project(self, x: Tensor) -> Tensor:
        """x [n, width] → [n, rows], a block of rows at a time."""
        starts = range(0, self._count, BLOCK_ROWS)
        blocks = (self._weights.rows(self._name, start, min(start + BLOCK_ROWS, self._count)) for start in starts)
        return torch.cat([x @ block.T for block in blocks], -1)
