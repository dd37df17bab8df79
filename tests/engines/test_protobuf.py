"""Fields of protobuf, read and written: what is written is read, and what is cut short is refused."""

from __future__ import annotations

import pytest

from vita_edge.engines.onnx_file.protobuf import (
    BYTES,
    VARINT,
    encoded_field,
    fields,
    message_field,
    read_varint,
    varint,
)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**32, 2**63, 2**64 - 1])
def test_a_number_is_read_as_it_was_written(value: int) -> None:
    written = varint(value)
    assert read_varint(b"\x05" + written + b"\x05", 1) == (value, 1 + len(written))


def test_fields_are_read_in_their_order_and_written_back_byte_for_byte() -> None:
    message = encoded_field(3, VARINT, varint(700)) + message_field(4, b"text") + b"\x2d1234" + b"\x3112345678"
    found = list(fields(message))
    assert [(field.number, field.kind, bytes(field.payload)) for field in found] == [
        (3, VARINT, varint(700)),
        (4, BYTES, b"text"),
        (5, 5, b"1234"),
        (6, 1, b"12345678"),
    ]
    assert b"".join(field.whole for field in found) == message
    assert b"".join(encoded_field(field.number, field.kind, field.payload) for field in found) == message


def test_a_message_that_is_cut_anywhere_inside_of_a_field_is_refused() -> None:
    message = message_field(1, b"some text") + encoded_field(2, VARINT, varint(2**40)) + b"\x1912345678"
    ends = {0, 11, 18, len(message)}
    for end in range(len(message) + 1):
        if end in ends:
            assert sum(len(field.whole) for field in fields(message[:end])) == end
        else:
            with pytest.raises(ValueError, match="message"):
                list(fields(message[:end]))


@pytest.mark.parametrize(
    ("message", "what"),
    [
        (b"\x0b", "wire type 3"),
        (b"\x00\x01", "number 0"),
        (b"\x08" + b"\xff" * 11, "64 bits"),
        (b"\x0a\xff\xff", "number"),
    ],
)
def test_what_is_no_message_is_refused(message: bytes, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        list(fields(message))
