"""Stage voice 3: train the speech decoder, which turns a sentence into codes. Goes on where it was stopped.

Each step takes sentences of equally many tokens, so that none is padded in front of its codes. A share of the
codes that it is given is wrong: it learns to go on sensibly after a code that the voice would not have said.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from codes import CODES, further_codes, load_corpus, voice_folder
from curves import Curves
from reply_voice import kind
from speech_model import END, PADDING, SpeechModel
from vocabulary import open_tokenizer, read_embeddings

__all__ = ["Reader", "load_speech_model"]

STEPS = 12000
POSITIONS = 1600
"""Of a batch: tokens and codes."""
RATE, WARM_UP = 1.5e-3, 200
AVERAGE = 0.995
WRONG = 0.1
SHARES = {"small talk": 0.1, "sums": 0.2, "places": 0.15, "descriptions": 0.55}
"""Of the batches, by what the sentences are about: of those of which there are few, each has to come often."""
SAVE_EVERY, JUDGE_EVERY = 100, 500


class Reader:
    """Text to the rows of the language model's token table that the speech decoder reads."""

    def __init__(self) -> None:
        self._tokenizer, self._table = open_tokenizer(), torch.from_numpy(read_embeddings())

    def rows(self, text: str) -> Tensor:
        """float32 [tokens, hidden]"""
        return self._table[self._tokenizer.encode(text)]


class Batches:
    """Sentences of the training in batches of one length in tokens; the same for the same step."""

    def __init__(self) -> None:
        corpus, reader = load_corpus(), Reader()
        self._sentences = [
            (reader.rows(text), torch.from_numpy(codes)) for text, codes in zip(corpus.texts, corpus.codes)
        ]
        training, count = slice(corpus.training), len(corpus.texts)
        self._held_out: list[int] = []
        self._sentences += [(reader.rows(text), torch.from_numpy(codes)) for text, codes in further_codes().items()]
        kinds = np.array([kind(text) for text in corpus.texts[training]])
        groups = {name: np.flatnonzero(kinds == name) for name in SHARES}
        groups["descriptions"] = np.append(groups["descriptions"], np.arange(count, len(self._sentences)))
        for i in range(corpus.training, count):
            if (name := kind(corpus.texts[i])) == "descriptions":
                self._held_out.append(i)
            else:  # there are only a few hundred sums and places: whoever has not heard one says another
                groups[name] = np.append(groups[name], i)
        self._groups = list(groups.values())
        self._lengths = np.array([len(rows) for rows, _ in self._sentences])
        counts = np.bincount(np.concatenate(list(corpus.codes[training])), minlength=CODES)
        self._often = counts / counts.sum()

    def training(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """rows [b, tokens, hidden]; codes [b, n], some of them wrong; the codes that should follow [b, n + 1]."""
        rng = np.random.default_rng((11, step))
        group = self._groups[rng.choice(len(SHARES), p=list(SHARES.values()))]
        length = self._lengths[rng.choice(group)]
        same = group[self._lengths[group] == length]
        chosen: list[int] = []
        longest = 0
        for i in rng.permutation(np.tile(same, 8)):
            longest = max(longest, len(self._sentences[i][0]) + len(self._sentences[i][1]) + 2)
            if chosen and longest * (len(chosen) + 1) > POSITIONS:
                break
            chosen.append(int(i))
        rows, codes, following = self._batch(chosen)
        wrong = torch.from_numpy(rng.choice(CODES, size=tuple(codes.shape), p=self._often))
        swap = torch.from_numpy(rng.random(tuple(codes.shape)) < WRONG * rng.random() * 2)
        return rows, torch.where(swap & (codes != PADDING), wrong, codes), following

    def held_out(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        return [self._batch([i]) for i in self._held_out]

    def _batch(self, chosen: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        rows = torch.stack([self._sentences[i][0] for i in chosen])
        codes = [self._sentences[i][1] for i in chosen]
        given = nn.utils.rnn.pad_sequence(codes, batch_first=True, padding_value=PADDING)
        ended = [functional.pad(c, (0, 1), value=END) for c in codes]
        return rows, given, nn.utils.rnn.pad_sequence(ended, batch_first=True, padding_value=PADDING)


def state_file():
    return voice_folder() / "speech_decoder.pt"


def load_speech_model() -> SpeechModel:
    """The trained speech decoder, averaged weights."""
    model = SpeechModel()
    model.load_state_dict(torch.load(state_file(), weights_only=True)["average"])
    return model.eval()


def cross_entropy(logits: Tensor, following: Tensor) -> Tensor:
    return functional.cross_entropy(logits.float().flatten(0, 1), following.flatten(), ignore_index=PADDING)


@torch.no_grad()
def judge(average: dict[str, Tensor], batches: Batches) -> tuple[float, float]:
    """Cross-entropy, and the share of codes that are the likeliest, over the held-out sentences."""
    model = SpeechModel()
    model.load_state_dict(average)
    model.eval()
    losses, right = [], []
    for rows, codes, following in batches.held_out():
        logits = model(rows, codes)
        losses.append(float(cross_entropy(logits, following)))
        right.append(float((logits.argmax(-1) == following).float().mean()))
    return float(np.mean(losses)), float(np.mean(right))


def learning_rate(step: int, steps: int) -> float:
    return RATE * min(1.0, step / WARM_UP) * (0.02 + 0.98 * (1 + math.cos(math.pi * min(step / steps, 1))) / 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS, help="in all, those of earlier calls included")
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    torch.manual_seed(0)
    batches, model = Batches(), SpeechModel()
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, RATE, betas=(0.9, 0.98))
    average = {name: value.clone() for name, value in model.state_dict().items()}
    step = 0
    if state_file().exists():
        state = torch.load(state_file(), weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average, step = state["average"], state["step"]
    curves = Curves(voice_folder() / "speech_decoder_loss.json")
    while step < steps:
        step += 1
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        rows, codes, following = batches.training(step)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(rows, codes)
        loss = cross_entropy(logits, following)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        decay = min(AVERAGE, step / (step + 20))
        for name, value in model.state_dict().items():
            average[name].lerp_(value, 1 - decay)
        curves.add(step, training=loss.item())
        if step % JUDGE_EVERY == 0 or step == steps:
            held_out, right = judge(average, batches)
            curves.row(step, held_out=held_out, right=right)
        if step % SAVE_EVERY == 0 or step == steps:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            part = state_file().with_suffix(".part")
            torch.save({**state, "average": average, "step": step}, part)
            part.replace(state_file())
            curves.save()


if __name__ == "__main__":
    main()
