"""The lengths in the header of a WAV file, which recorders that were stopped, and pipes, leave wrong."""

from __future__ import annotations

import struct
from typing import BinaryIO

__all__ = ["with_length_repaired"]

MAX_BYTES = 1 << 31
_LONGEST = 0xFFFFFFFF


def with_length_repaired(file: BinaryIO) -> bytes | None:
    """The bytes of a WAV file whose header gives a length that cannot be, with all that is there; None if it is right.

    The length of the sound is wrong when it is 0 or less than what is there, and no further chunk follows it. What is
    too long needs no repair: libsndfile reads what there is. The file is left where it was.
    """
    if not file.seekable():
        return None
    begin = file.tell()
    try:
        data = _data_chunk(file, begin)
        if data is None:
            return None
        at, length, there = data
        if (
            there <= length
            or there > MAX_BYTES
            or _chunk_at(file, begin + at + 8 + length + length % 2, begin + at + 8 + there)
        ):
            return None
        file.seek(begin)
        whole = bytearray(file.read())
    finally:
        file.seek(begin)
    whole[at + 4 : at + 8] = struct.pack("<I", there)
    whole[4:8] = struct.pack("<I", min(len(whole) - 8, _LONGEST))
    return bytes(whole)


def _data_chunk(file: BinaryIO, begin: int) -> tuple[int, int, int] | None:
    """Where the chunk of samples begins, the length that it gives, and the bytes that are there behind its header."""
    head = file.read(12)
    if len(head) < 12 or head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return None
    at, seen_format = 12, False
    while len(chunk := file.read(8)) == 8:
        name, length = chunk[:4], struct.unpack("<I", chunk[4:])[0]
        if name == b"data":
            there = file.seek(0, 2) - begin - at - 8
            return (at, length, there) if seen_format else None
        seen_format = seen_format or name == b"fmt "
        at += 8 + length + length % 2
        file.seek(begin + at)
    return None


def _chunk_at(file: BinaryIO, at: int, end: int) -> bool:
    """Whether chunks follow from ``at`` on up to the end of the file, or a byte or less."""
    while end - at > 1:
        file.seek(at)
        header = file.read(8)
        if len(header) < 8 or not all(32 <= byte < 127 for byte in header[:4]):
            return False
        at += 8 + (length := struct.unpack("<I", header[4:])[0]) + length % 2
        if at > end + 1:
            return False
    return True
