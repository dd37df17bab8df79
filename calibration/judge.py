"""How far a component is from what it was: signal to noise of its output, and how often the same token is likeliest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vita_edge.engines.errors import BadBundle
from vita_edge.engines.tensors import Array

from .component_graph import ComponentGraph
from .feeds import Sample
from .trial import snr_db
from .walk import Watcher, stored_outputs, walk

__all__ = ["Judge", "head_step", "judged"]

LOGITS = 1 << 27
"""That are kept to compare with, of all samples together: half a gigabyte, whatever the vocabulary."""


def head_step(graph: ComponentGraph, feeds: Sequence[Sample]) -> int:
    """1 where the logits of all positions can be kept; else every how many-th position they are computed at."""
    widths = [spec.axes[-1] for spec in graph.reported_outputs if spec.name == "logits"]
    if not widths or not isinstance(widths[0], int):
        return 1
    rows = sum(sample[name].shape[1] for sample in feeds for name in ("inputs_embeds", "code") if name in sample)
    return max(1, -(-rows * widths[0] // LOGITS))


class Judge:
    """Takes outputs of a graph as they come and compares them with ``exact``, sample by sample."""

    def __init__(self, exact: Sequence[Sample]) -> None:
        self._exact = exact
        self._signal = self._noise = 0.0
        self._same = self.positions = 0

    def watcher(self, name: str) -> Watcher:
        """For the output ``name``."""

        def compare(array: Array, number: int) -> None:
            want = self._exact[number][name].astype(np.float32)
            self._signal += float(np.square(want, dtype=np.float64).sum())
            self._noise += float(np.square(want - array.astype(np.float32), dtype=np.float64).sum())
            if name == "logits":
                self._same += int((want.argmax(axis=-1) == array.argmax(axis=-1)).sum())
                self.positions += want[..., 0].size

        return compare

    @property
    def snr_db(self) -> float:
        return snr_db(self._signal, self._noise)

    @property
    def same_choice(self) -> float | None:
        """Of a decoder: part of the positions at which the most likely token is the same."""
        return self._same / self.positions if self.positions else None


def _refuse_no_numbers(graph: ComponentGraph, exact: Sequence[Sample]) -> None:
    """Nothing can be compared with a reference that is no number."""
    strange = sum(not np.isfinite(array).all() for sample in exact for array in sample.values())
    if strange:
        raise BadBundle(
            f"{graph.path.name} gives no numbers on {strange} of the recorded samples; nothing can be measured on it.",
            why="Its activations leave half precision, or its weights hold NaN or infinity.",
            fix="Export the checkpoint at --precision fp32 for the same target, and calibrate that bundle: its "
            "activations stay in float32.",
        )


def judged(
    original: ComponentGraph,
    others: Sequence[tuple[ComponentGraph, Sequence[Sample]]],
    feeds: Sequence[Sample],
    *,
    threads: int = 0,
) -> list[Judge]:
    """Run ``original`` over ``feeds``, and each of ``others`` over feeds of its own that stand for the same samples."""
    step = head_step(original, feeds)
    original.head_step = step
    exact, keepers = stored_outputs(original.outputs, len(feeds))
    for _ in walk(original, feeds, keepers, threads=threads):
        pass
    _refuse_no_numbers(original, exact)
    judges = []
    for graph, own in others:
        graph.head_step = step
        judge = Judge(exact)
        for _ in walk(graph, own, {name: judge.watcher(name) for name in graph.outputs}, threads=threads):
            pass
        judges.append(judge)
    return judges
