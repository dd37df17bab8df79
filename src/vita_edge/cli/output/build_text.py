"""What `vita-edge build` shows: a line while it builds, a table at the end."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vita_edge.engines.tensorrt.shape_choice import of_a_later_layer

from .show import mib, table

if TYPE_CHECKING:
    from vita_edge.engines.tensorrt.build.build import Outcome, Progress
    from vita_edge.engines.tensorrt.engine_file import EngineFile

__all__ = ["BuildLine", "facts", "print_outcomes"]


class BuildLine:
    """On a terminal, one line that says what TensorRT is doing and what is left; elsewhere a line for each engine."""

    def __init__(self, engines: int) -> None:
        self._engines, self._done = engines, 0
        self._live = sys.stderr.isatty()
        self._left_s: float | None = None

    def show(self, progress: Progress) -> None:
        self._left_s = progress.all_left_s - progress.left_s
        if self._live:
            text = progress_text(progress, self._done + 1, self._engines)
            width = _width()
            print("\r" + text.ljust(width)[:width], end="", file=sys.stderr, flush=True)

    def finished(self, outcome: Outcome) -> None:
        self._done += 1
        self.close()
        if outcome.reused:
            what = "is there already"
        elif outcome.engine_file:
            what = f"built in {duration(outcome.engine_file.built.seconds)}"
        else:
            what = "FAILED"
        left = f", about {duration(self._left_s)} left" if self._left_s and self._done < self._engines else ""
        print(f"[{self._done}/{self._engines}] {outcome.component} {what}{left}", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._live:
            print("\r" + " " * _width() + "\r", end="", file=sys.stderr, flush=True)


def _width() -> int:
    """Columns of a line that does not wrap."""
    return max(shutil.get_terminal_size().columns - 1, 20)


def progress_text(progress: Progress, number: int, engines: int) -> str:
    """``[2/6] vision: Timing graph nodes 12/63, 1:10 so far, about 2:00 left, 9:30 in all``"""
    phase = progress.phase or "starting"
    steps = f" {progress.step}/{progress.steps}" if progress.steps > 1 else ""
    left = f"about {duration(progress.left_s)} left"
    if progress.all_left_s > progress.left_s:
        left += f", {duration(progress.all_left_s)} in all"
    return f"[{number}/{engines}] {progress.component}: {phase}{steps}, {duration(progress.elapsed_s)} so far, {left}"


def duration(seconds: float) -> str:
    """Seconds below a minute, then minutes:seconds, then hours:minutes:seconds."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}:{rest:02} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02} h"


def facts(outcome: Outcome) -> dict[str, Any]:
    engine_file = outcome.engine_file
    return {
        "state": "failed" if engine_file is None else "reused" if outcome.reused else "built",
        "engine": str(engine_file.path) if engine_file else None,
        "profiles": [_profile(engine_file, i) for i in range(len(engine_file.profiles))] if engine_file else [],
        "seconds": engine_file.built.seconds if engine_file else None,
        "bytes": engine_file.bytes if engine_file else None,
        "weights_bytes": engine_file.built.weights_bytes if engine_file else None,
        "activation_bytes": list(engine_file.built.activation_bytes) if engine_file else [],
        "peak_memory_bytes": engine_file.built.peak_memory_bytes if engine_file else None,
        "replaced": outcome.replaced or None,
        "error": [outcome.error.what, outcome.error.why, outcome.error.fix] if outcome.error else None,
    }


def _profile(engine_file: EngineFile, index: int) -> str:
    """``prefill: inputs_embeds 1 × 1..512 × 3584``, without the KV cache; of other tensors of the past the first layer
    stands for all."""
    profile = engine_file.profiles[index]
    shown = [
        f"{name} {shapes}"
        for name, shapes in profile.ranges.items()
        if not name.startswith("past_key_values.") and not of_a_later_layer(name)
    ]
    return f"{profile.name}: {', '.join(shown)}"


def print_outcomes(outcomes: Sequence[Outcome], place: str, folder: Path) -> None:
    print(f"{place}; engine folder: {folder}")
    rows = [("component", "", "seconds", "peak memory", "engine", "weights", "activations")]
    for outcome in outcomes:
        if engine_file := outcome.engine_file:
            built = engine_file.built
            activations = ", ".join(mib(size) for size in built.activation_bytes) or "?"
            rows.append(
                (
                    outcome.component,
                    "reused" if outcome.reused else "built",
                    f"{built.seconds:,.1f}",
                    mib(built.peak_memory_bytes) if built.peak_memory_bytes else "?",
                    mib(engine_file.bytes),
                    mib(built.weights_bytes) if built.weights_bytes is not None else "?",
                    activations,
                )
            )
        else:
            rows.append((outcome.component, "FAILED", "", "", "", "", ""))
    print("\n" + table(rows, left=2) + "\n")
    for outcome in outcomes:
        for i in range(len(outcome.engine_file.profiles) if outcome.engine_file else 0):
            assert outcome.engine_file is not None
            print(f"{outcome.component}: profile {i}, {_profile(outcome.engine_file, i)}")
    for outcome in outcomes:
        if outcome.replaced:
            print(f"{outcome.component} was built anew: {outcome.replaced}")
        if outcome.error:
            print(f"error: {outcome.error}", file=sys.stderr)
