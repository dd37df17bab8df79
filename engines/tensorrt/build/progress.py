"""How far TensorRT is: it tells phases within phases, each of so many steps, from several threads."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

__all__ = ["Phases"]


@dataclass
class _Phase:
    name: str
    parent: str | None
    steps: int
    done: int = 0
    within: dict[str, float] = field(default_factory=dict)
    """Fractions of the phases that are open in it, or were since its last step."""

    @property
    def fraction(self) -> float:
        if not self.steps:
            return 0.0
        inner = max(self.within.values(), default=0.0)
        return min((self.done + inner) / self.steps, 1.0)


class Phases:
    """Adds up what a progress monitor is told."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, _Phase] = {}
        self._fraction = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        with self._lock:
            self._open[name] = _Phase(name, parent, steps)

    def step(self, name: str, index: int) -> None:
        with self._lock:
            if phase := self._open.get(name):
                phase.done = max(phase.done, index + 1)
                phase.within.clear()
                self._pass_on(phase)

    def finish(self, name: str) -> None:
        with self._lock:
            if phase := self._open.pop(name, None):
                phase.done = phase.steps
                self._pass_on(phase)

    @property
    def fraction(self) -> float:
        """Steps done of the outermost phase, 0 to 1. It never goes back, and steps are not equally long."""
        return self._fraction

    @property
    def current(self) -> tuple[str, int, int]:
        """Name, steps done and steps in all of the phase that was opened last."""
        with self._lock:
            if not self._open:
                return "", 0, 0
            phase = next(reversed(self._open.values()))
            return phase.name, phase.done, phase.steps

    def _pass_on(self, phase: _Phase) -> None:
        while phase.parent and (parent := self._open.get(phase.parent)):
            parent.within[phase.name] = phase.fraction
            phase = parent
        if not phase.parent:
            self._fraction = max(self._fraction, phase.fraction)
