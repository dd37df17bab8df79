"""A trace of a talk that opens in Perfetto (ui.perfetto.dev): one track for each stage, for states, turns and captions.

The format is the JSON of Chrome's trace events. Times are microseconds since the first thing that happened.
"""

from __future__ import annotations

import itertools
import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias, get_args

from vita_edge.engines.bundle.atomic_file import PRIVATE, write_whole

from ..events.session_events import (
    BufferChosen,
    ClauseHeard,
    Device,
    DeviceChanged,
    EndpointReached,
    FirstPcm,
    FirstSound,
    FrameSeen,
    HistoryShortened,
    Interrupted,
    Level,
    RanDry,
    ResponseWithdrawn,
    SessionEvent,
    Span,
    Stage,
    StateTold,
    TalkStateChanged,
    Trouble,
    TurnBegan,
    TurnEnded,
    TurnForgotten,
    Written,
)
from .machine_load import MachineSample

__all__ = ["Trace"]

KEPT = 100_000
"""Happenings that are kept, the newest: hours of talk in a few dozen megabytes."""
KEPT_LEVELS = 36_000
"""Levels, which come ten times a second: an hour."""
TRACKS = ("state", "turns", "you", "speaker", *get_args(Stage), *get_args(Device))

Event: TypeAlias = dict[str, Any]


class Trace:
    """An observer that remembers what happens, and writes it in the end."""

    def __init__(self) -> None:
        self._recorded: deque[SessionEvent] = deque(maxlen=KEPT)
        self._levels: deque[Level] = deque(maxlen=KEPT_LEVELS)
        self._machine: deque[MachineSample] = deque(maxlen=KEPT_LEVELS)

    def __call__(self, event: SessionEvent) -> None:
        if isinstance(event, Level):
            self._levels.append(event)
        elif not isinstance(event, Written):  # its token is in a span
            self._recorded.append(event)

    def machine(self, sample: MachineSample) -> None:
        """Remember how the machine was."""
        self._machine.append(sample)

    def write(self, path: str | Path) -> None:
        """Write the trace, whole or not at all.

        Raises:
            OutputFailed: it cannot be written.
        """
        events = ",\n".join(json.dumps(event, ensure_ascii=False) for event in self._events())
        write_whole(path, f'{{"displayTimeUnit": "ms", "traceEvents": [\n{events}\n]}}\n'.encode(), mode=PRIVATE)

    def _events(self) -> Iterator[Event]:
        events, levels = list(self._recorded), list(self._levels)
        times = [time for event in (*events, *levels) for time in _times(event)]
        begin_s, end_s = (min(times), max(times)) if times else (0.0, 0.0)
        yield {"ph": "M", "name": "process_name", "pid": 1, "tid": 0, "args": {"name": "vita-edge"}}
        for tid, track in enumerate(TRACKS, 1):
            yield {"ph": "M", "name": "thread_name", "pid": 1, "tid": tid, "args": {"name": track.replace("_", " ")}}
            yield {"ph": "M", "name": "thread_sort_index", "pid": 1, "tid": tid, "args": {"sort_index": tid}}
        drawing = _Drawing(begin_s, end_s)
        for level in levels:
            yield drawing.counter("level dBFS", level.at_s, max(level.dbfs, -100.0))
            yield drawing.counter("voice", level.at_s, level.voice)
        for before, sample in itertools.pairwise(list(self._machine)):
            for name, value in _counters(before, sample):
                yield drawing.counter(name, sample.at_s, value)
        for event in events:
            yield from drawing.events_of(event)
        yield from drawing.rest()


class _Drawing:
    """Turns happenings into trace events; what began is remembered until it ends."""

    def __init__(self, begin_s: float, end_s: float) -> None:
        self._begin_s, self._end_s = begin_s, end_s
        self._state: TalkStateChanged | None = None
        self._turns: dict[int, TurnBegan] = {}
        self._first_sound_s: dict[int, float] = {}

    def events_of(self, event: SessionEvent) -> Iterator[Event]:
        match event:
            case TalkStateChanged():
                yield from self._end_state(event.at_s)
                self._state = event
            case Span(turn, stage, begin_s, end_s, count):
                yield self._slice(stage, stage, begin_s, end_s, turn=turn, count=count)
            case TurnBegan():
                self._turns[event.turn] = event
            case TurnForgotten(turn, at_s, why):
                yield from self._end_turn(turn, at_s, why)
            case TurnEnded(turn, at_s, state, text, reason):
                yield from self._end_turn(
                    turn, at_s, "answered", state=state, text=text, finished=event.finished, finish_reason=reason
                )
            case FirstSound(turn, at_s):
                self._first_sound_s[turn] = at_s
            case ClauseHeard(turn, at_s, text):
                yield self._instant("speaker", text, at_s, turn=turn)
            case RanDry(turn, at_s, seconds):
                yield self._instant("speaker", "ran dry", at_s, turn=turn, seconds=seconds)
            case EndpointReached(turn, at_s):
                yield self._instant("turns", "endpoint", at_s, turn=turn)
            case FirstPcm(turn, at_s):
                yield self._instant("turns", "first PCM", at_s, turn=turn)
            case StateTold(turn, at_s, state, marked):
                yield self._instant("turns", f"state: {state}", at_s, turn=turn, marked=marked)
            case Interrupted(turn, at_s, silent_s, heard, written):
                facts = {"silent_s": self._us(silent_s) / 1e6, "tokens_heard": heard, "tokens_written": written}
                yield self._instant("speaker", "interrupted", at_s, turn=turn, **facts)
            case DeviceChanged(at_s, device, lost, dropouts):
                yield self._instant(device, "lost" if lost else "there", at_s, dropouts=dropouts)
            case FrameSeen(at_s, number):
                yield self._instant("camera", f"frame {number}", at_s)
            case HistoryShortened(at_s, turns_left, before, after):
                facts = {"tokens_before": before, "tokens_after": after}
                yield self._instant("memory", "history shortened", at_s, turns_left=turns_left, **facts)
            case Trouble(at_s, what, why, fix):
                yield self._instant("turns", f"failed: {what}", at_s, why=why, fix=fix)
            case ResponseWithdrawn(turn, at_s, audible_s):
                yield self._instant("speaker", "withdrawn", at_s, turn=turn, audible_s=audible_s)
            case BufferChosen() | Level() | Written():
                pass

    def rest(self) -> Iterator[Event]:
        """End what is still going on."""
        yield from self._end_state(self._end_s)
        for turn in list(self._turns):
            yield from self._end_turn(turn, self._end_s, "not ended")

    def counter(self, name: str, at_s: float, value: float) -> Event:
        return {"ph": "C", "name": name, "pid": 1, "ts": self._us(at_s), "args": {"value": round(value, 2)}}

    def _end_state(self, at_s: float) -> Iterator[Event]:
        if self._state:
            yield self._slice("state", self._state.state, self._state.at_s, at_s)
        self._state = None

    def _end_turn(self, turn: int, at_s: float, how: str, **facts: Any) -> Iterator[Event]:
        """An asynchronous slice: a turn may begin while the one before it still speaks."""
        began = self._turns.pop(turn, None)
        if began is None:
            return
        same = {"cat": "turn", "id": turn, "pid": 1, "tid": TRACKS.index("turns") + 1, "name": f"turn {turn}: {how}"}
        yield {"ph": "b", "ts": self._us(began.at_s), "args": {"speculative": began.speculative, **facts}, **same}
        yield {"ph": "e", "ts": self._us(at_s), **same}
        if how not in ("resumed", "withdrawn"):  # that speech is the beginning of what the next attempt heard
            yield self._slice("you", "speech", began.speech_begin_s, began.speech_end_s, turn=turn)
        sound_s = self._first_sound_s.pop(turn, None)
        if sound_s is not None:
            yield self._slice("speaker", f"reply {turn}", sound_s, at_s, **facts)
            wait = {"cat": "wait", "id": turn, "bp": "e"}  # an arrow from the last sample of the user to the reply
            yield {**self._on("you", "wait", began.speech_end_s - 1e-6), "ph": "s", **wait}
            yield {**self._on("speaker", "wait", sound_s), "ph": "f", **wait}

    def _slice(self, track: str, name: str, begin_s: float, end_s: float, **facts: Any) -> Event:
        duration = max(self._us(end_s) - self._us(begin_s), 0)
        return {**self._on(track, name, begin_s), "ph": "X", "dur": duration, "args": facts}

    def _instant(self, track: str, name: str, at_s: float, **facts: Any) -> Event:
        return {**self._on(track, name, at_s), "ph": "i", "s": "t", "args": facts}

    def _on(self, track: str, name: str, at_s: float) -> Event:
        return {"name": name, "pid": 1, "tid": TRACKS.index(track) + 1, "ts": self._us(at_s)}

    def _us(self, at_s: float) -> int:
        return max(round(1e6 * (at_s - self._begin_s)), 0)


def _counters(before: MachineSample, sample: MachineSample) -> Iterator[tuple[str, float]]:
    cores_s = (sample.core_s or 0.0) - (before.core_s or 0.0)
    own_s = sample.own_s - before.own_s
    if cores_s and before.busy_s is not None and sample.busy_s is not None:
        yield "own share of the cores %", min(100 * own_s / cores_s, 100.0)
        yield "others' share of the cores %", max(100 * (sample.busy_s - before.busy_s - own_s) / cores_s, 0.0)
    for name, value in (
        ("clock MHz", sample.clock_mhz),
        ("GPU clock MHz", sample.gpu_clock_mhz),
        ("temperature °C", sample.temperature_c),
        ("memory available MiB", sample.memory_available_bytes and sample.memory_available_bytes / 2**20),
    ):
        if value is not None:
            yield name, value


def _times(event: SessionEvent) -> tuple[float, ...]:
    match event:
        case Span():
            return event.begin_s, event.end_s
        case BufferChosen():
            return ()
        case TurnBegan():
            return event.speech_begin_s, event.at_s
        case _:
            return (event.at_s,)
