"""Which format each component gets at a precision. Measured on the CPU: docs/decisions/0011."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from vita_edge.engines.errors import Misuse

from .formats import Blocks, Float16, Float32, Int8Rows, LinearFormat

__all__ = ["DEFAULT_BLOCK", "PRECISIONS", "PrecisionPlan", "precision_plan"]


@dataclass(frozen=True)
class PrecisionPlan:
    """Formats of the linear layers; norms, tables, convolutions and the codec stay float32."""

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


def _plans(block: int) -> dict[str, PrecisionPlan]:
    half, eight = Float16(), Blocks(8, block)
    return {
        "fp32": PrecisionPlan("fp32"),
        "fp16": PrecisionPlan("fp16", encoders=half, llm=half, head=half, speech_decoder=half),
        "int8": PrecisionPlan("int8", encoders=Int8Rows(), llm=Int8Rows(), head=eight, speech_decoder=eight),
        "int4": PrecisionPlan(
            "int4",
            encoders=Int8Rows(),
            llm=Blocks(4, block),
            llm_first=eight,
            llm_prefill=Int8Rows(),
            head=eight,
            speech_decoder=eight,
        ),
    }


DEFAULT_BLOCK = 128

PRECISIONS = tuple(_plans(DEFAULT_BLOCK))


def precision_plan(name: str, *, block: int = DEFAULT_BLOCK, int8_prefill: bool = True) -> PrecisionPlan:
    """The plan of a precision.

    Args:
        block: weights that share a scale: 32, 64 or 128. Larger blocks take fewer bytes a token and err more.
        int8_prefill: at int4, also write the int8 graph that reads prompts (1.1 bytes a weight more on disk and in
            memory; the runtime does without it where memory is short).

    Raises:
        Misuse: there is no such precision or block.
    """
    if name not in PRECISIONS:
        raise Misuse(
            f"There is no precision {name}.", why=f"Known: {', '.join(PRECISIONS)}.", fix="Choose one of them."
        )
    if block not in (32, 64, 128):
        raise Misuse(f"There is no block of {block} weights.", why="Known: 32, 64, 128.", fix="Choose one of them.")
    plan = _plans(block)[name]
    return plan if int8_prefill else replace(plan, llm_prefill=None)
