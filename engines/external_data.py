"""Where a graph says that its weights lie: looked at here, before a library of any version opens them.

Read without the onnx package. Whatever a message is nested in (initializers, attributes, subgraphs, functions, sparse
tensors), the place of external data is a pair ``location`` → name; pairs are searched in every part that holds that
word. Wire types are those of protobuf: 0 varint, 1 eight bytes, 2 a length and bytes, 5 four bytes; groups (3 and 4),
which ONNX has none of, are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .errors import BadBundle

__all__ = ["check_external_data", "external_locations"]

KEY = b"location"
MAX_DEPTH = 60
"""Levels of messages; a subgraph takes three."""
VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5


def check_external_data(graph: Path) -> None:
    """Refuse a graph that would read weights from anywhere but a file beside it.

    Raises:
        BadBundle: it names another folder, or is no graph; says which place it names.
    """
    try:
        strange = sorted({name for name in external_locations(graph.read_bytes()) if not _is_plain(name)})
    except (OSError, ValueError) as error:
        raise BadBundle(
            f"The graph {graph.name} cannot be opened.",
            why=f"{error}.",
            fix="Run `vita-edge inspect BUNDLE --check`; export the bundle again if a file is damaged.",
        ) from error
    if strange:
        raise BadBundle(
            f"The graph {graph.name} reads weights from outside of its folder.",
            why=f"It names {', '.join(map(ascii, strange[:3]))}; vita-edge export names files beside the graph.",
            fix="Do not use a bundle of unknown origin; export the checkpoint again.",
        )


def external_locations(model: bytes) -> Iterator[str]:
    """Every place of external data that ``model``, a serialised ModelProto, names.

    Raises:
        ValueError: it is no message, or nested too deeply.
    """
    yield from _locations(memoryview(model), 0, strict=True)


def _locations(message: memoryview, depth: int, *, strict: bool = False) -> Iterator[str]:
    if depth > MAX_DEPTH:
        raise ValueError("it is nested too deeply")
    try:
        fields = list(_fields(message))
    except (ValueError, IndexError):  # a text or numbers, not a message; only the whole has to be one
        if strict:
            raise ValueError("it is not a graph") from None
        return
    if any(number == 1 and part == KEY for number, part in fields):
        yield from (bytes(part).decode("utf-8", "backslashreplace") for number, part in fields if number == 2)
        if not any(number == 2 for number, _ in fields):
            yield ""
    for _, part in fields:
        if len(part) > len(KEY) and KEY in bytes(part):
            yield from _locations(part, depth + 1)


def _is_plain(location: str) -> bool:
    return location not in ("", ".", "..") and not set(location) & set("/\\\0:")


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and bytes of each field that has a length."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if not tag >> 3:
            raise ValueError("no field has the number 0")
        if kind == VARINT:
            _, at = _varint(message, at)
        elif kind == BYTES:
            length, at = _varint(message, at)
            if at + length > len(message):
                raise ValueError("a field is longer than its message")
            yield tag >> 3, message[at : at + length]
            at += length
        elif kind in (EIGHT_BYTES, FOUR_BYTES):
            at += 8 if kind == EIGHT_BYTES else 4
        else:
            raise ValueError(f"there is no wire type {kind} in ONNX")
    if at != len(message):
        raise ValueError("a field is longer than its message")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, at
    raise ValueError("a number of more than 64 bits")
