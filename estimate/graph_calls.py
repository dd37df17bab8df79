"""What each graph of a model has to do in one call, on one backend at one precision."""

from __future__ import annotations

from vita_edge.engines.bundle.component_spec import (
    AUDIO,
    CODEC,
    LLM,
    LLM_PREFILL,
    SPEECH_DECODER,
    SPEECH_PREFILL,
    VISION,
)
from vita_edge.engines.bundle.work import DecoderShape, ModelWork, Part
from vita_edge.engines.cache_layout import SCATTER
from vita_edge.engines.tensorrt.build.profiles import speech_capacity
from vita_edge.runtime.decoding.language_model import MIN_ROWS

from .device_file import Yardstick
from .roofline import Call
from .weight_bits import WeightBits

__all__ = ["Calls", "yardstick_call"]


class Calls:
    """The calls of one model.

    Args:
        target: of the export. It decides what is read and written of the KV cache.
        capacity_tokens: positions of the language model's cache.
    """

    def __init__(self, work: ModelWork, form: WeightBits, target: str, capacity_tokens: int) -> None:
        self._work, self._form, self._target = work, form, target
        self._capacity = capacity_tokens
        self._speech_capacity = speech_capacity(work.vectors_per_token, work.speech_context_tokens)
        widened = min(1.0, 32 / form.llm_layers)  # what is resident twice is read once
        self._bytes = {name: size * widened for name, size in form.weights(work).items()}

    def llm(self, rows: int, past: int) -> Call:
        """``rows`` positions over ``past`` held ones; the last one gets logits."""
        if not self._form.llm_prefill or rows < MIN_ROWS:
            return self._llm(LLM.name, rows, past) + self._head()
        return self._llm(LLM_PREFILL.name, rows - 1, past) + self._llm(LLM.name, 1, past + rows - 1) + self._head()

    def audio(self, steps: int) -> Call:
        """``steps`` of 40 ms, and the positions that they give."""
        parts = self._work.parts
        # the last rows of a clip: half as many positions as steps
        done = _macs(parts.audio_encoder) * steps + _macs(parts.audio_adapter) * (steps / 2)
        return Call(bytes_read=self._bytes[AUDIO.name]) + done

    def vision(self, tiles: int = 1) -> Call:
        parts = self._work.parts
        return Call(bytes_read=self._bytes[VISION.name]) + (_macs(parts.vision) + _macs(parts.projector)) * tiles

    def speech_prefill(self, tokens: int) -> Call:
        """The text of a clause, and bos."""
        work, rows = self._work, tokens * self._work.vectors_per_token + 1
        done = (_macs(work.parts.speech_prefix) + _macs(work.parts.speech_layers)) * rows
        both_ways = 2 * work.speech.attention_macs(rows, 0)  # every row sees every other
        return Call(bytes_read=self._bytes[SPEECH_PREFILL.name], macs=both_ways) + done

    def speech_step(self, past: int) -> Call:
        """One code over ``past`` vectors and codes."""
        parts = self._work.parts
        step = Call(self._bytes[SPEECH_DECODER.name]) + self._attention(
            self._work.speech, 1, past, self._speech_capacity
        )
        return step + _macs(parts.speech_layers) + _macs(parts.speech_head)

    def codec(self, codes: int) -> Call:
        return Call(bytes_read=self._bytes[CODEC.name]) + _macs(self._work.parts.codec) * codes

    def _llm(self, component: str, rows: int, past: int) -> Call:
        shape, layers = self._work.llm, self._work.parts.llm_layers
        weights = self._bytes[component]
        if component == LLM.name:
            weights -= self._head().bytes_read
        return Call(weights) + self._attention(shape, rows, past, self._capacity) + _macs(layers) * rows

    def _attention(self, shape: DecoderShape, rows: int, past: int, capacity: int) -> Call:
        """Of new positions over ``past`` held ones and, causally, over themselves.

        TensorRT, as its kernels show (docs/decisions/0018): a step reads the whole cache where it lies; more rows copy
        what they see and read the copy. Before 10.15 the cache is copied by every call, to be longer. What a mask hides
        is computed.
        """
        held, position = past + rows, shape.kv_values() * self._form.cache_bytes
        if self._target == "onnxruntime":
            return Call(held * position, macs=shape.attention_macs(rows, past))
        if self._target == "tensorrt" and rows == 1:
            return Call(capacity * position, macs=shape.masked_macs(1, capacity))
        seen = SCATTER.sees(held, capacity) if self._target == "tensorrt" else held
        return Call(3 * seen * position, macs=shape.masked_macs(rows, seen))

    def _head(self) -> Call:
        head = self._work.parts.llm_head
        return Call(bytes_read=head.weights * min(self._form.heads, 32) / 8) + _macs(head)


def yardstick_call(model: Yardstick, rows: int, past: int) -> Call:
    """``rows`` positions at once of a language model of others, over ``past`` held ones; half-precision cache."""
    shape = DecoderShape(model.layers, model.heads, model.kv_heads, model.head_dim)
    read = (model.layer_weights * model.layer_bits + model.head_weights * model.head_bits) / 8
    return Call(
        bytes_read=read + (past + rows) * shape.kv_values() * 2,
        macs=rows * model.layer_weights + model.head_weights + shape.attention_macs(rows, past),
        launches=10 * model.layers,
    )


def _macs(part: Part) -> Call:
    return Call(macs=part.macs, convolution_macs=part.convolution_macs, launches=part.launches)
