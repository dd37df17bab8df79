"""How many bits a weight takes in memory at each precision, scales counted, and in what rows are multiplied.

TensorRT: weight-only int8 and int4, which multiply in half precision (decision 0018). ONNX Runtime's CPU: 0011.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from vita_edge.engines.bundle.component_spec import COMPONENT_SPECS, LLM_PREFILL, Width
from vita_edge.engines.bundle.work import ModelWork

__all__ = ["PRECISIONS", "WeightBits", "weight_bits"]

PRECISIONS = ("fp32", "fp16", "int8", "int4")
WIDENED = 2.3 * 16
"""Resident bits of an fp16 weight on the CPU (:mod:`.footprint`)."""
FOUR_BITS = 4 + 16 / 128
FOUR_BITS_CPU = 4 + 32 / 128 + 4 / 128
"""Float32 scales, and zero points."""
EIGHT_BITS_CPU = 8 + 32 / 128


@dataclass(frozen=True)
class WeightBits:
    """Bits of a weight."""

    llm_first: float
    """First layer of the language model."""
    llm_layers: float
    """All others."""
    llm_prefill: float
    """A second copy of all layers that reads prompts; 0 where there is none."""
    heads: float
    encoders: float
    """Vision, audio and the prefix of the speech decoder."""
    speech: float
    convolutions: float
    """And tables."""
    arithmetic: Literal["fp32", "fp16", "int8"]
    """Of products of many rows; convolutions have half precision on a GPU and float32 on a CPU."""
    activation_bytes: int
    cache_bytes: int
    """Of a number in a KV cache."""

    def weights(self, work: ModelWork) -> dict[str, int]:
        """Resident bytes of each component's weights. The token table is mapped from the disk and does not count."""
        widths = self._widths(work.llm.layers)
        bits: dict[str, float] = {}
        for name, spec in COMPONENT_SPECS.items():
            if spec is LLM_PREFILL and not self.llm_prefill:
                continue
            stored = [(work.parts.all()[part], widths[width]) for part, width in spec.work.items()]
            bits[name] = sum(
                (part.weights - part.convolution_weights) * width + part.convolution_weights * self.convolutions
                for part, width in stored
            )
        return {name: round(count / 8) for name, count in bits.items()}

    def _widths(self, layers: int) -> dict[Width, float]:
        return {
            "encoders": self.encoders,
            "llm": (self.llm_first + self.llm_layers * (layers - 1)) / layers,
            "llm_prefill": self.llm_prefill,
            "speech": self.speech,
            "heads": self.heads,
            "convolutions": self.convolutions,
        }


def _plain(bits: float, arithmetic: Literal["fp32", "fp16"], small: int) -> WeightBits:
    return WeightBits(bits, bits, 0, bits, bits, bits, bits, arithmetic, activation_bytes=small, cache_bytes=small)


_WEIGHT_BITS = {
    ("tensorrt", "fp32"): _plain(32, "fp32", 4),
    ("tensorrt", "fp16"): _plain(16, "fp16", 2),
    ("tensorrt", "int8"): WeightBits(8, 8, 0, 8, 8, 8, 16, "fp16", 2, 2),
    ("tensorrt", "int4"): WeightBits(8, FOUR_BITS, 0, 8, 8, 8, 16, "fp16", 2, 2),
    ("onnxruntime-cpu", "fp32"): _plain(32, "fp32", 4),
    ("onnxruntime-cpu", "fp16"): replace(_plain(WIDENED, "fp32", 4), convolutions=32),
    ("onnxruntime-cpu", "int8"): WeightBits(8, 8, 0, EIGHT_BITS_CPU, 8, EIGHT_BITS_CPU, 32, "int8", 4, 4),
    ("onnxruntime-cpu", "int4"): WeightBits(
        EIGHT_BITS_CPU, FOUR_BITS_CPU, 8, EIGHT_BITS_CPU, 8, EIGHT_BITS_CPU, 32, "int8", 4, 4
    ),
}


def weight_bits(backend: str, precision: str) -> WeightBits:
    """The bits of a precision on a backend."""
    return _WEIGHT_BITS[backend, precision]
