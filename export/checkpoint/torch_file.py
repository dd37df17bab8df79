"""Open ``torch.save`` files without PyTorch and without running anything that they contain.

A file is a zip archive with a pickle (structure, :mod:`.torch_pickle`) and one member per storage (values).
"""

from __future__ import annotations

import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.errors import BadCheckpoint
from vita_edge.engines.reading.file_kind import not_what_it_seems
from vita_edge.engines.reading.npz_file import check_member

from .tensor import STORED_AS, LazyTensor, fetch_from_file
from .torch_pickle import STORAGES, PickledTensor, Storage, read_pickle

__all__ = ["STORAGES", "TensorTree", "open_torch_file"]

TensorTree = dict[str, Union[LazyTensor, "TensorTree"]]
"""Nested dictionaries with tensors as leaves."""

MAX_NODES = 2_000_000
"""Entries of nested dictionaries; one that is referred to again and again counts every time."""
MAX_DEPTH = 50
LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
"""Begins the files of torch.save from before version 1.6."""
_DOWNLOAD_AGAIN = "Download this file again and compare its size with the one on the download page."


def open_torch_file(file: Path) -> TensorTree:
    """The tensors of ``file``, named by their dotted path; what is not a tensor is left out.

    Raises BadCheckpoint for a file that is missing, cut off, of the old non-zip kind, or without tensors.
    """
    try:
        size = file.stat().st_size
        with zipfile.ZipFile(file) as archive:
            root = _read_archive(file, archive, size)
            return _Tree(file).of(root)
    except OSError as error:
        raise BadCheckpoint(f"Cannot read {file}.", why=f"{error.strerror or error}.", fix=_DOWNLOAD_AGAIN) from error
    except zipfile.BadZipFile as error:
        raise _no_zip(file) from error
    except (BadCheckpoint, MemoryError):
        raise
    except RecursionError as error:
        raise _broken(file, "Its structure is nested too deeply.") from error
    except Exception as error:  # a broken pickle can fail in any way
        raise _broken(file, f"Its structure cannot be read: {error or type(error).__name__}.") from error


def _read_archive(file: Path, archive: zipfile.ZipFile, size: int) -> Any:
    members = {info.filename: info for info in archive.infolist()}
    for info in members.values():
        check_member(info, size)
    pickles = [name for name in members if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise _broken(file, "The archive holds no data.pkl, so torch.save did not write it.")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in members and archive.read(f"{folder}byteorder") != b"little":
        raise _broken(file, "Its numbers are big-endian.")

    def storage(key: str) -> Storage:
        info = members.get(f"{folder}data/{key}")
        if info is None:
            raise ValueError(f"storage {key} is missing")
        return _storage(file, size, info)

    root = read_pickle(archive.read(pickles[0]), storage)
    if not isinstance(root, dict):
        raise ValueError("it is not a dictionary of tensors; a whole module was saved, not its state_dict()")
    return root


class _Tree:
    """Walks what the pickle made, within bounds."""

    def __init__(self, file: Path) -> None:
        self._file, self._nodes = file, 0

    def of(self, table: dict[Any, Any], path: str = "", depth: int = 0) -> TensorTree:
        self._nodes += len(table)
        if self._nodes > MAX_NODES or depth > MAX_DEPTH:
            raise ValueError("its dictionaries hold one another too many times")
        tree: TensorTree = {}
        for key, value in table.items():
            if isinstance(value, dict):
                tree[str(key)] = self.of(value, f"{path}{key}.", depth + 1)
            elif isinstance(value, PickledTensor) and value.storage.dtype:  # no complex or quantised numbers are ours
                tree[str(key)] = _lazy(self._file, f"{path}{key}", value)
        return tree


def _lazy(file: Path, name: str, found: PickledTensor) -> LazyTensor:
    storage, offset, shape, strides = found
    if len(shape) != len(strides) or not all(type(n) is int and n >= 0 for n in (offset, *shape, *strides)):
        raise ValueError(f"{name} has no sensible shape")
    tensor = LazyTensor(name, tuple(shape), storage.dtype, file, storage.fetch, tuple(strides), offset)
    if tensor.end * STORED_AS[tensor.dtype].itemsize > storage.nbytes:
        raise ValueError(f"{name} is larger than its storage")
    return tensor


def _storage(file: Path, file_size: int, info: zipfile.ZipInfo) -> Storage:
    if info.compress_type != zipfile.ZIP_STORED:
        return Storage(lambda start, stop: _unpacked(file, info.filename)[start:stop], info.file_size)
    with file.open("rb") as stream:
        stream.seek(info.header_offset)
        header = stream.read(30)
    if len(header) < 30 or header[:4] != b"PK\3\4":
        raise ValueError(f"{info.filename} is damaged")
    data = info.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    if data + info.file_size > file_size:
        raise ValueError(f"{info.filename} is cut off")
    return Storage(fetch_from_file(file, data), info.file_size)


@lru_cache(maxsize=1)
def _unpacked(file: Path, member: str) -> NDArray[np.uint8]:
    """A compressed storage, whole in memory; torch.save never compresses, other tools may."""
    try:
        with zipfile.ZipFile(file) as archive:
            return np.frombuffer(archive.read(member), np.uint8)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{member} is damaged: {error}") from error


def _no_zip(file: Path) -> BadCheckpoint:
    with file.open("rb") as stream:
        start = stream.read(512)
    if start.startswith(LEGACY_MAGIC):
        return BadCheckpoint(
            f"{file} is in the format that torch.save wrote before version 1.6, or writes with "
            "_use_new_zipfile_serialization=False.",
            why="Only the zip format is read here; the weights may well be whole.",
            fix=f"Where PyTorch is: x = torch.load({file.name!r}, map_location='cpu'); torch.save(x, {file.name!r})",
        )
    if start.startswith(b"PK"):
        return _broken(file, "It begins like a torch file and is not whole: the download was cut off.")
    return _broken(
        file, not_what_it_seems(start) or "It is no zip archive, as torch.save has written since version 1.6."
    )


def _broken(file: Path, why: str) -> BadCheckpoint:
    return BadCheckpoint(f"{file} cannot be used.", why=why, fix=_DOWNLOAD_AGAIN)
