"""The sentences that the voice is trained on, and the synthesiser that speaks them: flite's slt."""

from __future__ import annotations

import json
import random
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

import world
from vita_edge.runtime.text.clause_cutter import ClauseCutter
from vocabulary import OUT
from world import random_scene

__all__ = ["SMALL_TALK", "SYNTHESISER_RATE_HZ", "Sentences", "clauses", "kind", "say_reply", "sentences"]

SYNTHESISER_RATE_HZ = 16000
SCENES = 2500
"""Descriptions of two and three things of the training; there are more than 100,000."""
HELD_OUT_SCENES = 120
FURTHER_SCENES = 5000
LOUD = 0.01
SILENCE_BEFORE_S, SILENCE_AFTER_S = 0.075, 0.1
LOUDNESS = 1.25
HELD_OUT_SHARE = 0.07
"""Of all other answers, those that the training never hears; small talk is always heard."""


SMALL_TALK = "small talk"


@dataclass(frozen=True)
class Sentences:
    """What the speech decoder reads, clause by clause."""

    training: list[str]
    held_out: list[str]
    further: list[str]
    """Descriptions for the speech decoder alone: of those it needs many more than the codec."""


def clauses(reply: str) -> Iterator[str]:
    """The clauses of a whole reply, as the runtime hands them to the speech decoder."""
    cutter = ClauseCutter()
    for clause in (*cutter.step(reply), *cutter.flush()):
        yield clause.text


def sentences(out: Path = OUT, seed: int = 0) -> Sentences:
    """Split the answers of the world; the same every time."""
    answers = json.loads((out / "answers.json").read_text(encoding="utf-8"))
    rng = random.Random(seed)
    scenes = [answer for answer in answers if _is_description(answer)]
    others = [answer for answer in answers if not _is_description(answer)]
    composed = [answer for answer in others if _is_composed(answer)]
    held = set(rng.sample(composed, round(HELD_OUT_SHARE * len(composed))))
    known = set(answers)
    fresh = [_fresh_description(rng, known, (1, 2, 3)) for _ in range(HELD_OUT_SCENES)]
    singles = [text for text in scenes if " and " not in text]
    several = [text for text in scenes if " and " in text]
    training = [text for text in others if text not in held] + singles + several[:SCENES]
    further = [_fresh_description(rng, known, (2, 3, 3)) for _ in range(FURTHER_SCENES)]
    return Sentences(_all_clauses(training), _all_clauses([*sorted(held), *fresh]), _all_clauses(further))


def kind(text: str) -> str:
    """What a sentence is about."""
    if text.startswith("i see "):
        return "descriptions"
    if text in _SMALL_TALK:
        return SMALL_TALK
    return "sums" if " plus " in text or " minus " in text else "places"


def say_reply(text: str) -> NDArray[np.float32]:
    """float32 [n] at 16 kHz: the same sound for the same text, whatever was said before.

    The melody is flattened and the pace slowed a little: both make it easier to learn and no harder to follow.
    """
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        settings = ["--setf", "int_f0_target_stddev=8", "--setf", "duration_stretch=1.1"]
        subprocess.run(["flite", "-voice", "slt", *settings, "-t", text, "-o", file.name], check=True)
        samples, rate = soundfile.read(file.name, dtype="float32")
    assert rate == SYNTHESISER_RATE_HZ, rate
    loud = np.flatnonzero(np.abs(samples) > LOUD)
    before, after = (int(seconds * rate) for seconds in (SILENCE_BEFORE_S, SILENCE_AFTER_S))
    samples = np.pad(samples, (before, after))[loud[0] : loud[-1] + 1 + before + after]
    return LOUDNESS * samples


def _fresh_description(rng: random.Random, known: set[str], counts: Sequence[int]) -> str:
    """One that is not in ``known``, which it joins."""
    while True:
        scene = random_scene(rng, held_out=rng.random() < 0.5, count=rng.choice(counts))
        text = f"I see {' and '.join(thing.named for thing in scene)}."
        if text not in known:
            known.add(text)
            return text


def _is_description(answer: str) -> bool:
    return answer.startswith("I see ")


def _is_composed(answer: str) -> bool:
    """Sums, and sentences with a colour and a place: others are made of the same words."""
    return any(word in answer for word in (" plus ", " minus ", " on the ", " in the middle"))


def _all_clauses(replies: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(text for reply in replies for text in clauses(reply)))


_SMALL_TALK = {clause for text in (*world.SMALL_TALK, world.UNKNOWN, world.NO_PICTURE) for clause in clauses(text)}
