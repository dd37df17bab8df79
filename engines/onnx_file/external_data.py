"""Where a graph says that its weights lie: looked at here, before a library of any version opens them.

Read without the onnx package. Whatever a message is nested in (initializers, attributes, subgraphs, functions, sparse
tensors), the place of external data is a pair ``location`` → name; pairs are searched in every part that holds that
word.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..errors import BadBundle
from .protobuf import BYTES, fields

__all__ = ["check_external_data", "external_locations"]

KEY = b"location"
MAX_DEPTH = 60
"""Levels of messages; a subgraph takes three."""


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
        parts = [(field.number, field.payload) for field in fields(message) if field.kind == BYTES]
    except ValueError:  # a text or numbers, not a message; only the whole has to be one
        if strict:
            raise ValueError("it is not a graph") from None
        return
    if any(number == 1 and part == KEY for number, part in parts):
        yield from (bytes(part).decode("utf-8", "backslashreplace") for number, part in parts if number == 2)
        if not any(number == 2 for number, _ in parts):
            yield ""
    for _, part in parts:
        if len(part) > len(KEY) and KEY in bytes(part):
            yield from _locations(part, depth + 1)


def _is_plain(location: str) -> bool:
    return location not in ("", ".", "..") and not set(location) & set("/\\\0:")
