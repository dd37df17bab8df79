"""Look at every value of a checkpoint once before anything is written: no number, and zeros that nobody trained.

A download that died leaves zeros in a file of the right length, and a checksum of the bundle would vouch for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.errors import BadCheckpoint

from .tensor import STORED_AS, LazyTensor

__all__ = ["check_values"]

PIECE_BYTES = 8 << 20
WORKERS = 2
HOLE_BYTES = 64 << 10
"""Zeros in a row in a matrix: no training leaves so many, a hole in a file does."""
MAX_ZERO_SHARE = 0.25
"""Of a matrix's rows: so many dead ones are no accident of training."""
MAX_TABLE_SHARE = 0.1
"""Of a table's rows: tokens that were added and never trained may be zero."""
_EXPONENT = {"bfloat16": (np.uint16, 0x7F80), "float16": (np.uint16, 0x7C00), "float32": (np.uint32, 0x7F800000)}
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
_TABLES = ("embed_tokens.weight", "lm_head.weight", "embedding.weight", "prompt_embeddings.weight")
_DOWNLOAD = "Download this file again, and compare its size and sha256 with the ones on the download page."


@dataclass(frozen=True)
class _Rows:
    """What was seen of a tensor, as rows of its leading axis."""

    zero: NDArray[np.bool_]
    strange: int
    """Values that are NaN or infinite."""
    first_strange: int
    """Row of the first of them."""
    smallest: float


def check_values(
    tensors: Mapping[str, LazyTensor],
    vocab_size: int,
    notes: list[str],
    progress: Callable[[int], object] = lambda _: None,
) -> None:
    """Read all of ``tensors`` once, a few megabytes at a time.

    Args:
        vocab_size: ids of the tokenizer; rows of the token tables beyond it are padding.
        notes: gets what a model may have and the user should know.
        progress: called with the values of each tensor.

    Raises:
        BadCheckpoint: by tensor, place and file: NaN or infinity; a matrix that is zero, or in large part; a weight
            norm of zero.
    """
    dead: list[str] = []
    with ThreadPoolExecutor(WORKERS) as pool:
        for (name, tensor), seen in zip(tensors.items(), pool.map(_look, tensors.values())):
            if why := _refusal(name, tensor, seen, vocab_size):
                pool.shutdown(cancel_futures=True)
                raise BadCheckpoint(f"{tensor.file} holds {name} with values that cannot be.", why=why, fix=_DOWNLOAD)
            if seen.zero.any() and (count := _dead(name, tensor, seen, vocab_size)):
                dead.append(f"{name} ({count} of {len(seen.zero)})")
            progress(tensor.size)
    if dead:
        shown = ", ".join(dead[:5]) + (f" and {len(dead) - 5} more" if dead[5:] else "")
        notes.append(f"Rows that are wholly zero, as some models have them: {shown}.")


def _look(tensor: LazyTensor) -> _Rows:
    zero, strange, first, smallest = [], 0, -1, np.inf
    for start, rows in _pieces(tensor):
        bad = _strange(rows, tensor.dtype)
        if bad is not None:
            first = first if strange else start + int(np.argmax(bad.any(axis=1)))
            strange += int(np.count_nonzero(bad))
        bits = np.ascontiguousarray(rows).view(np.uint8)
        wide = bits.view(np.uint64) if bits.shape[1] % 8 == 0 else bits
        zero.append(~wide.any(axis=1))
        if tensor.name.endswith("running_var"):
            smallest = min(smallest, float(rows.min()) if rows.dtype.kind == "f" else smallest)
    return _Rows(np.concatenate(zero) if zero else np.zeros(0, bool), strange, first, smallest)


def _pieces(tensor: LazyTensor) -> Iterator[tuple[int, NDArray[np.generic]]]:
    """(first row, the stored rows [rows, values of a row])."""
    if not tensor.size:
        return
    if len(tensor.shape) < 2:
        yield (
            0,
            tensor.read().reshape(-1, 1) if not tensor.shape else tensor.raw_rows(0, tensor.shape[0]).reshape(-1, 1),
        )
        return
    width = tensor.size // tensor.shape[0]
    step = max(PIECE_BYTES // (width * STORED_AS[tensor.dtype].itemsize), 1)
    for start in range(0, tensor.shape[0], step):
        rows = tensor.raw_rows(start, min(start + step, tensor.shape[0]))
        yield start, rows.reshape(len(rows), -1)


def _strange(rows: NDArray[np.generic], dtype: str) -> NDArray[np.bool_] | None:
    """Where values are NaN, infinite or beyond float32; None where all are sound."""
    if dtype == "float64":
        with np.errstate(invalid="ignore"):
            wrong = ~(np.abs(rows.astype(np.float64)) <= _LARGEST_FLOAT32)
        return wrong if wrong.any() else None
    kind, exponent = _EXPONENT[dtype]
    magnitude = rows.view(kind) & kind((1 << (8 * np.dtype(kind).itemsize - 1)) - 1)
    return magnitude >= kind(exponent) if int(magnitude.max()) >= exponent else None


def _refusal(name: str, tensor: LazyTensor, seen: _Rows, vocab_size: int) -> str:
    if seen.strange:
        place = (
            f"the first in row {seen.first_strange}" if len(tensor.shape) > 1 else f"the first at {seen.first_strange}"
        )
        return f"{seen.strange} of its {tensor.size} values are NaN, infinite or beyond float32, {place}."
    if seen.smallest < 0:
        return f"A variance of {seen.smallest:g} is negative."
    zero = seen.zero[:vocab_size] if name.endswith(_TABLES[:2]) else seen.zero
    if not zero.any() or _may_be_zero(name):
        return ""
    count = int(np.count_nonzero(zero))
    if name.endswith("weight_v"):
        return f"{count} of its {len(zero)} rows are zero, and a weight norm divides by their length."
    if zero.all():
        return "All of it is zero."
    if len(tensor.shape) < 2:
        return ""
    if name.endswith(_TABLES):
        return f"{count} of its {len(zero)} rows are zero." if count > MAX_TABLE_SHARE * len(zero) else ""
    row_bytes = tensor.nbytes // tensor.shape[0]
    if _longest_run(zero) * row_bytes >= HOLE_BYTES or count > MAX_ZERO_SHARE * len(zero):
        first = int(np.argmax(zero))
        return (
            f"{count} of its {len(zero)} rows are zero, the first is row {first}: a part of the file was never written."
        )
    return ""


def _may_be_zero(name: str) -> bool:
    """Biases, running means and layer scales may be."""
    return "bias" in name or name.endswith(("running_mean", "cmvn.mean", ".ls1", ".ls2", "class_embedding"))


def _dead(name: str, tensor: LazyTensor, seen: _Rows, vocab_size: int) -> int:
    if _may_be_zero(name) or (len(tensor.shape) < 2 and not name.endswith("weight_g")):
        return 0
    zero = seen.zero[:vocab_size] if name.endswith(_TABLES[:2]) else seen.zero
    return int(np.count_nonzero(zero))


def _longest_run(zero: NDArray[np.bool_]) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], zero, [False]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))
