"""How well the spoken reply is understood: word errors of an independent recogniser, kind by kind.

    python examples/nano/intelligibility.py BUNDLE

Speaks the held-out sentences, and small talk, which is always the same, through the bundle exactly as a talk does, and
sets beside them the same sentences by the synthesiser that the voice was learned from.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codes import load_corpus
from pitch_phase import RATE_HZ
from recogniser import Recogniser, word_errors, words
from reply_voice import SMALL_TALK, SYNTHESISER_RATE_HZ, kind, say_reply
from vita_edge.runtime import Assistant, write_wav
from vita_edge.runtime.decoding.sampling import make_speech_sampler
from vita_edge.runtime.text.clause_cutter import Clause, ClauseCutter

__all__ = ["spoken_by_bundle"]

Spoken = Callable[[str], tuple[NDArray[np.float32], int]]
"""A sentence to its sound and the sound's rate in Hz."""


def spoken_by_bundle(assistant: Assistant, top_k: int, seed: int) -> Spoken:
    """Over speech decoder and codec of a bundle, clause by clause, as in a talk."""
    sample = make_speech_sampler(assistant.bundle.model.speech, top_k, seed)

    def speak(text: str) -> tuple[NDArray[np.float32], int]:
        pieces = [piece for clause in _clauses(text) for piece in assistant.voice.speak(clause, sample)]
        sound = np.concatenate(pieces) if pieces else np.zeros(1, np.float32)
        return sound, assistant.voice.sample_rate_hz

    return speak


def spoken_by_synthesiser(text: str) -> tuple[NDArray[np.float32], int]:
    return say_reply(text), SYNTHESISER_RATE_HZ


def score(recogniser: Recogniser, speak: Spoken, texts: list[str], folder: Path | None, name: str) -> dict[str, float]:
    """Word errors per word of each kind, and of all; the sounds go to ``folder`` for a person to hear."""
    wrong: dict[str, int] = defaultdict(int)
    count: dict[str, int] = defaultdict(int)
    for i, text in enumerate(texts):
        sound, rate = speak(text)
        said, heard = words(text), recogniser.hear(sound, rate)
        errors = word_errors(said, heard)
        for group in (kind(text), "all"):
            wrong[group] += errors
            count[group] += len(said)
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            write_wav(folder / f"{i:03}_{name}.wav", sound, rate)
        if errors:
            print(f"{name}: {' '.join(said)!r} was heard as {' '.join(heard)!r}", file=sys.stderr)
    return {group: wrong[group] / count[group] for group in sorted(count, key=lambda g: (g == "all", g))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--sentences", type=int, default=1000, help="at most so many (default: all that were held out)")
    parser.add_argument("--top-k", type=int, default=2, help="codes to draw from; 1 is greedy (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--expects",
        choices=("replies", "words", "english"),
        default="replies",
        help="of the recogniser: words in an order like that of the replies, these words in any order, or any English",
    )
    parser.add_argument("--wavs", type=Path, metavar="DIR", help="keep the sounds here")
    arguments = parser.parse_args()
    corpus = load_corpus()
    held_out = corpus.texts[corpus.training :]
    step = -(-len(held_out) // arguments.sentences)
    texts = held_out[::step]
    known = corpus.texts[: corpus.training]
    texts += [text for text in known if kind(text) == SMALL_TALK]
    each_word = list(dict.fromkeys(word for text in known for word in words(text)))
    recogniser = Recogniser({"replies": known, "words": each_word, "english": None}[arguments.expects])
    waves = dict(zip(corpus.texts, corpus.waves))
    with Assistant(arguments.bundle, threads=1) as assistant:
        speakers: dict[str, Spoken] = {
            "synthesiser": spoken_by_synthesiser,
            "synthesiser, in step": lambda text: (waves[text].astype(np.float32) / 32768, RATE_HZ),
            "bundle": spoken_by_bundle(assistant, arguments.top_k, arguments.seed),
        }
        rows = {name: score(recogniser, speak, texts, arguments.wavs, name) for name, speak in speakers.items()}
    print(f"word error rate over {len(texts)} sentences; the training had none of the descriptions")
    for name, errors in rows.items():
        print(f"{name:22}" + ", ".join(f"{group} {value:.1%}" for group, value in errors.items()))
    print(json.dumps(rows))


def _clauses(text: str) -> Iterator[Clause]:
    cutter = ClauseCutter()
    yield from cutter.step(text)
    yield from cutter.flush()


if __name__ == "__main__":
    main()
