"""A log of a talk that survives its end: one line of JSON for each turn, written as the turn ends."""

from __future__ import annotations

import json
import os
import queue
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

from vita_edge.engines.bundle.atomic_file import PRIVATE
from vita_edge.engines.errors import BadInput, OutputFailed
from vita_edge.engines.reading.file_kind import FileKind, read_bytes
from vita_edge.engines.reading.json_file import parse_json

from .turn_report import TurnReport

__all__ = ["TurnLog", "read_turn_log"]

TURN_LOG = FileKind(BadInput, "the turn log", fix="Give the log of a talk.")


class TurnLog:
    """Appends reports to a file; a thread of its own writes, so that a slow disk holds up nobody.

    A line that could not be written whole is ended before the next one. When the disk is full or gone, that is told
    once, and the talk goes on; reports are written again when there is room.

    Args:
        path: where to; what is there already is kept, and a new file is its owner's alone to read.
        complain: told of the first failure, in the journal's thread.
        now: the time of day.

    Raises:
        OutputFailed: the file cannot be opened.
    """

    def __init__(
        self,
        path: str | Path,
        complain: Callable[[OutputFailed], None],
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._path, self._complain, self._now = Path(path), complain, now
        try:
            self._torn = _ends_within_a_line(self._path)
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, PRIVATE)
        except OSError as error:
            raise OutputFailed.from_os_error(path, error) from error
        self._reported = False
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="journal", daemon=True)
        self._thread.start()

    def __call__(self, report: TurnReport) -> None:
        """Have ``report`` written; returns at once."""
        line = {"time": self._now().isoformat(timespec="milliseconds"), **report.to_json()}
        self._lines.put(json.dumps(line, ensure_ascii=False).encode())

    def close(self) -> None:
        """Write what is left."""
        self._lines.put(None)
        self._thread.join()
        os.close(self._file)

    def __enter__(self) -> TurnLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write_all(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._write(b"\n" + line + b"\n" if self._torn else line + b"\n")
                self._torn = False
            except OSError as error:
                self._torn = True
                if not self._reported:
                    self._reported = True
                    self._complain(OutputFailed.from_os_error(self._path, error))

    def _write(self, content: bytes) -> None:
        while content:  # a nearly full disk takes a part, and refuses the rest
            content = content[os.write(self._file, content) :]


def read_turn_log(path: str | Path) -> Iterator[TurnReport]:
    """The reports of a journal; lines that were cut off, by a kill or a full disk, are left out.

    Raises:
        BadInput: the file cannot be read, or a whole line is no report.
    """
    content = read_bytes(Path(path), TURN_LOG)
    for number, line in enumerate(content.splitlines(), 1):
        try:
            data = parse_json(line)
        except ValueError:
            continue  # cut off
        try:
            yield TurnReport.from_json({name: value for name, value in dict(data).items() if name != "time"})
        except (TypeError, ValueError) as error:
            raise BadInput(f"Line {number} of {path} is no turn.", why=str(error), fix=TURN_LOG.fix) from error


def _ends_within_a_line(path: Path) -> bool:
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"
