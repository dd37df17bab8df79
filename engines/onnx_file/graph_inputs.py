"""Read and fix the axes of an ONNX graph without the onnx package: what a plan is built for is decided on the device.

Only the declarations of inputs and outputs are looked at; everything else is copied as it is. Weights lie beside the
graph, so the file is small.

Field numbers are those of onnx.proto: ModelProto.graph 7; GraphProto.input 11, .output 12, .value_info 13;
ValueInfoProto.name 1, .type 2; TypeProto.tensor_type 1; TypeProto.Tensor.elem_type 1, .shape 2; TensorShapeProto.dim 1;
Dimension.dim_value 1, .dim_param 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import BadBundle
from ..tensors import TensorSpec
from .protobuf import BYTES, VARINT, encoded_field, fields, read_varint, varint

__all__ = ["GraphInterface", "fixed_axes", "graph_interface"]

_DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64",
    16: "bfloat16",
}  # fmt: skip


@dataclass(frozen=True)
class GraphInterface:
    """What a graph takes and gives, as its file declares it."""

    inputs: Mapping[str, TensorSpec] = field(default_factory=dict)
    outputs: Mapping[str, TensorSpec] = field(default_factory=dict)


def graph_interface(path: Path) -> GraphInterface:
    """Inputs and outputs of the ONNX file at ``path``.

    Raises:
        BadBundle: it cannot be read, or is no ONNX graph.
    """
    try:
        model = path.read_bytes()
    except OSError as error:
        raise BadBundle(f"{path} cannot be read.", why=f"{error.strerror}.", fix="Check its permissions.") from error
    found: dict[int, dict[str, TensorSpec]] = {11: {}, 12: {}}
    try:
        for number, _, graph, _ in fields(model):
            for part, _, payload, _ in fields(graph) if number == 7 else ():
                if part in found:
                    spec = _spec(payload)
                    found[part][spec.name] = spec
        if not found[12]:
            raise ValueError("no output is declared")
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise BadBundle(
            f"{path} is no ONNX graph.", why=f"{error}.", fix="Copy the bundle again, or export it again."
        ) from error
    return GraphInterface(found[11], found[12])


def fixed_axes(model: bytes, lengths: Mapping[str, int]) -> bytes:
    """``model`` with every axis of inputs, outputs and annotated tensors that bears a name of ``lengths`` fixed."""

    def dimension(message: memoryview) -> bytes | memoryview:
        for number, kind, payload, _ in fields(message):
            if (number, kind) == (2, BYTES) and bytes(payload).decode() in lengths:
                return encoded_field(1, VARINT, varint(lengths[bytes(payload).decode()]))
        return message

    def shape(message: bytes | memoryview) -> bytes:
        return _changed(message, 1, dimension)

    def tensor(message: bytes | memoryview) -> bytes:
        return _changed(message, 2, shape)

    def value(message: bytes | memoryview) -> bytes:
        return _changed(message, 2, lambda kind: _changed(kind, 1, tensor))

    def graph(message: bytes | memoryview) -> bytes | memoryview:
        for part in (11, 12, 13):
            message = _changed(message, part, value)
        return message

    return _changed(model, 7, graph)


def _spec(value: bytes | memoryview) -> TensorSpec:
    name, dtype, axes = "", "", []
    for number, _, payload, _ in fields(value):
        if number == 1:
            name = bytes(payload).decode()
        elif number == 2:
            tensor = {part: inner for part, _, inner, _ in fields(payload)}.get(1, memoryview(b""))
            for part, kind, inner, _ in fields(tensor):
                if part == 1 and kind == VARINT:
                    code = read_varint(inner, 0)[0]
                    dtype = _DTYPES.get(code, f"type {code}")
                elif part == 2:
                    axes = [_axis(dim, i) for i, (_, _, dim, _) in enumerate(fields(inner))]
    return TensorSpec(name, dtype, tuple(axes))


def _axis(dimension: bytes | memoryview, position: int) -> int | str:
    for number, kind, payload, _ in fields(dimension):
        if (number, kind) == (1, VARINT):
            return read_varint(payload, 0)[0]
        if (number, kind) == (2, BYTES) and payload:
            return bytes(payload).decode()
    return f"axis{position}"


def _changed(message: bytes | memoryview, requested: int, change: Callable[[memoryview], bytes | memoryview]) -> bytes:
    """``message`` with every sub-message of the number ``wanted`` changed."""
    return b"".join(
        encoded_field(number, kind, change(payload) if (number, kind) == (requested, BYTES) else payload)
        for number, kind, payload, _ in fields(message)
    )
