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
from pathlib import Path

import numpy as np

from noises import babble, music, noise
from sizes import checkpoint_config
from speaking import FOREIGN, Voice, held_out_voice, random_voice, room, say, with_silence
from vita_edge.engines.bundle.facts import AudioFacts
from vita_edge.runtime.encoders.audio_frontend import AudioFrontEnd
from vocabulary import OUT
from world import NUMBERS, all_questions

__all__ = ["FOLDER", "front_end", "read_sounds"]

FOLDER = OUT / "sounds"
RENDERINGS, RENDERINGS_OF_SUMS = 16, 6
BABBLE, FOREIGN_BABBLE, NOISES, BACKGROUNDS = 3000, 300, 500, 80
IN_TEST = 900

Spoken = tuple[str, np.ndarray]


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


def read_sounds(name: str) -> tuple[list[str], list[np.ndarray]]:
    """Texts, and log-mel features float16 [frames, 80] of each."""
    texts = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    features = np.load(FOLDER / f"{name}.npy")
    ends = np.load(FOLDER / f"{name}.ends.npy")
    return texts, np.split(features, ends[:-1])


def _spoken(job: tuple[str, str, int]) -> Spoken:
    kind, text, seed = job
    rng = random.Random(f"{kind} {text} {seed}")
    if kind in ("noise", "background"):
        seconds = 6.0 if kind == "background" else rng.uniform(0.5, 4)
        samples = music(rng, seconds) if rng.random() < (0.15 if kind == "background" else 0.5) else noise(rng, seconds)
        return text, front_end().fbank(samples).astype(np.float16)
    if kind == "foreign":
        voice = Voice(rng.choice(FOREIGN), rng.randint(130, 190), rng.randint(25, 75))
    else:
        voice = held_out_voice(rng) if kind.startswith("test") else random_voice(rng)
    samples = with_silence(say(text, voice), rng)
    if rng.random() < 0.35:
        samples = room(samples, rng)
    dither = np.random.default_rng(seed).normal(0, 10 ** rng.uniform(-4.5, -3), samples.shape)
    return text, front_end().fbank(samples + dither.astype(np.float32)).astype(np.float16)


def _jobs(name: str) -> Iterator[tuple[str, str, int]]:
    rng = random.Random(name)
    if name == "questions":
        for text in all_questions():
            sums = any(word in NUMBERS[:11] for word in text.split()) and "comes" not in text
            for i in range(RENDERINGS_OF_SUMS if sums else RENDERINGS):
                yield name, text, i
    elif name == "babble":
        yield from ((name, babble(rng), i) for i in range(BABBLE))
        yield from (("foreign", babble(rng), i) for i in range(FOREIGN_BABBLE))
    elif name == "test_questions":
        questions = all_questions()
        yield from ((name, rng.choice(questions), i) for i in range(IN_TEST))
    elif name == "test_babble":
        yield from ((name, babble(rng), i) for i in range(IN_TEST // 3))
    else:
        yield from ((name, "", i) for i in range(BACKGROUNDS if name == "background" else NOISES))


NAMES = ("questions", "babble", "noise", "background", "test_questions", "test_babble")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(arguments.workers) as pool:
        for name in NAMES:
            if (FOLDER / f"{name}.json").exists():
                continue
            found = list(pool.map(_spoken, _jobs(name), chunksize=16))
            write(FOLDER, name, found)
            print(name, len(found), f"{sum(len(f) for _, f in found) / 6000:.0f} min", file=sys.stderr, flush=True)


def write(folder: Path, name: str, found: list[Spoken]) -> None:
    features = [f for _, f in found]
    np.save(folder / f"{name}.npy", np.concatenate(features))
    np.save(folder / f"{name}.ends.npy", np.cumsum([len(f) for f in features]))
    (folder / f"{name}.json").write_text(json.dumps([text for text, _ in found]), encoding="utf-8")


if __name__ == "__main__":
    main()
