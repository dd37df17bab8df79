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
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING
from weakref import ref

import numpy as np

from vita_edge.engines.bundle.atomic_folder import PRIVATE, free_place, whole_folder
from vita_edge.engines.bundle.component_spec import AUDIO, COMPONENT_SPECS, SPEECH_PREFILL
from vita_edge.engines.bundle.feeds_format import FEEDS_FORMAT, FEEDS_MANIFEST, FEEDS_VERSION, model_identity
from vita_edge.engines.errors import Misuse, OutputFailed
from vita_edge.engines.session import GraphSession, KvCache
from vita_edge.engines.session_proxy import SessionProxy
from vita_edge.engines.tensors import Array

from ..encoders.streaming_audio_encoder import STEP_FRAMES
from .recorded_samples import FedSequence, RecordingLimits, StoredSamples

if TYPE_CHECKING:
    from vita_edge.engines.bundle.format import Bundle

__all__ = ["FeedRecorder"]

MANIFEST_BYTES = 256 << 10
"""Reserved when a recording begins, so that a full disk does not cost it: some 3,000 files can be listed in it."""
CLIP, TEXT = AUDIO.inputs[0].name, SPEECH_PREFILL.inputs[0].name


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

    def __init__(self, path: str | Path, bundle: Bundle, limits: RecordingLimits | None = None) -> None:
        self._bundle, self._limits = bundle, limits or RecordingLimits()
        self._target = free_place(path, _refusal)
        self._stack = ExitStack()
        self._folder = self._stack.enter_context(whole_folder(self._target, 0, what="recording", mode=PRIVATE))
        _reserve(self._folder / FEEDS_MANIFEST, MANIFEST_BYTES)
        self._lock = threading.Lock()
        self._retained: dict[str, StoredSamples] = {}
        self._sequences: list[tuple[ref[KvCache], FedSequence]] = []
        self._prefix: Array | None = None
        """What the cache of the next sequence was filled with."""
        self._clip: list[Array] = []
        self._failure: OutputFailed | None = None
        """Why nothing is recorded any more."""
        self._reported = self._left = False
        """The manifest is written; the folder has its name."""

    def watch(self, component: str, session: GraphSession) -> GraphSession:
        """``session``, and whatever it is fed is recorded as feeds of ``component``."""
        if component not in self._retained:
            self._retained[component] = StoredSamples(self._folder / component, self._limits)
        return _WatchedSession(session, lambda feeds, cache, start: self._take(component, feeds, cache, start))

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
        while not self._reported:
            try:
                self._report()
            except OSError as error:
                if error.errno != errno.ENOSPC or not any(
                    retained.give_up_newest() for retained in self._retained.values()
                ):
                    raise

    def _report(self) -> None:
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
                    "seen": retained.seen,
                    "files": [f"{name}/{file.name}" for _, file, _ in retained.files],
                    "bytes": retained.nbytes,
                }
                for name, retained in self._retained.items()
            },
        }
        text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
        with (self._folder / FEEDS_MANIFEST).open("r+b") as file:  # in the room that was reserved for it
            file.write(text.encode())
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        self._reported = True

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        """Where a sample cannot be written, nothing ends but the recording."""
        try:
            yield
        except OSError as error:
            reported = OutputFailed.from_os_error(self._target, error)
            self._failure = OutputFailed(
                f"The recording {self._target} ends early.",
                why=f"{reported.why} What was recorded before is kept.",
                fix=reported.fix,
            )
            with suppress(OSError):  # while there is a little room: the disk may go on filling up
                self._report()

    def _take(self, component: str, feeds: Mapping[str, Array], cache: KvCache | None, start: int) -> None:
        with self._lock, self._going_on():
            if self._failure:
                return
            if cache is not None:
                self._grow(component, feeds, cache, start)
            elif "begin" in feeds:
                self._take_piece(component, feeds)
            else:
                if TEXT in feeds:
                    self._prefix = feeds[TEXT].copy()
                self._retained[component].offer(dict(feeds))

    def _take_piece(self, component: str, feeds: Mapping[str, Array]) -> None:
        """A clip as if it had been fed whole. Pieces share frames; a clip may be ended, and go on all the same."""
        start = int(feeds["begin"]) * STEP_FRAMES
        frames = feeds[CLIP][0]
        so_far = np.concatenate(self._clip) if self._clip and start else frames[:0]
        if start > len(so_far):
            return  # its beginning was not seen
        self._clip = [so_far[:start], frames.copy()]
        if feeds["last"] if "last" in feeds else len(feeds["ending"]):
            self._retained[component].offer({CLIP: np.concatenate(self._clip)[None]})

    def _grow(self, component: str, feeds: Mapping[str, Array], cache: KvCache, start: int) -> None:
        """Positions that were appended to a cache, by whichever session."""
        name, rows = next(iter(feeds.items()))
        sequence = next((known for owner, known in self._sequences if owner() is cache), None)
        filled = COMPONENT_SPECS[component].filled_by is not None and self._prefix is not None
        if sequence is None or filled or start == 0:
            for owner, known in self._sequences:  # of caches that are gone, too
                if known is sequence or owner() is None:
                    self._end(known)
            self._sequences = [(o, known) for o, known in self._sequences if known is not sequence and o() is not None]
            given = {TEXT: self._prefix} if filled and self._prefix is not None else {}
            sequence = FedSequence(component, name, start, given)
            sequence.whole = start == 0 or filled
            self._sequences.append((ref(cache), sequence))
            if filled:
                self._prefix = None
        if start < sequence.end:
            self._end(sequence)
            sequence.rewind(start)
        sequence.append(start, rows, self._limits.rows)

    def _end(self, sequence: FedSequence) -> None:
        if sequence.whole and sequence.grown and not self._failure:
            sequence.grown = False
            self._retained[sequence.component].offer(sequence.sample())


class _WatchedSession(SessionProxy):
    """Reports what it is fed."""

    def __init__(
        self, session: GraphSession, report: Callable[[Mapping[str, Array], KvCache | None, int], None]
    ) -> None:
        self._watched, self._report = session, report

    @property
    def session(self) -> GraphSession:
        return self._watched

    def infer(self, feeds: Mapping[str, Array], cache: KvCache | None = None) -> Mapping[str, Array]:
        start = cache.length_tokens if cache is not None else 0
        results = self._watched.infer(feeds, cache)
        self._report(feeds, cache, start)
        return results


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
