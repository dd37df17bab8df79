"""Contents that no program has written so: what every reader has to survive."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["BIG", "DEEP", "HUGE", "LFS", "NO_NUMBER", "changed", "npy", "npz", "torch_archive"]

DEEP = b"[" * 1000 + b"]" * 1000
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"ab" * 32 + b"\nsize 7031645\n"
HUGE, BIG, NO_NUMBER = "@1e999@", "@" + "1" + "0" * 400 + "@", "@NaN@"
"""Stand for numbers that Python's writer of JSON would not write."""
ONE_ARRAY = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 4, 80), }"


def changed(file: Path, change: Callable[[Any], object]) -> bytes:
    """The JSON of ``file`` after ``change``; texts between ``@`` are written bare."""
    data = json.loads(file.read_text("utf-8"))
    change(data)
    return json.dumps(data).replace('"@', "").replace('@"', "").encode()


def npy(header: bytes = ONE_ARRAY, body: bytes = bytes(1280)) -> bytes:
    """An array's file with any header."""
    padded = header + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + body


def npz(members: Mapping[str, bytes], *, patches: tuple[tuple[bytes, int, int], ...] = ()) -> bytes:
    """An archive; a patch (signature, offset, byte) goes into every header that begins so."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    content = bytearray(stream.getvalue())
    for signature, offset, value in patches:
        at = content.find(signature)
        while at >= 0:
            content[at + offset] = value
            at = content.find(signature, at + 4)
    return bytes(content)


ENCRYPTED = ((b"PK\1\2", 8, 1), (b"PK\3\4", 6, 1))
UNKNOWN_METHOD = ((b"PK\1\2", 10, 99), (b"PK\3\4", 8, 99))


def torch_archive(pickle: bytes, *, patches: tuple[tuple[bytes, int, int], ...] = ()) -> bytes:
    """A file as torch.save writes it, with any pickle."""
    return npz({"x/data.pkl": pickle, "x/data/0": bytes(48)}, patches=patches)


def far_memo() -> bytes:
    """A pickle that stores an object at memo index 100,000,000: 6 GB in a table that grows to it."""
    return b"\x80\x02}r" + struct.pack("<I", 100_000_000) + b"."
