"""Before the first turn: every graph runs once, so that memory is there, and so that it is known how fast they are."""

from __future__ import annotations

from itertools import islice
from time import monotonic

import numpy as np

from ..audio_io.sound import Sound
from ..decoding.sampling import make_sampler, make_speech_sampler
from ..session.opened_model import OpenedModel
from ..session.prompt_layout import TurnContent
from ..session.session import Session
from ..text.clause_cutter import Clause
from .jitter_buffer import Pace

__all__ = ["warm_up"]

TOKENS, CODES = 4, 44
"""How many are decoded to measure how long one takes."""
SENTENCE = "good morning to everybody here."


def warm_up(model: OpenedModel, session: Session, pace: Pace) -> None:
    """Run every graph once and let ``pace`` learn; the history is as it was."""
    facts, history = model.facts, session.history
    session.read_ahead(1)
    second = np.zeros(facts.audio.sample_rate_hz, np.float32)
    with model.scheduler.step("language"):  # other sessions may be talking
        model.encoders.new_clip().step(second)
        rows = model.encoders.hear(Sound(second, facts.audio.sample_rate_hz))
    tile = facts.vision.tile_size
    with model.scheduler.step("language"):
        model.encoders.watch([np.zeros((tile, tile, 3), np.uint8)], "live")
    reading = history.read_turn(TurnContent(utterances=((rows,),)))
    with model.scheduler.step("language"):
        try:
            while True:
                next(reading)
        except StopIteration as read:
            logits = read.value
        begin_s = monotonic()
        decoded = list(history.timeline.decode(logits, make_sampler(), TOKENS, ()))
        pace.learn("token_s", (monotonic() - begin_s) / max(len(decoded) - 1, 1))
    history.forget()
    session.read_ahead(1)

    with model.scheduler.step("speech"):
        _speak(model, session, pace)


def _speak(model: OpenedModel, session: Session, pace: Pace) -> None:
    facts, begin_s = model.facts, monotonic()
    clause = Clause.of(SENTENCE, SENTENCE, first=True)
    voice = session.synthesizer.clause(clause, make_speech_sampler(facts.speech))
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
