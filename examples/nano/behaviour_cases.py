"""Stage 7: questions that no training has seen, with the replies they should get, as files.

    python examples/nano/behaviour_cases.py FOLDER --count 100 --seed 1
    python examples/nano/behaviour_cases.py FOLDER --voice "piper joe" --noise-db 10 20

Voices are espeak-ng's held-out ones or the one that is named, half of the pictures show held-out combinations, and
noise is added to the samples, not to features. ``FOLDER/cases.json`` lists the cases; `benchmarks/behaviour.py` asks
them.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image

from corpus import typed
from drawing import draw
from noises import babble, music, noise
from speaking import RATE_HZ, held_out_voice, room, say, with_silence
from stage_sounds import is_sum
from vita_edge.runtime.audio_io.sound import resample
from voices import LEFT_OUT, say_all
from world import SMALL_TALK, UNKNOWN, Asked, Scene, any_question, follow_up, random_scene

__all__ = ["write_cases"]

Case = dict[str, Any]
SHARES = {
    "spoken about a picture": 40,
    "spoken follow-up": 14,
    "spoken sum or small talk": 14,
    "typed": 14,
    "noise": 5,
    "music": 4,
    "other talk": 9,
}
"""Cases of each kind among a hundred."""
NOISE_DB = (8.0, 40.0)
"""How far noise lies below the voice."""


class _Writer:
    def __init__(self, folder: Path, rng: random.Random, voice: str, noise_db: tuple[float, float]) -> None:
        self.folder, self.rng, self.voice, self.noise_db = folder, rng, voice, noise_db
        self.number, self.subtype = 0, "VORBIS"
        folder.mkdir(parents=True, exist_ok=True)

    def sound(self, samples: NDArray[np.float32]) -> str:
        name = f"sound-{self.number:04}.ogg"
        self.number += 1
        samples = np.clip(samples, -1, 1)
        soundfile.write(self.folder / name, samples, RATE_HZ, format="OGG", subtype=self.subtype)
        return name

    def _said(self, text: str) -> NDArray[np.float32]:
        if self.voice:
            return say_all(self.voice, [f"{text}?"], self.rng, changed=False)[0]
        return say(text, held_out_voice(self.rng))

    def speech(self, text: str) -> str:
        """At some level, in some room, with noise below it."""
        rng = self.rng
        spoken = (
            say_all(self.voice, [text + "?"], rng, changed=False)[0] if self.voice else say(text, held_out_voice(rng))
        )
        samples = with_silence(spoken, rng)
        if rng.random() < 0.35:
            samples = room(samples, rng)
        samples = samples * 10 ** (rng.uniform(-15, 3) / 20)
        level = np.sqrt(np.mean(samples**2))
        hiss = noise(rng, len(samples) / RATE_HZ + 0.1)[: len(samples)]
        return self.sound(samples + hiss * 10 * level * 10 ** (-rng.uniform(*self.noise_db) / 20))

    def picture(self, scene: Scene) -> str:
        name = f"picture-{self.number:04}.jpg"
        self.number += 1
        Image.fromarray(draw(scene, self.rng)).save(self.folder / name, quality=90)
        return name


def write_cases(
    folder: Path, count: int, seed: int, voice: str = "", noise_db: tuple[float, float] = NOISE_DB
) -> list[Case]:
    """Write files and ``cases.json``; the same seed and the same synthesiser give the same cases."""
    writer = _Writer(folder, random.Random(f"behaviour {seed}"), voice, noise_db)
    kinds = [kind for kind, share in SHARES.items() for _ in range(round(count * share / 100))]
    cases = [{"kind": kind, "turns": _turns(kind, writer)} for kind in kinds]
    (folder / "cases.json").write_text(json.dumps(cases, indent=1) + "\n", encoding="utf-8")
    return cases


def write_by_voice(folder: Path, voices: Sequence[str], count: int, seed: int) -> list[Case]:
    """``count`` questions about a picture and an eighth as much other talk by each voice, in small files.

    A picture serves a question of every voice.
    """
    rng = random.Random(f"by voice {seed}")
    writer = _Writer(folder, rng, "", NOISE_DB)
    writer.subtype = "OPUS"
    scenes = [random_scene(rng, held_out=rng.random() < 0.5) for _ in range(count)]
    images = [writer.picture(scene) for scene in scenes]
    cases = []
    for writer.voice in voices:
        for scene, image in zip(scenes, images):
            turn = _spoken(_about(rng, scene), writer) | {"image": image}
            cases.append({"kind": f"{writer.voice}, about a picture", "turns": [turn]})
        for _ in range(count // 8):
            turn = {"audio": writer.speech(babble(rng)), "state": "noise"}
            cases.append({"kind": f"{writer.voice}, other talk", "turns": [turn]})
    (folder / "cases.json").write_text(json.dumps(cases, indent=1) + "\n", encoding="utf-8")
    return cases


def _about(rng: random.Random, scene: Scene) -> Asked:
    """A question about the picture itself."""
    while True:
        asked = any_question(rng, scene)
        if asked.answer not in SMALL_TALK and not is_sum(asked.question):
            return asked


def write_recorded(folder: Path, recordings: Path, count: int, seed: int) -> list[Case]:
    """Cases of real speech that is not meant for the assistant: ``count`` recordings of 1 to 8 s from a folder."""
    rng = random.Random(f"recorded {seed}")
    writer = _Writer(folder, rng, "", NOISE_DB)
    files = sorted(file for file in recordings.rglob("*.wav") if 1 <= soundfile.info(file).duration <= 8)
    cases = []
    for file in rng.sample(files, min(count, len(files))):
        samples, rate = soundfile.read(file, dtype="float32")
        spoken = with_silence(resample(samples, rate, RATE_HZ), rng)
        turn = {"audio": writer.sound(spoken), "said": file.stem, "state": "noise"}
        cases.append({"kind": "recorded talk", "turns": [turn]})
    (folder / "cases.json").write_text(json.dumps(cases, indent=1) + "\n", encoding="utf-8")
    return cases


def _turns(kind: str, writer: _Writer) -> list[dict[str, Any]]:
    rng = writer.rng
    if kind in ("noise", "music"):
        samples = (noise if kind == "noise" else music)(rng, rng.uniform(1, 3))
        sound = writer.sound(samples * 10 ** (rng.uniform(-20, 6) / 20))
        return [{"audio": sound, "state": "noise"}]
    if kind == "other talk":
        return [{"audio": writer.speech(babble(rng)), "state": "noise"}]
    if kind == "spoken sum or small talk":
        return [_spoken(any_question_without_picture(rng), writer)]
    scene = random_scene(rng, held_out=rng.random() < 0.5)
    image = writer.picture(scene)
    if kind == "typed":
        drawn = rng.random()
        if drawn < 0.15:
            return [{"text": babble(rng), "state": "text", "reply": UNKNOWN}]
        asked = any_question(rng, scene) if drawn < 0.7 else any_question_without_picture(rng)
        turn: dict[str, Any] = {"text": typed(asked.question, rng), "state": "text", "reply": asked.answer}
        return [turn | ({"image": image} if drawn < 0.7 else {})]
    while True:
        asked = any_question(rng, scene)
        further = follow_up(rng, scene, asked)
        if asked.answer in SMALL_TALK:
            continue
        if kind == "spoken about a picture":
            return [_spoken(asked, writer) | {"image": image}]
        if further:
            return [_spoken(asked, writer) | {"image": image}, _spoken(further, writer)]


def any_question_without_picture(rng: random.Random) -> Asked:
    return any_question(rng, None)


def _spoken(asked: Asked, writer: _Writer) -> dict[str, Any]:
    sound = writer.speech(asked.question)
    return {"audio": sound, "said": asked.question, "state": "speech", "reply": asked.answer}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--voice", default="", help="one of voices.py (default: espeak-ng's held-out ones)")
    parser.add_argument("--noise-db", type=float, nargs=2, default=NOISE_DB, metavar=("HEAVY", "LIGHT"))
    parser.add_argument("--by-voice", action="store_true", help="COUNT questions and other talk of each left-out voice")
    parser.add_argument("--recordings", type=Path, metavar="FOLDER", help="of real speech; nothing else is asked")
    arguments = parser.parse_args()
    if arguments.recordings:
        cases = write_recorded(arguments.folder, arguments.recordings, arguments.count, arguments.seed)
        print(f"{len(cases)} cases in {arguments.folder}")
        return
    if arguments.by_voice:
        cases = write_by_voice(arguments.folder, LEFT_OUT[:2], arguments.count, arguments.seed)
        print(f"{len(cases)} cases in {arguments.folder}")
        return
    noise_db = (arguments.noise_db[0], arguments.noise_db[1])
    cases = write_cases(arguments.folder, arguments.count, arguments.seed, arguments.voice, noise_db)
    print(f"{len(cases)} cases in {arguments.folder}")


if __name__ == "__main__":
    main()
