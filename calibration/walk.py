"""Run a graph layer by layer over all samples: memory for one layer and for what passes between two."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper

from vita_edge.engines.cores import thread_count
from vita_edge.engines.errors import InferenceFailed
from vita_edge.engines.tensors import Array

from .component_graph import ComponentGraph, GraphSegment
from .feeds import Sample

__all__ = ["Watcher", "run_graph", "stored_outputs", "together", "walk"]

Watcher = Callable[[Array, int], None]
"""Called with a tensor of a sample, and the number of the sample."""


def walk(
    graph: ComponentGraph, feeds: Sequence[Sample], watched: Mapping[str, Watcher], *, threads: int = 0
) -> Iterator[GraphSegment]:
    """Run ``graph`` over all ``feeds``, one segment after the other; yields a segment when all samples have passed it.

    Args:
        watched: tensors to look at, inputs of the graph among them.

    Raises:
        InferenceFailed: the backend refuses the graph or the feeds.
    """
    live: list[Sample] = [dict(sample) for sample in feeds]
    last_use = {name: max(users) for name, users in graph.consumers.items()}
    for number, sample in enumerate(live):
        for name in watched.keys() & sample.keys():
            watched[name](sample[name], number)
    for segment in graph.segments():
        runner = _Runner(graph, segment, last_use, watched)
        if runner.gives:
            session = runner.open(live[0], threads)
            for number, sample in enumerate(live):
                results = _run(session, runner, sample)
                for name, array in results.items():
                    if name in watched:
                        watched[name](array, number)
                    if last_use.get(name, -1) >= segment.stop:
                        sample[name] = array
            del session
        for sample in live:
            for name in [name for name in sample if last_use.get(name, -1) < segment.stop]:
                del sample[name]
        yield segment


def run_graph(graph: ComponentGraph, feeds: Sequence[Sample], *, threads: int = 0) -> list[Sample]:
    """Outputs of the graph for every sample."""
    outputs, keepers = stored_outputs(graph.outputs, len(feeds))
    for _ in walk(graph, feeds, keepers, threads=threads):
        pass
    return outputs


def stored_outputs(names: Sequence[str], samples: int) -> tuple[list[Sample], dict[str, Watcher]]:
    """A place for tensors ``names`` of every sample, and the watchers that put them there."""
    retained: list[Sample] = [{} for _ in range(samples)]

    def keeper(name: str) -> Watcher:
        def keep(array: Array, number: int) -> None:
            retained[number][name] = array

        return keep

    return retained, {name: keeper(name) for name in names}


def together(*watchers: Mapping[str, Watcher]) -> dict[str, Watcher]:
    """One for every tensor that any of ``watchers`` look at; all that look at it see it."""

    def of(name: str) -> Watcher:
        each = [them[name] for them in watchers if name in them]

        def see(array: Array, number: int) -> None:
            for watcher in each:
                watcher(array, number)

        return see

    return {name: of(name) for name in dict.fromkeys(name for them in watchers for name in them)}


@dataclass
class _Runner:
    """One segment as a graph of its own."""

    graph: ComponentGraph
    segment: GraphSegment
    last_use: Mapping[str, int]
    watched: Mapping[str, Watcher]

    def __post_init__(self) -> None:
        requested = {
            name
            for i in range(self.segment.start, self.segment.stop)
            for name in self.graph.nodes[i].output
            if name and (name in self.watched or self.last_use.get(name, -1) >= self.segment.stop)
        }
        self.nodes: list[onnx.NodeProto] = []
        needed = set(requested)
        for i in range(self.segment.stop - 1, self.segment.start - 1, -1):  # what nobody asks for is not computed
            node = self.graph.runnable(i)
            if needed.intersection(node.output):
                self.nodes.insert(0, node)
                needed.update(name for name in node.input if name)
        made = {name for node in self.nodes for name in node.output}
        self.gives = [name for node in self.nodes for name in node.output if name in requested]
        self.constants = sorted(name for name in needed if name in self.graph.initializers)
        self.needs = sorted(name for name in needed if name not in made and name not in self.graph.initializers)

    def open(self, sample: Sample, threads: int) -> ort.InferenceSession:
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(sample[name].dtype), None)
            for name in self.needs
        ]
        outputs = [onnx.ValueInfoProto(name=name) for name in self.gives]
        constants = [self.graph.initializers[name] for name in self.constants]
        model = helper.make_model(
            helper.make_graph(self.nodes, self.segment.name or "graph", inputs, outputs, constants),
            opset_imports=self.graph.model.opset_import,
            ir_version=self.graph.model.ir_version,
        )
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = thread_count(threads)
        options.enable_mem_pattern = False
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(self.graph.folder))
        options.add_session_config_entry("session.force_spinning_stop", "1")
        # Else a product with a narrow weight and a wide activation is computed with a rounded activation, for speed.
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
        try:
            return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the backend raises classes of its own
            raise self.failed(error) from error

    def failed(self, error: Exception) -> InferenceFailed:
        text = str(error).strip().splitlines() or [type(error).__name__]
        return InferenceFailed(
            f"{self.segment.name or 'A part'} of the graph {self.graph.path.name} failed while it was calibrated.",
            why=text[0],
            fix="Check the bundle with `vita-edge verify`; free some memory, or give fewer --samples.",
        )


def _run(session: ort.InferenceSession, runner: _Runner, sample: Sample) -> Sample:
    feeds = {name: np.asarray(sample[name], order="C") for name in runner.needs}
    try:
        return dict(zip(runner.gives, session.run(runner.gives, feeds)))
    except Exception as error:
        raise runner.failed(error) from error
