"""Look inside a graph without the onnx package: hand out inner tensors, replace inner integer constants.

An ONNX file is one protobuf message, and protobuf messages merge by concatenation: appending the bytes of a second
ModelProto whose graph has nothing but further outputs adds those outputs to the first. In the same way a second
initializer of a known name replaces the first, since ONNX Runtime keeps the last. So ``vita-edge verify`` can compare
every stage of a bundle on the device, where the onnx package is not installed.

Field numbers are those of onnx.proto: ModelProto.graph 7; GraphProto.initializer 5, .output 12; ValueInfoProto.name 1;
TensorProto.dims 1, .data_type 2, .name 8, .raw_data 9.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from .protobuf import message_field, varint

__all__ = ["tapped_model"]

_INT64 = 7


def tapped_model(model: bytes, taps: Iterable[str], overrides: Mapping[str, int]) -> bytes:
    """``model`` with the inner tensors ``taps`` as outputs and each scalar int64 of ``overrides`` replaced."""
    outputs = b"".join(message_field(12, message_field(1, name.encode())) for name in taps)
    initializers = b"".join(message_field(5, _scalar(name, value)) for name, value in overrides.items())
    return model + message_field(7, initializers + outputs)


def _scalar(name: str, value: int) -> bytes:
    return b"\x10" + varint(_INT64) + message_field(8, name.encode()) + message_field(9, struct.pack("<q", value))
