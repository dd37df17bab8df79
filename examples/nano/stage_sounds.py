"""Stage 1: speak every question, talk about other things, make noise and music; keep what the filter bank makes of it.

    python examples/nano/stage_sounds.py

Writes ``out/nano/sounds/*.npy``; what is there already is not made again.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from noises import babble, music, noise, word_salad
from sizes import checkpoint_config
from speaking import FOREIGN, Voice, room, say, with_silence
from vita_edge.engines.bundle.facts import AudioFacts
from vita_edge.runtime.encoders.audio_frontend import AudioFrontEnd
from vocabulary import OUT
from voices import LEFT_OUT, TRAINING, say_all
from wording import widened
from world import NUMBERS, all_questions

__all__ = ["FOLDER", "SETS", "front_end", "is_sum", "read_sounds", "set_name"]

FOLDER = OUT / "sounds"
RENDERINGS = {"espeak": (9, 2), "flite": (2, 1), "pico": (3, 1), "festival": (2, 1), "hibari": (10, 3)}
"""How often a voice of each family says every question, and every sum."""
OTHER_TALK = {"espeak": 1500, "flite": 350, "pico": 400, "festival": 200, "hibari": 1500}
"""Sentences of a voice of each family that are not meant for the assistant."""
FOREIGN_BABBLE, NOISES, BACKGROUNDS = 300, 500, 80
IN_TEST = 150
AT_ONCE = 40
"""Sentences that are spoken in one go."""


@dataclass(frozen=True)
class Job:
    """Sounds of one kind: what is meant, and what is said for it."""

    kind: str
    voice: str
    """Of `voices.py`; else ``foreign``, ``noise`` or ``background``."""
    texts: list[str]
    said: list[str]
    seed: str


Spoken = tuple[str, str, np.ndarray]
"""What is meant, what is said, and log-mel features float16 [frames, 80]."""


def front_end() -> AudioFrontEnd:
    audio = checkpoint_config(1072, 0).audio
    facts = AudioFacts(
        sample_rate_hz=16000,
        mel_bins=audio.mel_bins,
        frame_length_ms=audio.frame_length_ms,
        frame_shift_ms=audio.frame_shift_ms,
        adapter_kernel=audio.adapter_kernel,
        prompt_rows=0,
        chunk_size=audio.chunk_size,
        left_chunks=audio.left_chunks,
    )
    return AudioFrontEnd(facts)


def read_sounds(name: str) -> tuple[list[str], list[str], list[np.ndarray]]:
    """What is meant, what is said, and log-mel features float16 [frames, 80] of each."""
    texts, said = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    features = np.load(FOLDER / f"{name}.npy")
    ends = np.load(FOLDER / f"{name}.ends.npy")
    return texts, said, np.split(features, ends[:-1])


def set_name(kind: str, voice: str) -> str:
    return f"{kind} {voice}".replace(" ", "_")


def _made(job: Job) -> list[Spoken]:
    rng = random.Random(job.seed)
    if job.voice == "foreign":
        voices = [Voice(rng.choice(FOREIGN), rng.randint(130, 190), rng.randint(25, 75)) for _ in job.said]
        sounds = [say(text, voice) for text, voice in zip(job.said, voices)]
    elif job.voice in ("noise", "background"):
        sounds = [_noise(job.voice, rng) for _ in job.said]
    else:
        written = [_written(text, rng) for text in job.said]
        sounds = say_all(job.voice, written, rng, changed=job.kind != "test")
    return [
        (text, said, _heard(sound, rng, job.voice in ("noise", "background")))
        for text, said, sound in zip(job.texts, job.said, sounds)
    ]


def _noise(kind: str, rng: random.Random) -> np.ndarray:
    seconds = 6.0 if kind == "background" else rng.uniform(0.5, 4)
    return music(rng, seconds) if rng.random() < (0.15 if kind == "background" else 0.5) else noise(rng, seconds)


def _written(text: str, rng: random.Random) -> str:
    """As it is handed to a synthesiser, which reads melody out of marks."""
    if rng.random() < 0.5:
        text = text.replace("colour", "color")
    text = " ".join("I" if word == "i" else word for word in text.split())
    return text + rng.choice(("?", "?", ".", ""))


def _heard(samples: np.ndarray, rng: random.Random, as_it_is: bool) -> np.ndarray:
    if not as_it_is:
        samples = with_silence(samples, rng)
        if rng.random() < 0.4:
            samples = room(samples, rng)
    dither = np.random.default_rng(rng.getrandbits(63)).normal(0, 10 ** rng.uniform(-4.5, -3), samples.shape)
    return front_end().fbank((samples + dither).astype(np.float32)).astype(np.float16)


def _jobs(kind: str, voice: str) -> Iterator[Job]:
    """In pieces that one process makes in a while."""
    rng = random.Random(f"{kind} {voice}")
    family = voice.split()[0]
    if kind == "questions":
        usual, sums = RENDERINGS[family]
        texts = [text for text in all_questions() for _ in range(sums if is_sum(text) else usual)]
    elif kind == "test":
        texts = rng.sample(all_questions(), IN_TEST)
    elif kind == "salad":
        texts = [word_salad(rng) for _ in range(OTHER_TALK[family] * 2 // 3)]
    elif kind == "babble":
        texts = [babble(rng) for _ in range(FOREIGN_BABBLE if voice == "foreign" else OTHER_TALK[family])]
    else:
        texts = [""] * (BACKGROUNDS if kind == "background" else NOISES)
    rng.shuffle(texts)
    for start in range(0, len(texts), AT_ONCE):
        some = texts[start : start + AT_ONCE]
        said = [widened(text, rng) if kind == "questions" else text for text in some]
        yield Job(kind, voice, some, said, f"{kind} {voice} {start}")


def is_sum(text: str) -> bool:
    return any(word in NUMBERS[:11] for word in text.split()) and "comes" not in text


SETS = (
    ("background", "background"),
    *(("test", voice) for voice in ("hibari", *LEFT_OUT)),
    ("noise", "noise"),
    ("babble", "foreign"),
    *((kind, voice) for voice in TRAINING for kind in ("babble", "questions")),
    *(("salad", voice) for voice in ("espeak", "hibari")),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", help="sets whose name has this in it")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(arguments.workers) as pool:
        for kind, voice in SETS:
            name = set_name(kind, voice)
            if (FOLDER / f"{name}.json").exists() or arguments.only not in name:
                continue
            found = [spoken for some in pool.map(_made, _jobs(kind, voice)) for spoken in some]
            write(FOLDER, name, found)
            print(name, len(found), f"{sum(len(f) for *_, f in found) / 6000:.0f} min", file=sys.stderr, flush=True)


def write(folder: Path, name: str, found: list[Spoken]) -> None:
    features = [f for *_, f in found]
    np.save(folder / f"{name}.npy", np.concatenate(features))
    np.save(folder / f"{name}.ends.npy", np.cumsum([len(f) for f in features]))
    texts, said = [text for text, *_ in found], [said for _, said, _ in found]
    (folder / f"{name}.json").write_text(json.dumps([texts, said]), encoding="utf-8")


if __name__ == "__main__":
    main()
