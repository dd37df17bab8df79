"""Write what was decided for each layer into the graph of a component."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .component_graph import ComponentGraph
from .decide import GroupChoice, WeightChoice
from .layers import Group, Layer, table_of
from .rewrite import Rewrite
from .trial import columns_of
from .weight_scales import Blocked, channel_int8

__all__ = ["LayerWriter"]

Floats = NDArray[np.float32]


class LayerWriter:
    """The graph of one component on its way into ``folder``.

    Args:
        packed: the backend has an operator for weights in blocks of 8 bits, and convolves in integers.
    """

    def __init__(self, graph: ComponentGraph, folder: Path, packed: bool) -> None:
        self._graph, self._packed = graph, packed
        self._rewrite = Rewrite(graph, folder)

    def save(self) -> list[Path]:
        """Write the files; the graph is the first."""
        return self._rewrite.save()

    def close(self) -> None:
        """Give back what is open."""
        self._rewrite.close()

    def group(self, group: Group, choice: GroupChoice, dtype: str) -> None:
        """Round layers together with what they read, which has that ``dtype``."""
        found = choice.found
        if all(choice.rounded) and self._packed and (gather := table_of(self._graph, group)) is not None:
            self._rewrite.table(gather, group.x, found.range, dtype)
        for layer, rounded, end in zip(group.layers, choice.rounded, choice.ends):
            if rounded:
                self._rewrite.activation(layer, group.x, found.range, dtype)
                values, scales = self._channels(layer, found.factor, dtype)
                self._rewrite.channel_weight(layer, values, scales, dtype)
                if end:
                    self._rewrite.integer_convolution(layer, found.range, end, scales)
            elif any(choice.rounded) and found.factor is not None:  # what it reads is smoothed for the others
                smoothed = layer.values(self._graph).astype(np.float32) * found.factor[:, None]
                self._rewrite.values(layer.weight, smoothed.T if layer.turned else smoothed)
        if any(choice.rounded) and found.factor is not None and group.norm:
            for name in group.norm.vectors:
                self._rewrite.values(name, self._graph.array(name).astype(np.float32) / found.factor)

    def weight(self, layer: Layer, choice: WeightChoice, dtype: str) -> None:
        """Round a weight alone, where it was decided."""
        if choice.bits is None:
            return
        if choice.blocks:
            whole = _joined(choice.blocks)
            choice.blocks.clear()  # a head takes half a gigabyte
            if self._packed:
                self._rewrite.packed_weight(layer, whole)
            else:
                self._rewrite.block_weight(layer, whole, dtype)
            return
        values, scales = self._channels(layer, None, dtype)
        if layer.kind == "MatMul" and not self._packed:
            self._rewrite.rescaled_weight(layer, values, scales, dtype)
        else:
            self._rewrite.channel_weight(layer, values, scales, dtype)

    def _channels(self, layer: Layer, factor: Floats | None, dtype: str) -> tuple[NDArray[np.int8], Floats]:
        """The whole weight in int8 and its scales; in float32 only so many outputs at a time."""
        parts = [
            channel_int8(weight if factor is None else weight * factor[:, None], layer.axis, dtype)
            for _, weight in columns_of(self._graph, layer)
        ]
        values, scales = zip(*parts)
        return np.concatenate(values, axis=layer.axis), np.concatenate(scales)


def _joined(parts: list[Blocked]) -> Blocked:
    """Columns that were rounded some at a time."""
    return Blocked(
        parts[0].grid,
        *(np.concatenate([getattr(part, name) for part in parts], axis=1) for name in ("values", "scales", "zeros")),
    )
