"""Batches of conversations, and what the model makes of them."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from corpus import AUDIO, IMAGE, Drawn, Example, Writer, draw_talk
from model import Vita
from sounds import Sounds, padded, striped
from stage_hearing import HearingHeads, normalised
from stage_pictures import Pictures, RowsWanted
from stage_sounds import front_end
from training import mixed
from vocabulary import open_tokenizer
from world import COLOURS, PLACES, SHAPES, random_scene

__all__ = ["Asks", "Batch", "ImaginedPictures", "ImaginedSounds", "RealPictures", "Talks"]

KINDS = ("lang", "image", "video")
DRAWN_AT_ONCE = 4
"""Batches that are drawn together, so that each can be of about one length."""
ERROR_OF_ROWS = 0.03
"""Deviation of an imagined picture's numbers from what is wanted; a word's own row deviates by 0.1."""


@dataclass
class Batch:
    kind: str
    ids: Tensor
    """int64 [n, positions], -200 and -500 where rows of pictures and sounds go, 0 behind the end."""
    learnt: Tensor
    """bool [n, positions]"""
    seen: Tensor | None
    """Rows of all pictures, one after the other."""
    rows: Tensor | None
    """Imagined rows of all sounds, one after the other; None when there are real ones."""
    features: Tensor | None
    frames: Tensor | None
    sought: Tensor
    """int64 [m, 5]: conversation, position, and numbers of shape, colour and place."""


class RealSounds:
    """Chooses a recording for a turn."""

    def __init__(self, sounds: Sounds) -> None:
        self._sounds, self._facts = sounds, front_end().facts
        self.features: list[np.ndarray] = []

    def choose(self, drawn: Drawn, rng: random.Random) -> tuple[int, int]:
        sounds = self._sounds
        if drawn.way == "spoken":
            index = rng.choice(sounds.by_text[drawn.asked])
        elif drawn.asked == "foreign":
            index = rng.choice(sounds.of_kind["foreign"])
        elif drawn.asked == "noise":
            index = rng.choice(sounds.of_kind["noise"])
        else:
            index = self._babble(rng)
        heard = sounds.heard(index, rng)
        if drawn.way == "noise" and drawn.asked == "babble" and rng.random() < 0.12:  # several people at once
            other = np.resize(sounds.heard(self._babble(rng), rng), heard.shape)
            heard = np.logaddexp(heard, other)
        self.features.append(heard)
        return len(self.features) - 1, self._facts.positions(len(heard))

    def _babble(self, rng: random.Random) -> int:
        """Other talk: a sentence, or words in a row."""
        return rng.choice(self._sounds.of_kind[rng.choice(("babble", "babble", "salad"))])


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


class RealPictures:
    """Rows as the vision tower and the projector give them."""

    def __init__(self, model: Vita, pictures: Pictures, *, disturbed: bool = True) -> None:
        self._model, self._pictures, self._disturbed = model, pictures, disturbed
        self.scenes = pictures.scenes

    @torch.no_grad()
    def rows(self, indices: list[int], rng: random.Random) -> Tensor:
        """float32 [16 n, hidden]"""
        with mixed():
            return self._model.see(self._pictures.pixels(indices, rng, disturbed=self._disturbed)).flatten(0, 1).float()


class ImaginedPictures:
    """Rows as the projector is taught to give them, with errors of about the size that it makes."""

    def __init__(self, model: Vita, count: int, seed: int) -> None:
        rng = random.Random(seed)
        self.scenes = [random_scene(rng) for _ in range(count)]
        self._wanted = RowsWanted(model)

    def rows(self, indices: list[int], rng: random.Random) -> Tensor:
        """float32 [16 n, hidden]"""
        dice = torch.Generator().manual_seed(rng.getrandbits(63))
        rows = self._wanted([self.scenes[i] for i in indices]).flatten(0, 1)
        return rows + ERROR_OF_ROWS * torch.randn(rows.shape, generator=dice)


class Asks(nn.Module):
    """What the language model is asked while it learns, before it says a word: which thing is meant, if it is there.

    Without it, it learns to find a thing while it speaks of it, which is too late to say that there is none.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.kinds = nn.ModuleList(nn.Linear(width, 1 + len(names)) for names in (SHAPES, COLOURS, PLACES))

    def losses(self, hidden: Tensor, sought: Tensor) -> Tensor:
        """Hidden states [n, positions, width]; what is ``sought`` in them."""
        at = hidden[sought[:, 0], sought[:, 1]].float()
        found = [F.cross_entropy(kind(at), sought[:, 2 + i]) for i, kind in enumerate(self.kinds)]
        return torch.stack(found).mean()


class Talks:
    """Draws batches and computes their losses."""

    def __init__(
        self,
        model: Vita,
        heads: HearingHeads,
        pictures: RealPictures | ImaginedPictures,
        sounds: Sounds | None,
        spoken: float = 0.7,
    ) -> None:
        """Without ``sounds`` they are imagined."""
        self.spoken = spoken
        self.model, self.heads, self.pictures, self.sounds = model, heads, pictures, sounds
        self.writer = Writer(open_tokenizer())
        self._waiting: list[Batch] = []
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
        scenes = self.pictures.scenes
        for _ in range(size * DRAWN_AT_ONCE):
            talk, index = draw_talk(rng, kind, scenes, lambda: rng.randrange(len(scenes)), self.spoken)
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
        seen = self.pictures.rows(shown, rng) if shown else None
        about = [(i, at, *numbers) for i, (example, _) in enumerate(chunk) for at, numbers in example.sought]
        sought = torch.tensor(about, dtype=torch.long).view(-1, 5)
        if not sounds:
            return Batch(kind, ids, learnt, seen, None, None, None, sought)
        if isinstance(source, ImaginedSounds):
            rows = torch.from_numpy(np.concatenate([source.rows[i] for i in sounds]))
            return Batch(kind, ids, learnt, seen, rows, None, None, sought)
        features, frames = padded([source.features[i] for i in sounds])
        features = striped(normalised(self.model, features), frames, rng)
        return Batch(kind, ids, learnt, seen, None, features, frames, sought)

    def _hidden(self, batch: Batch) -> Tensor:
        """Normed hidden states [n, positions, hidden] behind the system prompt."""
        model = self.model
        rows = model.embed(batch.ids.clamp(min=0))
        if batch.seen is not None:
            rows = _put(rows, batch.ids == IMAGE, batch.seen)
        if batch.rows is not None:
            rows = _put(rows, batch.ids == AUDIO, batch.rows)
        if batch.features is not None:
            encoder = model.model.audio_encoder
            with torch.no_grad():
                heard, positions = encoder.adapt(*encoder.encode(batch.features, batch.frames))
            inside = torch.arange(heard.shape[1]) < positions[:, None]
            rows = _put(rows, batch.ids == AUDIO, heard[inside])
        return model.model(rows, model.read(self.systems[batch.kind]))[0]

    def losses(self, batch: Batch, asks: Asks) -> dict[str, Tensor]:
        with mixed():
            hidden = self._hidden(batch)
            logits = self.model.lm_head(hidden[:, :-1][batch.learnt[:, 1:]])
        found = {"reply": F.cross_entropy(logits.float(), batch.ids[:, 1:][batch.learnt[:, 1:]])}
        if len(batch.sought):
            found["sought"] = 0.2 * asks.losses(hidden, batch.sought)
        return found

    @torch.no_grad()
    def right(self, batch: Batch) -> float:
        """Share of conversations whose every id would be said, given those before it."""
        with mixed():
            best = self.model.lm_head(self._hidden(batch)[:, :-1]).argmax(-1)
        wrong = (best != batch.ids[:, 1:]) & batch.learnt[:, 1:]
        return 1 - wrong.any(1).float().mean().item()


def _put(rows: Tensor, where: Tensor, values: Tensor) -> Tensor:
    return rows.masked_scatter(where[..., None], values.to(rows.dtype))
