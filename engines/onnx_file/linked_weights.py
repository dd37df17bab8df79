"""A graph whose weights are links, as a hub cache keeps them: its names of them become those of the real files.

ONNX Runtime refuses weights whose real path leaves the graph's folder, some versions even where the graph is a link
itself. So links are followed here, and the graph is handed over as bytes beside the folder of the real files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import BadBundle
from .external_data import KEY, external_locations
from .protobuf import BYTES, fields, message_field

__all__ = ["graph_and_folder", "has_links"]


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
    found = list(fields(message))
    texts = [(field.number, bytes(field.payload)) for field in found if field.kind == BYTES]
    if (1, KEY) in texts:
        value = next(text.decode() for number, text in texts if number == 2)
        new = message_field(2, names.get(value, value).encode())
        return b"".join(new if field.number == 2 else bytes(field.whole) for field in found)
    return b"".join(
        message_field(field.number, _renamed_part(field.payload, names))
        if field.kind == BYTES and KEY in bytes(field.payload)
        else bytes(field.whole)
        for field in found
    )


def _renamed_part(payload: memoryview, names: Mapping[str, str]) -> bytes:
    try:
        return _renamed(payload, names)
    except (ValueError, StopIteration):  # a text that happens to hold the word
        return bytes(payload)
