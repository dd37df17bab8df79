"""What is not meant for the assistant: noise, music, and talk about other things."""

from __future__ import annotations

import functools
import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speaking import RATE_HZ

__all__ = ["babble", "music", "noise", "word_salad"]

Samples = NDArray[np.float32]


def noise(rng: random.Random, seconds: float) -> Samples:
    """Rooms, machines, knocks: float32 [n] at 16 kHz, RMS about 0.1."""
    n = int(seconds * RATE_HZ)
    dice = np.random.default_rng(rng.getrandbits(63))
    return _levelled(rng.choice(_NOISES)(n, dice))


def music(rng: random.Random, seconds: float) -> Samples:
    """A tune of plucked or held notes, with or without chords and drums: float32 [n] at 16 kHz, RMS about 0.1."""
    n = int(seconds * RATE_HZ)
    dice = np.random.default_rng(rng.getrandbits(63))
    out = np.zeros(n + RATE_HZ)
    beat = int(rng.uniform(0.15, 0.5) * RATE_HZ)
    scale = rng.choice(((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9)))
    base = rng.uniform(110, 330)
    partials = rng.randint(1, 8)
    decay = rng.choice((3.0, 8.0, 0.5))
    chords, drums = rng.random() < 0.5, rng.random() < 0.4
    for start in range(0, n, beat):
        degrees = [rng.choice(scale)]
        if chords:
            degrees += [degrees[0] + 4, degrees[0] + 7]
        length = min(int(beat * rng.choice((1, 1, 2))), len(out) - start)
        t = np.arange(length) / RATE_HZ
        for degree in degrees:
            frequency = base * 2 ** ((degree + 12 * rng.choice((0, 0, 1))) / 12)
            note = sum(np.sin(2 * np.pi * frequency * k * t) / k**1.3 for k in range(1, partials + 1))
            attack = np.minimum(1, t / 0.01)
            out[start : start + length] += note * np.exp(-decay * t) * attack
        if drums:
            m = min(1600, len(out) - start)
            out[start : start + m] += 2 * dice.normal(size=m) * np.exp(-np.arange(m) / 250)
    return _levelled(out[:n])


def babble(rng: random.Random) -> str:
    """A sentence that has nothing to do with the assistant, sometimes with words of its world in it."""
    filled = rng.choice(_SENTENCES)
    for slot, words in _WORDS.items():
        while f"<{slot}>" in filled:
            filled = filled.replace(f"<{slot}>", rng.choice(words), 1)
    return filled


def word_salad(rng: random.Random) -> str:
    """Any English words in a row, of hibari's lexicon, with little words between them: sounds of all other talk."""
    words = []
    for _ in range(rng.randint(2, 7)):
        words.append(rng.choice(_lexicon()))
        if rng.random() < 0.4:
            words.append(rng.choice(_LITTLE_WORDS))
    return " ".join(words)


@functools.cache
def _lexicon() -> list[str]:
    import hibari

    file = Path(hibari.__file__).parent / "assets" / "lexicon_us_gold.json.gz"
    words = json.loads(gzip.decompress(file.read_bytes()))
    return sorted(word for word in words if word.isascii() and word.isalpha() and word.islower() and len(word) > 2)


def _levelled(samples: NDArray[np.float64]) -> Samples:
    return (0.1 * samples / (np.sqrt(np.mean(samples**2)) + 1e-9)).astype(np.float32)


def _coloured(exponent: float) -> Callable[[int, np.random.Generator], NDArray[np.float64]]:
    def make(n: int, dice: np.random.Generator) -> NDArray[np.float64]:
        spectrum = np.fft.rfft(dice.normal(size=n))
        f = np.maximum(np.arange(len(spectrum)), len(spectrum) / 400)
        return np.fft.irfft(spectrum / f**exponent, n)

    return make


def _hum(n: int, dice: np.random.Generator) -> NDArray[np.float64]:
    t = np.arange(n) / RATE_HZ
    base = dice.choice([50, 60, 100, 120, dice.uniform(80, 400)])
    tones = sum(dice.uniform(0, 1) * np.sin(2 * np.pi * base * k * t + dice.uniform(0, 6)) for k in range(1, 9))
    return tones + dice.uniform(0.1, 1) * _coloured(0.5)(n, dice) / 0.1


def _knocks(n: int, dice: np.random.Generator) -> NDArray[np.float64]:
    out = 0.01 * dice.normal(size=n)
    for _ in range(dice.integers(2, 14)):
        start, m = dice.integers(0, max(n - 800, 1)), int(dice.integers(200, 4000))
        m = min(m, n - start)
        ring = np.sin(2 * np.pi * dice.uniform(150, 3000) * np.arange(m) / RATE_HZ) + dice.normal(size=m)
        out[start : start + m] += ring * np.exp(-np.arange(m) / dice.uniform(60, 900)) * dice.uniform(0.3, 1)
    return out


def _gusts(n: int, dice: np.random.Generator) -> NDArray[np.float64]:
    t = np.arange(n) / RATE_HZ
    swell = 1.1 + np.sin(2 * np.pi * dice.uniform(0.2, 4) * t + dice.uniform(0, 6))
    return _coloured(dice.uniform(0.2, 1))(n, dice) * swell


def _beeps(n: int, dice: np.random.Generator) -> NDArray[np.float64]:
    t = np.arange(n) / RATE_HZ
    gate = np.sin(2 * np.pi * dice.uniform(0.8, 5) * t) > dice.uniform(-0.3, 0.6)
    sweep = dice.uniform(400, 2500) * t + dice.uniform(-300, 300) * t**2
    return gate * np.sin(2 * np.pi * sweep) + 0.01 * dice.normal(size=n)


_NOISES = (_coloured(0.0), _coloured(0.5), _coloured(1.0), _hum, _knocks, _gusts, _beeps)

_LITTLE_WORDS = (
    *("the", "a", "of", "to", "and", "in", "for", "with", "is", "was", "are", "it", "that", "you", "he", "she", "they"),
    *("my", "your", "this", "on", "at", "by", "from", "or", "but", "not", "what", "how", "there", "have", "do", "can"),
)
_WORDS = {
    "who": (
        *("my brother", "the neighbour", "our teacher", "anna", "peter", "the doctor", "she", "he", "the manager"),
        *("my grandmother", "the driver", "somebody", "a friend of mine", "the captain", "the whole family", "maria"),
        *("the children", "the minister", "our guests", "the plumber", "uncle george", "the young lady", "nobody"),
    ),
    "did": (
        *("bought", "forgot", "repaired", "painted", "lost", "found", "sold", "borrowed", "carried", "dropped"),
        *("cleaned", "wanted", "ordered", "broke", "opened", "remembered", "sent", "photographed", "delivered"),
    ),
    "what": (
        *("a red car", "the old bicycle", "seven tickets", "the blue umbrella", "some bread and butter", "a newspaper"),
        *("the kitchen table", "her black shoes", "two bottles of milk", "the garden fence", "a white horse"),
        *("the letter from the bank", "three chairs", "an orange jacket", "his guitar", "the whole package"),
        *("a piece of cake", "the green curtains", "five postcards", "the battery", "a yellow raincoat"),
    ),
    "when": (
        *("yesterday", "last week", "on monday", "before dinner", "in the summer", "after the meeting", "at midnight"),
        *("again", "in november", "during the game", "this afternoon", "two years ago", "without a word", "for free"),
        *("at the station", "in the garden", "near the river", "behind the church", "on the motorway", "in the office"),
    ),
    "must": ("have to", "ought to", "would like to", "are going to", "really need to", "want to", "never"),
    "do": (
        *("leave early", "call the bank", "walk the dog", "pay the bill", "water the plants", "catch the bus"),
        *("finish the report", "buy potatoes", "wash the dishes", "talk to my boss", "visit the museum", "go to bed"),
        *("change the tyres", "book a flight", "pick up the children", "turn off the heating", "bake a pie"),
    ),
    "thing": (
        *("the weather", "the traffic", "the concert", "this soup", "the new film", "the price of petrol", "football"),
        *("the election", "her wedding", "the train to london", "the washing machine", "my back", "the coffee"),
        *("the river", "the old bridge", "our internet connection", "the shop around the corner", "the dog"),
    ),
    "how": (
        *(
            "terrible",
            "much better than before",
            "quite expensive",
            "closed until friday",
            "on the left side of the road",
        ),
        *("very late", "rather nice", "cancelled", "too loud for me", "nearly finished", "not bad at all", "far away"),
        *("higher than last year", "in the middle of nowhere", "almost empty", "broken again", "good for your heart"),
    ),
    "say": (
        "i think",
        "they said",
        "maybe",
        "honestly",
        "you know",
        "of course",
        "well",
        "actually",
        "they believe that",
    ),
}
_SENTENCES = (
    *("<who> <did> <what> <when>", "<say> <thing> is <how>", "we <must> <do> <when>", "<who> <did> <what>"),
    *("<say> <who> <did> <what>", "<thing> was <how> <when>", "they <must> <do> and <do>", "<say> we <must> <do>"),
    *("when <who> <did> <what> <thing> was <how>", "did you hear that <thing> is <how>", "<thing> is <how>"),
    *("i told you that <who> <did> <what>", "why did <who> <do> <when>", "could you please <do> <when>"),
    *("no <say> <thing> was <how>", "<do> <when>", "and then <who> <did> <what> <when>", "<when> <who> <did> <what>"),
)
