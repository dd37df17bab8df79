"""Write a graph anew with explicit Q/DQ: signed, symmetric, zero points of 0; what is not replaced is copied."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from .component_graph import ComponentGraph
from .layers import Layer
from .ranges import Range, activation_scale, rounded_steps
from .weight_scales import Blocked

__all__ = ["Rewrite"]

PAGE = 4096
"""Large weights begin on a page, so that they are mapped and not copied."""
COPY_BYTES = 1 << 24
QDQ_OPSET = 19
"""The first whose QuantizeLinear reads half precision. What 18 and 19 do alike is all that an older graph has."""
BLOCKED_OPSET, BLOCKED_IR = 21, 10
"""The first whose DequantizeLinear knows blocks and 4 bits."""
INT32_STEPS = 2.0**30
SPREAD = 64
"""How much smaller than the largest the one scale may be: the rest of a weight must not vanish."""


class Rewrite:
    """Collects changes to ``graph`` and writes ``{name}.onnx`` and ``{name}.bin`` into ``folder``.

    Weights go into the file as they are given, so that those of one layer are in memory and no more.
    """

    def __init__(self, graph: ComponentGraph, folder: Path) -> None:
        self._graph, self._name = graph, graph.path.stem
        self._file_name, self._graph_file = f"{self._name}.bin", folder / f"{self._name}.onnx"
        self._weights: BinaryIO = (folder / self._file_name).open("wb")
        self._initializers: dict[str, TensorProto] = {}
        self._before: dict[int, list[onnx.NodeProto]] = {}
        self._inputs: dict[tuple[int, int], str] = {}
        self._replaced: dict[int, list[onnx.NodeProto]] = {}
        self._after: dict[int, list[onnx.NodeProto]] = {}
        """What follows a node; the first of it reads what the node now hands out."""
        self._quantised: set[str] = set()
        self._tables: set[str] = set()
        self._opset = QDQ_OPSET
        self._domains: set[str] = set()

    def activation(self, layer: Layer, x: str, limits: Range, dtype: str) -> None:
        """Round what ``layer`` reads to int8; layers that read the same tensor share the rounding."""
        if x in self._tables:
            return  # it comes rounded
        scale, zero = self._steps(x, limits, dtype)
        node = self._graph.nodes[layer.node]
        before = self._before.setdefault(layer.node, [])
        if x not in self._quantised:
            self._quantised.add(x)
            before.append(_node("QuantizeLinear", f"{node.name}.quantize", [x, scale, zero], f"{x}.quantized"))
        output = f"{node.name}.x"
        before.append(_node("DequantizeLinear", output, [f"{x}.quantized", scale, zero], output))
        self._inputs[layer.node, 0] = output

    def table(self, gather: int, x: str, limits: Range, dtype: str) -> None:
        """Keep a table in the very steps to which its rows would be rounded as ``x``, which then is rounded no more."""
        table = self._graph.nodes[gather].input[0]
        values = self._graph.array(table).astype(np.float32)
        self._large(f"{table}.int8", rounded_steps(values, limits.limit, dtype).astype(np.int8))
        self._inputs[gather, 0] = f"{table}.int8"
        self._tables.add(x)
        last = self._graph.producer[x]
        name = self._graph.nodes[last].name
        inputs = [f"{name}.narrow", *self._steps(x, limits, dtype)]
        self._after[last] = [_node("DequantizeLinear", f"{name}.wide", inputs, x)]

    def _steps(self, x: str, limits: Range, dtype: str) -> tuple[str, str]:
        """Scale and zero point of an activation."""
        self._small(f"{x}.range", np.asarray(activation_scale(limits.limit, dtype), dtype))
        self._small("int8_zero", np.zeros((), np.int8))
        return f"{x}.range", "int8_zero"

    def integer_convolution(self, layer: Layer, x: Range, y: Range, scales: NDArray[np.float32]) -> None:
        """Also round the output and the bias of a convolution: ONNX Runtime's CPU then computes it in integers.

        TensorRT parses no int32 bias; it is for bundles of the CPU alone.
        """
        node = self._graph.nodes[layer.node]
        step = activation_scale(x.limit, "float32") * scales
        if len(node.input) > 2 and node.input[2] in self._graph.initializers:
            bias = np.rint(self._graph.array(node.input[2]).astype(np.float64) / step)
            if np.abs(bias).max() >= INT32_STEPS:
                return  # it would not fit: the convolution stays in floats, between rounded tensors
            names = [f"{node.input[2]}.int32", f"{node.input[2]}.scale"]
            self._large(names[0], bias.astype(np.int32))
            self._large(names[1], step.astype(np.float32))
            before = self._before.setdefault(layer.node, [])
            before.append(_node("DequantizeLinear", f"{node.name}.bias", names, f"{node.input[2]}.dequantized", axis=0))
            self._inputs[layer.node, 2] = f"{node.input[2]}.dequantized"
        output, exact, narrow = node.output[0], f"{node.name}.exact", f"{node.name}.narrow"
        self._small(f"{node.name}.output_range", np.asarray(activation_scale(y.limit, "float32"), np.float32))
        scale = [f"{node.name}.output_range", "int8_zero"]
        self._after[layer.node] = [
            _node("QuantizeLinear", narrow, [exact, *scale], narrow),
            _node("DequantizeLinear", f"{node.name}.output", [narrow, *scale], output),
        ]

    def channel_weight(self, layer: Layer, values: NDArray[np.int8], scales: NDArray[np.float32], dtype: str) -> None:
        """An int8 weight with a scale for every output."""
        names = [f"{layer.weight}.int8", f"{layer.weight}.scale", f"{layer.weight}.zero"]
        self._large(names[0], values)
        self._large(names[1], scales.astype(dtype))
        self._large(names[2], np.zeros(len(scales), np.int8))
        self._dequantise(layer, names, axis=layer.axis)

    def rescaled_weight(self, layer: Layer, values: NDArray[np.int8], scales: NDArray[np.float32], dtype: str) -> None:
        """An int8 weight with one scale before the product, and what every output lacks multiplied behind it.

        For a single row, TensorRT fuses a DequantizeLinear of one scale into the product; with one of many it writes
        the whole matrix out wide before every product.
        """
        shared = np.exp2(np.floor(np.log2(max(scales.min(), scales.max() / SPREAD))))  # exact in half precision
        names = [f"{layer.weight}.int8", f"{layer.weight}.scale", "int8_zero"]
        self._large(names[0], values)
        self._small(names[1], np.asarray(shared, dtype))
        self._small(names[2], np.zeros((), np.int8))
        self._large(f"{layer.weight}.rest", (scales / shared).astype(dtype))
        self._dequantise(layer, names)
        node = self._graph.nodes[layer.node]
        product = f"{node.name}.product"
        self._after[layer.node] = [
            _node("Mul", f"{node.name}.rescaled", [product, f"{layer.weight}.rest"], node.output[0])
        ]

    def block_weight(self, layer: Layer, weight: Blocked, dtype: str) -> None:
        """An int4 weight with a scale for every block of inputs."""
        self._opset = BLOCKED_OPSET
        packed = _nibbles((weight.values.reshape(-1) & 0xF).astype(np.uint8))
        name = f"{layer.weight}.int4"
        self._large(name, packed, data_type=TensorProto.INT4, dims=weight.values.shape)
        self._large(f"{layer.weight}.scale", weight.scales.astype(dtype))
        self._dequantise(layer, [name, f"{layer.weight}.scale"], axis=0, block_size=weight.grid.block)

    def packed_weight(self, layer: Layer, weight: Blocked) -> None:
        """A weight in blocks for com.microsoft.MatMulNBits, the CPU's operator for them."""
        grid, (width, rows) = weight.grid, weight.values.shape
        blocks = -(-width // grid.block)
        bytes_ = weight.values.T.astype(np.uint8)
        bytes_ += np.uint8(-grid.lowest)  # wraps around: from signed steps to those above the lowest
        packed = bytes_.reshape(rows, blocks, grid.block)
        packed = _nibbles(packed) if grid.bits == 4 else packed
        name = f"{layer.weight}.int{grid.bits}"
        self._large(name, packed)
        self._large(f"{layer.weight}.scale", np.ascontiguousarray(weight.scales.T, np.float32).ravel())
        inputs = [name, f"{layer.weight}.scale"]
        if grid.bits == 4:
            zeros = (
                (weight.zeros.T - grid.lowest).astype(np.uint8) if grid.symmetric else weight.zeros.T.astype(np.uint8)
            )
            zeros = np.pad(zeros, ((0, 0), (0, blocks % 2)))
            self._large(f"{layer.weight}.zero", _nibbles(zeros).ravel())
            inputs.append(f"{layer.weight}.zero")
        node = self._graph.nodes[layer.node]
        self._replaced[layer.node] = [
            helper.make_node(
                "MatMulNBits",
                [node.input[0], *inputs],
                list(node.output),
                name=node.name,
                domain="com.microsoft",
                K=width,
                N=rows,
                bits=grid.bits,
                block_size=grid.block,
                accuracy_level=4,
            )
        ]
        self._domains.add("com.microsoft")

    def values(self, name: str, array: NDArray[Any]) -> None:
        """Give an initializer other values of the same type and shape."""
        old = self._graph.array(name)
        self._large(name, array.astype(old.dtype).reshape(old.shape))

    def save(self) -> list[Path]:
        """Copy what was not replaced, and write the graph."""
        nodes = self._nodes()
        used = {name for node in nodes for name in node.input}
        for tensor in self._graph.graph.initializer:
            if tensor.name in used and tensor.name not in self._initializers:
                self._copy(tensor)
        self._weights.close()
        old = self._graph.graph
        opsets = [
            helper.make_opsetid(known.domain, known.version if known.domain else max(known.version, self._opset))
            for known in self._graph.model.opset_import
        ]
        known_domains = {opset.domain for opset in opsets}
        opsets += [helper.make_opsetid(domain, 1) for domain in sorted(self._domains - known_domains)]
        graph = helper.make_graph(
            nodes, old.name, old.input, old.output, [t for name, t in self._initializers.items() if name in used]
        )
        model = helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=max(self._graph.model.ir_version, BLOCKED_IR if self._opset >= BLOCKED_OPSET else 0),
            producer_name="vita-edge",
        )
        self._graph_file.write_bytes(model.SerializeToString(deterministic=True))
        return [self._graph_file, self._graph_file.with_name(self._file_name)]

    def close(self) -> None:
        self._weights.close()

    def _nodes(self) -> list[onnx.NodeProto]:
        """In their order, without casts and turns of weights that nobody reads any more."""
        nodes: list[onnx.NodeProto] = []
        for i, node in enumerate(self._graph.nodes):
            nodes += self._before.get(i, [])
            if i in self._replaced:
                nodes += self._replaced[i]
                continue
            changed = onnx.NodeProto()
            changed.CopyFrom(node)
            for (where, k), name in self._inputs.items():
                if where == i:
                    changed.input[k] = name
            nodes.append(changed)
            if after := self._after.get(i):
                changed.output[0] = after[0].input[0]
                nodes += after
        retained: list[onnx.NodeProto] = []
        read = {value.name for value in self._graph.graph.output}
        for node in reversed(nodes):  # one that only an unread one reads is not read either
            if node.op_type not in ("Cast", "Transpose") or read.intersection(node.output):
                retained.append(node)
                read.update(node.input)
        return retained[::-1]

    def _dequantise(self, layer: Layer, inputs: list[str], **attributes: int) -> None:
        output = f"{layer.weight}.dequantized"
        name = f"{self._graph.nodes[layer.node].name}.wide"
        self._before.setdefault(layer.node, []).append(_node("DequantizeLinear", name, inputs, output, **attributes))
        self._inputs[layer.node, 1] = output

    def _small(self, name: str, array: NDArray[Any]) -> None:
        self._initializers[name] = numpy_helper.from_array(array, name)

    def _large(
        self, name: str, array: NDArray[Any], *, data_type: int | None = None, dims: tuple[int, ...] | None = None
    ) -> None:
        offset = self._begin(array.nbytes)
        self._weights.write(np.ascontiguousarray(array).data)
        kind = data_type or helper.np_dtype_to_tensor_dtype(array.dtype)
        self._external(TensorProto(name=name, data_type=kind, dims=dims or array.shape), offset, array.nbytes)

    def _copy(self, tensor: TensorProto) -> None:
        if tensor.data_location != TensorProto.EXTERNAL:
            self._initializers[tensor.name] = tensor
            return
        entry = {item.key: item.value for item in tensor.external_data}
        length = int(entry["length"])
        offset = self._begin(length)
        with (self._graph.folder / entry["location"]).open("rb") as source:
            source.seek(int(entry["offset"]))
            left = length
            while left:
                piece = source.read(min(left, COPY_BYTES))
                if not piece:
                    raise OSError(f"{entry['location']} ends too early")
                left -= self._weights.write(piece)
        self._external(TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims), offset, length)

    def _begin(self, size: int) -> int:
        self._weights.write(b"\0" * (-self._weights.tell() % (PAGE if size >= 4 * PAGE else 64)))
        return self._weights.tell()

    def _external(self, tensor: TensorProto, offset: int, length: int) -> None:
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", self._file_name), ("offset", str(offset)), ("length", str(length))):
            tensor.external_data.add(key=key, value=value)
        self._initializers[tensor.name] = tensor


def _node(kind: str, name: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [output], name=name, **attributes)


def _nibbles(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Two values a byte, the first low."""
    if values.shape[-1] % 2:
        values = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, 1)])
    return np.bitwise_or(values[..., 0::2], np.left_shift(values[..., 1::2], 4, dtype=np.uint8))
