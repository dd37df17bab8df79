"""Record what the reference says: sentences as codes and sound, random codes, replies as what is sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vita_edge.verification.reference import Reference
from vita_edge.verification.reference.sentences import cut_reply, sentences
from vita_edge.verification.reference.streaming import (
    Cut,
    Wave,
    cut_stream,
    decode_windows,
    to_pcm16,
    trim_leading_silence,
)

from .arrays import RecordedArrays
from .plan import Plan

__all__ = ["SpeechRecorder", "margin", "put"]

STREAMS = {"first": (20, 0.1), "rest": (40, 0.015)}
"""Chunk and threshold of the first and of later sentences."""
PENALTY_WINDOW, PENALTY, PENALISED_CODES = 20, 1.1, 60
NOISE, NOISY_RUNS = 5e-7, 4
"""What a cut has to stand to be called stable."""
STABLE = "stable_under_5e-7_noise"
RANDOM_FRAMES = 64


class SpeechRecorder:
    """Puts what speech decoder and codec compute into ``arrays``."""

    def __init__(self, reference: Reference, arrays: RecordedArrays) -> None:
        self._reference, self._arrays = reference, arrays
        self._codec = reference.config.codec

    def record_sentence(self, name: str, text: str, plan: Plan) -> None:
        """A sentence up to its sound, whole and streamed."""
        speech = self._reference.speech
        ids = self._reference.encode(text)
        vectors = speech.vectors(self._reference.language.embed(ids))
        pre_nn = speech.pre_nn(vectors)
        steps = list(speech.codes(pre_nn, limit=plan.max_codes))
        logits = torch.stack([row for _, row in steps[: plan.logit_steps]])
        codes = self._without_end(code for code, _ in steps)
        for stage, value in {"ids": ids, "hidden": vectors, "pre_nn": pre_nn}.items():
            self._put(f"{name}.{stage}", value)
        self._put(f"{name}.logits", logits, min_top2_margin=margin(logits))
        self._put(f"{name}.codes", codes, limit=plan.max_codes)
        self._put(f"{name}.codes_max40", codes[:40])
        penalised = speech.codes(pre_nn, limit=PENALISED_CODES, penalty_window=PENALTY_WINDOW, penalty=PENALTY)
        self._put(f"{name}.codes_penalty", self._without_end(code for code, _ in penalised))
        if not codes or self._codec.streams > 1:
            return
        self._put(f"{name}.wave", self._wave(np.array(codes)))
        for key, (chunk, threshold) in STREAMS.items():
            segments, cuts, stable = self._stream(codes, chunk, threshold)
            rows = [[int(c.emitted), c.first, c.stop, c.cut, round(c.quietest * 1e6)] for c in cuts]
            self._put(f"{name}.{key}_wave", np.concatenate(segments))
            self._put(f"{name}.{key}_lens", [len(segment) for segment in segments], **{STABLE: stable})
            self._put(f"{name}.{key}_cuts", np.array(rows, int).reshape(-1, 5))

    def record_random_codes(self) -> None:
        """Codes that no sentence has, and the stages of the generator near its beginning."""
        shape = (RANDOM_FRAMES, self._codec.streams) if self._codec.streams > 1 else RANDOM_FRAMES
        codes = np.random.default_rng(7).integers(0, self._codec.n_codes, shape)
        self._put("fixed.codes", codes)
        for stage, value in self._reference.codec.stages(torch.from_numpy(codes)).items():
            if stage in ("global", "quant", "conv_pre", "up0", "up1", "wave"):
                self._put(f"fixed.{stage}", value)

    def record_reply(self, name: str, reply: str) -> dict[str, Any]:
        """A reply as the listener gets it; returns its pieces and sentences."""
        pieces = cut_reply(reply)
        sent: list[NDArray[np.int16]] = []
        said: list[str] = []
        all_stable = True
        for sentence in sentences(pieces):
            segments, _, stable = self._stream(self._codes(sentence.text), sentence.chunk, sentence.threshold)
            sent += [to_pcm16(trim_leading_silence(s) if sentence.first else s) for s in segments]
            said += [sentence.text] * len(segments)
            all_stable &= stable
        put(self._arrays, "e2e", f"{name}.pcm", np.concatenate([np.zeros(0, np.int16), *sent]))
        lengths = np.array([len(piece) for piece in sent], int)
        put(self._arrays, "e2e", f"{name}.pcm_lens", lengths, **{STABLE: all_stable})
        return {"text": reply, "pieces": pieces, "sentence_of_each_pcm_piece": said}

    def _codes(self, text: str) -> list[int]:
        speech, language = self._reference.speech, self._reference.language
        pre_nn = speech.pre_nn(speech.vectors(language.embed(self._reference.encode(text))))
        return self._without_end(code for code, _ in speech.codes(pre_nn))

    def _without_end(self, codes: Iterable[int]) -> list[int]:
        return [code for code in codes if code != self._reference.speech.end]

    def _wave(self, codes: NDArray[np.int64]) -> Wave:
        wave: Wave = self._reference.codec.wave(torch.from_numpy(codes)).float().cpu().numpy()
        return wave

    def _stream(self, codes: list[int], chunk: int, threshold: float) -> tuple[list[Wave], list[Cut], bool]:
        """Segments, searches for cuts, and whether rounding noise leaves the cuts alone."""
        parts = decode_windows(codes, chunk, self._codec.samples_per_code, self._wave)
        segments, cuts = cut_stream(parts, threshold)
        random, stable = np.random.default_rng(1), True
        for _ in range(NOISY_RUNS):
            noisy = [part + random.uniform(-NOISE, NOISE, len(part)).astype(np.float32) for part in parts]
            stable &= [len(s) for s in cut_stream(noisy, threshold)[0]] == [len(s) for s in segments]
        return segments, cuts, stable

    def _put(self, name: str, value: Any, **notes: Any) -> None:
        put(self._arrays, "tts", name, value, **notes)


def put(arrays: RecordedArrays, file: str, name: str, value: Any, **notes: Any) -> None:
    """Hand a tensor, or what numpy makes an array of, to ``arrays``."""
    arrays.put(file, name, value.float().cpu().numpy() if isinstance(value, Tensor) else value, **notes)


def margin(logits: Tensor) -> float:
    """The smallest gap between the two best logits of a row."""
    best = logits.topk(2, -1).values
    return float((best[:, 0] - best[:, 1]).min())
