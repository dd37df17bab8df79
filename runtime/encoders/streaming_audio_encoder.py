"""A sound to rows of the prompt while it still goes on: piece by piece, exactly as if it had been encoded at once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.session import GraphSession
from vita_edge.engines.tensors import Array, TensorSpec

from .audio_frontend import AudioFrontEnd

__all__ = ["ClipEncoder", "piece_feeds"]

Rows = NDArray[np.float32]
"""float32 [positions, hidden]"""

STEP_FRAMES = 4
"""Frames of the filter bank from one encoder step to the next."""
OVERLAP_FRAMES = 3
"""Frames that the last step of a piece shares with the first one of the next."""
PAST, PRESENT = "past.", "present."


class ClipEncoder:
    """Encodes one clip. It is given the clip so far, again and again, and computes only what is new.

    A step of the encoder sees no further than to the end of its attention chunk. So whole chunks are encoded while the
    clip goes on, and once it ends the rest is. One step is always left for the end, since the graph cannot end a clip
    with nothing. With full attention, or in a bundle from before pieces, everything is encoded at the end.

    Args:
        session: of the component ``audio``.
    """

    def __init__(self, session: GraphSession, front_end: AudioFrontEnd) -> None:
        self._session, self._front_end, self._facts = session, front_end, front_end.facts
        self._bank = front_end.stream()
        self._past = _nothing(session.inputs)
        """What the graph has handed out for the next piece; the arrays are never written to."""
        self._steps = self._rows = 0
        """Encoded for good, and rows that were given for them."""

    def ready(self, samples: int) -> int:
        """Rows that :meth:`step` would give for a clip of that many samples so far."""
        if not self._past:
            return 0
        frames = self._front_end.frames(samples) - STEP_FRAMES
        return max(self._facts.settled_positions(frames) - self._rows, 0)

    def step(self, samples: NDArray[np.float32]) -> Rows:
        """The rows that are settled by now, without those that were given before.

        Args:
            samples: the clip so far, float32 [n] at 16 kHz; it begins with what was given before.

        Raises:
            BadInput: there are samples that are not numbers, or far beyond full scale.
        """
        self._bank.extend(samples)
        if not self.ready(len(samples)):
            return np.empty((0, self._hidden), np.float32)
        steps = self._facts.settled_steps(self._front_end.frames(len(samples)) - STEP_FRAMES)
        outputs = self._encode(steps * STEP_FRAMES + OVERLAP_FRAMES, last=False)
        rows = outputs["audio_embeds"][0].copy()
        self._past = {name: outputs[PRESENT + name[len(PAST) :]].copy() for name in self._past}
        self._steps, self._rows = steps, self._rows + len(rows)
        return rows

    def finish(self, samples: NDArray[np.float32]) -> Rows:
        """The rows that are missing if the clip ends here; it may go on nevertheless, and be ended again.

        Args:
            samples: the whole clip, as in :meth:`step`. If it ends before what was encoded for good, it ends there.

        Raises:
            BadInput: the clip is too short or too long, or as in :meth:`step`.
        """
        self._front_end.check_length(len(samples))
        self._bank.extend(samples)
        frames = self._front_end.frames(len(samples))
        min_count = (self._steps + 1) * STEP_FRAMES + OVERLAP_FRAMES
        return self._encode(max(frames, min_count), last=True)["audio_embeds"][0].copy()

    @property
    def _hidden(self) -> int:
        return int(self._session.outputs["audio_embeds"].axes[2])

    def _encode(self, end_frame: int, *, last: bool) -> Mapping[str, Array]:
        """From the first step that is not encoded for good up to a frame."""
        fbank = self._bank.frames(self._steps * STEP_FRAMES, end_frame)
        return self._session.infer(piece_feeds(self._session, fbank, self._past, begin=self._steps, last=last))


def piece_feeds(
    session: GraphSession,
    fbank: Rows,
    past: Mapping[str, Array] | None = None,
    *,
    begin: int = 0,
    last: bool = True,
) -> dict[str, Array]:
    """What the audio graph is fed for a piece of a clip, or for all of it.

    Args:
        fbank: float32 [frames, mel_bins] of the piece.
        past: ``present.*`` of the piece before, as ``past.*``; nothing before the first.
        begin: first step of the piece.
        last: the clip ends with it.
    """
    feeds: dict[str, Array] = {
        "fbank": fbank[None],
        "begin": np.array(begin),
        "opening": np.ones(int(begin == 0), bool),
        "ending": np.ones(int(last), bool),
        "last": np.array(last),  # of bundles from before both
    }
    feeds |= _nothing(session.inputs) if past is None else past
    return {name: feeds[name] for name in session.inputs}


def _nothing(inputs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    """The past of a clip that begins: every ``past.*`` without a step."""
    return {
        spec.name: np.zeros([axis if isinstance(axis, int) else 0 for axis in spec.axes], spec.dtype)
        for spec in inputs.values()
        if spec.name.startswith(PAST)
    }
