"""A graph of a bundle, its weights left in their file: what it computes, in which order, and from what."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from vita_edge.engines.errors import BadBundle
from vita_edge.engines.onnx_file.external_data import check_external_data
from vita_edge.engines.onnx_file.linked_weights import graph_and_folder
from vita_edge.engines.tensors import TensorSpec

__all__ = ["ComponentGraph", "GraphSegment"]

_LAYER = re.compile(r"^(?:[^/]+/)*?(?:layers|stage)\.\d+(?=/)")


@dataclass(frozen=True)
class GraphSegment:
    """Nodes that are run together: a layer, or what lies between layers."""

    name: str
    start: int
    stop: int


class ComponentGraph:
    """The graph at ``path``. Weights are mapped when they are asked for, and never all in memory.

    Raises:
        BadBundle: the file is no graph, or names weights in another folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        check_external_data(path)
        try:
            content, self.folder = graph_and_folder(path)
            self.model = onnx.load_model_from_string(content)
        except BadBundle:
            raise
        except Exception as error:  # protobuf raises a class of its own
            raise BadBundle(
                f"The graph {path} cannot be read.", why=f"{error}.", fix="Export the checkpoint again."
            ) from error
        self.graph = self.model.graph
        self.nodes: Sequence[onnx.NodeProto] = self.graph.node
        self.initializers = {tensor.name: tensor for tensor in self.graph.initializer}
        self.consumers: dict[str, list[int]] = {}
        self.producer: dict[str, int] = {}
        for i, node in enumerate(self.nodes):
            for name in node.input:
                self.consumers.setdefault(name, []).append(i)
            for name in node.output:
                self.producer[name] = i
        self.head_step = 1
        """Of a decoder that is run over whole sequences: its head sees every so many-th position, from the last on."""

    @property
    def inputs(self) -> list[TensorSpec]:
        return [_spec(value) for value in self.graph.input]

    @property
    def reported_outputs(self) -> list[TensorSpec]:
        """All that the graph hands out."""
        return [_spec(value) for value in self.graph.output]

    @property
    def outputs(self) -> list[str]:
        """Names of what the graph hands out: of a decoder its logits, and a cache only where there is nothing else."""
        names = [value.name for value in self.graph.output]
        if "logits" in names:
            return ["logits"]
        return [name for name in names if not name.startswith("present.")] or names

    def array(self, name: str) -> NDArray[Any]:
        """Values of an initializer, mapped when they lie beside the graph."""
        tensor = self.initializers[name]
        if tensor.data_location != TensorProto.EXTERNAL:
            return numpy_helper.to_array(tensor)
        entry = {item.key: item.value for item in tensor.external_data}
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        file = self.folder / entry["location"]
        if not int(entry.get("length", 0)):
            return np.zeros(tuple(tensor.dims), dtype)
        return np.memmap(file, dtype, mode="r", offset=int(entry.get("offset", 0)), shape=tuple(tensor.dims))

    def segments(self) -> Iterator[GraphSegment]:
        """Nodes in their order, cut where a layer begins or ends."""
        start, last = 0, None
        for i, node in enumerate(self.nodes):
            match = _LAYER.match(node.name)
            key = match[0] if match else node.name.split("/")[0] if "/" in node.name else ""
            if last is not None and key != last:
                yield GraphSegment(last, start, i)
                start = i
            last = key
        if last is not None:
            yield GraphSegment(last, start, len(self.nodes))

    def runnable(self, i: int) -> onnx.NodeProto:
        """Node ``i`` as it is run to calibrate: a decoder's head sees many positions, not only the last."""
        node = self.nodes[i]
        if node.op_type == "Slice" and len(node.input) >= 4:
            start, axis = (self._constant(node.input[k]) for k in (1, 3))
            if start == [-1] and axis == [1] and any(s.name in ("inputs_embeds", "code") for s in self.graph.input):
                return self._every_step(node)
        return node

    def _every_step(self, node: onnx.NodeProto) -> onnx.NodeProto:
        """Instead of a Slice of the last position: all, or every ``head_step``-th from there back to the first."""
        if self.head_step == 1:
            return helper.make_node("Identity", [node.input[0]], list(node.output), name=node.name)
        kind = self.array(node.input[1]).dtype
        names = {"calibration.end": np.iinfo(kind).min, "calibration.step": -self.head_step}
        for name, value in names.items():
            self.initializers[name] = numpy_helper.from_array(np.array([value], kind), name)
        end, step = names
        return helper.make_node(
            "Slice", [node.input[0], node.input[1], end, node.input[3], step], list(node.output), name=node.name
        )

    def _constant(self, name: str) -> list[Any] | None:
        return self.array(name).tolist() if name in self.initializers else None


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    axes = tuple(dim.dim_param or int(dim.dim_value) for dim in tensor.shape.dim)
    return TensorSpec(value.name, np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name, axes)
