"""Two arrays, one verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.bundle.format import Bundle

__all__ = ["LIMITS", "Check", "Comparison", "compare_arrays", "compare_equal", "judged_as"]

LIMITS = {
    "fp32": {"pixels": 1e-6, "wave": 1e-5, "stage": 1e-4, "logits": 2e-4, "whole": 1e-3},
    "fp16": {"stage": 5e-3, "logits": 5e-3, "whole": 1e-2},
    "half": {"stage": 1e-2, "logits": 1e-2, "whole": 2e-2},
    "int8": {"stage": 2e-1, "logits": 3e-1, "whole": 4e-1},
    "int4": {"stage": 6e-1, "logits": 1.0, "whole": 1.0},
}
"""Largest difference over largest magnitude, from the finest to the coarsest. fp32: what an independent float32 program
is held to, from the recorded data's own measurements. The others: what a sound rounding of weights (fp16, int8, int4),
or of everything between inputs and outputs (half), stays under on small random models, where errors are largest; a
front end has no precision and keeps the limits of fp32."""

SMALLEST_SNR_DB = {"fp32": 60.0, "fp16": 40.0, "half": 40.0, "int8": 12.0, "int4": 3.0}


def judged_as(bundle: Bundle, component: str) -> str:
    """The limits of a component: those of its precision; on graphs for GPUs fp16 is also what they compute in."""
    precision = bundle.components[component].precision
    return "half" if precision == "fp16" and bundle.target != "onnxruntime" else precision


@dataclass(frozen=True)
class Check:
    """One comparison."""

    stage: str
    name: str
    passed: bool
    max_error: float = 0.0
    relative: float = 0.0
    """Largest difference over largest magnitude of the recorded array."""
    snr_db: float = float("inf")
    limit: float = 0.0
    """What ``relative`` was held to; 0 means equal."""
    detail: str = ""
    skipped: bool = False
    """Not compared, for the reason in ``detail``."""
    agreement: float | None = None
    """Share of tokens or codes that are the recorded ones, along the recorded path; None for everything else."""
    first_difference: int | None = None
    """Where the first token or code differs."""

    @property
    def not_finite(self) -> bool:
        """Whether something was NaN or infinite."""
        return not math.isfinite(self.max_error)


@dataclass(frozen=True)
class Comparison:
    """How a stage is judged: its name, and the limits of its precision."""

    stage: str
    precision: str = "fp32"

    def close(self, name: str, got: NDArray[Any], want: NDArray[Any], kind: str = "stage") -> Check:
        """Within the limit of ``kind``, and loud enough above its error."""
        limit = LIMITS[self.precision].get(kind, LIMITS["fp32"].get(kind, 0.0))
        return compare_arrays(self.stage, name, got, want, limit, SMALLEST_SNR_DB[self.precision])

    def equal(self, name: str, got: object, want: object) -> Check:
        return compare_equal(self.stage, name, got, want)

    def skip(self, name: str, reason: str) -> Check:
        return Check(self.stage, name, True, detail=reason, skipped=True)


def compare_arrays(
    stage: str, name: str, got: NDArray[Any], want: NDArray[Any], limit: float, smallest_snr_db: float = 0.0
) -> Check:
    """Largest and relative difference, and signal to noise; fails beyond ``limit`` or on anything not a number."""
    if got.shape != want.shape:
        return Check(stage, name, False, detail=f"shape {list(got.shape)}, recorded {list(want.shape)}")
    if not want.size:
        return Check(stage, name, True, limit=limit)
    difference = np.abs(got.astype(np.float64) - want.astype(np.float64))
    worst = float(difference.max())
    scale = float(np.abs(want.astype(np.float64)).max()) or 1.0
    noise = float((difference**2).mean())
    signal = float((want.astype(np.float64) ** 2).mean())
    with np.errstate(divide="ignore"):  # infinite noise has no signal in it
        snr = 10 * np.log10(signal / noise) if noise > 0 and signal > 0 else float("inf")
    passed = bool(worst / scale <= limit and snr >= smallest_snr_db)  # a NaN fails both
    where = "" if passed else f"worst at {_index(difference)}"
    return Check(stage, name, passed, worst, worst / scale, float(snr), limit, where)


def compare_equal(stage: str, name: str, got: object, want: object) -> Check:
    """Exactly equal: ids, positions, counts, texts."""
    if isinstance(want, (np.ndarray, list, tuple)):
        return _compare_sequences(stage, name, list(_plain(got)), list(_plain(want)))
    passed = got == want
    return Check(stage, name, passed, detail="" if passed else f"{got!r}, recorded {want!r}")


def _compare_sequences(stage: str, name: str, got: Sequence[Any], want: Sequence[Any]) -> Check:
    if got == want:
        return Check(stage, name, True)
    for i, (ours, theirs) in enumerate(zip(got, want)):
        if ours != theirs:
            return Check(stage, name, False, detail=f"first differs at {i}: {ours!r}, recorded {theirs!r}")
    return Check(stage, name, False, detail=f"{len(got)} items, recorded {len(want)}")


def _plain(values: Any) -> Any:
    return values.tolist() if isinstance(values, np.ndarray) else values


def _index(difference: NDArray[Any]) -> str:
    flat = np.where(np.isnan(difference), np.inf, difference)
    return str([int(i) for i in np.unravel_index(int(flat.argmax()), flat.shape)])
