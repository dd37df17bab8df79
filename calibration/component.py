"""Calibrate one component: walk its graph once, quantise each layer as it is reached, and judge what comes out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from .choices import Choices
from .component_graph import ComponentGraph
from .decide import Decisions
from .feeds import Sample, digest
from .judge import Judge, head_step
from .layer_writer import LayerWriter
from .layers import MOVES, Group, Layer, find_groups
from .ranges import Observed, Range, own_range
from .report.calibration_report import LayerReport, StageReport
from .trial import Measured
from .walk import stored_outputs, together, walk

__all__ = ["ComponentCalibration", "calibrate_component"]

GPTQ_ROWS = 8
"""Times as many rows as trials need."""
ATTEMPTS = 4
"""At a component whose output is not good enough: each gives more bits to a quarter of the layers that are rounded."""


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
        self._groups = find_groups(graph)
        packed = target == "onnxruntime"
        self._decisions = Decisions(name, graph, self._groups, choices, packed, min_db)
        self._writer = LayerWriter(graph, folder, packed)
        results = [graph.nodes[la.node].output[0] for g in self._groups for la in g.layers if la.kind == "Conv"]
        self._outputs = {
            name: Observed(len(feeds), None)
            for name in results
            if packed and not any(graph.nodes[i].op_type in MOVES for i in graph.consumers.get(name, ()))
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
        files = self._writer.save()
        rounded, judge = ComponentGraph(files[0]), Judge(exact)
        rounded.head_step = self._graph.head_step
        for _ in walk(rounded, self._feeds, {name: judge.watcher(name) for name in rounded.outputs}, threads=threads):
            pass
        return self._stage_report(judge, digest(raw))

    def close(self) -> None:
        self._writer.close()

    def _observed(self, group: Group) -> Observed:
        if group.layers[0].kind != "MatMul":
            return Observed(len(self._feeds), None)
        more = GPTQ_ROWS if self._choices.weights == "gptq" and self._decisions.weights_alone else 1
        return Observed(len(self._feeds), self._choices.rows * more)

    def _quantise(self, group: Group, seen: Observed) -> None:
        if not seen.measurable:  # nothing is known of what it will read
            for layer in group.layers:
                self._report(layer, None, seen, None)
        elif self._decisions.weights_alone:
            for layer, choice in self._decisions.weights(group, seen):
                self._writer.weight(layer, choice, seen.dtype)
                self._report(layer, f"int{choice.bits} weight" if choice.bits else None, seen, choice.snr_db)
        else:
            rounded = self._decisions.group(group, seen, [self._end(layer, seen) for layer in group.layers])
            self._writer.group(group, rounded, seen.dtype)
            for k, layer in enumerate(group.layers):
                snr_db = rounded.found.snr_db[k]
                self._report(layer, "int8" if rounded.rounded[k] else None, seen, snr_db, rounded.found, k)

    def _output(self, layer: Layer) -> str:
        return str(self._graph.nodes[layer.node].output[0])

    def _end(self, layer: Layer, seen: Observed) -> Range | None:
        """The range that the output of a convolution is rounded in, where it is."""
        out = self._outputs.pop(self._output(layer), None)
        return own_range(out, self._choices.method) if out and out.measurable and seen.dtype == "float32" else None

    def _report(
        self,
        layer: Layer,
        stored_as: str | None,
        seen: Observed,
        snr: float | None,
        found: Measured | None = None,
        k: int = 0,
    ) -> None:
        self._wider += stored_as is None or not stored_as.startswith(f"int{self._decisions.asked(layer)}")
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
    minimum = -math.inf
    for _ in range(ATTEMPTS):
        one = ComponentCalibration(name, graph, feeds, choices, target, folder, minimum)
        try:
            stage = one.run(raw, threads=threads, progress=progress)
        finally:
            one.close()
        rounded = [
            layer.snr_db for layer in one.layers if layer.stored_as.startswith("int") and layer.snr_db is not None
        ]
        if stage.reached or not rounded:
            break
        minimum = math.nextafter(sorted(rounded)[len(rounded) // 4], math.inf)
    return stage, one.layers
