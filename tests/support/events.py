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
    Happening,
    Interrupted,
    Level,
    RanDry,
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
    "resumed",
    "talk",
    "told",
]

CODEC = CodecFacts(sample_rate_hz=24_000, samples_per_code=600, left_context=4, right_context=4, streams=1)
"""40 codes a second."""
WORDS = ("It", " is", " a", " quarter", " past", " nine.", " The", " tea", " is", " ready.")
PAUSE_S, ENDPOINT_S, TOKEN_S = 0.160, 0.600, 0.040


def moment(happening: Happening) -> float:
    """When it is told: what took time is told at its end."""
    if isinstance(happening, Span):
        return happening.end_s
    return 0.0 if isinstance(happening, BufferChosen) else happening.at_s


def told(happenings: Iterable[Happening]) -> list[Happening]:
    """In the order in which a talk would tell them."""
    order: list[tuple[float, int, Happening]] = []
    now = 0.0
    for i, happening in enumerate(happenings):
        now = moment(happening) or now
        order.append((now, i, happening))
    return [happening for *_, happening in sorted(order, key=lambda entry: entry[:2])]


def levels(begin_s: float, end_s: float, dbfs: float, voice: float) -> list[Happening]:
    """Ten a second."""
    return [Level(round(begin_s + i / 10, 3), dbfs, voice) for i in range(round(10 * (end_s - begin_s)))]


def opening(at_s: float) -> list[Happening]:
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
) -> list[Happening]:
    """A question of ``speech_s`` from ``at_s`` on, and its answer. Work takes ``slower`` times as long.

    With the defaults, after the user's last sample: begun at 160 ms, audio 40, prefill 120 (38 positions), six tokens
    of 40 to the end of the clause, speech decoder 100 (12 codes), codec 20; first PCM at 680, first sound at 700.
    """
    end = at_s + speech_s
    begun = end + (PAUSE_S if speculative else ENDPOINT_S)
    audio = begun + 0.040 * slower
    prefill = audio + 0.120 * slower
    happenings: list[Happening] = [
        *levels(at_s, end, -24.0, 0.95),
        *levels(end, end + 0.5, -58.0, 0.02),
        TalkStateChanged(at_s + 0.064, "hearing"),
        TalkStateChanged(end + 0.064, "pausing"),
        TurnBegan(turn, begun, at_s, end, speculative),
        EndpointReached(turn, end + ENDPOINT_S),
        TalkStateChanged(end + ENDPOINT_S, "thinking"),
        Span(turn, "audio", begun, audio, round(1000 * speech_s)),
        Span(turn, "prefill", audio, prefill, 38),
    ]
    now, clause_done = prefill, prefill
    for i, word in enumerate(words):
        happenings.append(Span(turn, "decode", now, now + TOKEN_S * slower, 1))
        now += TOKEN_S * slower
        if i == 0:
            happenings.append(StateTold(turn, now, "speech", True))
        happenings.append(Written(turn, now, word))
        if word.endswith(".") and clause_done == prefill:
            clause_done = now
    codes = clause_done + 0.100 * slower
    pcm = codes + 0.020 * slower
    sound = max(pcm, end + ENDPOINT_S) + 0.020
    happenings += [
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
    happenings += [ClauseHeard(turn, sound + 0.65 * i, clause.strip()) for i, clause in enumerate(clauses)]
    finished = sound + 1.3
    return told(
        [*happenings, TurnEnded(turn, finished, "speech", text, "stop"), TalkStateChanged(finished, "listening")]
    )


def resumed(turn: int, at_s: float) -> list[Happening]:
    """The user pauses after two seconds, an answer is begun, and they go on: attempt ``turn`` is forgotten, the next
    one is answered. 300 ms of work are wasted."""
    end = at_s + 2.0
    forgotten: list[Happening] = [
        TurnBegan(turn, end + PAUSE_S, at_s, end, True),
        Span(turn, "audio", end + 0.160, end + 0.200, 2_000),
        Span(turn, "prefill", end + 0.200, end + 0.400, 38),
        TurnForgotten(turn, end + 0.420, "resumed"),
        TalkStateChanged(end + 0.420, "hearing"),
        Span(turn, "decode", end + 0.400, end + 0.460, 1),
    ]
    return told([*forgotten, *answered(turn + 1, at_s, speech_s=4.0)])


def noise(turn: int, at_s: float) -> list[Happening]:
    """A cough that the model does not answer; 200 ms of work are wasted."""
    end = at_s + 0.5
    return told(
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


def barge_in(turn: int, at_s: float) -> list[Happening]:
    """The user interrupts 400 ms after the reply has begun; the speaker is silent 18 ms after the decision."""
    whole = answered(turn, at_s)
    sound_s = next(happening.at_s for happening in whole if isinstance(happening, FirstSound))
    cut = sound_s + 0.400
    kept = [happening for happening in whole if moment(happening) < cut]
    return told(
        [
            *kept,
            TalkStateChanged(cut - 0.120, "ducking"),
            Interrupted(turn, cut, cut + 0.018, 6, 10),
            TalkStateChanged(cut + 0.018, "interrupted"),
            TurnEnded(turn, cut + 0.020, "speech", "".join(WORDS), "interrupted"),
            TalkStateChanged(cut + 0.500, "listening"),
        ]
    )


def dry_run(turn: int, at_s: float) -> list[Happening]:
    """Three times as slow, with a start-up buffer that was not enough, and a microphone that vanishes for a moment."""
    whole = answered(turn, at_s, slower=3.0)
    sound_s = next(happening.at_s for happening in whole if isinstance(happening, FirstSound))
    ready = next(i for i, happening in enumerate(whole) if isinstance(happening, FirstPcm))
    return told(
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


def talk(at_s: float = 100.0) -> list[Happening]:
    """All of the above, one after the other: turns 1, 3, 5 and 6 are answered."""
    return [
        *opening(at_s),
        *answered(1, at_s + 1),
        *resumed(2, at_s + 6),
        *noise(4, at_s + 14),
        *barge_in(5, at_s + 16),
        *dry_run(6, at_s + 21),
    ]
