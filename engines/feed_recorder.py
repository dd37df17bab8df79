"""Save what the graphs of a bundle are fed in real use, as files that a calibration reads later.

A recorder watches sessions; the stages above do not know. What a graph with a KV cache is fed only means something as
a sequence, and pieces of a clip only as a clip: they are saved as such, so that each can be run through its graph in
one go.

feeds/
  manifest.json        the model that was fed, and the files of every component
  llm/00000000.npz     one sample: the arrays of one call, one clip or one sequence
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np

from .bundle.atomic_folder import DISK_RESERVE_BYTES, PRIVATE, free_place, whole_folder
from .errors import Misuse, OutputFailed
from .session import KvCache, Session
from .tensors import Array, TensorSpec

if TYPE_CHECKING:
    from .bundle.format import Bundle

__all__ = ["FEEDS_FORMAT", "FEEDS_VERSION", "FeedRecorder", "Limits", "model_identity"]

FEEDS_FORMAT = "vita-edge-feeds"
FEEDS_VERSION = 2
MANIFEST = "manifest.json"
MANIFEST_BYTES = 256 << 10
"""Reserved when a recording begins, so that a full disk does not cost it: some 3,000 files can be listed in it."""
TABLE_ROWS = 64
"""Of the token table, which tell one checkpoint from another."""
PIECE_STEP_FRAMES = 4
"""Frames of the filter bank from one encoder step to the next: a piece begins at a step."""

Sample = dict[str, Array]


@dataclass(frozen=True)
class Limits:
    """How much of each component is kept. Beyond, every second sample is dropped, so that what stays is spread evenly
    over all that was seen."""

    samples: int = 64
    bytes: int = 256 << 20
    rows: int = 2048
    """Positions of a sequence; what follows them is not kept."""


def model_identity(bundle: Bundle) -> dict[str, Any]:
    """What bundles of one checkpoint have in common, whatever their precision: its facts and its token table.

    A float32 table lies as float16 in some bundles, so its rows are compared as that.
    """
    table, count = bundle.embedding_table(), int(bundle.embeddings["rows"])
    rows = table.rows(np.linspace(0, count - 1, min(count, TABLE_ROWS), dtype=np.int64))
    with np.errstate(over="ignore"):
        half = rows.astype("<f2")
    return {
        "name": bundle.model.name,
        "facts": bundle.model.to_json(),
        "embeddings": hashlib.sha256(half.tobytes()).hexdigest(),
    }


class FeedRecorder:
    """Writes the feeds of watched sessions into a folder, which takes its name when the recorder is closed.

    Where a disk fills up, the recording ends and the sessions go on: a talk is worth more. Closing says so then, and
    keeps what was recorded before.

    Args:
        path: the folder to write; it must not exist, or be empty.
        bundle: whose sessions will be watched.

    Raises:
        Misuse: something is in the way.
        OutputFailed: no space or no permission.
    """

    def __init__(self, path: str | Path, bundle: Bundle, limits: Limits | None = None) -> None:
        self._bundle, self._limits = bundle, limits or Limits()
        self._target = free_place(path, _refusal)
        self._stack = ExitStack()
        self._folder = self._stack.enter_context(whole_folder(self._target, 0, what="recording", mode=PRIVATE))
        _reserve(self._folder / MANIFEST, MANIFEST_BYTES)
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}
        self._sequences: list[tuple[ref[KvCache], _Sequence]] = []
        self._prefix: Array | None = None
        """What the cache of the next sequence was filled with."""
        self._clip: list[Array] = []
        self._failure: OutputFailed | None = None
        """Why nothing is recorded any more."""
        self._told = self._left = False
        """The manifest is written; the folder has its name."""

    def watch(self, component: str, session: Session) -> Session:
        """``session``, and whatever it is fed is recorded as feeds of ``component``."""
        if component not in self._kept:
            self._kept[component] = _Kept(self._folder / component, self._limits)
        return _Watched(session, lambda feeds, cache, start: self._take(component, feeds, cache, start))

    def close(self) -> None:
        """Write the manifest and give the folder its name.

        Raises:
            OutputFailed: not all could be recorded, or the folder could not be given its name.
        """
        self._leave()
        if self._failure:
            raise self._failure

    def __enter__(self) -> FeedRecorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        with suppress(OutputFailed):  # what was recorded before a failure is worth as much, and the failure worth more
            self._leave()

    def _leave(self) -> None:
        with self._lock, self._stack:
            if self._left:
                return
            self._left = True
            for _, sequence in self._sequences:
                with self._going_on():
                    self._end(sequence)
            self._write_manifest_at_last()

    def _write_manifest_at_last(self) -> None:
        """Write it even to a disk that is full to the last byte: samples make room for it, the newest first."""
        while not self._told:
            try:
                self._tell()
            except OSError as error:
                if error.errno != errno.ENOSPC or not any(kept.give_up_newest() for kept in self._kept.values()):
                    raise

    def _tell(self) -> None:
        """Write the manifest."""
        manifest = {
            "format": FEEDS_FORMAT,
            "format_version": FEEDS_VERSION,
            "model": model_identity(self._bundle),
            "recorded_with": {
                "precision": self._bundle.precision,
                "graphs": {
                    name: self._bundle.files[part.graph.relative_to(self._bundle.path).as_posix()][1]
                    for name, part in self._bundle.components.items()
                },
            },
            "components": {
                name: {
                    "seen": kept.seen,
                    "files": [f"{name}/{file.name}" for _, file, _ in kept.files],
                    "bytes": kept.nbytes,
                }
                for name, kept in self._kept.items()
            },
        }
        text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
        with (self._folder / MANIFEST).open("r+b") as file:  # in the room that was reserved for it
            file.write(text.encode())
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        self._told = True

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        """Where a sample cannot be written, nothing ends but the recording."""
        try:
            yield
        except OSError as error:
            told = OutputFailed.from_os_error(self._target, error)
            self._failure = OutputFailed(
                f"The recording {self._target} ends early.",
                why=f"{told.why} What was recorded before is kept.",
                fix=told.fix,
            )
            with suppress(OSError):  # while there is a little room: the disk may go on filling up
                self._tell()

    def _take(self, component: str, feeds: Mapping[str, Array], cache: KvCache | None, start: int) -> None:
        with self._lock, self._going_on():
            if self._failure:
                return
            if cache is not None:
                self._grow(component, feeds, cache, start)
            elif "begin" in feeds:
                self._take_piece(component, feeds)
            else:
                if "text_embeds" in feeds:
                    self._prefix = feeds["text_embeds"].copy()
                self._kept[component].offer(dict(feeds))

    def _take_piece(self, component: str, feeds: Mapping[str, Array]) -> None:
        """A clip as if it had been fed whole. Pieces share frames; a clip may be ended, and go on all the same."""
        start = int(feeds["begin"]) * PIECE_STEP_FRAMES
        frames = feeds["fbank"][0]
        so_far = np.concatenate(self._clip) if self._clip and start else frames[:0]
        if start > len(so_far):
            return  # its beginning was not seen
        self._clip = [so_far[:start], frames.copy()]
        if feeds["last"] if "last" in feeds else len(feeds["ending"]):
            self._kept[component].offer({"fbank": np.concatenate(self._clip)[None]})

    def _grow(self, component: str, feeds: Mapping[str, Array], cache: KvCache, start: int) -> None:
        """Positions that were appended to a cache, by whichever session."""
        name, rows = next(iter(feeds.items()))
        sequence = next((known for owner, known in self._sequences if owner() is cache), None)
        filled = component == "speech_decoder" and self._prefix is not None
        if sequence is None or filled or start == 0:
            for owner, known in self._sequences:  # of caches that are gone, too
                if known is sequence or owner() is None:
                    self._end(known)
            self._sequences = [(o, known) for o, known in self._sequences if known is not sequence and o() is not None]
            given = {"text_embeds": self._prefix} if filled and self._prefix is not None else {}
            sequence = _Sequence(component, name, start, given)
            sequence.whole = start == 0 or filled
            self._sequences.append((ref(cache), sequence))
            if filled:
                self._prefix = None
        if start < sequence.end:
            self._end(sequence)
            sequence.rewind(start)
        sequence.append(start, rows, self._limits.rows)

    def _end(self, sequence: _Sequence) -> None:
        if sequence.whole and sequence.grown and not self._failure:
            sequence.grown = False
            self._kept[sequence.component].offer(sequence.sample())


@dataclass
class _Kept:
    """Files of one component: every ``stride``-th sample that was seen."""

    folder: Path
    limits: Limits
    seen: int = 0
    stride: int = 1
    files: list[tuple[int, Path, int]] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        return sum(size for _, _, size in self.files)

    def give_up_newest(self) -> bool:
        """Delete the sample that was written last; False when there is none."""
        if not self.files:
            return False
        _, file, _ = self.files.pop()
        file.unlink(missing_ok=True)
        return True

    def offer(self, sample: Sample) -> None:
        number, self.seen = self.seen, self.seen + 1
        if number % self.stride:
            return
        if shutil.disk_usage(self.folder.parent).free < DISK_RESERVE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.folder.mkdir(exist_ok=True)
        file = self.folder / f"{number:08}.npz"
        try:
            with file.open("wb") as stream:
                np.savez(stream, **sample)  # type: ignore[arg-type]
        except OSError:
            file.unlink(missing_ok=True)
            raise
        self.files.append((number, file, file.stat().st_size))
        while len(self.files) > 1 and (len(self.files) > self.limits.samples or self.nbytes > self.limits.bytes):
            self.stride *= 2
            for index, old, _ in self.files:
                if index % self.stride:
                    old.unlink()
            self.files = [entry for entry in self.files if entry[0] % self.stride == 0]


@dataclass
class _Sequence:
    """What one KV cache holds, as it was fed."""

    component: str
    name: str
    base: int
    """Positions that were in the cache before the first row."""
    given: Sample
    rows: list[Array] = field(default_factory=list)
    end: int = 0
    whole: bool = True
    grown: bool = False

    def __post_init__(self) -> None:
        self.end = self.base

    def append(self, start: int, rows: Array, limit: int) -> None:
        if start != self.end:
            self.whole = False  # positions have come from elsewhere
        room = limit - (self.end - self.base)
        if room > 0:
            self.rows.append(rows[:, :room].copy())
            self.grown = True
        self.end = start + rows.shape[1]

    def rewind(self, position: int) -> None:
        if position < self.base:
            self.whole = False
            return
        held = np.concatenate(self.rows, axis=1)[:, : position - self.base]
        self.rows, self.end, self.grown = [held], position, False

    def sample(self) -> Sample:
        return {**self.given, self.name: np.concatenate(self.rows, axis=1)}


class _Watched:
    """A session that tells what it is fed; see :class:`~vita_edge.engines.session.Session`."""

    def __init__(self, session: Session, told: Callable[[Mapping[str, Array], KvCache | None, int], None]) -> None:
        self._session, self._told = session, told

    @property
    def name(self) -> str:
        return self._session.name

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        return self._session.inputs

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        return self._session.outputs

    @property
    def max_tokens(self) -> int | None:
        return self._session.max_tokens

    @property
    def rows_at_once(self) -> int:
        return self._session.rows_at_once

    def infer(self, feeds: Mapping[str, Array], cache: KvCache | None = None) -> Mapping[str, Array]:
        start = cache.length_tokens if cache is not None else 0
        results = self._session.infer(feeds, cache)
        self._told(feeds, cache, start)
        return results

    def new_cache(self, capacity_tokens: int) -> KvCache:
        return self._session.new_cache(capacity_tokens)

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _reserve(path: Path, nbytes: int) -> None:
    """An empty file that has room for ``nbytes`` on the disk, where the file system can promise that."""
    with path.open("wb") as file, suppress(OSError):
        os.posix_fallocate(file.fileno(), 0, nbytes)


def _refusal(target: Path) -> Misuse:
    return Misuse(
        f"{target} exists.",
        why="A recording is a folder of its own and never replaces anything.",
        fix="Give another name, or remove the folder.",
    )
