"""Decide how each layer of a component is stored: in as few bits as it bears."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from .choices import Choices
from .component_graph import ComponentGraph
from .layers import Group, Layer
from .ranges import Observed, Range
from .trial import Measured, best_trial, layer_snr_db, with_rounded_outputs
from .weight_scales import (
    Blocked,
    BlockGrid,
    block_that_fits,
    channel_int8,
    dequantised,
    gptq_blocks,
    moments_factor,
    round_blocks,
)

__all__ = ["Decisions", "GroupChoice", "WeightChoice", "asked_bits"]

Floats = NDArray[np.float32]


def asked_bits(component: str, groups: Sequence[Group], choices: Choices) -> Iterator[tuple[Layer, int]]:
    """Every layer, and the bits that its weight is to have if it bears them."""
    last = groups[-1].layers[-1] if groups else None
    for layer in (layer for group in groups for layer in group.layers):
        if choices.weights_alone(component):
            yield layer, choices.bits(component, first=layer.name.startswith("layers.0/"), head=layer is last)
        else:
            yield layer, 8


@dataclass(frozen=True)
class GroupChoice:
    """How layers that read the same tensor are rounded, with that tensor."""

    found: Measured
    rounded: tuple[bool, ...]
    """Of each layer; the others stay as wide as they were."""
    ends: tuple[Range | None, ...]
    """Of each layer that is a convolution whose output is rounded, too: in what range."""


@dataclass(frozen=True)
class WeightChoice:
    """How a weight is stored whose activations keep their type."""

    bits: int | None
    """None leaves it as wide as it was."""
    snr_db: float
    blocks: list[Blocked] = field(default_factory=list)
    """Of its columns, some at a time; empty where every output has one scale. Who writes them takes them out."""


class Decisions:
    """What layers of one component bear.

    Args:
        packed: the backend has an operator for weights in blocks of 8 bits.
        min_db: layers with less signal to noise get more bits, even if ``choices`` would bear them.
    """

    def __init__(
        self,
        component: str,
        graph: ComponentGraph,
        groups: Sequence[Group],
        choices: Choices,
        packed: bool,
        min_db: float,
    ) -> None:
        self._graph, self._choices, self._packed, self._min_db = graph, choices, packed, min_db
        self.weights_alone = choices.weights_alone(component)
        """Activations keep their type."""
        self._bits = dict(asked_bits(component, groups, choices))

    def asked(self, layer: Layer) -> int:
        """Bits that its weight is to have."""
        return self._bits[layer]

    def group(self, group: Group, seen: Observed, ends: Sequence[Range | None]) -> GroupChoice:
        """How ``group`` is rounded together with what it reads."""
        choices = self._choices
        found = best_trial(self._graph, group, seen, choices.method, smoothing=choices.smoothing)
        found = with_rounded_outputs(self._graph, group, seen, found, list(ends))
        return GroupChoice(found, tuple(self._bears(level, 8) for level in found.snr_db), tuple(ends))

    def weights(self, group: Group, seen: Observed) -> Iterator[tuple[Layer, WeightChoice]]:
        """How the weight of each layer is stored, one after the other."""
        # made for the first layer that asks for it: all of them read the same
        factor = cache(lambda: moments_factor(seen.inputs()[0]))
        for layer in group.layers:
            yield layer, self._weight(layer, seen, factor)

    def _bears(self, snr_db: float, bits: int) -> bool:
        return snr_db >= self._min_db and self._choices.keeps(snr_db, bits)

    def _weight(self, layer: Layer, seen: Observed, factor: Callable[[], Floats]) -> WeightChoice:
        """In as few bits as it bears: those that are asked, else 8, else as it was."""
        width = layer.values(self._graph).shape[0]
        block = block_that_fits(self._choices.block, width) if layer.kind == "MatMul" else None
        for bits in sorted({self._bits[layer], 8} if block else {8}):
            if block is None or (bits == 8 and not self._packed):
                choice = self._in_channels(layer, seen)
            else:
                choice = self._in_blocks(layer, seen, factor, block, bits)
            if self._bears(choice.snr_db, choice.bits or 8):
                return choice
        return WeightChoice(None, choice.snr_db)

    def _in_channels(self, layer: Layer, seen: Observed) -> WeightChoice:
        def rounded(part: slice, weight: Floats) -> Floats:
            return dequantised(*channel_int8(weight, layer.axis, seen.dtype), layer.axis)

        return WeightChoice(8, layer_snr_db(self._graph, layer, seen.inputs(), rounded))

    def _in_blocks(
        self, layer: Layer, seen: Observed, factor: Callable[[], Floats], block: int, bits: int
    ) -> WeightChoice:
        symmetric = bits == 8 or not self._packed
        grid = BlockGrid(block, bits, symmetric, "float32" if self._packed else seen.dtype)
        parts: list[Blocked] = []

        def rounded(part: slice, weight: Floats) -> Floats:
            if bits == 4 and self._choices.weights == "gptq":
                parts.append(gptq_blocks(weight, factor(), grid))
            else:
                parts.append(round_blocks(weight, grid, search=bits == 4 and self._choices.weights == "searched"))
            return parts[-1].floats()

        snr_db = layer_snr_db(self._graph, layer, seen.inputs(), rounded)
        return WeightChoice(bits, snr_db, parts)
