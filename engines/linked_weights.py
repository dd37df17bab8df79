"""A graph whose weights are links, as a hub cache keeps them: its names of them become those of the real files.

ONNX Runtime refuses weights whose real path leaves the graph's folder, some versions even where the graph is a link
itself. So links are followed here, and the graph is handed over as bytes beside the folder of the real files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from .errors import BadBundle
from .external_data import KEY, external_locations

__all__ = ["graph_and_folder", "has_links"]

BYTES = 2


def has_links(graph: Path) -> bool:
    """Whether the graph or its weights lie elsewhere than their names say."""
    here = graph.parent.resolve()
    files = [graph, *(graph.parent / name for name in set(external_locations(graph.read_bytes())))]
    return any(file.resolve() != here / file.name for file in files)


def graph_and_folder(graph: Path) -> tuple[bytes, Path]:
    """The model of ``graph``, and the folder in which its weights really lie under the names that it then gives.

    Raises:
        BadBundle: they lie in several folders.
    """
    model = graph.read_bytes()
    files = {name: (graph.parent / name).resolve() for name in set(external_locations(model))}
    folders = sorted({file.parent for file in files.values()}) or [graph.parent.resolve()]
    if len(folders) > 1:
        raise BadBundle(
            f"The weights of {graph.name} are links into several folders.",
            why=f"{', '.join(map(str, folders[:3]))}; the backend reads those of one.",
            fix="Copy the bundle with its links followed: cp -rL BUNDLE COPY",
        )
    renamed = {name: file.name for name, file in files.items() if name != file.name}
    return (_renamed(memoryview(model), renamed) if renamed else model), folders[0]


def _renamed(message: memoryview, names: Mapping[str, str]) -> bytes:
    """``message`` with other values in every pair ``location`` → name; lengths around it follow."""
    fields = list(_fields(message))
    if any(number == 1 and payload is not None and bytes(payload) == KEY for number, payload, _ in fields):
        value = next(bytes(payload).decode() for number, payload, _ in fields if number == 2 and payload is not None)
        return b"".join(
            _message(2, names.get(value, value).encode()) if number == 2 else bytes(whole)
            for number, _, whole in fields
        )
    return b"".join(
        _message(number, _renamed_part(payload, names))
        if payload is not None and KEY in bytes(payload)
        else bytes(whole)
        for number, payload, whole in fields
    )


def _renamed_part(payload: memoryview, names: Mapping[str, str]) -> bytes:
    try:
        return _renamed(payload, names)
    except (ValueError, IndexError, StopIteration):  # a text that happens to hold the word
        return bytes(payload)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | None, memoryview]]:
    """(number, payload of a field with a length, the whole field)."""
    at = 0
    while at < len(message):
        start = at
        tag, at = _varint(message, at)
        kind, payload = tag & 7, None
        if kind == 0:
            _, at = _varint(message, at)
        elif kind == BYTES:
            length, at = _varint(message, at)
            payload = message[at : at + length]
            at += length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError(f"there is no wire type {kind} in ONNX")
        if at > len(message) or not tag >> 3:
            raise ValueError("a field is longer than its message")
        yield tag >> 3, payload, message[start:at]


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _message(field: int, payload: bytes) -> bytes:
    return _number(field << 3 | BYTES) + _number(len(payload)) + payload


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
