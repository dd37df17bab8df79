"""Live talks as they could have happened, told happening by happening: what observers are tested with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vita_edge.engines.bundle.facts import CodecFacts
from vita_edge.runtime.events.session_events import (
    BufferChosen,
    ClauseHeard,
    DeviceChanged,
    EndpointReached,
    FirstPcm,
    FirstSound,
    Interrupted,
    Level,
    RanDry,
    SessionEvent,
    Span,
    StateTold,
    TalkStateChanged,
    TurnBegan,
    TurnEnded,
    TurnForgotten,
    Written,
)

__all__ = [
    "CODEC",
    "WORDS",
    "answered",
    "barge_in",
    "dry_run",
    "levels",
    "moment",
    "noise",
    "opening",
    "reported",
    "resumed",
    "talk",
]

CODEC = CodecFacts(sample_rate_hz=24_000, samples_per_code=600, left_context=4, right_context=4, streams=1)
"""40 codes a second."""
WORDS = ("It", " is", " a", " quarter", " past", " nine.", " The", " tea", " is", " ready.")
PAUSE_S, ENDPOINT_S, TOKEN_S = 0.160, 0.600, 0.040


def moment(event: SessionEvent) -> float:
    """When it is told: what took time is told at its end."""
    if isinstance(event, Span):
        return event.end_s
    return 0.0 if isinstance(event, BufferChosen) else event.at_s


def reported(events: Iterable[SessionEvent]) -> list[SessionEvent]:
    """In the order in which a talk would tell them."""
    order: list[tuple[float, int, SessionEvent]] = []
    now = 0.0
    for i, event in enumerate(events):
        now = moment(event) or now
        order.append((now, i, event))
    return [event for *_, event in sorted(order, key=lambda entry: entry[:2])]


def levels(begin_s: float, end_s: float, dbfs: float, voice: float) -> list[SessionEvent]:
    """Ten a second."""
    return [Level(round(begin_s + i / 10, 3), dbfs, voice) for i in range(round(10 * (end_s - begin_s)))]


def opening(at_s: float) -> list[SessionEvent]:
    """The system prompt is read."""
    return [TalkStateChanged(at_s, "listening"), Span(None, "prefill", at_s, at_s + 0.400, 60)]


def answered(
    turn: int,
    at_s: float,
    *,
    speech_s: float = 2.0,
    speculative: bool = True,
    slower: float = 1.0,
    words: Sequence[str] = WORDS,
) -> list[SessionEvent]:
    """A question of ``speech_s`` from ``at_s`` on, and its answer. Work takes ``slower`` times as long.

    With the defaults, after the user's last sample: begun at 160 ms, audio 40, prefill 120 (38 positions), six tokens
    of 40 to the end of the clause, speech decoder 100 (12 codes), codec 20; first PCM at 680, first sound at 700.
    """
    end = at_s + speech_s
    started = end + (PAUSE_S if speculative else ENDPOINT_S)
    audio = started + 0.040 * slower
    prefill = audio + 0.120 * slower
    events: list[SessionEvent] = [
        *levels(at_s, end, -24.0, 0.95),
        *levels(end, end + 0.5, -58.0, 0.02),
        TalkStateChanged(at_s + 0.064, "hearing"),
        TalkStateChanged(end + 0.064, "pausing"),
        TurnBegan(turn, started, at_s, end, speculative),
        EndpointReached(turn, end + ENDPOINT_S),
        TalkStateChanged(end + ENDPOINT_S, "thinking"),
        Span(turn, "audio", started, audio, round(1000 * speech_s)),
        Span(turn, "prefill", audio, prefill, 38),
    ]
    now, clause_done = prefill, prefill
    for i, word in enumerate(words):
        events.append(Span(turn, "decode", now, now + TOKEN_S * slower, 1))
        now += TOKEN_S * slower
        if i == 0:
            events.append(StateTold(turn, now, "speech", True))
        events.append(Written(turn, now, word))
        if word.endswith(".") and clause_done == prefill:
            clause_done = now
    codes = clause_done + 0.100 * slower
    pcm = codes + 0.020 * slower
    sound = max(pcm, end + ENDPOINT_S) + 0.020
    events += [
        Span(turn, "speech_decoder", clause_done, codes, 12),
        Span(turn, "codec", codes, pcm, 7_200),
        FirstPcm(turn, pcm),
        FirstSound(turn, sound),
        TalkStateChanged(sound, "speaking"),
        Span(turn, "speech_decoder", pcm, pcm + 0.300 * slower, 40),
        Span(turn, "codec", pcm + 0.300 * slower, pcm + 0.360 * slower, 24_000),
    ]
    text = "".join(words)
    clauses = [f"{clause}." for clause in text.split(".") if clause]
    events += [ClauseHeard(turn, sound + 0.65 * i, clause.strip()) for i, clause in enumerate(clauses)]
    finished = sound + 1.3
    return reported(
        [*events, TurnEnded(turn, finished, "speech", text, "stop"), TalkStateChanged(finished, "listening")]
    )


def resumed(turn: int, at_s: float) -> list[SessionEvent]:
    """The user pauses after two seconds, an answer is begun, and they go on: attempt ``turn`` is forgotten, the next
    one is answered. 300 ms of work are wasted."""
    end = at_s + 2.0
    forgotten: list[SessionEvent] = [
        TurnBegan(turn, end + PAUSE_S, at_s, end, True),
        Span(turn, "audio", end + 0.160, end + 0.200, 2_000),
        Span(turn, "prefill", end + 0.200, end + 0.400, 38),
        TurnForgotten(turn, end + 0.420, "resumed"),
        TalkStateChanged(end + 0.420, "hearing"),
        Span(turn, "decode", end + 0.400, end + 0.460, 1),
    ]
    return reported([*forgotten, *answered(turn + 1, at_s, speech_s=4.0)])


def noise(turn: int, at_s: float) -> list[SessionEvent]:
    """A cough that the model does not answer; 200 ms of work are wasted."""
    end = at_s + 0.5
    return reported(
        [
            *levels(at_s, end, -30.0, 0.6),
            TalkStateChanged(at_s + 0.064, "hearing"),
            TurnBegan(turn, end + PAUSE_S, at_s, end, True),
            Span(turn, "audio", end + 0.160, end + 0.200, 500),
            Span(turn, "prefill", end + 0.200, end + 0.320, 12),
            Span(turn, "decode", end + 0.320, end + 0.360, 1),
            StateTold(turn, end + 0.360, "noise", True),
            TurnForgotten(turn, end + 0.361, "noise"),
            TalkStateChanged(end + 0.361, "listening"),
        ]
    )


def barge_in(turn: int, at_s: float) -> list[SessionEvent]:
    """The user interrupts 400 ms after the reply has begun; the speaker is silent 18 ms after the decision."""
    whole = answered(turn, at_s)
    sound_s = next(event.at_s for event in whole if isinstance(event, FirstSound))
    cut = sound_s + 0.400
    retained = [event for event in whole if moment(event) < cut]
    return reported(
        [
            *retained,
            TalkStateChanged(cut - 0.120, "ducking"),
            Interrupted(turn, cut, cut + 0.018, 6, 10),
            TalkStateChanged(cut + 0.018, "interrupted"),
            TurnEnded(turn, cut + 0.020, "speech", "".join(WORDS), "interrupted"),
            TalkStateChanged(cut + 0.500, "listening"),
        ]
    )


def dry_run(turn: int, at_s: float) -> list[SessionEvent]:
    """Three times as slow, with a start-up buffer that was not enough, and a microphone that vanishes for a moment."""
    whole = answered(turn, at_s, slower=3.0)
    sound_s = next(event.at_s for event in whole if isinstance(event, FirstSound))
    ready = next(i for i, event in enumerate(whole) if isinstance(event, FirstPcm))
    return reported(
        [
            *whole[: ready + 1],
            BufferChosen(turn, 0.5, "speech takes 1.4 seconds of work a second"),
            *whole[ready + 1 : -2],
            RanDry(turn, sound_s + 0.5, 0.120),
            RanDry(turn, sound_s + 0.9, 0.080),
            DeviceChanged(sound_s + 1.0, "microphone", True, 2),
            DeviceChanged(sound_s + 1.2, "microphone", False, 2),
            *whole[-2:],
        ]
    )


def talk(at_s: float = 100.0) -> list[SessionEvent]:
    """All of the above, one after the other: turns 1, 3, 5 and 6 are answered."""
    return [
        *opening(at_s),
        *answered(1, at_s + 1),
        *resumed(2, at_s + 6),
        *noise(4, at_s + 14),
        *barge_in(5, at_s + 16),
        *dry_run(6, at_s + 21),
    ]
