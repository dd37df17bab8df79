"""Every silence in a labelled set of turns as the voice detector finds it, with what the detectors say of it there."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vita_edge.runtime import read_sound
from vita_edge.runtime.audio_io.sound import resample
from vita_edge.runtime.turns.annotation import read_annotation
from vita_edge.runtime.turns.end_of_speech import end_of_speech
from vita_edge.runtime.turns.prosody import features
from vita_edge.runtime.turns.silero_vad import VoiceDetector
from vita_edge.runtime.turns.smart_turn import SmartTurn
from vita_edge.runtime.turns.vad_gate import Voicing

RATE_HZ, STEP_S = 16_000, 0.032
ASKED_S = 0.096
"""Silence after which the detectors are asked, as the live talk asks them."""
MIN_SPEECH_S, BEFORE_S = 0.09, 0.25
SOUNDS = (".flac", ".wav", ".ogg", ".mp3")


@dataclass(frozen=True)
class Point:
    """A silence that begins somewhere in a turn. Times are seconds of the recording."""

    clip: str
    speaker: str
    kind: str
    complete: bool
    voice_end_s: float
    """As the voice detector has it."""
    true_end_s: float
    resumes_s: float
    """When the voice detector hears the speaker again; infinite at the end."""
    features: tuple[float, ...]
    smart_turn: float | None
    """Probability by Smart Turn; None without its model."""


def points_of(folder: Path, smart_turn: SmartTurn | None) -> list[Point]:
    """All silences of the recordings below a folder; each folder keeps its own in a file, since it takes minutes."""
    points: list[Point] = []
    for place in sorted({path.parent for path in folder.rglob("*") if path.suffix in SOUNDS}):
        retained = place / f".points{'' if smart_turn else '-alone'}.json"
        if not retained.is_file():
            paths = sorted(path for path in place.iterdir() if path.suffix in SOUNDS)
            found = [point for path in paths for point in points_in(path, smart_turn)]
            retained.write_text(json.dumps([asdict(point) for point in found]), "utf-8")
        rows = json.loads(retained.read_text("utf-8"))
        points += [Point(**{**row, "features": tuple(row["features"])}) for row in rows]
    return points


def points_in(path: Path, smart_turn: SmartTurn | None) -> Iterator[Point]:
    """The silences of one recording, in order."""
    sound = read_sound(path)
    samples = resample(sound.heard_channel, sound.sample_rate_hz, RATE_HZ)
    notes = read_annotation(path)
    folder_says = {"complete": True, "incomplete": False}.get(path.parent.name)
    complete = notes.complete if notes.complete is not None else folder_says is not False
    end_s = notes.speech_end_s
    if end_s is None:
        found = end_of_speech(samples, RATE_HZ)
        end_s = found.at_s if found else samples.size / RATE_HZ
    beside = path.with_suffix(".json")
    pauses = json.loads(beside.read_text("utf-8")).get("pauses", []) if beside.is_file() else []
    for begin_s, voice_end_s, resumes_s in silences(samples):
        inside = [pause for pause in pauses if pause[0] - 0.15 < voice_end_s < pause[1] + 0.1]
        final = voice_end_s > end_s - 0.15
        now = round((voice_end_s + ASKED_S) * RATE_HZ)
        turn = samples[max(round((begin_s - BEFORE_S) * RATE_HZ), 0) : now]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            heard = features(turn)
        yield Point(
            clip=path.name,
            speaker=notes.speaker or path.parent.name,
            kind=(notes.kind or "recording") if final or inside else "inside",
            complete=final and complete,
            voice_end_s=voice_end_s,
            true_end_s=end_s if final else (inside[0][0] if inside else voice_end_s),
            resumes_s=resumes_s,
            features=tuple(map(float, heard)),
            smart_turn=smart_turn.probability(turn) if smart_turn else None,
        )


def silences(samples: NDArray[np.float32]) -> Iterator[tuple[float, float, float]]:
    """(beginning of the turn, end of the voice, voice again) of each silence that the detectors are asked about."""
    gate = Voicing(VoiceDetector().step, 0.5)
    steps = [step for i in range(0, samples.size - 511, 512) if (step := gate.step(samples[i : i + 512]))]
    begin_s, voice_end_s, voiced_s = None, 0.0, 0.0
    for number, step in enumerate(steps):
        if step.voice:
            begin_s = step.begin_s if begin_s is None else begin_s
            voice_end_s, voiced_s = step.end_s, voiced_s + STEP_S
        elif begin_s is not None and voiced_s >= MIN_SPEECH_S and abs(step.end_s - voice_end_s - ASKED_S) < 1e-6:
            later = (other.begin_s for other in steps[number:] if other.voice)
            yield begin_s, voice_end_s, next(later, float("inf"))
