"""The samples of a recording of feeds: files of one component, and sequences that a KV cache was fed."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vita_edge.engines.bundle.atomic_folder import DISK_RESERVE_BYTES
from vita_edge.engines.tensors import Array

__all__ = ["FedSequence", "RecordingLimits", "StoredSamples"]

Sample = dict[str, Array]


@dataclass(frozen=True)
class RecordingLimits:
    """How much of each component is kept. Beyond, every second sample is dropped, so that what stays is spread evenly
    over all that was seen."""

    samples: int = 64
    bytes: int = 256 << 20
    rows: int = 2048
    """Positions of a sequence; what follows them is not kept."""


@dataclass
class StoredSamples:
    """Files of one component: every ``stride``-th sample that was seen."""

    folder: Path
    limits: RecordingLimits
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
class FedSequence:
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
