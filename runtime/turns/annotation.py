"""What somebody wrote down about a recording: a JSON file of the same name beside it.

``question.wav`` is described by ``question.json``, an object whose keys may all be missing::

    {"speech_end_s": 1.64, "complete": true, "kind": "question", "text": "what is this?", "speaker": "anna"}
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vita_edge.engines.errors import BadInput

__all__ = ["Annotation", "read_annotation"]

LONGEST = 1 << 20
"""Bytes of a file that is read."""


@dataclass(frozen=True)
class Annotation:
    """Facts of a recording; None is what nobody wrote down."""

    speech_end_s: float | None = None
    """Where the speech ends, in seconds from the beginning of the recording."""
    complete: bool | None = None
    """Whether the turn is over then, and not only interrupted by a pause."""
    kind: str | None = None
    """Of what is said: ``question``, ``list``, ``number``, ``hesitation``, …"""
    text: str | None = None
    speaker: str | None = None
    """A voice or a person: results are told for each."""


TYPES: dict[str, tuple[type, ...]] = {
    "speech_end_s": (int, float),
    "complete": (bool,),
    "kind": (str,),
    "text": (str,),
    "speaker": (str,),
}


def read_annotation(recording: Path) -> Annotation:
    """The annotation beside ``recording``; an empty one when there is none. Unknown keys are left alone.

    Raises:
        BadInput: there is a file of that name, and it is no annotation.
    """
    path = recording.with_suffix(".json")
    if path == recording or not path.is_file():
        return Annotation()
    fix = 'Give an object such as {"speech_end_s": 1.64}, or remove the file.'
    try:
        if path.stat().st_size > LONGEST:
            raise ValueError(f"it has more than {LONGEST:,} bytes")
        data = json.loads(path.read_text("utf-8-sig"))
        return Annotation(**_checked(data))
    except OSError as error:
        raise BadInput(f"Cannot read {path}.", why=f"{error.strerror or error}.", fix="Check the file.") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} does not annotate {recording.name}.", why=f"{error}.".capitalize(), fix=fix) from error


def _checked(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ValueError("it holds no object")
    for name, types in TYPES.items():
        value = data.get(name)
        wrong = value is not None and (type(value) not in types)
        if wrong or (name == "speech_end_s" and value is not None and not _is_moment(value)):
            raise ValueError(f"{name} is {json.dumps(value)[:40]}")
    return {name: data[name] for name in TYPES if data.get(name) is not None}


def _is_moment(value: float) -> bool:
    try:
        return math.isfinite(value) and float(value) >= 0
    except OverflowError:
        return False
