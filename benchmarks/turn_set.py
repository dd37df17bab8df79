"""A labelled set of turns, to tune and to judge what decides that somebody has finished:

    python benchmarks/turn_set.py FOLDER [--seed 0]

FOLDER gets ``tuning/VOICE/*.flac`` and ``reporting/VOICE/*.flac``, each with a JSON beside it: where the speech ends,
and the pauses inside, in which the turn is not complete. The same seed and the same voices give the same samples.
``turn_detection.py`` reads it. A folder of real recordings has the same form; a recording without pauses needs only
``{"complete": true}``, or false when it stops where somebody went on.
"""

from __future__ import annotations

import argparse
import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from turn_texts import DIGITS, HESITATIONS, LISTS, SENTENCES, SHORT
from turn_voices import RATE_HZ, Voice, installed_voices

LEAD_S, TAIL_S = 0.4, 1.8
PAUSES_S = (0.2, 0.35, 0.5, 0.7, 1.0)
STYLES = ("cut", "cut", "comma", "comma", "hesitation", "hesitation", "flat")
"""How a sentence stops: in the middle of its melody; with a melody that goes on; with a filler; as if it were over."""
PEAK = 0.4
Samples = NDArray[np.float32]


@dataclass
class Clip:
    """A turn as it grows."""

    kind: str
    text: str
    samples: list[Samples] = field(default_factory=list)
    pauses: list[tuple[float, float]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return sum(part.size for part in self.samples) / RATE_HZ

    def say(self, samples: Samples) -> None:
        self.samples.append(samples)

    def pause(self, seconds: float) -> None:
        self.pauses.append((self.seconds, self.seconds + seconds))
        self.samples.append(np.zeros(round(seconds * RATE_HZ), np.float32))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--voice", nargs="+", help="only these")
    arguments = parser.parse_args()
    total = 0
    for voice in installed_voices():
        if arguments.voice and voice.name not in arguments.voice:
            continue
        clips = turns_of(voice, arguments.seed)
        for number, clip in enumerate(clips):
            random = np.random.default_rng([arguments.seed, _key(voice.name), number])
            write(arguments.folder / voice.split / voice.name, number, voice, clip, random)
        total += len(clips)
        print(
            f"{voice.split:<10} {voice.name:<32} {len(clips):>4} turns, {sum(len(c.pauses) for c in clips):>4} pauses"
        )
    print(f"{total} turns")


def turns_of(voice: Voice, seed: int) -> list[Clip]:
    """All that one voice says."""
    random = np.random.default_rng([seed, _key(voice.name)])
    clips = [whole(voice, "question" if "?" in text else "request", text, random) for text in SENTENCES[voice.split]]
    for text in SENTENCES[voice.split]:
        for style in random.choice(STYLES, 2, replace=False):
            clips.append(paused(voice, str(style), text, random))
    clips += [whole(voice, "short", text, random) for text in SHORT[voice.split]]
    clips += [listed(voice, "list", text, random) for text in LISTS[voice.split] for _ in range(2)]
    clips += [listed(voice, "number", text, random) for text in DIGITS[voice.split] for _ in range(3)]
    return clips


def whole(voice: Voice, kind: str, text: str, random: np.random.Generator) -> Clip:
    """Said in one go."""
    clip = Clip(kind, text.replace("| ", ""))
    clip.say(spoken(voice, clip.text, random))
    return clip


def paused(voice: Voice, style: str, text: str, random: np.random.Generator) -> Clip:
    """Said with one pause to think, at the bar."""
    first, second = (part.strip() for part in text.split("|"))
    clip = Clip(style, text)
    if style == "cut":
        full, alone = spoken(voice, f"{first} {second}", random), spoken(voice, first, random)
        place = quietest_near(full, round(0.93 * alone.size))
        clip.say(lengthened(full[:place], 1.0 + 0.5 * random.random()))
        rest = full[place:]
    else:
        ending = {"comma": ",", "hesitation": "", "flat": ""}[style]
        clip.say(lengthened(spoken(voice, first + ending, random), 1.0 + 0.4 * random.random()))
        rest = spoken(voice, second, random)
    if style == "hesitation":
        clip.samples.append(np.zeros(round(random.uniform(0.04, 0.12) * RATE_HZ), np.float32))
        clip.say(lengthened(spoken(voice, str(random.choice(HESITATIONS)) + ",", random), 1.3 + 0.7 * random.random()))
    clip.pause(float(random.choice(PAUSES_S)))
    clip.say(rest)
    return clip


def listed(voice: Voice, kind: str, text: str, random: np.random.Generator) -> Clip:
    """Parts with pauses between them."""
    clip = Clip(kind, text)
    parts = [part.strip() for part in text.split("|")]
    for number, part in enumerate(parts):
        if number:
            clip.pause(float(random.choice(PAUSES_S[:4])))
        clip.say(spoken(voice, part, random))
    return clip


def spoken(voice: Voice, text: str, random: np.random.Generator) -> Samples:
    """Speech without silence around it; its peak is PEAK."""
    samples = voice.speak(text, int(random.integers(4)))
    samples = samples / max(float(np.abs(samples).max()), 1e-6) * PEAK
    levels = [float(np.sqrt(np.mean(part**2))) for part in np.array_split(samples, max(samples.size // 160, 1))]
    there = np.flatnonzero(np.array(levels) > PEAK * 10 ** (-38 / 20))
    return np.ascontiguousarray(samples[there[0] * 160 : (there[-1] + 1) * 160], np.float32)


def quietest_near(samples: Samples, place: int) -> int:
    """The quietest 10 ms within 80 ms of a place: between two words, or in the middle of one."""
    places = range(max(place - 1280, 160), min(place + 1280, samples.size - 160), 80)
    return min(places, key=lambda i: float(np.sum(samples[i - 80 : i + 80] ** 2)), default=samples.size // 2)


def lengthened(samples: Samples, factor: float, last_s: float = 0.22) -> Samples:
    """The last syllable drawn out, without a change of pitch (overlapping windows at the best fit), and let down."""
    head, tail = samples[: -round(last_s * RATE_HZ)], samples[-round(last_s * RATE_HZ) :]
    window, hop, reach = 480, 240, 160
    shape = np.hanning(window).astype(np.float32)
    out = np.zeros(round(tail.size * factor) + window, np.float32)
    weight = np.full(out.size, 1e-6, np.float32)
    padded = np.pad(tail, (0, 2 * window))
    last = 0
    for place in range(0, out.size - window, hop):
        want = min(round(place / factor), max(tail.size - window, 0))
        natural = padded[last + hop : last + hop + window]
        choices = range(max(want - reach, 0), max(min(want + reach, tail.size - window), 0) + 1, 8)
        last = max(choices, key=lambda i: float(padded[i : i + window] @ natural)) if place and choices else want
        out[place : place + window] += padded[last : last + window] * shape
        weight[place : place + window] += shape
    drawn = (out / weight)[: round(tail.size * factor)]
    drawn[-160:] *= np.linspace(1, 0, 160, dtype=np.float32)
    return np.concatenate([head, drawn]).astype(np.float32)


def in_a_room(samples: Samples, random: np.random.Generator) -> Samples:
    """A third each: dry, in noise, in a room with noise. The noise is 12 to 40 dB below the speech."""
    place = int(random.integers(3))
    if place == 2:
        seconds = random.uniform(0.15, 0.45)
        t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
        tail = random.standard_normal(t.size) * 10 ** (-3 * t / seconds) * random.uniform(0.02, 0.06)
        tail[0] = 1.0
        samples = np.convolve(samples, tail.astype(np.float32))[: samples.size]
    level = float(np.sqrt(np.mean(samples[np.abs(samples) > 0.02 * PEAK] ** 2)))
    floor = 10 ** (-3.5) if place == 0 else level * 10 ** (-random.uniform(12, 40) / 20)
    spectrum = np.fft.rfft(random.standard_normal(samples.size))
    slope = float(random.choice((0.0, 0.5, 0.8)))
    noise = np.fft.irfft(spectrum / np.maximum(np.arange(spectrum.size), 40) ** slope, samples.size)
    noise *= floor / np.sqrt(np.mean(noise**2))
    return np.clip(samples * random.uniform(0.3, 1.0) + noise, -1, 1).astype(np.float32)


def write(folder: Path, number: int, voice: Voice, clip: Clip, random: np.random.Generator) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lead, tail = (np.zeros(round(seconds * RATE_HZ), np.float32) for seconds in (LEAD_S, TAIL_S))
    samples = in_a_room(np.concatenate([lead, *clip.samples, tail]), random)
    path = folder / f"{number:03d}-{clip.kind}.flac"
    soundfile.write(path, samples, RATE_HZ, subtype="PCM_16")
    facts = {
        "speech_end_s": round(LEAD_S + clip.seconds, 4),
        "complete": True,
        "kind": clip.kind,
        "text": clip.text,
        "speaker": voice.name,
        "pauses": [[round(LEAD_S + begin, 4), round(LEAD_S + end, 4)] for begin, end in clip.pauses],
    }
    path.with_suffix(".json").write_text(json.dumps(facts) + "\n", "utf-8")


def _key(name: str) -> int:
    return zlib.crc32(name.encode())


if __name__ == "__main__":
    main()
