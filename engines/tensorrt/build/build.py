"""Build the engines of a bundle, one after the other, each in a process of its own, each kept as soon as it is
whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vita_edge import __version__
from vita_edge.engines.errors import EngineUnavailable, OutputFailed, VitaEdgeError
from vita_edge.engines.memory import available_memory
from vita_edge.engines.tensors import TensorSpec

from ..engine_cache import EngineCache
from ..engine_file import HEADER, PLAN, BadEngine, Built, EngineFile
from ..engine_key import EngineKey
from .build_cost import BuildPace
from .build_jobs import BuildJob
from .build_one import Job
from .build_target import BuildTarget
from .child import run_job

__all__ = ["Outcome", "Progress", "build_engines"]


@dataclass(frozen=True)
class Progress:
    """Where a build is."""

    component: str
    phase: str
    """What TensorRT says that it is doing; empty while it starts."""
    step: int
    steps: int
    elapsed_s: float
    left_s: float
    """Of this component, about."""
    all_left_s: float
    """Of everything that is to be built, about."""


@dataclass(frozen=True)
class Outcome:
    """What became of one engine that was wanted."""

    component: str
    engine_file: EngineFile | None
    reused: bool = False
    """It was there already."""
    replaced: str = ""
    """Why one that was there could not be used."""
    error: VitaEdgeError | None = None


def build_engines(
    requested: Sequence[BuildJob],
    place: BuildTarget,
    cache: EngineCache,
    *,
    memory_bytes: int | None = None,
    force: bool = False,
    progress: Callable[[Progress], object] | None = None,
    debug: Callable[[str], object] | None = None,
) -> Iterator[Outcome]:
    """Build what is not in the cache; yields an outcome for each engine as soon as there is one.

    An engine that cannot be built does not keep the others from being built. When the iteration is left, or
    interrupted, the engine at hand is given up, and those that are finished stay.

    Args:
        memory_bytes: how much building may take; default: what is free.
        force: build also what is there.
        progress: called several times a second.
        debug: called with every line that the library prints.

    Raises:
        EngineUnavailable: another build is going on in this cache.
        OutputFailed: the cache cannot be written to.
    """
    pace = _earlier_pace(requested, cache)
    with cache.building():
        absent = [force or not (cache.folder / engine_file.key.folder).exists() for engine_file in requested]
        for i, engine_file in enumerate(requested):
            later_s = pace.seconds(sum(o.size.seconds for o, new in zip(requested[i + 1 :], absent[i + 1 :]) if new))
            try:
                there, replaced = _there(cache, engine_file.key, force)
                if there:
                    yield Outcome(engine_file.component, there, reused=True)
                    continue
                watch = _Watch(engine_file, pace, later_s, progress)
                built = _build(engine_file, place, cache, memory_bytes, watch, debug)
                pace.saw(engine_file.size.seconds, built.built.seconds)
                outcome = Outcome(engine_file.component, built, replaced=replaced)
            except VitaEdgeError as error:
                outcome = Outcome(engine_file.component, None, error=error)
            yield outcome


def _there(cache: EngineCache, key: EngineKey, force: bool) -> tuple[EngineFile | None, str]:
    """The engine if it is in the cache and whole, else why what is there cannot be used."""
    if force:
        return None, ""
    try:
        if engine_file := cache.find(key):
            engine_file.check()
        return engine_file, ""
    except BadEngine as error:
        return None, str(error)


def _build(
    requested: BuildJob,
    place: BuildTarget,
    cache: EngineCache,
    memory_bytes: int | None,
    watch: _Watch,
    debug: Callable[[str], object] | None,
) -> EngineFile:
    key = requested.key
    workspace = _workspace(requested, place, memory_bytes)
    with cache.publishing(key, requested.size.engine_bytes) as folder:
        job = Job(
            component=requested.component,
            graph=requested.graph,
            engine_file=folder / PLAN,
            library=place.library.name,
            target=place.sm if place.compiles_ahead else "",
            precision=key.precision,
            profiles=key.profiles,
            fixed=dict(key.fixed),
            stripped=key.stripped,
            workspace_bytes=workspace,
            timings=cache.timings(place.library, place.device),
        )
        done = run_job(job, watch.hear, debug)
        engine_file = EngineFile(
            folder=cache.folder / key.folder,
            key=key,
            bytes=int(done["bytes"]),
            sha256=str(done["sha256"]),
            inputs=_with_lengths(requested.interface.inputs, key),
            outputs=_with_lengths(requested.interface.outputs, key),
            built=Built(
                seconds=round(float(done["seconds"]), 3),
                estimated_s=round(requested.size.seconds, 3),
                peak_memory_bytes=done["peak_memory_bytes"],
                weights_bytes=done["weights_bytes"],
                activation_bytes=tuple(done["activation_bytes"]),
                driver=place.device.driver if place.device else "",
                producer=f"vita-edge {__version__}",
            ),
        )
        try:
            (folder / HEADER).write_text(engine_file.header(), "utf-8")
        except OSError as error:
            raise OutputFailed.from_os_error(folder / HEADER, error) from error
    return engine_file


def _workspace(requested: BuildJob, place: BuildTarget, memory_bytes: int | None) -> int:
    """Check that building fits into the memory; returns what a kernel may take, 0 to leave it to the library.

    Raises:
        EngineUnavailable: it does not fit.
    """
    free = available_memory()
    budget = memory_bytes if memory_bytes is not None else free
    needed = requested.size.memory_bytes
    if budget is not None and needed > budget:
        whose = "may be taken (--memory)" if memory_bytes is not None else "are free"
        raise EngineUnavailable(
            f"There is not enough memory to build {requested.component}.",
            why=f"It takes about {needed >> 20:,} MiB, and {budget >> 20:,} MiB {whose}.",
            fix="Free some memory; or add swap, which is not counted, and say with --memory MIB how much may be taken.",
        )
    shared = place.device is not None and place.device.shared_memory
    if budget is None or (memory_bytes is None and not shared):
        return 0
    return max(budget - needed, 256 << 20)


def _with_lengths(specs: Mapping[str, TensorSpec], key: EngineKey) -> dict[str, TensorSpec]:
    return {
        name: TensorSpec(
            name, spec.dtype, tuple(key.fixed.get(axis, axis) if isinstance(axis, str) else axis for axis in spec.axes)
        )
        for name, spec in specs.items()
    }


def _earlier_pace(requested: Sequence[BuildJob], cache: EngineCache) -> BuildPace:
    """From the newest engine of each component that the same library has built for such a GPU, of whatever bundle."""
    pace = BuildPace()
    for engine_file in requested:
        for earlier in cache.engines(engine_file.component)[0]:
            if (earlier.library, earlier.version, earlier.key.sm) == (
                engine_file.key.library,
                engine_file.key.version,
                engine_file.key.sm,
            ):
                pace.saw(earlier.built.estimated_s, earlier.built.seconds)
                break
    return pace


class _Watch:
    """Adds time to what a builder tells."""

    def __init__(
        self, requested: BuildJob, pace: BuildPace, later_s: float, progress: Callable[[Progress], object] | None
    ) -> None:
        self._requested, self._later_s, self._progress = requested, later_s, progress
        self._expected_s = pace.seconds(requested.size.seconds)
        self._began = time.monotonic()
        self._last: dict[str, Any] = {"phase": "", "step": 0, "steps": 0, "fraction": 0.0}

    def hear(self, news: dict[str, Any] | None) -> None:
        self._last = news or self._last
        if not self._progress:
            return
        elapsed = time.monotonic() - self._began
        left = BuildPace.left(self._expected_s, elapsed, float(self._last["fraction"]))
        self._progress(
            Progress(
                component=self._requested.component,
                phase=str(self._last["phase"]),
                step=int(self._last["step"]),
                steps=int(self._last["steps"]),
                elapsed_s=elapsed,
                left_s=left,
                all_left_s=left + self._later_s,
            )
        )
