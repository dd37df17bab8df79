"""Hold the tensors that are there against those that the config files describe; all problems at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from vita_edge.engines.errors import BadCheckpoint

from .layout import Shapes
from .tensor import FLOATS, LazyTensor

__all__ = ["checked_tensors"]

Tensors = dict[str, LazyTensor]

HARMLESS = re.compile(r"num_batches_tracked$|rotary_emb\.inv_freq$|^model\.audio_encoder\..*\bpe$|^predictor_head\.")
"""Counters and tables in the main shards that can be computed, and a head that only training used."""
_MAX_NAMES = 6


def checked_tensors(
    path: Path,
    parts: Mapping[str, Tensors],
    expected: Mapping[str, Shapes],
    places: Mapping[str, str],
    notes: list[str],
) -> dict[str, Tensors]:
    """The tensors that are used, by part.

    Args:
        places: part → the file that holds it, as messages call it.

    Raises:
        BadCheckpoint: something is missing, left over or of another shape.
    """
    problems = [
        problem
        for part, shapes in expected.items()
        for problem in _problems(places[part], shapes, parts[part], _left_over(part, parts[part], shapes, notes))
    ]
    if problems:
        raise BadCheckpoint(
            f"{path} does not hold the model that its config files describe.",
            why="\n".join(f"  {problem}" for problem in problems),
            fix="Download the release again, weights and config files of one version. A parameter missing from the "
            "main shards is not taken from the side folders: the reference would leave random values there.",
        )
    return {part: {name: parts[part][name] for name in shapes} for part, shapes in expected.items()}


def _left_over(part: str, found: Tensors, shapes: Shapes, notes: list[str]) -> list[str]:
    """Names that have no place in the model; what is known to be of no use is noted and left out."""
    names = [name for name in found if name not in shapes]
    if part == "main":
        if "lm_head.weight" in names:  # expected unless tied
            names.remove("lm_head.weight")
            notes.append("The output layer is tied to the embedding; lm_head.weight in the shards is ignored.")
        return [name for name in names if not HARMLESS.search(name)]
    if part == "speech" and names and all(name in found for name in shapes):
        notes.append(f"decoder/final.pt holds {len(names)} tensors that VITA-1.5 never uses; they are ignored.")
        return []
    return names


def _problems(place: str, shapes: Shapes, found: Tensors, left_over: list[str]) -> Iterator[str]:
    missing = [f"{name} {list(shape)}" for name, shape in shapes.items() if name not in found]
    if len(missing) > _MAX_NAMES:
        yield f"{place}: {len(missing)} of {len(shapes)} tensors are missing: {_listed(missing)}"
    else:
        yield from (f"{place}: {name} is missing" for name in missing)
    if len(left_over) > _MAX_NAMES:
        yield f"{place}: {len(left_over)} tensors have no place in the model: {_listed(left_over)}"
    else:
        yield from (f"{place}: {name} is left over: no place in the model for it" for name in left_over)
    wrong = [_wrong(found[name], name, shape) for name, shape in shapes.items() if name in found]
    yield from [f"{place}: {problem}" for problem in wrong if problem][:_MAX_NAMES]


def _wrong(tensor: LazyTensor, name: str, shape: tuple[int, ...]) -> str:
    if tensor.shape != shape:
        return f"{name} has shape {list(tensor.shape)}, expected {list(shape)}"
    if tensor.dtype not in FLOATS:
        return f"{name} is stored as {tensor.dtype}; weights have to be floats"
    return ""


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_MAX_NAMES]) + (f" … and {len(names) - _MAX_NAMES} more" if names[_MAX_NAMES:] else "")
