"""Find what can be quantised in a graph: products and convolutions with fixed weights, grouped by what they read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from .component_graph import ComponentGraph

__all__ = ["MOVES", "Group", "Layer", "Norm", "find_groups", "table_of"]

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
CHANNEL_AXIS = {"MatMul": 1, "Conv": 0, "ConvTranspose": 1}
"""Axis of the weight that counts outputs: each of its entries gets a scale of its own."""

MOVES = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Identity", "Pad")
"""What hands values on as they are."""


@dataclass(frozen=True)
class Layer:
    """One operator with fixed weights."""

    name: str
    """That of its weight: ``layers.0/attn.qkv``."""
    node: int
    kind: str
    weight: str
    """The initializer; between it and the operator there may be a Cast or a Transpose."""
    turned: bool = False
    """The initializer of a product is [out, in]."""

    def values(self, graph: ComponentGraph) -> NDArray[Any]:
        """The weight as the operator reads it: [in, out] of a product. A view, mapped."""
        values = graph.array(self.weight)
        return values.T if self.turned else values

    @property
    def axis(self) -> int:
        return CHANNEL_AXIS[self.kind]


@dataclass(frozen=True)
class Norm:
    """What scales the activations of a group channel by channel, and can be scaled further for free."""

    vectors: tuple[str, ...]
    """Initializers to divide: gain, and shift where there is one."""


@dataclass(frozen=True)
class Group:
    """Layers that read the same tensor, and so share a range."""

    x: str
    layers: tuple[Layer, ...]
    norm: Norm | None


def find_groups(graph: ComponentGraph) -> list[Group]:
    """All groups, in the order of the graph."""
    found: dict[str, list[Layer]] = {}
    for i, node in enumerate(graph.nodes):
        if layer := _layer(graph, i, node):
            found.setdefault(node.input[0], []).append(layer)
    return [Group(x, tuple(layers), _norm(graph, x, layers)) for x, layers in found.items()]


def _layer(graph: ComponentGraph, i: int, node: onnx.NodeProto) -> Layer | None:
    if node.op_type not in CHANNEL_AXIS or node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "ConvTranspose" and any(a.name == "group" and a.i != 1 for a in node.attribute):
        return None  # outputs of a group share entries of that axis
    weight, turned = node.input[1], False
    while weight in graph.producer:
        between = graph.nodes[graph.producer[weight]]
        if between.op_type == "Transpose" and node.op_type == "MatMul" and _swaps(between):
            turned = not turned
        elif between.op_type != "Cast":
            return None
        weight = between.input[0]
    tensor = graph.initializers.get(weight)
    if tensor is None or tensor.data_type not in _FLOATS or node.input[0] in graph.initializers:
        return None
    if node.op_type == "MatMul" and len(tensor.dims) != 2:
        return None
    return Layer(weight.removesuffix(".weight"), i, node.op_type, weight, turned)


def _swaps(node: onnx.NodeProto) -> bool:
    return any(a.name == "perm" and list(a.ints) == [1, 0] for a in node.attribute)


def _norm(graph: ComponentGraph, x: str, layers: list[Layer]) -> Norm | None:
    """The vectors to scale, when nothing but these layers sees what they scale."""
    readers = {layer.node for layer in layers}
    if any(layer.kind != "MatMul" for layer in layers) or set(graph.consumers[x]) != readers:
        return None
    vectors: list[str] = []
    while x in graph.producer and x not in (value.name for value in graph.graph.output):
        node = graph.nodes[graph.producer[x]]
        alone = len(graph.consumers[x]) == 1 or set(graph.consumers[x]) == readers
        if not alone:
            return None
        if node.op_type == "Cast":
            x = node.input[0]
        elif node.op_type == "Add" and (fixed := _vector(graph, node)):
            vectors.append(fixed)
            x = next(name for name in node.input if name != fixed)
        elif node.op_type == "Mul" and (fixed := _vector(graph, node)):
            return Norm((*vectors, fixed))
        elif node.op_type in ("LayerNormalization", "RMSNormalization"):
            own = tuple(name for name in node.input[1:] if name)
            return Norm((*vectors, *own)) if all(len(graph.consumers[name]) == 1 for name in own) else None
        else:
            return None
    return None


def table_of(graph: ComponentGraph, group: Group) -> int | None:
    """The Gather whose rows the group reads, moved at most: what rounds those can round the table itself."""
    x, readers = group.x, {layer.node for layer in group.layers}
    while x in graph.producer and set(graph.consumers[x]) == readers:
        i = graph.producer[x]
        node = graph.nodes[i]
        x, readers = node.input[0], {i}
        tensor = graph.initializers.get(x)
        if node.op_type == "Gather" and tensor is not None and tensor.data_type in _FLOATS:
            return i if graph.consumers[x] == [i] else None
        if node.op_type not in MOVES or node.op_type == "Pad":  # which adds a value of its own
            return None
    return None


def _vector(graph: ComponentGraph, node: onnx.NodeProto) -> str | None:
    """An operand that is a fixed vector of more than one entry, used here alone."""
    for name in node.input:
        tensor = graph.initializers.get(name)
        if tensor is not None and len(tensor.dims) == 1 and tensor.dims[0] > 1 and len(graph.consumers[name]) == 1:
            return name
    return None
