"""Calibrate one component: walk its graph once, quantise each layer as it is reached, and judge what comes out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .choices import Choices
from .component_graph import ComponentGraph
from .feeds import Sample, digest
from .judge import Judge, head_step
from .layers import MOVES, Group, Layer, find_groups, table_of
from .ranges import Observed, Range, own_range
from .report import LayerReport, StageReport
from .rewrite import Rewrite
from .trial import Measured, best_trial, columns_of, layer_snr_db, with_rounded_outputs
from .walk import stored_outputs, together, walk
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

__all__ = ["ComponentCalibration", "asked_bits", "calibrate_component"]

Floats = NDArray[np.float32]

GPTQ_ROWS = 8
"""Times as many rows as trials need."""
ATTEMPTS = 4
"""At a component whose output is not good enough: each gives more bits to a quarter of the layers that are rounded."""


def asked_bits(component: str, groups: Sequence[Group], choices: Choices) -> Iterator[tuple[Layer, int]]:
    """Every layer, and the bits that its weight is to have if it bears them."""
    last = groups[-1].layers[-1] if groups else None
    for layer in (layer for group in groups for layer in group.layers):
        if choices.weights_alone(component):
            yield layer, choices.bits(component, first=layer.name.startswith("layers.0/"), head=layer is last)
        else:
            yield layer, 8


class ComponentCalibration:
    """One component on its way from ``graph`` to a graph with Q/DQ in ``folder``.

    Args:
        target: backend that the bundle was written for; ``onnxruntime`` has an operator of its own for blocks.
        feeds: what the graph takes, sample by sample.
        least_db: layers with less signal to noise get more bits, even if ``choices`` would bear them.
    """

    def __init__(
        self,
        name: str,
        graph: ComponentGraph,
        feeds: Sequence[Sample],
        choices: Choices,
        target: str,
        folder: Path,
        min_db: float = -math.inf,
    ) -> None:
        self._name, self._graph, self._feeds, self._choices = name, graph, feeds, choices
        self._min_db = min_db
        self._packed = target == "onnxruntime"
        self._alone = choices.weights_alone(name)
        self._rewrite = Rewrite(graph, folder)
        self._groups = find_groups(graph)
        self._bits = dict(asked_bits(name, self._groups, choices))
        results = [graph.nodes[la.node].output[0] for g in self._groups for la in g.layers if la.kind == "Conv"]
        self._outputs = {
            name: Observed(len(feeds), None)
            for name in results
            if self._packed and not any(graph.nodes[i].op_type in MOVES for i in graph.consumers.get(name, ()))
        }
        """Of convolutions: the CPU computes one in integers where its output is rounded, too; a transposed one never.
        Not before what moves values: ONNX Runtime 1.32 carries the rounding on through that, and forgets that it is
        signed."""
        self.layers: list[LayerReport] = []
        self._wider = 0

    def run(self, raw: Sequence[Sample], *, threads: int, progress: Callable[[int, int], object]) -> StageReport:
        """Quantise and write; ``raw`` are the samples as they were recorded, for their digest."""
        self._graph.head_step = head_step(self._graph, self._feeds)
        exact, keepers = stored_outputs(self._graph.outputs, len(self._feeds))
        seen = {group.x: self._observed(group) for group in self._groups}
        watched = together(seen, self._outputs, keepers)
        waiting = list(self._groups)
        for segment in walk(self._graph, self._feeds, watched, threads=threads):
            while waiting and max(layer.node for layer in waiting[0].layers) < segment.stop:
                group = waiting.pop(0)
                self._quantise(group, seen.pop(group.x))
                for name in (group.x, *(self._output(layer) for layer in group.layers)):
                    if name not in keepers:
                        watched.pop(name, None)
            progress(segment.stop, len(self._graph.nodes))
        files = self._rewrite.save()
        rounded, judge = ComponentGraph(files[0]), Judge(exact)
        rounded.head_step = self._graph.head_step
        for _ in walk(rounded, self._feeds, {name: judge.watcher(name) for name in rounded.outputs}, threads=threads):
            pass
        return self._stage_report(judge, digest(raw))

    def close(self) -> None:
        self._rewrite.close()

    def _observed(self, group: Group) -> Observed:
        if group.layers[0].kind != "MatMul":
            return Observed(len(self._feeds), None)
        more = GPTQ_ROWS if self._choices.weights == "gptq" and self._alone else 1
        return Observed(len(self._feeds), self._choices.rows * more)

    def _quantise(self, group: Group, seen: Observed) -> None:
        if not seen.measurable:  # nothing is known of what it will read
            for layer in group.layers:
                self._report(layer, None, seen, None)
            return
        if self._alone:
            factor = cache(lambda: moments_factor(seen.inputs()[0]))  # of what all of them read, if one asks for it
            for layer in group.layers:
                self._weight_alone(layer, seen, factor)
            return
        choices = self._choices
        found = best_trial(self._graph, group, seen, choices.method, smoothing=choices.smoothing)
        ends = [self._end(layer, seen) for layer in group.layers]
        found = with_rounded_outputs(self._graph, group, seen, found, ends)
        kept = [self._bears(level, 8) for level in found.snr_db]
        if all(kept) and self._packed and (gather := table_of(self._graph, group)) is not None:
            self._rewrite.table(gather, group.x, found.range, seen.dtype)
        for k, layer in enumerate(group.layers):
            if kept[k]:
                self._rewrite.activation(layer, group.x, found.range, seen.dtype)
                values, scales = self._channels(layer, found.factor, seen.dtype)
                self._rewrite.channel_weight(layer, values, scales, seen.dtype)
                if end := ends[k]:
                    self._rewrite.integer_convolution(layer, found.range, end, scales)
            elif any(kept) and found.factor is not None:  # what it reads is smoothed for the others
                smoothed = layer.values(self._graph).astype(np.float32) * found.factor[:, None]
                self._rewrite.values(layer.weight, smoothed.T if layer.turned else smoothed)
            self._report(layer, "int8" if kept[k] else None, seen, found.snr_db[k], found, k)
        if any(kept) and found.factor is not None and group.norm:
            for name in group.norm.vectors:
                self._rewrite.values(name, self._graph.array(name).astype(np.float32) / found.factor)

    def _bears(self, snr_db: float, bits: int) -> bool:
        return snr_db >= self._min_db and self._choices.keeps(snr_db, bits)

    def _output(self, layer: Layer) -> str:
        return str(self._graph.nodes[layer.node].output[0])

    def _end(self, layer: Layer, seen: Observed) -> Range | None:
        """The range that the output of a convolution is rounded in, where it is."""
        out = self._outputs.pop(self._output(layer), None)
        return own_range(out, self._choices.method) if out and out.measurable and seen.dtype == "float32" else None

    def _channels(self, layer: Layer, factor: Floats | None, dtype: str) -> tuple[NDArray[np.int8], Floats]:
        """The whole weight in int8 and its scales; in float32 only so many outputs at a time."""
        parts = [
            channel_int8(weight if factor is None else weight * factor[:, None], layer.axis, dtype)
            for _, weight in columns_of(self._graph, layer)
        ]
        values, scales = zip(*parts)
        return np.concatenate(values, axis=layer.axis), np.concatenate(scales)

    def _weight_alone(self, layer: Layer, seen: Observed, factor: Callable[[], Floats]) -> None:
        """In as few bits as it bears."""
        bits = self._bits[layer]
        width = layer.values(self._graph).shape[0]
        block = block_that_fits(self._choices.block, width) if layer.kind == "MatMul" else None
        while True:
            if block is None or (bits == 8 and not self._packed):
                bits, snr, write = 8, *self._in_channels(layer, seen)
            else:
                snr, write = self._in_blocks(layer, seen, factor, block, bits)
            if self._bears(snr, bits):
                write()
                return self._report(layer, f"int{bits} weight", seen, snr)
            if bits == 8:
                return self._report(layer, None, seen, snr)
            bits = 8

    def _in_channels(self, layer: Layer, seen: Observed) -> tuple[float, Callable[[], None]]:
        def rounded(part: slice, weight: Floats) -> Floats:
            return dequantised(*channel_int8(weight, layer.axis, seen.dtype), layer.axis)

        snr = layer_snr_db(self._graph, layer, seen.inputs(), rounded)

        def write() -> None:
            values, scales = self._channels(layer, None, seen.dtype)
            if layer.kind == "MatMul" and not self._packed:
                self._rewrite.rescaled_weight(layer, values, scales, seen.dtype)
            else:
                self._rewrite.channel_weight(layer, values, scales, seen.dtype)

        return snr, write

    def _in_blocks(
        self, layer: Layer, seen: Observed, factor: Callable[[], Floats], block: int, bits: int
    ) -> tuple[float, Callable[[], None]]:
        symmetric = bits == 8 or not self._packed
        grid = BlockGrid(block, bits, symmetric, "float32" if self._packed else seen.dtype)
        parts: list[Blocked] = []

        def rounded(part: slice, weight: Floats) -> Floats:
            if bits == 4 and self._choices.weights == "gptq":
                parts.append(gptq_blocks(weight, factor(), grid))
            else:
                parts.append(round_blocks(weight, grid, search=bits == 4 and self._choices.weights == "searched"))
            return parts[-1].floats()

        snr = layer_snr_db(self._graph, layer, seen.inputs(), rounded)

        def write() -> None:
            whole = Blocked(
                grid,
                *(np.concatenate([getattr(p, name) for p in parts], axis=1) for name in ("values", "scales", "zeros")),
            )
            parts.clear()
            if self._packed:
                self._rewrite.packed_weight(layer, whole)
            else:
                self._rewrite.block_weight(layer, whole, seen.dtype)

        return snr, write

    def _report(
        self,
        layer: Layer,
        stored_as: str | None,
        seen: Observed,
        snr: float | None,
        found: Measured | None = None,
        k: int = 0,
    ) -> None:
        self._wider += stored_as is None or not stored_as.startswith(f"int{self._bits[layer]}")
        self.layers.append(
            LayerReport(
                component=self._name,
                name=layer.name,
                kind=layer.kind,
                snr_db=snr,
                stored_as=stored_as or self._graph.array(layer.weight).dtype.name,
                method=found.range.method if found else None,
                limit=found.range.limit if found else None,
                amax=seen.amax if math.isfinite(seen.amax) else None,
                values=seen.values,
                smoothing=found.alpha if found else None,
                minmax_db=found.minmax_db[k] if found and found.minmax_db else None,
            )
        )

    def _stage_report(self, judge: Judge, feeds: str) -> StageReport:
        names = self._graph.outputs
        return StageReport(
            component=self._name,
            output=names[0] if len(names) == 1 else f"{names[0].split('.')[0]}.*",
            samples=len(self._feeds),
            snr_db=judge.snr_db,
            wider=self._wider,
            feeds=feeds,
            same_choice=judge.same_choice,
            target_db=self._choices.target_db(self._name),
            min_db=self._min_db if math.isfinite(self._min_db) else None,
        )


def calibrate_component(
    name: str,
    graph: ComponentGraph,
    feeds: Sequence[Sample],
    choices: Choices,
    target: str,
    folder: Path,
    raw: Sequence[Sample],
    *,
    threads: int,
    progress: Callable[[int, int], object],
) -> tuple[StageReport, list[LayerReport]]:
    """Write the graph into ``folder``, with as many layers rounded as the signal to noise to be reached allows.

    See :class:`ComponentCalibration`.
    """
    least = -math.inf
    for _ in range(ATTEMPTS):
        one = ComponentCalibration(name, graph, feeds, choices, target, folder, least)
        try:
            stage = one.run(raw, threads=threads, progress=progress)
        finally:
            one.close()
        rounded = [
            layer.snr_db for layer in one.layers if layer.stored_as.startswith("int") and layer.snr_db is not None
        ]
        if stage.reached or not rounded:
            break
        least = math.nextafter(sorted(rounded)[len(rounded) // 4], math.inf)
    return stage, one.layers
