"""Stage 2: the audio encoder learns to spell what it hears, and the adapter to hand it on as words.

    python examples/nano/stage_hearing.py

Two CTC losses with heads that are thrown away: letters behind the encoder, 25 a second, and words behind the adapter,
12.5 a second. A word of the world is told by the direction of its own row of the embedding table, so that the language
model, which knows these rows from typed text, finds in the adapter's rows what it can already read.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model import Vita, new_model
from sounds import Sounds, striped
from training import batches_by_length, mixed, train
from vocabulary import open_tokenizer
from voices import LEFT_OUT, TRAINING
from wording import FILLERS
from world import all_questions

__all__ = ["HearingHeads", "hearing_losses", "normalised"]

WEIGHTS = {
    "espeak": 0.25,
    "hibari": 0.25,
    "pico en-US": 0.1,
    "pico en-GB": 0.08,
    "flite slt": 0.08,
    "flite awb": 0.07,
    "flite rms": 0.12,
    "flite kal": 0.03,
    "flite kal16": 0.03,
    "festival kal_diphone": 0.04,
    "festival cmu_us_slt_arctic_hts": 0.03,
}
"""How often each voice is drawn."""
KINDS = {"questions": 0.66, "babble": 0.17, "salad": 0.13, "noise": 0.04}
"""How often each kind of sound is drawn. Noise and music have no letters and no words."""
LETTERS = " abcdefghijklmnopqrstuvwxyz"


class HearingHeads(nn.Module):
    """What the encoder and the adapter are asked while they learn."""

    words_table: Tensor

    def __init__(self, model: Vita) -> None:
        super().__init__()
        tokenizer = open_tokenizer()
        self.words = sorted({word for question in all_questions() for word in question.split()})
        ids = [tokenizer.encode(f" {word}") for word in self.words]
        assert all(len(i) == 1 for i in ids)
        self.number = {word: i + 2 for i, word in enumerate(self.words)}
        self.letters = nn.Linear(model.config.audio.hidden_size, len(LETTERS) + 1)
        table = model.model.embed_tokens.weight.detach()[[i[0] for i in ids]]
        self.register_buffer("words_table", table, persistent=False)
        self.others = nn.Parameter(0.1 * torch.randn(2, table.shape[1]))
        """Nothing, and a word that is not of the world."""
        self.sharpness = nn.Parameter(torch.tensor(3.0))

    def word_logits(self, rows: Tensor) -> Tensor:
        return self.sharpness * (rows @ torch.cat([self.others, self.words_table]).T)

    def letter_labels(self, text: str) -> list[int]:
        return [LETTERS.index(c) + 1 for c in text if c in LETTERS]

    def word_labels(self, text: str) -> list[int]:
        """Of what is meant; ``FILLERS`` leave no trace."""
        return [self.number.get(word, 1) for word in text.split() if word not in FILLERS]


def normalised(model: Vita, features: Tensor) -> Tensor:
    return model.model.audio_encoder.encoder.global_cmvn(features)


def hearing_losses(
    heads: HearingHeads,
    said: list[str],
    meant: list[str],
    encoded: tuple[Tensor, Tensor],
    rows: tuple[Tensor, Tensor],
) -> dict[str, Tensor]:
    """Letters of what is said, words of what is meant."""
    return {
        "letters": _ctc(heads.letters(encoded[0].float()), encoded[1], [heads.letter_labels(text) for text in said]),
        "words": _ctc(heads.word_logits(rows[0].float()), rows[1], [heads.word_labels(text) for text in meant]),
    }


def _ctc(logits: Tensor, lengths: Tensor, labels: list[list[int]]) -> Tensor:
    targets = torch.tensor([label for row in labels for label in row])
    sizes = torch.tensor([len(row) for row in labels])
    chances = logits.float().log_softmax(-1).transpose(0, 1)
    losses = F.ctc_loss(chances, targets, lengths, sizes, reduction="none", zero_infinity=True)
    return (losses / sizes.clamp(min=1)).mean()


def set_statistics(model: Vita, sounds: Sounds) -> None:
    """CMVN over sounds as they are trained with."""
    rng = random.Random(0)
    x = torch.cat([torch.from_numpy(sounds.heard(rng.randrange(len(sounds.texts)), rng)) for _ in range(800)])
    cmvn = model.model.audio_encoder.encoder.global_cmvn
    cmvn.mean.copy_(x.mean(0))
    cmvn.istd.copy_(1 / x.std(0))


def word_errors(model: Vita, heads: HearingHeads, sounds: Sounds, indices: list[int]) -> float:
    """Share of clips that the adapter does not spell out word by word as they were said."""
    wrong = 0
    rng = random.Random(1)
    with torch.no_grad():
        for start in range(0, len(indices), 50):
            chosen = indices[start : start + 50]
            x, frames = sounds.batch(chosen, rng, disturbed=False)
            with mixed():
                encoded, steps = model.model.audio_encoder.encode(normalised(model, x), frames)
                rows, positions = model.model.audio_encoder.adapt(encoded, steps)
            best = heads.word_logits(rows.float()).argmax(-1)
            for i, path, n in zip(chosen, best.tolist(), positions.tolist()):
                path = path[:n]
                said = [p for p, before in zip(path, [0, *path]) if p and p != before]
                wrong += said != heads.word_labels(sounds.texts[i])
    return wrong / len(indices)


def drawn(sounds: Sounds, rng: random.Random) -> Iterator[int]:
    """Numbers of clips, each kind and each voice as often as its weight says."""
    voices = [voice for voice in WEIGHTS if ("questions", voice) in sounds.of_voice]
    weights = [WEIGHTS[voice] for voice in voices]
    while True:
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        voice = rng.choices(voices, weights)[0]
        yield rng.choice(sounds.of_voice.get((kind, voice), sounds.of_kind[kind]))


def begin_with(file: Path, model: Vita, heads: HearingHeads, sounds: Sounds) -> None:
    """Take the encoder of ``file``. Its convolutions stay as they are, which saves a third of the time.

    Its rows between words, which are most, say how the head knows that there is none.
    """
    saved = torch.load(file, weights_only=True)
    heard = {name: tensor for name, tensor in saved["model"].items() if "audio_encoder" in name}
    model.load_state_dict(model.state_dict() | heard)
    encoder = model.model.audio_encoder
    encoder.encoder.enc[0].core.conv.requires_grad_(False)
    if "extra" in saved:
        heads.load_state_dict(saved["extra"])
        return
    x, frames = sounds.batch(list(range(50)), random.Random(3), disturbed=False)
    with torch.no_grad():
        heads.others.data[0] = encoder.adapt(*encoder.encode(normalised(model, x), frames))[0].flatten(0, 1).mean(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--without", default="", metavar="VOICE", help="leave a voice out, to see how far others carry")
    parser.add_argument("--begin", type=Path, metavar="WEIGHTS.pt", help="an encoder to begin with (default: random)")
    parser.add_argument("--until", type=int, help="stop after this step; the same command without it goes on")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sounds = Sounds(*KINDS, voices=[voice for voice in TRAINING if voice != arguments.without])
    tests = {voice: Sounds("test", voices=(voice,)) for voice in ("hibari", *LEFT_OUT)}
    model = new_model()
    set_statistics(model, sounds)
    heads = HearingHeads(model)
    if arguments.begin:
        begin_with(arguments.begin, model, heads, tests["espeak left out"])
    rng = random.Random(2)
    batches = batches_by_length(sounds.lengths, arguments.batch, drawn(sounds, rng))

    def loss_of(step: int) -> dict[str, Tensor]:
        chosen = next(batches)
        x, frames = sounds.batch(chosen, rng)
        x = striped(normalised(model, x), frames, rng)
        with mixed():
            encoded = model.model.audio_encoder.encode(x, frames)
            rows = model.model.audio_encoder.adapt(*encoded)
        said, meant = [sounds.said[i] for i in chosen], [sounds.texts[i] for i in chosen]
        return hearing_losses(heads, said, meant, encoded, rows)

    def check() -> dict[str, float]:
        return {f"wrong, {voice}": word_errors(model, heads, test, list(range(150))) for voice, test in tests.items()}

    train(
        "hearing",
        model,
        loss_of,
        steps=arguments.steps,
        rate=arguments.rate,
        extra=heads,
        check=check,
        warm_up=400,
        slow=lambda name: float("audio_encoder" in name or name.startswith("extra")),
        until=arguments.until,
    )


if __name__ == "__main__":
    main()
