"""The wire format of protobuf, of which an ONNX file is one message.

Fields of a number and a kind, one after the other, messages within messages. Groups, which ONNX has none of, are
refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["BYTES", "VARINT", "Field", "encoded_field", "fields", "message_field", "read_varint", "varint"]

VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5
_SIZES = {EIGHT_BYTES: 8, FOUR_BYTES: 4}


class Field(NamedTuple):
    """One field of a message."""

    number: int
    kind: int
    payload: memoryview
    """Of a kind with a length, what that counts; of a varint, its encoding."""
    whole: memoryview
    """With its tag and its length."""


def fields(message: bytes | memoryview) -> Iterator[Field]:
    """The fields of a message, in their order.

    Raises:
        ValueError: it is no message, or ends in the middle.
    """
    view, at = memoryview(message), 0
    while at < len(view):
        start = at
        tag, at = read_varint(view, at)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            _, end = read_varint(view, at)
        elif kind == BYTES:
            length, at = read_varint(view, at)
            end = at + length
        elif kind in _SIZES:
            end = at + _SIZES[kind]
        else:
            raise ValueError(f"there is no wire type {kind} in ONNX")
        if number == 0:
            raise ValueError("no field has the number 0")
        if end > len(view):
            raise ValueError("a field is longer than its message")
        yield Field(number, kind, view[at:end], view[start:end])
        at = end


def read_varint(message: bytes | memoryview, at: int) -> tuple[int, int]:
    """The number that begins at ``at``, and where the next byte is.

    Raises:
        ValueError: the message ends in it, or it has more than 64 bits.
    """
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("the message ends in the middle of a number")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, at
    raise ValueError("a number of more than 64 bits")


def varint(value: int) -> bytes:
    """The encoding of a number of 0 or more."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encoded_field(number: int, kind: int, payload: bytes | memoryview) -> bytes:
    """A field with that payload, as :func:`fields` gives it."""
    length = varint(len(payload)) if kind == BYTES else b""
    return b"".join((varint(number << 3 | kind), length, payload))


def message_field(number: int, payload: bytes) -> bytes:
    """A field that holds a message, a text or bytes."""
    return encoded_field(number, BYTES, payload)
