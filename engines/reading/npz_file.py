"""Arrays from .npz files: nothing is unpickled, and nothing is unpacked that the file is too small to hold."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .file_kind import FileKind, not_what_it_seems

__all__ = ["check_member", "read_npz"]

MAX_FREE_BYTES = 1 << 30
"""Unpacked, whatever the file's size."""
MAX_RATIO = 20
"""Beyond that, so many times the file's size: recorded arrays shrink to a half, zeros to a thousandth."""


def read_npz(file: Path, kind: FileKind) -> dict[str, NDArray[Any]]:
    """The arrays of ``file`` by name.

    Raises:
        the error of ``kind``: the file cannot be read, is damaged, holds something else than arrays of numbers, or
            would unpack to far more than it is.
    """
    try:
        with Path(file).open("rb") as stream:
            if why := not_what_it_seems(stream.read(512)):
                raise kind.refusal(file, why)
            return _arrays(stream)
    except OSError as error:
        raise kind.refusal(file, f"{error.strerror or error}.", fix=kind.absent) from error
    except (kind.error, MemoryError):
        raise
    except Exception as error:  # archives and headers of arrays can be broken in any way
        raise kind.refusal(file, f"{error or type(error).__name__}.") from error


def check_member(info: zipfile.ZipInfo, file_bytes: int) -> None:
    """Refuse what cannot be unpacked, or would be far more than the file that holds it.

    Raises:
        ValueError: the reason, in words.
    """
    if info.flag_bits & 1:
        raise ValueError(f"{info.filename} is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{info.filename} is compressed by method {info.compress_type}, which is not read here")
    if info.file_size > max(MAX_FREE_BYTES, MAX_RATIO * file_bytes):
        raise ValueError(f"{info.filename} would unpack to {info.file_size >> 20} MiB, far more than the file has")


def _arrays(stream: IO[bytes]) -> dict[str, NDArray[Any]]:
    file_bytes = stream.seek(0, 2)
    stream.seek(0)
    if stream.read(6) == b"\x93NUMPY":
        raise ValueError("It is one array (.npy), not an archive of arrays (.npz)")
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        for info in members:
            check_member(info, file_bytes)
        total = sum(info.file_size for info in members)
        if total > max(MAX_FREE_BYTES, MAX_RATIO * file_bytes):
            raise ValueError(f"It would unpack to {total >> 20} MiB, far more than the file has")
        return {info.filename.removesuffix(".npy"): _array(archive, info) for info in members}


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{info.filename} is an array of format {version[0]}.{version[1]}")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        try:
            shape, column_major, dtype = read(member)
        except (MemoryError, RecursionError) as error:  # of the parser, for brackets in brackets
            raise ValueError(f"{info.filename} has a header that cannot be read") from error
        if dtype.kind not in "biufcU" or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"{info.filename} holds {dtype} {shape}, which are no numbers")
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes > info.file_size:
            raise ValueError(f"{info.filename} promises {nbytes} bytes, and holds {info.file_size}")
        raw = member.read(nbytes)
        if len(raw) < nbytes:
            raise ValueError(f"{info.filename} is cut off")
        member.read(1)  # the end, where the checksum is compared
        array = np.frombuffer(bytearray(raw), dtype)
        return array.reshape(shape, order="F" if column_major else "C")
