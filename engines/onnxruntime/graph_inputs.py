"""Read and fix the axes of an ONNX graph without the onnx package: what a plan is built for is decided on the device.

An ONNX file is one protobuf message: fields of a number and a kind, one after the other, messages within messages. Only
the declarations of inputs and outputs are looked at; everything else is copied as it is. Weights lie beside the graph,
so the file is small.

Field numbers are those of onnx.proto: ModelProto.graph 7; GraphProto.input 11, .output 12, .value_info 13;
ValueInfoProto.name 1, .type 2; TypeProto.tensor_type 1; TypeProto.Tensor.elem_type 1, .shape 2; TensorShapeProto.dim 1;
Dimension.dim_value 1, .dim_param 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import BadBundle
from ..tensors import TensorSpec

__all__ = ["GraphInterface", "fixed_axes", "graph_interface"]

_DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64",
    16: "bfloat16",
}  # fmt: skip
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Field = tuple[int, int, bytes]
"""Number, kind, payload; that of a varint is its encoding."""


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
        for number, _, graph in _fields(model):
            for part, _, payload in _fields(graph) if number == 7 else ():
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

    def dimension(message: bytes) -> bytes:
        for number, kind, payload in _fields(message):
            if (number, kind) == (2, _BYTES) and payload.decode() in lengths:
                return _encoded(1, _VARINT, _varint(lengths[payload.decode()]))
        return message

    def shape(message: bytes) -> bytes:
        return _changed(message, 1, dimension)

    def tensor(message: bytes) -> bytes:
        return _changed(message, 2, shape)

    def value(message: bytes) -> bytes:
        return _changed(message, 2, lambda kind: _changed(kind, 1, tensor))

    def graph(message: bytes) -> bytes:
        for part in (11, 12, 13):
            message = _changed(message, part, value)
        return message

    return _changed(model, 7, graph)


def _spec(value: bytes) -> TensorSpec:
    name, dtype, axes = "", "", []
    for number, _, payload in _fields(value):
        if number == 1:
            name = payload.decode()
        elif number == 2:
            tensor = {part: inner for part, _, inner in _fields(payload)}.get(1, b"")
            for part, kind, inner in _fields(tensor):
                if part == 1 and kind == _VARINT:
                    code = _decoded(inner)
                    dtype = _DTYPES.get(code, f"type {code}")
                elif part == 2:
                    axes = [_axis(dim, i) for i, (_, _, dim) in enumerate(_fields(inner))]
    return TensorSpec(name, dtype, tuple(axes))


def _axis(dimension: bytes, position: int) -> int | str:
    for number, kind, payload in _fields(dimension):
        if (number, kind) == (1, _VARINT):
            return _decoded(payload)
        if (number, kind) == (2, _BYTES) and payload:
            return payload.decode()
    return f"axis{position}"


def _changed(message: bytes, wanted: int, change: Callable[[bytes], bytes]) -> bytes:
    """``message`` with every sub-message of the number ``wanted`` changed."""
    return b"".join(
        _encoded(number, kind, change(payload) if (number, kind) == (wanted, _BYTES) else payload)
        for number, kind, payload in _fields(message)
    )


def _encoded(number: int, kind: int, payload: bytes) -> bytes:
    head = _varint(number << 3 | kind)
    return head + (_varint(len(payload)) if kind == _BYTES else b"") + payload


def _fields(message: bytes) -> Iterator[Field]:
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            end = _read_varint(message, at)[1]
        elif kind == _BYTES:
            size, at = _read_varint(message, at)
            end = at + size
        elif kind in (_FIXED32, _FIXED64):
            end = at + (4 if kind == _FIXED32 else 8)
        else:
            raise ValueError(f"a field of kind {kind} is not known")
        if number == 0 or end > len(message):
            raise ValueError("the file ends in the middle, or is of another kind")
        yield number, kind, message[at:end]
        at = end


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _decoded(varint: bytes) -> int:
    return _read_varint(varint, 0)[0]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
