"""Random weights that keep a model sane: activations neither vanish nor blow up, so that every stage has work to do."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ..checkpoint.tensor import STORED_AS, StreamedTensor

__all__ = ["practice_tensor"]

Floats = NDArray[np.float32]

BLOCK = 1_048_573
"""Normal values that are drawn for a tensor; a prime.

Drawing 8.4 billion takes longer than writing them, so a large tensor repeats its block, with the sign turned each
time. No width of a matrix divides a prime, so each row begins at another place of the block and no two are alike, and
each tensor has a block of its own.
"""
_MOMENTS: tuple[tuple[str, float, float], ...] = (
    # pattern of the name, mean, deviation
    (r"global_cmvn\.mean$", 12.0, 1.0),
    (r"global_cmvn\.istd$", 0.3, 0.02),
    (r"running_mean$", 0.0, 0.1),
    (r"running_var$", 1.0, 0.1),
    (r"(norm\d?|bn2|embed\.1)\.weight$", 1.0, 0.1),
    (r"bias$", 0.0, 0.02),
    (r"\.ls[12]$", 0.3, 0.1),
    (r"pos_bias_[uv]$|class_embedding$|position_embedding$|prompt_embeddings\.weight$", 0.0, 0.2),
    (r"quantizer.*embedding\.weight$", 0.0, 0.5),
    (r"^embedding\.weight$", 0.0, 2.0),
)
_GAINS: tuple[tuple[str, float], ...] = (
    # pattern of the name, root mean square of a layer's output for inputs of 1
    (r"(lm_head|out_fnn)\.weight$", 3.0),
    (r"(attn\.proj|fc2|linear_out|w_2)\.weight$", 0.3),
    (r"^layers.*(o_proj|down_proj)\.weight$", 0.5),
    (r"generator\.ups\.", 1.5),
    (r"generator\.resblocks\.", 0.5),
    (r"generator\.conv_post\.", 1.0),
)
END_ADVANTAGE = 4.0
"""Added to the logit of the end of speech: sentences of a second, where loops would last to the limit."""


def practice_tensor(
    name: str, shape: tuple[int, ...], dtype: str, seed: int, row_gains: Floats | None = None
) -> StreamedTensor:
    """Values of tensor ``name``: the same for the same seed, shape and dtype, whatever else is written.

    ``row_gains`` [rows] scales single rows.
    """
    mean, deviation = _moments(name, shape)

    def pieces() -> Iterator[NDArray[Any]]:
        size = math.prod(shape)
        block = deviation * _normals(name, seed, min(size, BLOCK))
        if row_gains is not None:
            yield from (_stored(rows, dtype) for rows in _scaled_rows(block, shape, row_gains))
            return
        if name == "out_fnn.bias":
            block[-2] += END_ADVANTAGE
        signs = [_stored(mean + block, dtype), _stored(mean - block, dtype)]
        for i, start in enumerate(range(0, size, BLOCK)):
            yield signs[i % 2][: size - start]

    return StreamedTensor(shape, dtype, pieces)


def _moments(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    gain = next((gain for pattern, gain in _GAINS if re.search(pattern, name)), 1.0)
    if name.endswith("weight_g"):  # the norms of the rows of weight_v
        return gain, 0.05 * gain
    for pattern, mean, deviation in _MOMENTS:
        if re.search(pattern, name):
            return mean, deviation
    return 0.0, gain / math.sqrt(math.prod(shape[1:]))


def _normals(name: str, seed: int, count: int) -> Floats:
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    key = np.array([seed % (1 << 64), int.from_bytes(digest, "little")], np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).standard_normal(count, np.float32)


def _scaled_rows(block: Floats, shape: tuple[int, ...], gains: Floats) -> Iterator[Floats]:
    rows, width = shape
    step = max(len(block) // width, 1)
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        positions = np.arange(start * width, stop * width)
        turned = np.where(positions // len(block) % 2, -block[positions % len(block)], block[positions % len(block)])
        yield turned.reshape(-1, width) * gains[start:stop, None]


def _stored(values: Floats, dtype: str) -> NDArray[Any]:
    if dtype == "bfloat16":
        return values.astype(ml_dtypes.bfloat16).view(np.uint16)
    return values.astype(STORED_AS[dtype])
