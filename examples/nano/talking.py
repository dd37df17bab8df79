"""Batches of conversations, and what the model makes of them."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from corpus import AUDIO, IMAGE, Drawn, Example, Writer, draw_talk
from model import Vita
from sounds import Sounds, padded, striped
from stage_hearing import HearingHeads, hearing_losses, normalised
from stage_pictures import Pictures
from stage_sounds import front_end
from training import mixed
from vocabulary import open_tokenizer

__all__ = ["Batch", "ImaginedSounds", "Talks"]

KINDS = ("lang", "image", "video")
DRAWN_AT_ONCE = 4
"""Batches that are drawn together, so that each can be of about one length."""


@dataclass
class Batch:
    kind: str
    ids: Tensor
    """int64 [n, positions], -200 and -500 where rows of pictures and sounds go, 0 behind the end."""
    learnt: Tensor
    """bool [n, positions]"""
    pixels: Tensor | None
    rows: Tensor | None
    """Imagined rows of all sounds, one after the other; None when there are real ones."""
    features: Tensor | None
    frames: Tensor | None
    texts: list[str]
    """What is said in the sounds."""


class RealSounds:
    """Chooses a recording for a turn."""

    def __init__(self, sounds: Sounds) -> None:
        self._sounds, self._facts = sounds, front_end().facts
        self.features: list[np.ndarray] = []
        self.texts: list[str] = []

    def choose(self, drawn: Drawn, rng: random.Random) -> tuple[int, int]:
        sounds = self._sounds
        if drawn.way == "spoken":
            index = rng.choice(sounds.by_text[drawn.asked])
        elif drawn.asked == "foreign":
            index = rng.choice(sounds.by_text["foreign"]) if "foreign" in sounds.by_text else self._babble(rng)
        elif drawn.asked == "noise":
            index = rng.choice(sounds.of_kind["noise"])
        else:
            index = self._babble(rng)
        heard = sounds.heard(index, rng)
        text = sounds.texts[index]
        if drawn.way == "noise" and drawn.asked == "babble" and rng.random() < 0.12:  # several people at once
            other = np.resize(sounds.heard(self._babble(rng), rng), heard.shape)
            heard, text = np.logaddexp(heard, other), ""
        self.features.append(heard)
        self.texts.append(text)
        return len(self.features) - 1, self._facts.positions(len(heard))

    def _babble(self, rng: random.Random) -> int:
        return rng.choice(self._sounds.of_kind["babble"])


class ImaginedSounds:
    """Rows as the adapter will give them one day: those of the words, with others between them that mean nothing.

    The language model learns from them what a spoken question is, before there is an encoder that hears one.
    """

    def __init__(self, heads: HearingHeads) -> None:
        self._table = heads.words_table.numpy()
        self._number = heads.number
        self.rows: list[np.ndarray] = []

    def choose(self, drawn: Drawn, rng: random.Random) -> tuple[int, int]:
        dice = np.random.default_rng(rng.getrandbits(63))
        width = self._table.shape[1]
        nothing = dice.normal(0, 0.1 * rng.random(), width)
        if drawn.way == "spoken":
            words = [self._table[self._number[word] - 2] for word in drawn.asked.split()]
        elif drawn.asked == "noise":
            words = [nothing] * rng.randint(1, 6)
        else:
            words = [self._table[rng.randrange(len(self._table))] for _ in range(rng.randint(3, 9))]
            words = [dice.normal(0, 0.1, width) if rng.random() < 0.75 else word for word in words]
        rows = [nothing] * rng.randint(1, 4)
        for word in words:
            rows += [word] * rng.choice((1, 1, 1, 2)) + [nothing] * rng.randint(0, 4)
        rows += [nothing] * rng.randint(1, 4)
        found = np.stack(rows) * rng.uniform(0.8, 2.5)
        self.rows.append((found + dice.normal(0, 0.02, found.shape)).astype(np.float32))
        return len(self.rows) - 1, len(rows)


class Talks:
    """Draws batches and computes their losses."""

    def __init__(
        self, model: Vita, heads: HearingHeads, pictures: Pictures, sounds: Sounds | None, spoken: float = 0.7
    ) -> None:
        self.spoken = spoken
        self.model, self.heads, self.pictures, self.sounds = model, heads, pictures, sounds
        self.writer = Writer(open_tokenizer())
        self._waiting: list[Batch] = []
        self._shown = [i for i, scene in enumerate(pictures.scenes) if len(scene) <= 2]
        self.systems = {kind: self.writer.system(kind) for kind in KINDS}

    def draw(self, rng: random.Random, size: int) -> Batch:
        """Of ``size`` conversations with the same system prompt and of about the same length."""
        if not self._waiting:
            self._waiting = self._draw(rng, size)
        return self._waiting.pop()

    def _draw(self, rng: random.Random, size: int) -> list[Batch]:
        kind = rng.choices(KINDS, (1, 2, 2))[0]
        source = RealSounds(self.sounds) if self.sounds else ImaginedSounds(self.heads)
        found: list[tuple[Example, int | None]] = []
        for _ in range(size * DRAWN_AT_ONCE):
            talk, index = draw_talk(rng, kind, self.pictures.scenes, lambda: rng.choice(self._shown), self.spoken)
            found.append((self.writer.write(talk, rng, lambda drawn: source.choose(drawn, rng)), index))
        found.sort(key=lambda entry: len(entry[0].ids))
        chunks = [found[i : i + size] for i in range(0, len(found), size)]
        rng.shuffle(chunks)
        return [self._batch(kind, chunk, source, rng) for chunk in chunks]

    def _batch(
        self,
        kind: str,
        chunk: list[tuple[Example, int | None]],
        source: RealSounds | ImaginedSounds,
        rng: random.Random,
    ) -> Batch:
        length = max(len(example.ids) for example, _ in chunk)
        ids = torch.zeros(len(chunk), length, dtype=torch.long)
        learnt = torch.zeros(len(chunk), length, dtype=torch.bool)
        shown: list[int] = []
        sounds: list[int] = []
        for i, (example, index) in enumerate(chunk):
            ids[i, : len(example.ids)] = torch.tensor(example.ids)
            learnt[i, : len(example.ids)] = torch.tensor(example.learnt)
            sounds += example.sounds
            if index is not None:
                shown += [index] * example.pictures
        pixels = self.pictures.pixels(shown, rng) if shown else None
        if not sounds:
            return Batch(kind, ids, learnt, pixels, None, None, None, [])
        if isinstance(source, ImaginedSounds):
            rows = torch.from_numpy(np.concatenate([source.rows[i] for i in sounds]))
            return Batch(kind, ids, learnt, pixels, rows, None, None, [])
        features, frames = padded([source.features[i] for i in sounds])
        features = striped(normalised(self.model, features), frames, rng)
        return Batch(kind, ids, learnt, pixels, None, features, frames, [source.texts[i] for i in sounds])

    def losses(self, batch: Batch, *, hearing: bool = False) -> dict[str, Tensor]:
        """``hearing``: the audio encoder learns too, and is still asked for letters and words."""
        model = self.model
        found: dict[str, Tensor] = {}
        with mixed():
            rows = model.embed(batch.ids.clamp(min=0))
            if batch.pixels is not None:
                with torch.no_grad():
                    seen = model.see(batch.pixels).flatten(0, 1)
                rows = _put(rows, batch.ids == IMAGE, seen)
            if batch.rows is not None:
                rows = _put(rows, batch.ids == AUDIO, batch.rows)
            if batch.features is not None:
                encoder = model.model.audio_encoder
                with torch.set_grad_enabled(hearing):
                    encoded, steps = encoder.encode(batch.features, batch.frames)
                    heard, positions = encoder.adapt(encoded, steps)
                inside = torch.arange(heard.shape[1]) < positions[:, None]
                rows = _put(rows, batch.ids == AUDIO, heard[inside])
            hidden, _ = model.model(rows, model.read(self.systems[batch.kind]))
            said = hidden[:, :-1][batch.learnt[:, 1:]]
            logits = model.lm_head(said)
        found["reply"] = F.cross_entropy(logits.float(), batch.ids[:, 1:][batch.learnt[:, 1:]])
        if batch.features is not None and hearing:
            found |= hearing_losses(self.heads, batch.texts, encoded, steps, heard.float(), positions)
        return found

    @torch.no_grad()
    def right(self, batch: Batch) -> float:
        """Share of conversations whose every id would be said, given those before it."""
        model = self.model
        with mixed():
            rows = model.embed(batch.ids.clamp(min=0))
            if batch.pixels is not None:
                rows = _put(rows, batch.ids == IMAGE, model.see(batch.pixels).flatten(0, 1))
            if batch.rows is not None:
                rows = _put(rows, batch.ids == AUDIO, batch.rows)
            if batch.features is not None:
                encoder = model.model.audio_encoder
                heard, positions = encoder.adapt(*encoder.encode(batch.features, batch.frames))
                inside = torch.arange(heard.shape[1]) < positions[:, None]
                rows = _put(rows, batch.ids == AUDIO, heard[inside])
            hidden, _ = model.model(rows, model.read(self.systems[batch.kind]))
            best = model.lm_head(hidden[:, :-1]).argmax(-1)
        wrong = (best != batch.ids[:, 1:]) & batch.learnt[:, 1:]
        return 1 - wrong.any(1).float().mean().item()


def _put(rows: Tensor, where: Tensor, values: Tensor) -> Tensor:
    return rows.masked_scatter(where[..., None], values.to(rows.dtype))
