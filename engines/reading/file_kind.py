"""A kind of file, its error, and its bytes: bounded in size, and whatever the path is."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import Misuse, VitaEdgeError
from ..printable import printable

__all__ = [
    "MAX_BYTES",
    "FileKind",
    "beside",
    "check_utf8",
    "decoded",
    "is_file",
    "is_folder",
    "not_what_it_seems",
    "read_bytes",
    "read_text",
]

MAX_BYTES = 256 << 20
"""Larger files than this are not text that anybody wrote."""
MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 4096
"""What Linux takes."""


@dataclass(frozen=True)
class FileKind:
    """What a file is for: the error that its faults raise, and what to do about them."""

    error: type[VitaEdgeError]
    noun: str
    """As messages call it: ``the turns``; empty where the file's name says it."""
    fix: str
    """When its contents are wrong."""
    absent: str = "Check the path and its permissions."
    """When there is no such file, or it cannot be opened."""

    def refusal(self, file: object, why: str, *, fix: str = "") -> VitaEdgeError:
        name = f"{self.noun} {file}" if self.noun else f"{file}"
        return self.error(f"Cannot read {printable(name)}.", why=printable(why), fix=fix or self.fix)


def read_bytes(file: Path, kind: FileKind, max_bytes: int = MAX_BYTES) -> bytes:
    """All of ``file``.

    Raises:
        the error of ``kind``: it is missing, forbidden, too large, or its name is none that a file can have.
    """
    try:
        with Path(file).open("rb") as stream:
            content = stream.read(max_bytes + 1)
    except OSError as error:
        raise kind.refusal(file, f"{error.strerror or error}.", fix=kind.absent) from error
    except ValueError as error:  # a NUL, half of a surrogate pair
        raise kind.refusal(file, f"No file can have this name: {error}.", fix=kind.absent) from error
    if len(content) > max_bytes:
        raise kind.refusal(file, f"It has more than {max_bytes >> 20} MiB.")
    return content


def read_text(file: Path, kind: FileKind, max_bytes: int = MAX_BYTES) -> str:
    """A text in UTF-8, or in UTF-16 or UTF-32 with its mark; the mark is left out."""
    raw = read_bytes(file, kind, max_bytes)
    if why := not_what_it_seems(raw):
        raise kind.refusal(file, why)
    try:
        return decoded(raw)
    except UnicodeDecodeError as error:
        raise kind.refusal(file, f"It is not text in UTF-8: {error}.") from error


def decoded(raw: bytes) -> str:
    """Raises UnicodeDecodeError."""
    marks = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
    encoding = next((name for mark, name in marks.items() if raw.startswith(mark)), "utf-8-sig")
    return raw.decode(encoding)


def not_what_it_seems(start: bytes) -> str:
    """Why a file that begins so is not the one that its name promises; empty when nothing speaks against it."""
    text = start[:512].lstrip().lower()
    if text.startswith((b"version https://git-lfs", b"# xet version")):
        return "It is a Git LFS pointer, a few lines of text in the place of the file (git lfs pull fetches it)."
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        return "It is a web page: the download was answered by one, to log in or with an error."
    if not start:
        return "It is empty."
    if not start.strip(b"\0"):
        return "It holds nothing but zeros: the download has not written it."
    return ""


def check_utf8(path: Path) -> None:
    """Raises Misuse for a path that native libraries cannot be given: they take UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise Misuse(
            f"The path {printable(str(path))} is not in UTF-8.",
            why="The libraries that read and run models take no other names.",
            fix="Rename the folder: convmv -f GBK -t UTF-8, or mv.",
        ) from error


def is_file(path: Path) -> bool:
    """Whatever the path is: a name that no file can have is none."""
    return os.path.isfile(path)  # noqa: PTH113 (Path raises for some names)


def is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112


def beside(file: Path, name: str, kind: FileKind) -> Path:
    """The path of ``name``, which ``file`` mentions and which counts from its folder.

    Raises:
        the error of ``kind``: no file can have this name.
    """
    path = file.parent / name
    try:
        raw = os.fsencode(path)
    except UnicodeEncodeError as error:
        raise kind.refusal(file, f"It names {name[:80]!r}, which cannot be written in UTF-8.") from error
    if not name or b"\0" in raw:
        raise kind.refusal(file, f"It names {name[:80]!r}, and no file can have this name.")
    if len(raw) > MAX_PATH_BYTES or max(map(len, raw.split(b"/"))) > MAX_NAME_BYTES:
        raise kind.refusal(file, f"It names {name[:40]!r}…: {os.strerror(errno.ENAMETOOLONG).lower()}.")
    return path
