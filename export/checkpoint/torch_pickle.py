"""The pickle of a ``torch.save`` file, read without running anything: tensors become descriptions, all else nothing.

A pickle can name any function; here only the handful that describe tensors mean anything, every other name becomes an
object that does nothing.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from typing import Any, NamedTuple

from .tensor import Fetch

__all__ = ["STORAGES", "PickledTensor", "Storage", "read_pickle"]

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
MAX_PICKLE_BYTES = 64 << 20
"""The structure of a training checkpoint has a few megabytes."""
_BY_INDEX = ("PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET")

# What the pickle may make is a tuple: a pickle can set attributes of any other object.


class StorageType(NamedTuple):
    dtype: str


class Storage(NamedTuple):
    """Bytes of the archive that hold the values of tensors."""

    fetch: Fetch
    nbytes: int
    dtype: str = ""


class PickledTensor(NamedTuple):
    """What the pickle says of a tensor; unchecked."""

    storage: Storage
    offset: Any
    shape: Any
    strides: Any


def read_pickle(content: bytes, storage: Callable[[str], Storage]) -> Any:
    """The structure with :class:`PickledTensor` for every tensor.

    Raises:
        Exception: whatever a broken pickle runs into.
    """
    _check_opcodes(content)
    return _Unpickler(content, storage).load()


def _check_opcodes(content: bytes) -> None:
    """Refuse what would take memory out of proportion before anything is allocated: lengths and memo indices."""
    if len(content) > MAX_PICKLE_BYTES:
        raise ValueError(f"it has {len(content) >> 20} MiB")
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in _BY_INDEX and int(argument or 0) > len(content):
            raise ValueError(f"it refers to object {argument} of a structure of {len(content)} bytes")


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
    def __init__(self, content: bytes, storage: Callable[[str], Storage]) -> None:
        super().__init__(io.BytesIO(content))
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGES:
            return StorageType(STORAGES[name])
        return _MEANINGFUL.get((module, name), _Inert)

    def persistent_load(self, pid: Any) -> Storage:
        kind, storage_type, key = pid[:3]
        if kind != "storage":
            raise ValueError(f"unknown reference {kind!r}")
        dtype = storage_type.dtype if isinstance(storage_type, StorageType) else ""
        return self._storage(str(key))._replace(dtype=dtype)


def _rebuild_tensor(storage: Storage, offset: Any, size: Any, stride: Any, *_: object) -> PickledTensor:
    return PickledTensor(storage, offset, size, stride)


def _rebuild_parameter(data: Any, *_: object) -> Any:
    return data


def _rebuild_from_type(rebuild: Any, kind: object, arguments: Any, *_: object) -> Any:
    """A tensor with attributes, or of a subclass: the tensor."""
    return rebuild(*arguments) if rebuild in (_rebuild_tensor, _rebuild_parameter) else None


_MEANINGFUL: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Table,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _rebuild_parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _rebuild_from_type,
}
