"""Asks a turn detector on a thread of its own, so that a slow one delays neither the audio nor the answer.

A detector that fails, or is slow three times in a row, is named once and not asked again: a fixed silence ends turns
then.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.errors import InferenceFailed

from .detector import TurnDetector
from .turn_events import CompletenessEstimated, TurnEvent

__all__ = ["ASKED_MS", "TurnJudge"]

ASKED_MS = 96
"""Silence after which the detector is asked: three steps of the voice detector."""
SLOW_S, MAX_SLOW = 0.4, 3
"""An answer that comes later is of little use; so many in a row, and nobody waits for the next."""
FIX = "Leave the turn detector out, or choose another: --turn-detector."


class TurnJudge:
    """Owns the thread between entering and leaving.

    Args:
        detector: asked in that thread only.
        emit: takes each estimate, in that thread.
        complain: told once why the detector is not asked any more.
    """

    def __init__(
        self,
        detector: TurnDetector,
        emit: Callable[[TurnEvent], None],
        complain: Callable[[InferenceFailed], None],
    ) -> None:
        self._detector, self._emit, self._complain = detector, emit, complain
        self._questions: queue.SimpleQueue[tuple[float, NDArray[np.float32]] | None] = queue.SimpleQueue()
        self._open = 0
        self._asked_of = -1.0
        self._slow = 0
        self._given_up = False
        self._thread: threading.Thread | None = None

    @property
    def resting(self) -> bool:
        """Every question was answered."""
        return self._open == 0

    def consider(self, voice_end_s: float, now_s: float, turn: Callable[[], NDArray[np.float32]]) -> None:
        """Ask about the silence since ``voice_end_s``, once, when it is long enough; returns at once."""
        if self._given_up or voice_end_s == self._asked_of or now_s - voice_end_s < ASKED_MS / 1000 - 1e-9:
            return
        self._asked_of = voice_end_s
        self._open += 1
        self._questions.put((voice_end_s, turn()))

    def enter(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="turn detector", daemon=True)
        self._thread.start()

    def leave(self) -> None:
        """End it; a call that is under way is waited for a moment only."""
        self._questions.put(None)
        if self._thread:
            self._thread.join(1.0)

    def _run(self) -> None:
        while (question := self._questions.get()) is not None:
            if not self._given_up and self._questions.empty():  # an older silence is over already
                self._answer(*question)
            self._open -= 1

    def _answer(self, voice_end_s: float, turn: NDArray[np.float32]) -> None:
        began_s = monotonic()
        try:
            probability = self._detector.probability(turn)
            if not (math.isfinite(probability) and 0 <= probability <= 1):
                raise ValueError(f"it told {probability!r}, which is no probability")
        except Exception as error:
            self._give_up(f"{type(error).__name__}: {error}".splitlines()[0])
            return
        self._slow = self._slow + 1 if monotonic() - began_s > SLOW_S else 0
        if self._slow >= MAX_SLOW:
            self._give_up(f"It took more than {1000 * SLOW_S:.0f} ms {MAX_SLOW} times in a row.")
        else:
            self._emit(CompletenessEstimated(voice_end_s, probability))

    def _give_up(self, why: str) -> None:
        self._given_up = True
        self._complain(
            InferenceFailed(
                f"The turn detector ({self._detector.name}) is not asked any more; a fixed silence ends turns.",
                why=why,
                fix=FIX,
            )
        )
