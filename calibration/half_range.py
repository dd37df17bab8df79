"""How far the tensors of a graph go, against the range of half precision: which overflow, and which would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.tensors import Array

from .component_graph import ComponentGraph
from .feeds import Sample
from .walk import walk

__all__ = ["LARGEST_HALF", "TensorRange", "tensor_ranges"]

LARGEST_HALF = 65504.0
ROUNDED_TO_INFINITY = 65520.0
"""From here on a value has no neighbour in half precision."""
MASKED_SCORE = -65504.0
"""What graphs write in the place of a score that is not to count."""


@dataclass(frozen=True)
class TensorRange:
    """A floating tensor over all samples."""

    name: str
    layer: str
    """Name of the node that makes it."""
    operator: str
    dtype: str
    amax: float
    """Largest finite magnitude; of what only a softmax reads, largest positive value: below, all is masked."""
    not_finite: int
    """Values that are NaN or infinite, masked ones left out."""

    @property
    def overflows(self) -> bool:
        """Whether values are lost, here or in what it is made from."""
        return self.not_finite > 0

    @property
    def beyond_half(self) -> bool:
        """Whether half precision could not hold it."""
        return self.overflows or self.amax >= ROUNDED_TO_INFINITY


def tensor_ranges(graph: ComponentGraph, feeds: Sequence[Sample], *, threads: int = 0) -> list[TensorRange]:
    """Every floating tensor that a node makes, in the order of the graph: the first that overflows is the cause.

    Args:
        feeds: what the graph takes, sample by sample.

    Raises:
        InferenceFailed: the backend refuses the graph or the feeds.
    """
    seen = {name: _Seen(_read_by_softmax(graph, name)) for node in graph.nodes for name in node.output if name}
    for _ in walk(graph, feeds, seen, threads=threads):
        pass
    made = ((name, node) for node in graph.nodes for name in node.output if name)
    return [
        TensorRange(name, node.name, node.op_type, seen[name].dtype, seen[name].amax, seen[name].not_finite)
        for name, node in made
        if seen[name].dtype
    ]


def _read_by_softmax(graph: ComponentGraph, name: str) -> bool:
    readers = graph.consumers.get(name, ())
    return bool(readers) and all(graph.nodes[i].op_type == "Softmax" for i in readers)


@dataclass
class _Seen:
    scores: bool
    dtype: str = ""
    """Empty for what is no float."""
    amax: float = 0.0
    not_finite: int = 0

    def __call__(self, array: Array, number: int) -> None:
        if array.dtype.kind != "f":
            return
        self.dtype = array.dtype.name
        values: NDArray[Any] = array
        masked = values < 0 if self.scores else values == MASKED_SCORE
        counted = np.isfinite(values) & ~masked
        self.not_finite += int(np.count_nonzero(~(counted | masked)))
        self.amax = max(self.amax, float(np.abs(values, where=counted, out=np.zeros_like(values)).max(initial=0)))
