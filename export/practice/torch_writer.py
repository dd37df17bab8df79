"""Write what ``torch.save`` writes, without PyTorch: a zip archive with a pickle and one stored member per tensor."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Union

from ..checkpoint.tensor import StreamedTensor, row_major
from ..checkpoint.torch_file import STORAGES

__all__ = ["StreamedTree", "write_torch_file"]

StreamedTree = Mapping[str, Union[StreamedTensor, int, "StreamedTree"]]
"""What may be saved: nested dictionaries of tensors, and numbers beside them (``epoch``)."""

_STORAGE_OF = {dtype: storage for storage, dtype in STORAGES.items()}


def write_torch_file(file: Path, tree: StreamedTree, progress: Callable[[int], object] = lambda _: None) -> None:
    """Write ``tree`` so that ``torch.load(file, weights_only=True)`` reads it, piece by piece.

    The outermost level becomes a dict when it holds dictionaries, else an OrderedDict, as state dictionaries are.
    ``progress`` gets the bytes of each piece.
    """
    root = file.stem
    leaves = list(_leaves(tree))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        entries = {"data.pkl": _pickled(tree), "byteorder": b"little"}
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(f"{root}/{name}"), content)
        for i, tensor in enumerate(leaves):
            # every member claims to be large, so that those beyond 2 GiB need no second way
            with archive.open(zipfile.ZipInfo(f"{root}/data/{i}"), "w", force_zip64=True) as member:
                for piece in tensor.pieces():
                    progress(member.write(piece.tobytes()))
        archive.writestr(zipfile.ZipInfo(f"{root}/version"), b"3\n")


def _leaves(tree: StreamedTree) -> Iterator[StreamedTensor]:
    """Tensors in the order in which the pickle numbers their storages."""
    for value in tree.values():
        if isinstance(value, Mapping):
            yield from _leaves(value)
        elif isinstance(value, StreamedTensor):
            yield value


def _pickled(tree: StreamedTree) -> bytes:
    """Protocol 2, with the few opcodes that torch's own safe reader knows."""
    numbers = iter(range(1 << 30))

    def table(level: StreamedTree) -> bytes:
        plain = any(isinstance(value, Mapping) for value in level.values())
        start = b"}(" if plain else b"ccollections\nOrderedDict\n)R("
        return start + b"".join(_text(key) + item(value) for key, value in level.items()) + b"u"

    def item(value: StreamedTensor | int | StreamedTree) -> bytes:
        if isinstance(value, Mapping):
            return table(value)
        return _integer(value) if isinstance(value, int) else _tensor(value, next(numbers))

    return b"\x80\x02" + table(tree) + b"."


def _tensor(tensor: StreamedTensor, number: int) -> bytes:
    storage_type = f"ctorch\n{_STORAGE_OF[tensor.dtype]}\n".encode()
    reference = (
        b"(" + _text("storage") + storage_type + _text(str(number)) + _text("cpu") + _integer(tensor.size) + b"tQ"
    )
    shape = b"(" + b"".join(map(_integer, tensor.shape)) + b"t"
    strides = b"(" + b"".join(map(_integer, row_major(tensor.shape))) + b"t"
    hooks = b"ccollections\nOrderedDict\n)R"
    arguments = b"(" + reference + _integer(0) + shape + strides + b"\x89" + hooks + b"t"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"


def _text(value: str) -> bytes:
    data = value.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def _integer(value: int) -> bytes:
    if value < 1 << 31:
        return b"J" + value.to_bytes(4, "little", signed=True)
    return b"\x8a\x08" + value.to_bytes(8, "little", signed=True)
