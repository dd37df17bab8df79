"""Write an ONNX graph by hand, its weights streamed into a file beside it.

Graphs are written, not traced: the model is small and fully specified, so that what runs is what is read here, no
PyTorch is needed, and a weight is in memory only while it is copied (docs/decisions/0001).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ..lowerings.lowering import Lowering
from ..lowerings.onnx_runtime import OnnxRuntime
from ..weights.balance import balanced
from ..weights.blob import Blob
from ..weights.formats import Float16, Float32, LinearFormat, float_blob, half_blob
from ..weights.half import held_by_half
from ..weights.weight import Weight, computed, joined_rows
from ..weights.weight_only import Plain

__all__ = ["GraphBuilder", "table"]

PAGE = 4096
"""Large weights begin on a page, so that they are mapped and not copied."""

_TYPES = {
    "float32": TensorProto.FLOAT,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "float16": TensorProto.FLOAT16,
    "int8": TensorProto.INT8,
    "int4": TensorProto.INT4,
    "uint8": TensorProto.UINT8,
    "bool": TensorProto.BOOL,
}


class GraphBuilder:
    """Collects nodes and weights, then writes ``name.onnx`` and ``name.bin``.

    Tensors are named ``scope/operator`` so that a graph viewer shows the model's own structure; a tensor that a
    comparison may look at gets a plain name by :meth:`tap`.

    Args:
        linear: how the matrices of linear layers are kept and multiplied.
        head: the same for a matrix that only ever meets one row: the last layer of a decoder.
        dialect: of the backend that will run the graph.
    """

    def __init__(
        self,
        name: str,
        linear: LinearFormat | None = None,
        head: LinearFormat | None = None,
        lowering: Lowering | None = None,
    ) -> None:
        self.name = name
        self.lowering = lowering or OnnxRuntime()
        self.floats = self.lowering.floats
        """Type of the weights and of the tensors between the graph's inputs and outputs: float32 or float16."""
        self.format = linear or _plain_format(self.lowering)
        self._linear = self.format
        self._head = head or self.format
        self.taps: list[str] = []
        self.parameters = 0
        self._scope: list[str] = []
        self._counts: dict[str, int] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._constants: list[TensorProto] = []
        self._constant_names: dict[tuple[str, bytes], str] = {}
        self._blobs: list[Blob] = []
        self._remembered: dict[tuple[str, str], str] = {}

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Prefix the names of what is added inside."""
        self._scope.append(name)
        try:
            yield
        finally:
            self._scope.pop()

    @contextmanager
    def stored_in(self, linear: LinearFormat) -> Iterator[None]:
        """Keep the matrices of linear layers that are added inside in another format."""
        before, self._linear = self._linear, linear
        try:
            yield
        finally:
            self._linear = before

    def input(self, name: str, dtype: str, axes: Sequence[int | str]) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], list(axes)))
        return name

    def inner(self, x: str) -> str:
        """A float32 tensor in the type that the graph computes in."""
        return x if self.floats == "float32" else self.cast(x, self.floats)

    def cast(self, x: str, dtype: str) -> str:
        return str(self.op("Cast", x, to=_TYPES[dtype]))

    def result(self, tensor: str, name: str, axes: Sequence[int | str]) -> None:
        """Hand ``tensor`` out as ``name``, in float32."""
        self.output(tensor if self.floats == "float32" else self.cast(tensor, "float32"), name, "float32", axes)

    def output(self, tensor: str, name: str, dtype: str, axes: Sequence[int | str]) -> None:
        """Hand ``tensor`` out as ``name``."""
        self._rename(tensor, name)
        self._outputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], list(axes)))

    def tap(self, tensor: str, name: str) -> str:
        """Give an inner tensor a name under which a comparison can ask for it."""
        self._rename(tensor, name)
        self.taps.append(name)
        return name

    def op(
        self, kind: str, *inputs: str, outputs: int = 1, domain: str = "", called: str | None = None, **attributes: Any
    ) -> Any:
        """Add a node; returns the name of its output, or a list of names when it has several.

        Args:
            called: its name, where later work has to find it; else that of the operator.
        """
        name = self._fresh(called or kind)
        names = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, name=name, domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def node(
        self, kind: str, inputs: Sequence[str], outputs: Sequence[str], domain: str = "", **attributes: Any
    ) -> None:
        """Add a node whose outputs have given names (the KV cache)."""
        self._nodes.append(
            helper.make_node(kind, list(inputs), list(outputs), name=self._fresh(kind), domain=domain, **attributes)
        )

    def constant(self, value: object, dtype: str = "int64", name: str | None = None) -> str:
        """A small constant inside the graph file; equal unnamed ones are shared."""
        array = np.asarray(value, dtype)
        key = (f"{array.dtype}{array.shape}", array.tobytes())
        if name is None:
            if key in self._constant_names:
                return self._constant_names[key]
            name = f"constant_{len(self._constant_names)}"
            self._constant_names[key] = name
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, name: str, weight: Weight, *, learned: bool = True, dtype: str | None = None) -> str:
        """A weight in the file beside the graph, in the graph's own type or in ``dtype``; a table that was not
        ``learned`` is no parameter."""
        blob = half_blob(name, weight) if (dtype or self.floats) == "float16" else float_blob(name, weight)
        return self.blob(replace(blob, parameters=weight.size if learned else 0))

    def convolution(self, name: str, weight: Weight) -> str:
        """The weight of a convolution, or another one that is used whole: kept in the dialect's ``stored``, or in the
        graph's own type where half precision does not hold it."""
        if not self._narrowed(weight):
            return self.weight(name, weight)
        retained = self.weight(name, weight, dtype="float16")
        return str(self.op("Cast", retained, to=_TYPES[self.floats], called=f"{name}.wide"))

    def looked_up(self, name: str, weight: Weight, ids: str) -> str:
        """Rows ``ids`` of a table, kept as narrow as :meth:`convolution` keeps a weight: only what is read is cast."""
        if not self._narrowed(weight):
            return str(self.op("Gather", self.weight(name, weight), ids))
        return self.cast(self.op("Gather", self.weight(name, weight, dtype="float16"), ids), self.floats)

    def _narrowed(self, weight: Weight) -> bool:
        return self.lowering.stored != self.floats and held_by_half(weight)

    def blob(self, blob: Blob) -> str:
        """Values of any type in the file beside the graph."""
        full = "/".join([*self._scope, blob.name])
        self._blobs.append(replace(blob, name=full))
        self.parameters += blob.parameters
        return full

    def remembered(self, what: str, x: str, make: Callable[[], str]) -> str:
        """``make()``, or what it gave for the same ``x`` before."""
        key = (what, x)
        if key not in self._remembered:
            self._remembered[key] = make()
        return self._remembered[key]

    # --- the few shapes of arithmetic that every part of the model is made of

    def linear(
        self, x: str, weight: Weight, bias: Weight | None = None, name: str = "linear", *, head: bool = False
    ) -> str:
        """x [.., in] · weight [out, in]ᵀ + bias [out]."""
        product = (self._head if head else self._linear).multiply(self, x, weight, name)
        return self.op("Add", product, self.weight(f"{name}.bias", bias)) if bias else product

    def linears(self, x: str, weights: dict[str, Weight], name: str) -> list[str]:
        """The products of the same rows with several matrices: one with all of them, called ``name``, where the dialect
        joins them."""
        if not self.lowering.joins_products:
            return [self.linear(x, weight, None, part) for part, weight in weights.items()]
        product, count = self.linear(x, joined_rows(*weights.values()), None, name), len(weights)
        sizes = [weight.shape[0] for weight in weights.values()]
        if len(set(sizes)) > 1:
            return list(self.op("Split", product, self.constant(sizes), axis=-1, outputs=count))
        # TensorRT-RTX makes a Split along the last axis one of the matrix, and joins its pieces anew for each profile.
        apart = self.reshape(product, [0, 0, count, sizes[0]])
        parts = self.op("Split", apart, self.constant([1] * count), axis=2, outputs=count)
        return [self.reshape(part, [0, 0, sizes[0]]) for part in parts]

    def balanced(self, gain: Weight, *matrices: Weight) -> tuple[Weight, list[Weight]]:
        """A norm's gain and the matrices behind it, as they are written: before 8 or 4 bits without outliers."""
        narrow = self._linear.precision in ("int8", "int4")
        return balanced(gain, *matrices) if narrow else (gain, list(matrices))

    def layer_norm(self, x: str, weight: Weight, bias: Weight, eps: float, name: str) -> str:
        """One operator: decomposed, its squares overflow half precision."""
        gain, shift = self.weight(f"{name}.weight", weight), self.weight(f"{name}.bias", bias)
        return self.op("LayerNormalization", x, gain, shift, axis=-1, epsilon=eps)

    def rms_norm(self, x: str, weight: Weight, eps: float, name: str) -> str:
        """x / sqrt(mean(x²) + eps) · weight over the last axis."""
        return self.lowering.rms_norm(self, x, self.weight(f"{name}.weight", weight), eps)

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        return self.op("Reshape", x, self.constant(shape))

    def scale(self, x: str, factor: float) -> str:
        return self.op("Mul", x, self.constant(factor, self.floats))

    def take(self, x: str, start: int, stop: int, axis: int) -> str:
        """x[start:stop] along ``axis``."""
        return self.op("Slice", x, self.constant([start]), self.constant([stop]), self.constant([axis]))

    def length(self, x: str, axis: int) -> str:
        """Length of an axis, an int64 scalar."""
        return self.op("Squeeze", self.op("Shape", x, start=axis, end=axis + 1), self.constant([0]))

    @property
    def nbytes(self) -> int:
        """Bytes of the weight file, without the gaps between pages."""
        return sum(blob.nbytes for blob in self._blobs)

    def save(self, folder: Path, progress: Callable[[int], object] | None = None) -> list[Path]:
        """Write the graph and its weights; returns the files. ``progress`` gets the number of parameters written."""
        graph_file, weight_file = folder / f"{self.name}.onnx", folder / f"{self.name}.bin"
        initializers = list(self._constants)
        with weight_file.open("wb") as file:
            for blob in self._blobs:
                initializers.append(_stream(file, blob, weight_file.name, progress))
        graph = helper.make_graph(self._nodes, self.name, self._inputs, self._outputs, initializers)
        domains = sorted({node.domain for node in self._nodes} | {""})
        opsets = [helper.make_opsetid(domain, 1 if domain else self.lowering.opset) for domain in domains]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=self.lowering.ir_version, producer_name="vita-edge"
        )
        graph_file.write_bytes(model.SerializeToString(deterministic=True))
        return [graph_file, weight_file]

    def _fresh(self, kind: str) -> str:
        base = "/".join([*self._scope, kind])
        count = self._counts.get(base, 0)
        self._counts[base] = count + 1
        return f"{base}_{count}" if count else base

    def _rename(self, old: str, new: str) -> None:
        for node in self._nodes:
            for names in (node.input, node.output):
                for i, name in enumerate(names):
                    if name == old:
                        names[i] = new


def _plain_format(lowering: Lowering) -> LinearFormat:
    """Of a graph without matrices."""
    if lowering.floats != "float32":
        return Plain()
    return Float16() if lowering.stored == "float16" else Float32()


def table(array: NDArray[np.floating]) -> Weight:
    """A weight from an array at hand."""
    return computed(array.shape, lambda: array)


def _stream(file: BinaryIO, blob: Blob, location: str, progress: Callable[[int], object] | None) -> TensorProto:
    align = PAGE if blob.nbytes >= PAGE * 4 else 64
    file.write(b"\0" * (-file.tell() % align))
    offset, written, reported = file.tell(), 0, 0
    for piece in blob.pieces():
        written += file.write(np.ascontiguousarray(piece, blob.stored).data)
        if progress:
            done = blob.parameters * written // max(blob.nbytes, 1)
            progress(done - reported)
            reported = done
    if written != blob.nbytes:
        raise AssertionError(f"{blob.name}: {written} bytes written for {blob.nbytes}")
    tensor = TensorProto(name=blob.name, data_type=_TYPES[blob.dtype], dims=blob.shape)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(written))):
        tensor.external_data.add(key=key, value=value)
    return tensor
