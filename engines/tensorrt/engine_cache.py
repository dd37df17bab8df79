"""Where engines are kept: a folder with a folder for each, named by its key, published whole or not at all.

CACHE/
  llm-0f3a…/engine.bin, engine.json
  timings-tensorrt-10.16.0-orin.bin     timings of kernels, for the next build (full TensorRT only)
  .lock                          held by the build that is going on
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vita_edge.engines.errors import EngineUnavailable, OutputFailed

from ..bundle.atomic_folder import whole_folder
from .device import Gpu
from .engine_file import HEADER, BadEngine, EngineFile, read_engine
from .engine_key import EngineKey
from .library import Library

__all__ = ["EngineCache", "default_cache"]

_OLD, _PARTIAL = ".old", ".partial"


def default_cache() -> Path:
    """``$VITA_EDGE_ENGINE_DIR``, else ``$XDG_CACHE_HOME/vita-edge/engines`` or the same in ``~/.cache``: a bundle may
    lie on a disk that is read-only, or be shared by devices of several kinds."""
    if named := os.environ.get("VITA_EDGE_ENGINE_DIR"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "vita-edge" / "engines"


class EngineCache:
    """The engines in one folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder if folder is not None else default_cache()

    def find(self, key: EngineKey) -> EngineFile | None:
        """The engine of exactly this key, or None if there is none; its header is read, the engine is not.

        Raises:
            BadEngine: there is something of this name that is no whole engine.
        """
        folder = self.folder / key.folder
        if not folder.exists():
            return None
        engine_file = read_engine(folder)
        if engine_file.key != key:  # two keys with the same beginning of their digest, or a header that was edited
            raise BadEngine(f"{folder / HEADER} is damaged: its key is not the one of its name")
        return engine_file

    def engines(self, component: str) -> tuple[list[EngineFile], list[str]]:
        """All engines of a component, the newest first, and what is wrong with those that cannot be read."""
        found, problems = [], []
        try:
            folders = [f for f in self.folder.iterdir() if f.name.startswith(f"{component}-") and f.is_dir()]
        except OSError:
            return [], []
        for folder in sorted(folders, key=_age, reverse=True):
            try:
                found.append(read_engine(folder))
            except BadEngine as error:
                problems.append(str(error))
        return found, problems

    def timings(self, library: Library, device: Gpu | None) -> Path | None:
        """Where timings of kernels are kept from one build to the next; they hold for one version and one GPU."""
        if not library.keeps_timings or device is None:
            return None
        gpu = re.sub(r"[^a-z0-9]+", "-", device.name.lower()).strip("-")
        return self.folder / f"timings-{library.name}-{library.version}-{gpu}.bin"

    @contextmanager
    def publishing(self, key: EngineKey, bytes_needed: int) -> Iterator[Path]:
        """A folder to write an engine and its header into; it takes its name in the cache when all went well.

        Raises:
            OutputFailed: no space or no permission; the cache is as it was.
        """
        with whole_folder(self.folder / key.folder, bytes_needed, what="engine", replace=True) as folder:
            yield folder

    @contextmanager
    def building(self) -> Iterator[None]:
        """Hold the cache for one build, and sweep away what a killed one has left.

        Raises:
            EngineUnavailable: another build is going on in it.
            OutputFailed: it cannot be written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / ".lock").open("a")
        except OSError as error:
            raise OutputFailed.from_os_error(self.folder, error) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise EngineUnavailable(
                    f"Another build is going on in {self.folder}.",
                    why="Two at once would take twice the memory, and the timings of one would disturb the other's.",
                    fix="Wait for it, or name another folder with --engine-dir.",
                ) from error
            self._sweep()
            yield

    def _sweep(self) -> None:
        for left in self.folder.glob(".*"):
            if left.is_dir() and left.name.endswith((_PARTIAL, _OLD)):
                shutil.rmtree(left, ignore_errors=True)


def _age(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0
