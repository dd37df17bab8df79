"""How soon the first sound comes, and how fast it goes on: a prediction for one spoken turn, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from vita_edge.engines.bundle.component_spec import CODEC, SPEECH_PREFILL
from vita_edge.engines.bundle.facts import AUDIO_TOKEN_MS, ENCODER_STEP_MS
from vita_edge.engines.bundle.work import ModelWork
from vita_edge.runtime.live.jitter_buffer import SUSTAINED, Pace
from vita_edge.runtime.speech.clause_synthesis import CHUNKS
from vita_edge.runtime.turns.turn_events import TurnTimes

from .device_file import Device, Yardstick
from .graph_calls import Calls, yardstick_call
from .roofline import Call, Case, Timed, time_of
from .weight_bits import weight_bits

__all__ = ["Estimate", "SpokenTurn", "estimate", "yardstick_estimate"]

STEPS_PER_S = 1000 / ENCODER_STEP_MS
AUDIO_TOKENS_PER_S = 1000 / AUDIO_TOKEN_MS
FIRST_CHUNK, LAST_CHUNK = CHUNKS[0], CHUNKS[-1]
"""Codes of the first piece of a clause, and of the longest."""


@dataclass(frozen=True)
class SpokenTurn:
    """The turn that is predicted: a spoken question without a picture, answered as `vita-edge chat` does it."""

    question_s: float = 3.7
    held_tokens: int = 60
    """Positions in the cache before the question: a system prompt, no history."""
    template_tokens: int = 10
    """Positions around the sound."""
    rest_steps: int = 12
    """Steps of 40 ms that are not encoded when the answer is begun; the others were while the user spoke."""
    rest_tokens: int = 20
    """Positions that are not read when the answer is begun; `vita-edge bench` counts them."""
    clause_tokens: int = round(Pace.clause_tokens)
    """Tokens until the first clause is complete."""
    speculation_delay_ms: float = TurnTimes.speculation_delay_ms
    """Silence after which an answer is begun and held."""
    endpoint_ms: float = TurnTimes.endpoint_ms
    """Silence that ends a question."""

    @property
    def positions(self) -> int:
        """Of the question itself."""
        return round(self.question_s * AUDIO_TOKENS_PER_S)

    def heard_by(self, work: ModelWork) -> SpokenTurn:
        """The turn as a model hears it: some hear nothing before the question has ended."""
        if work.streams_audio:
            return self
        rest = max(self.rest_tokens, self.positions + self.template_tokens)
        return replace(self, rest_steps=round(self.question_s * STEPS_PER_S), rest_tokens=rest)


@dataclass(frozen=True)
class Estimate:
    """What is expected of one device."""

    turn: SpokenTurn
    """What was predicted, as the model hears it."""
    stages: Mapping[str, Timed]
    """In order, up to the first sound."""
    decode_tokens_per_s: float
    prefill_positions_per_s: float
    """Of 300 positions at once."""
    picture_ms: float
    """A tile more: encoded, and its positions read."""
    heard_at_once_ms: float
    """Engine clock if the sound is encoded and read only after its end."""
    speech_steps_per_s: float
    codes_per_s: float
    """Speech steps that playing takes."""
    codec_rtf: float

    @property
    def first_audio_ms(self) -> float:
        """Engine clock: from the beginning of the answer to the first sound that can be played."""
        return sum(stage.ms for stage in self.stages.values())

    @property
    def server_ms(self) -> float:
        """From the end of the question to the first sound, the response started in the pause before the endpoint."""
        return max(self.turn.endpoint_ms, self.turn.speculation_delay_ms + self.first_audio_ms)

    @property
    def server_without_speculation_ms(self) -> float:
        return self.turn.endpoint_ms + self.first_audio_ms

    @property
    def speech_rtf(self) -> float:
        """Seconds of work of the speech decoder for a second of sound."""
        return self.codes_per_s / self.speech_steps_per_s

    @property
    def load(self) -> float:
        """Seconds of work for a second of sound while the text is still being written, all on one device."""
        return self.speech_rtf + self.codec_rtf + 1 / (self.decode_tokens_per_s * Pace.token_sound_s)

    @property
    def real_time(self) -> bool:
        """Speech can be played while it is made."""
        return self.load <= SUSTAINED


def estimate(
    work: ModelWork,
    device: Device,
    precision: str,
    context_tokens: int,
    turn: SpokenTurn | None = None,
    case: Case = "expected",
) -> Estimate:
    """Predict a turn of a model on a device, for a KV cache of ``context_tokens`` positions."""
    turn = (turn or SpokenTurn()).heard_by(work)
    form = weight_bits(device.backend, precision)
    calls = Calls(work, form, device.target, context_tokens)
    clip = turn.positions
    past = max(turn.held_tokens + clip + turn.template_tokens - turn.rest_tokens, 0)
    text = turn.clause_tokens * work.vectors_per_token + 1
    first = FIRST_CHUNK + work.codec_right
    window = LAST_CHUNK + work.codec_left + work.codec_right

    def timed(call: Call) -> Timed:
        return time_of(call, device, form, case)

    step = timed(calls.llm(1, past + turn.rest_tokens))
    code = timed(calls.speech_step(text + first // 2))
    stages = {
        "audio_rest": timed(calls.audio(turn.rest_steps)),
        "prefill_rest": timed(calls.llm(turn.rest_tokens, past)),
        "first_clause": step.repeated(turn.clause_tokens - 1),  # the prefill has given the first token
        SPEECH_PREFILL.name: timed(calls.speech_prefill(turn.clause_tokens)),
        "first_codes": code.repeated(first),
        CODEC.name: timed(calls.codec(first)),
    }
    ahead = ("audio_rest", "prefill_rest")
    whole = timed(calls.audio(round(turn.question_s * STEPS_PER_S))).ms
    whole += timed(calls.llm(clip + turn.template_tokens, turn.held_tokens)).ms
    return Estimate(
        turn=turn,
        stages=stages,
        decode_tokens_per_s=1000 / step.ms,
        prefill_positions_per_s=300_000 / timed(calls.llm(300, 0)).ms,
        picture_ms=timed(calls.vision()).ms + timed(calls.llm(work.tokens_per_tile, turn.held_tokens)).ms,
        heard_at_once_ms=whole + sum(stage.ms for name, stage in stages.items() if name not in ahead),
        speech_steps_per_s=1000 / code.ms,
        codes_per_s=work.codes_per_second,
        codec_rtf=timed(calls.codec(window)).ms / 1000 * work.codes_per_second / LAST_CHUNK,
    )


def yardstick_estimate(model: Yardstick, device: Device, what: str, positions: int) -> float | None:
    """The figure ``what`` of a language model of others on a device; None for a figure that is not predicted."""
    form = weight_bits(device.backend, "int4")  # weight-only, multiplied in half precision
    if what == "decode_tokens_per_s":
        return 1000 / time_of(yardstick_call(model, 1, model.positions - 1), device, form).ms
    if what == "prefill_ms":
        return time_of(yardstick_call(model, positions, 0), device, form).ms
    return None
