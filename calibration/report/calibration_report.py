"""What calibration found: every layer, worst first, and every stage."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["CalibrationReport", "LayerReport", "StageReport"]


@dataclass(frozen=True)
class LayerReport:
    """One layer: how its output compares with that of the unquantised layer on the same inputs."""

    component: str
    name: str
    kind: str
    snr_db: float | None
    """Of its output as quantised; of a layer that stays wide, what quantising it would have given. None where all
    that it read was zero, or some was no number: it stays wide."""
    stored_as: str
    """``int8`` with ``int8 activations``, or as a weight alone: ``int8 weight``, ``int4 weight``; else its own type."""
    method: str | None = None
    """How the range of its activations was found."""
    limit: float | None = None
    """End of that range, on either side of zero."""
    amax: float | None = None
    """Largest magnitude that was seen, before smoothing; None where that was no number."""
    values: int = 0
    """Activations that were seen."""
    smoothing: float | None = None
    """Part of the outliers that moved into the weight."""
    minmax_db: float | None = None
    """What the plain way would have given: everything in range, nothing smoothed."""


@dataclass(frozen=True)
class StageReport:
    """One component as a whole: its output against that of the component before calibration, on the same feeds."""

    component: str
    output: str
    samples: int
    snr_db: float
    wider: int
    """Layers that have more bits than they were to have."""
    feeds: str
    """sha256 of the samples."""
    same_choice: float | None = None
    """Of a decoder: part of the positions at which the most likely token is the same."""
    target_db: float | None = None
    """Signal to noise that was to be reached."""
    min_db: float | None = None
    """Layers with less were given back to come nearer to it; None where none had to be."""

    @property
    def reached(self) -> bool:
        return self.target_db is None or self.snr_db >= self.target_db


@dataclass(frozen=True)
class CalibrationReport:
    precision: str
    choices: Mapping[str, Any]
    layers: tuple[LayerReport, ...]
    stages: tuple[StageReport, ...]
    notes: tuple[str, ...] = ()
    earlier: Mapping[str, Any] | None = None
    """The report of the calibration before, of other components of the bundle, as :meth:`to_json` told it."""
    bytes: int = 0
    """Of the bundle that was written."""

    def worst_first(self) -> list[LayerReport]:
        """Those of which nothing is known come first."""

        def badness(layer: LayerReport) -> tuple[float, str, str]:
            return -math.inf if layer.snr_db is None else layer.snr_db, layer.component, layer.name

        return sorted(self.layers, key=badness)

    def to_json(self) -> dict[str, Any]:
        """Stable keys, and the same numbers for the same feeds."""
        return {
            "precision": self.precision,
            "choices": dict(self.choices),
            "notes": list(self.notes),
            "stages": [_rounded(asdict(stage)) for stage in sorted(self.stages, key=lambda stage: stage.snr_db)],
            "layers": [_rounded(asdict(layer)) for layer in self.worst_first()],
            "earlier": self.earlier,
        }


def _rounded(facts: dict[str, Any]) -> dict[str, Any]:
    return {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in facts.items()}
