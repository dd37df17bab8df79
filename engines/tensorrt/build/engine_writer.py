"""The file of an engine while it is written: length and sha256 are known at its end without reading it again."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType

__all__ = ["EngineFileWriter"]

PIECE_BYTES = 1 << 24


class EngineFileWriter:
    """Writes pieces one after the other. An error of the disk is kept, since a library in between cannot pass it on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = 0
        self.error: OSError | None = None
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, piece: bytes | memoryview) -> int:
        """Append; returns how many bytes were written, which are fewer after an error."""
        if self.error is not None:
            return 0
        view, written = memoryview(piece), 0
        try:
            for start in range(0, view.nbytes, PIECE_BYTES):
                part = view[start : start + PIECE_BYTES]
                self._file.write(part)
                self._digest.update(part)
                written += part.nbytes
        except OSError as error:
            self.error = error
        self.bytes += written
        return written

    def __enter__(self) -> EngineFileWriter:
        self._file = self.path.open("wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except OSError as failed:  # what was still in the buffer
            self.error = self.error or failed
