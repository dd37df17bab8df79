"""Read and write safetensors files: 8 bytes of header length, a JSON header, then the values.

The safetensors package cannot hand bfloat16 to numpy, which has no such type, and the format is small; so this is our
own reader. It looks at the header only; values are mapped when they are asked for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vita_edge.engines.errors import BadCheckpoint
from vita_edge.engines.reading.file_kind import not_what_it_seems
from vita_edge.engines.reading.json_file import parse_json

from .tensor import STORED_AS, LazyTensor, StreamedTensor, fetch_from_file

__all__ = ["open_safetensors", "write_safetensors"]

MAX_HEADER_BYTES = 100_000_000
"""The limit of the format's own library."""

_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
_CODES = {name: code for code, name in _NAMES.items()}
_DOWNLOAD_AGAIN = "Download this file again and compare its size with the one on the download page."


def open_safetensors(file: Path) -> dict[str, LazyTensor]:
    """The tensors of ``file`` by name; raises BadCheckpoint when the file is not whole."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            start = stream.read(512)
            length = int.from_bytes(start[:8], "little")
            if len(start) < 8 or length > min(size - 8, MAX_HEADER_BYTES) or not_what_it_seems(start):
                raise _broken(file, _why_no_header(start, size))
            stream.seek(8)
            text = stream.read(length)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise BadCheckpoint(f"Cannot read {file}.", why=f"{why}.", fix=_DOWNLOAD_AGAIN) from error
    try:
        header = parse_json(text)
    except ValueError as error:
        raise _broken(file, f"Its header is not JSON: {error}.") from error
    if not isinstance(header, dict):
        raise _broken(file, "Its header is not a table of tensors.")
    header.pop("__metadata__", None)
    return {name: _tensor(file, name, entry, 8 + length, size) for name, entry in header.items()}


def write_safetensors(
    file: Path, tensors: Mapping[str, StreamedTensor], progress: Callable[[int], object] = lambda _: None
) -> None:
    """Write ``tensors`` in their order, piece by piece; ``progress`` gets the bytes of each piece."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in tensors.items():
        place = [offset, offset + tensor.nbytes]
        header[name] = {"dtype": _CODES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": place}
        offset = place[1]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            for piece in tensor.pieces():
                progress(stream.write(piece.data))


def _tensor(file: Path, name: str, entry: Any, data: int, file_size: int) -> LazyTensor:
    try:
        code, shape = str(entry["dtype"]), tuple(entry["shape"])
        start, stop = entry["data_offsets"]
        whole = all(type(n) is int and n >= 0 for n in (*shape, start, stop))
    except (KeyError, TypeError, ValueError) as error:
        raise _broken(file, f"Its header describes {name} in a way that cannot be read.") from error
    if code not in _NAMES:
        raise BadCheckpoint(
            f"{file} stores {name} as {code}.",
            why="Weights are read as F32, F16 or BF16; the release has no other types.",
            fix="Use the unquantised checkpoint; VITA-Edge quantises after the export.",
        )
    dtype = _NAMES[code]
    if not whole or stop - start != math.prod(shape) * STORED_AS[dtype].itemsize:
        raise _broken(file, f"Its header gives {name} a size that does not fit its shape.")
    if data + stop > file_size:
        raise _broken(file, f"It ends after {file_size} bytes; {name} needs {data + stop}. The download was cut off.")
    return LazyTensor(name, shape, dtype, file, fetch_from_file(file, data + start))


def _why_no_header(start: bytes, size: int) -> str:
    return not_what_it_seems(start) or (
        f"It ends after {size} bytes, inside its header: the download was cut off, or it is another kind of file."
    )


def _broken(file: Path, why: str) -> BadCheckpoint:
    return BadCheckpoint(f"{file} is not a whole safetensors file.", why=why, fix=_DOWNLOAD_AGAIN)
