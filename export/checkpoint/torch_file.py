"""Open ``torch.save`` files without PyTorch and without running anything that they contain.

A file is a zip archive with a pickle (structure) and one member per storage (values). A pickle can name any function;
here only the handful that describe tensors mean anything, every other name becomes an object that does nothing.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple, Union

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.errors import BadCheckpoint

from .tensor import STORED_AS, Fetch, LazyTensor, fetch_from_file

__all__ = ["STORAGES", "TensorTree", "open_torch_file"]

TensorTree = dict[str, Union[LazyTensor, "TensorTree"]]
"""Nested dictionaries with tensors as leaves."""

STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
_DOWNLOAD_AGAIN = "Download this file again and compare its size with the one on the download page."


def open_torch_file(file: Path) -> TensorTree:
    """The tensors of ``file``, named by their dotted path; what is not a tensor is left out.

    Raises BadCheckpoint for a file that is missing, cut off, of the old non-zip kind, or without tensors.
    """
    try:
        size = file.stat().st_size
        with zipfile.ZipFile(file) as archive:
            pickles = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
            if len(pickles) != 1:
                raise _broken(file, "The archive holds no data.pkl, so torch.save did not write it.")
            folder = pickles[0].removesuffix("data.pkl")
            if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
                raise _broken(file, "Its numbers are big-endian.")
            members = {
                info.filename.removeprefix(f"{folder}data/"): info
                for info in archive.infolist()
                if info.filename.startswith(f"{folder}data/")
            }

            def storage(key: str) -> _Storage:
                if key not in members:
                    raise ValueError(f"storage {key} is missing")
                return _storage(file, size, members[key])

            with archive.open(pickles[0]) as stream:
                tree = _describe(stream, storage)
    except OSError as error:
        raise BadCheckpoint(f"Cannot read {file}.", why=f"{error.strerror or error}.", fix=_DOWNLOAD_AGAIN) from error
    except zipfile.BadZipFile as error:
        raise _broken(file, _why_no_zip(file)) from error
    except BadCheckpoint:
        raise
    except Exception as error:  # a broken pickle can fail in any way
        raise _broken(file, f"Its structure cannot be read: {error}.") from error
    return tree


# What the pickle may make is a tuple: a pickle can set attributes of any other object.


class _StorageType(NamedTuple):
    dtype: str


class _Storage(NamedTuple):
    file: Path
    fetch: Fetch
    nbytes: int
    dtype: str = ""


class _Tensor(NamedTuple):
    storage: _Storage
    offset: Any
    shape: Any
    strides: Any


class _Table(dict[Any, Any]):
    """Stands for OrderedDict; the attributes that torch hangs on it are dropped."""

    def __setstate__(self, state: object) -> None:
        pass


class _Inert:
    """Stands for everything else: takes any arguments, items and state, and does nothing with them."""

    def __new__(cls, *args: object, **kwargs: object) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __call__(self, *args: object, **kwargs: object) -> _Inert:
        return self

    def _ignore(self, *args: object) -> None:
        pass

    __setstate__ = __setitem__ = append = extend = add = _ignore


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: IO[bytes], storage: Callable[[str], _Storage]) -> None:
        super().__init__(stream)
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGES:
            return _StorageType(STORAGES[name])
        return _MEANINGFUL.get((module, name), _Inert)

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage_type, key = pid[:3]
        if kind != "storage":
            raise ValueError(f"unknown reference {kind!r}")
        dtype = storage_type.dtype if isinstance(storage_type, _StorageType) else ""
        return self._storage(str(key))._replace(dtype=dtype)


def _rebuild_tensor(storage: _Storage, offset: Any, size: Any, stride: Any, *_: object) -> _Tensor:
    return _Tensor(storage, offset, size, stride)


def _rebuild_parameter(data: Any, *_: object) -> Any:
    return data


_MEANINGFUL: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Table,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
}


def _describe(stream: IO[bytes], storage: Callable[[str], _Storage]) -> TensorTree:
    root = _Unpickler(stream, storage).load()
    if not isinstance(root, dict):
        raise ValueError("it is not a dictionary of tensors")
    return _tensors(root, "")


def _tensors(table: dict[Any, Any], path: str) -> TensorTree:
    tree: TensorTree = {}
    for key, value in table.items():
        if isinstance(value, dict):
            tree[str(key)] = _tensors(value, f"{path}{key}.")
        elif isinstance(value, _Tensor) and value.storage.dtype:  # no complex or quantised numbers: none are ours
            tree[str(key)] = _lazy(f"{path}{key}", value)
    return tree


def _lazy(name: str, found: _Tensor) -> LazyTensor:
    storage, offset, shape, strides = found
    if len(shape) != len(strides) or not all(type(n) is int and n >= 0 for n in (offset, *shape, *strides)):
        raise ValueError(f"{name} has no sensible shape")
    tensor = LazyTensor(name, tuple(shape), storage.dtype, storage.file, storage.fetch, tuple(strides), offset)
    if tensor.end * STORED_AS[tensor.dtype].itemsize > storage.nbytes:
        raise ValueError(f"{name} is larger than its storage")
    return tensor


def _storage(file: Path, file_size: int, info: zipfile.ZipInfo) -> _Storage:
    if info.compress_type != zipfile.ZIP_STORED:
        return _Storage(file, lambda start, stop: _unpacked(file, info.filename)[start:stop], info.file_size)
    with file.open("rb") as stream:
        stream.seek(info.header_offset)
        header = stream.read(30)
    if len(header) < 30 or header[:4] != b"PK\3\4":
        raise ValueError(f"{info.filename} is damaged")
    data = info.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    if data + info.file_size > file_size:
        raise ValueError(f"{info.filename} is cut off")
    return _Storage(file, fetch_from_file(file, data), info.file_size)


@lru_cache(maxsize=1)
def _unpacked(file: Path, member: str) -> NDArray[np.uint8]:
    """A compressed storage, whole in memory; torch.save never compresses, other tools may."""
    with zipfile.ZipFile(file) as archive:
        return np.frombuffer(archive.read(member), np.uint8)


def _why_no_zip(file: Path) -> str:
    with file.open("rb") as stream:
        start = stream.read(8)
    if start.startswith(b"PK"):
        return "It begins like a torch file and is not whole: the download was cut off."
    if start == b"version ":
        return "It is a Git LFS pointer, a few lines of text in the place of the weights (git lfs pull fetches them)."
    return "It is no zip archive, as torch.save has written since version 1.6; older files are not read."


def _broken(file: Path, why: str) -> BadCheckpoint:
    return BadCheckpoint(f"{file} cannot be used.", why=why, fix=_DOWNLOAD_AGAIN)
