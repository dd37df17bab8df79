"""Before the first turn: every graph runs once, so that memory is there, and so that it is known how fast they are."""

from __future__ import annotations

from itertools import islice
from time import monotonic

import numpy as np

from ..decoding.sampling import make_sampler, make_speech_sampler
from ..text.clause_cutter import Clause
from .assistant import Assistant
from .dialogue import Dialogue
from .jitter_buffer import Pace

__all__ = ["warm_up"]

TOKENS, CODES = 4, 44
"""How many are decoded to measure how long one takes."""
SENTENCE = "good morning to everybody here."


def warm_up(assistant: Assistant, dialogue: Dialogue, pace: Pace) -> None:
    """Run every graph once and let ``pace`` learn; the dialogue is as it was."""
    facts = assistant.bundle.model
    second = np.zeros(facts.audio.sample_rate_hz, np.float32)
    dialogue.hear(second, ended=False)
    dialogue.hear(second)
    tile = facts.vision.tile_size
    assistant.encoders.watch([np.zeros((tile, tile, 3), np.uint8)], "live")
    logits = dialogue.ask()
    begin_s = monotonic()
    decoded = list(dialogue.timeline.decode(logits, make_sampler(), TOKENS, ()))
    pace.learn("token_s", (monotonic() - begin_s) / max(len(decoded) - 1, 1))
    dialogue.forget()

    begin_s = monotonic()
    voice = assistant.voice.clause(Clause.of(SENTENCE, SENTENCE, first=True), make_speech_sampler(facts.speech))
    samples, pieces_s = 0, [begin_s]
    for code in islice(voice.codes(), CODES):
        if heard := len(voice.sound(code)):
            pieces_s.append(monotonic())
            samples += heard
    for name, begin, end in zip(("first_piece_s", "next_piece_s"), pieces_s, pieces_s[1:]):
        pace.learn(name, end - begin)
    rest = len(voice.sound(None))
    seconds = (samples + rest) / facts.codec.sample_rate_hz
    if seconds:
        pace.learn("sound_s", (monotonic() - begin_s) / seconds)
