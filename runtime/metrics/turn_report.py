"""What is known of one answered turn: three clocks, and where the time went. See :class:`.report.TurnReports`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vita_edge.engines.reading.typed import build_record

from ..events.reply_events import State
from .machine_load import MachineLoad

__all__ = ["Interruption", "Stretch", "TurnReport"]


@dataclass(frozen=True)
class Stretch:
    """A piece of the wait, in milliseconds after the user's last sample."""

    name: str
    begin_ms: float
    end_ms: float

    @property
    def ms(self) -> float:
        return self.end_ms - self.begin_ms


@dataclass(frozen=True)
class Interruption:
    """The user took the word."""

    silent_ms: float
    """From the decision to a silent speaker."""
    tokens_heard: int
    tokens_written: int


@dataclass(frozen=True)
class TurnReport:
    """An answered turn. Moments are in milliseconds after the user's last sample; None is what did not happen."""

    turn: int
    state: State
    text: str
    finished: bool
    speculative: bool
    """The answer was begun before the endpoint."""
    speech_end_s: float
    """The user's last sample, in seconds of the clock of the talk."""
    speech_s: float
    """Length of what the user said."""
    engine_ms: float | None
    """First clock: from the beginning of the attempt that was kept to the first sound that could be played."""
    server_ms: float | None
    """Second clock: from the user's last sample to the first sound at the speaker, the endpoint's wait included."""
    acoustic_ms: float | None
    """Third clock: the same, heard from outside; None unless somebody listened there."""
    late_ms: float | None
    """How much later than the true one the last sample of the user is taken to be; None unless known from outside."""
    started_ms: float
    endpoint_ms: float | None
    first_text_ms: float | None
    first_pcm_ms: float | None
    stages_ms: Mapping[str, float]
    """Stage → milliseconds of work, from the first to the last."""
    waited_ms: Mapping[str, float]
    """The same, as far as it fell into the wait. Stages overlap, so the sum may be more than the wait."""
    wait: tuple[Stretch, ...]
    """When each stage worked during the wait."""
    positions: int
    """Positions prefilled in this turn."""
    positions_after_speech: int
    """Those whose prefill began after the user's last sample."""
    tokens: int
    prefill_rate: float | None
    """Positions a second."""
    decode_rate: float | None
    """Tokens a second."""
    spoken_s: float
    """Sound that was made."""
    speech_decoder_rtf: float | None
    """Seconds of work for a second of sound."""
    codec_rtf: float | None
    dry_s: float
    """The speaker had nothing to play, though the reply was not finished."""
    buffer_s: float | None
    """Sound that had to be there before it started; None when all of the text had to be."""
    forgotten: Mapping[str, int]
    """Why → attempts that were forgotten since the turn before."""
    wasted_ms: float
    """Work of those attempts."""
    interruption: Interruption | None
    withdrawn_ms: float = 0.0
    """How long replies were heard that were withdrawn since the turn before; ``forgotten`` says how many."""
    load: MachineLoad | None = None
    """What else the machine did from the user's first sample to the end of the reply; None unless it was sampled."""

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TurnReport:
        """A report that :meth:`to_json` made.

        Raises:
            ValueError: a field is missing, unknown, or holds something else.
        """
        return build_record(cls, data, "the turn", strict=True)
