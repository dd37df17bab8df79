"""Which format each component gets at a precision, for a target. Measured on the CPU: docs/decisions/0011; for
TensorRT, on what it compiles: docs/decisions/0018."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from vita_edge.engines.errors import Misuse

from ..lowerings.lowering import Lowering
from ..lowerings.onnx_runtime import OnnxRuntime
from ..lowerings.tensorrt import TensorRt
from ..lowerings.tensorrt_10_3 import TensorRt103
from .formats import Blocks, Float16, Float32, Int8Rows, LinearFormat
from .weight_only import Int4Blocks, Int8Columns, Int8Rescaled, Plain

__all__ = ["DEFAULT_BLOCK", "PRECISIONS", "TARGETS", "PrecisionPlan", "precision_plan"]


@dataclass(frozen=True)
class PrecisionPlan:
    """Formats of the linear layers; norms and biases are in the type of the dialect, convolutions and tables are stored
    in another one of its."""

    name: str
    encoders: LinearFormat = field(default_factory=Float32)
    """Vision, audio and the prefix of the speech decoder: many rows at a time."""
    llm: LinearFormat = field(default_factory=Float32)
    llm_first: LinearFormat | None = None
    """The first layer of the language model, when it is kept in another format: its error runs through all others."""
    llm_prefill: LinearFormat | None = None
    """A second graph of the language model for prompts, over the same KV cache."""
    head: LinearFormat = field(default_factory=Float32)
    """Last layers of the decoders: one row, and their error goes straight into the choice of a token."""
    speech_decoder: LinearFormat = field(default_factory=Float32)
    lowering: Lowering = field(default_factory=OnnxRuntime)
    """Of the target."""

    @property
    def target(self) -> str:
        return self.lowering.target


def _onnx_runtime(block: int) -> dict[str, PrecisionPlan]:
    half, eight, narrow = Float16(), Blocks(8, block), OnnxRuntime(stored="float16")
    return {
        "fp32": PrecisionPlan("fp32"),
        "fp16": PrecisionPlan("fp16", half, half, head=half, speech_decoder=half, lowering=narrow),
        "int8": PrecisionPlan(
            "int8", encoders=Int8Rows(), llm=Int8Rows(), head=eight, speech_decoder=eight, lowering=narrow
        ),
        "int4": PrecisionPlan(
            "int4",
            encoders=Int8Rows(),
            llm=Blocks(4, block),
            llm_first=eight,
            llm_prefill=Int8Rows(),
            head=eight,
            speech_decoder=eight,
            lowering=narrow,
        ),
    }


def _tensorrt(single: Lowering, half: Lowering, four_bits: Lowering, block: int) -> dict[str, PrecisionPlan]:
    """Half precision throughout, matrices narrower: encoders in int8, as calibration completes it; the matrices of the
    language model in blocks of 4 bits, but for its first layer and the heads."""

    def plan(name: str, encoders: LinearFormat, decoders: LinearFormat, lowering: Lowering) -> PrecisionPlan:
        return PrecisionPlan(name, encoders, decoders, head=decoders, speech_decoder=decoders, lowering=lowering)

    single_plain, half_plain, eight = Plain("fp32"), Plain(), Int8Rescaled()
    return {
        "fp32": plan("fp32", single_plain, single_plain, single),
        "fp16": plan("fp16", half_plain, half_plain, half),
        "int8": plan("int8", Int8Columns(), eight, half),
        "int4": replace(plan("int4", Int8Columns(), eight, four_bits), llm=Int4Blocks(block), llm_first=eight),
    }


def _plans(target: str, block: int) -> dict[str, PrecisionPlan]:
    if target == "tensorrt":
        return _tensorrt(TensorRt("float32"), TensorRt(), TensorRt(), block)
    if target == "tensorrt-10.3":
        four_bits = TensorRt103(opset=21, ir_version=10)  # the first with values of 4 bits
        return _tensorrt(TensorRt103("float32"), TensorRt103(), four_bits, block)
    return _onnx_runtime(block)


DEFAULT_BLOCK = 128

TARGETS = ("onnxruntime", "tensorrt", "tensorrt-10.3")
PRECISIONS = tuple(_plans("onnxruntime", DEFAULT_BLOCK))


def precision_plan(
    name: str, *, target: str = "onnxruntime", block: int = DEFAULT_BLOCK, int8_prefill: bool = True
) -> PrecisionPlan:
    """The plan of a precision.

    Args:
        target: the backend that the graphs are for, one of ``TARGETS``.
        block: weights that share a scale: 32, 64 or 128. Larger blocks take fewer bytes a token and err more.
        int8_prefill: for ONNX Runtime at int4, also write the int8 graph that reads prompts (1.1 bytes a weight more
            on disk and in memory; the runtime does without it where memory is short).

    Raises:
        Misuse: there is no such precision, target or block.
    """
    if name not in PRECISIONS:
        raise Misuse(
            f"There is no precision {name}.", why=f"Known: {', '.join(PRECISIONS)}.", fix="Choose one of them."
        )
    if target not in TARGETS:
        raise Misuse(f"There is no target {target}.", why=f"Known: {', '.join(TARGETS)}.", fix="Choose one of them.")
    if block not in (32, 64, 128):
        raise Misuse(f"There is no block of {block} weights.", why="Known: 32, 64, 128.", fix="Choose one of them.")
    plan = _plans(target, block)[name]
    return plan if int8_prefill else replace(plan, llm_prefill=None)
