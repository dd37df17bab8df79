"""What the bundle that is replaced was exported as: exported again with other prompts, it stays what it was."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from vita_edge.engines.bundle.component_spec import LLM_PREFILL
from vita_edge.engines.bundle.format import FORMAT, MANIFEST
from vita_edge.engines.errors import Misuse

from .weights.precision import PRECISIONS

__all__ = ["Exported", "exported_as"]


@dataclass(frozen=True)
class Exported:
    """The options that a bundle was exported with."""

    precision: str
    target: str
    int8_prefill: bool


def exported_as(bundle: Path) -> Exported | None:
    """How the bundle at ``bundle`` was exported; None where there is none.

    Raises:
        Misuse: it was calibrated, or is of a precision that export does not write: the same cannot be made again.
    """
    try:
        manifest = json.loads((bundle / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):  # nothing there, or nothing of ours: refused where it is replaced
        return None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        return None
    precision, components = str(manifest.get("precision")), manifest.get("components")
    calibrated = any(str(name).startswith("calibration/") for name in manifest.get("files") or ())
    if calibrated or precision not in PRECISIONS:
        raise Misuse(
            f"The bundle {bundle} is {precision}{', calibrated' if calibrated else ''}, which export does not make.",
            why="Export does not calibrate: what was measured on recorded feeds would be lost.",
            fix="Give another name, or say with --precision what it shall become.",
        )
    return Exported(
        precision=precision,
        target=str(manifest.get("target", "onnxruntime")),
        int8_prefill=isinstance(components, dict) and (precision != "int4" or LLM_PREFILL.name in components),
    )
