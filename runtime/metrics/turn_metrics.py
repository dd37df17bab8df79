"""One report for each answered turn, drawn from what happens: three clocks, and where the time went.

The wait begins with the user's last sample and ends with the first sound of the reply. Work before and after it is
counted too, but nobody waited for it.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import get_args

from vita_edge.engines.bundle.facts import CodecFacts

from ..events.session_events import (
    BufferChosen,
    EndpointReached,
    FirstPcm,
    FirstSound,
    Interrupted,
    RanDry,
    ResponseWithdrawn,
    SessionEvent,
    Span,
    Stage,
    TurnBegan,
    TurnEnded,
    TurnForgotten,
    Written,
)
from .machine_load import MachineSampler
from .turn_report import Interruption, Stretch, TurnReport

__all__ = ["TurnReports"]

LOOSE_SPANS = 256
"""Spans of no turn that are remembered: the newest, in case that a turn begins which waited for them."""
JOINED_MS = 1.0
"""Spans of a stage that are no further apart are one stretch: tokens and codes come one by one."""


@dataclass
class _MeasuredTurn:
    """What is known of a turn so far."""

    began: TurnBegan
    spans: list[Span] = field(default_factory=list)
    moments: dict[type, float] = field(default_factory=dict)
    """Kind of happening → when it first happened, in seconds."""
    dry_s: float = 0.0
    buffer_s: float = 0.0
    interrupted: Interrupted | None = None

    def note(
        self, event: EndpointReached | Written | FirstPcm | FirstSound | BufferChosen | RanDry | Interrupted
    ) -> None:
        match event:
            case BufferChosen():
                self.buffer_s = event.seconds
            case RanDry():
                self.dry_s += event.seconds
            case Interrupted():
                self.interrupted = event
            case _:
                self.moments.setdefault(type(event), event.at_s)

    def after_speech_ms(self, kind: type) -> float | None:
        at_s = self.moments.get(kind)
        return None if at_s is None else _ms(at_s - self.began.speech_end_s)


class TurnReports:
    """Turns what happens into a :class:`TurnReport` for each turn that was answered.

    Args:
        codec: rates of codes and samples.
        report: called with each report when its turn has ended, in the thread that told the end.
        machine: samples the machine; without it no report has a load.
    """

    def __init__(
        self, codec: CodecFacts, report: Callable[[TurnReport], None], machine: MachineSampler | None = None
    ) -> None:
        self._codec, self._report, self._machine = codec, report, machine
        self._open: dict[int, _MeasuredTurn] = {}
        self._loose: deque[Span] = deque(maxlen=LOOSE_SPANS)
        self._forgotten: Counter[str] = Counter()
        self._forgotten_turns: set[int] = set()
        self._wasted_s = self._withdrawn_s = 0.0

    def __call__(self, event: SessionEvent) -> None:
        match event:
            case TurnBegan():
                waited_for = [span for span in self._loose if span.end_s > event.speech_end_s]
                self._open[event.turn] = _MeasuredTurn(event, waited_for)
                self._loose.clear()
            case Span():
                self._work(event)
            case ResponseWithdrawn():
                self._withdrawn_s += event.audible_s
            case TurnForgotten():
                self._forget(event)
            case TurnEnded():
                ended = self._open.pop(event.turn, None)
                if ended:
                    self._report(self._reported(ended, event))
            case EndpointReached() | Written() | FirstPcm() | FirstSound() | BufferChosen() | RanDry() | Interrupted():
                if event.turn in self._open:
                    self._open[event.turn].note(event)
            case _:
                pass

    def _work(self, span: Span) -> None:
        if span.turn is None:
            self._loose.append(span)
            for turn in self._open.values():
                if FirstSound not in turn.moments:  # its user is waiting for this, too
                    turn.spans.append(span)
        elif span.turn in self._open:
            self._open[span.turn].spans.append(span)
        elif span.turn in self._forgotten_turns:  # it was under way when the attempt was forgotten
            self._wasted_s += span.end_s - span.begin_s

    def _forget(self, event: TurnForgotten) -> None:
        turn = self._open.pop(event.turn, None)
        if turn is None:
            return
        self._forgotten[event.why] += 1
        self._forgotten_turns.add(event.turn)
        self._wasted_s += sum(span.end_s - span.begin_s for span in turn.spans if span.turn is not None)

    def _reported(self, turn: _MeasuredTurn, end: TurnEnded) -> TurnReport:
        began = turn.began
        own = [span for span in turn.spans if span.turn is not None]
        seconds = {stage: sum(s.end_s - s.begin_s for s in own if s.stage == stage) for stage in get_args(Stage)}
        counts = {stage: sum(s.count for s in own if s.stage == stage) for stage in get_args(Stage)}
        wait_end_s = turn.moments.get(FirstSound, end.at_s)
        wait = _stretches(turn.spans, began.speech_end_s, wait_end_s)
        codes_hz = self._codec.sample_rate_hz / self._codec.samples_per_code
        first_pcm_ms, started_ms = turn.after_speech_ms(FirstPcm), _ms(began.at_s - began.speech_end_s)
        cut = turn.interrupted
        report = TurnReport(
            turn=began.turn,
            state=end.state,
            text=end.text,
            finished=end.finished,
            speculative=began.speculative,
            speech_end_s=began.speech_end_s,
            speech_s=round(began.speech_end_s - began.speech_begin_s, 6),
            engine_ms=None if first_pcm_ms is None else round(first_pcm_ms - started_ms, 3),
            server_ms=turn.after_speech_ms(FirstSound),
            acoustic_ms=None,
            late_ms=None,
            started_ms=started_ms,
            endpoint_ms=turn.after_speech_ms(EndpointReached),
            first_text_ms=turn.after_speech_ms(Written),
            first_pcm_ms=first_pcm_ms,
            stages_ms={stage: _ms(s) for stage, s in seconds.items() if s},
            waited_ms=_sums(wait),
            wait=_joined(wait),
            positions=counts["prefill"],
            positions_after_speech=sum(
                s.count for s in turn.spans if s.stage == "prefill" and began.speech_end_s <= s.begin_s
            ),
            tokens=counts["decode"],
            prefill_rate=_ratio(counts["prefill"], seconds["prefill"]),
            decode_rate=_ratio(counts["decode"], seconds["decode"]),
            spoken_s=round(counts["codec"] / self._codec.sample_rate_hz, 6),
            speech_decoder_rtf=_ratio(seconds["speech_decoder"], counts["speech_decoder"] / codes_hz),
            codec_rtf=_ratio(seconds["codec"], counts["codec"] / self._codec.sample_rate_hz),
            dry_s=round(turn.dry_s, 6),
            buffer_s=turn.buffer_s if math.isfinite(turn.buffer_s) else None,
            forgotten=dict(self._forgotten),
            wasted_ms=_ms(self._wasted_s),
            withdrawn_ms=_ms(self._withdrawn_s),
            interruption=Interruption(_ms(cut.silent_s - cut.at_s), cut.tokens_heard, cut.tokens_written)
            if cut
            else None,
            load=self._machine.between(began.speech_begin_s, end.at_s) if self._machine else None,
        )
        self._forgotten.clear()
        self._forgotten_turns = {number for number in self._forgotten_turns if number > began.turn}
        self._wasted_s = self._withdrawn_s = 0.0
        return report


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)


def _ratio(amount: float, per: float) -> float | None:
    return round(amount / per, 4) if amount and per else None


def _stretches(spans: list[Span], begin_s: float, end_s: float) -> list[Stretch]:
    """The parts of ``spans`` between two moments, in the order in which they began."""
    inside = sorted((span.begin_s, span.end_s, span.stage) for span in spans)
    return [
        Stretch(stage, _ms(max(begin, begin_s) - begin_s), _ms(min(end, end_s) - begin_s))
        for begin, end, stage in inside
        if begin < end_s and end > begin_s
    ]


def _sums(wait: list[Stretch]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for stretch in wait:
        sums[stretch.name] = round(sums.get(stretch.name, 0.0) + stretch.ms, 3)
    return sums


def _joined(wait: list[Stretch]) -> tuple[Stretch, ...]:
    """Stretches of one stage that follow each other closely, made one."""
    joined: list[Stretch] = []
    newest: dict[str, int] = {}
    for stretch in wait:
        last = newest.get(stretch.name)
        if last is not None and stretch.begin_ms - joined[last].end_ms <= JOINED_MS:
            joined[last] = Stretch(stretch.name, joined[last].begin_ms, max(joined[last].end_ms, stretch.end_ms))
        else:
            newest[stretch.name] = len(joined)
            joined.append(stretch)
    return tuple(joined)
