"""Tensors under the names of the release, whatever a tool has put in front of them or torch calls them today."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from .tensor import LazyTensor, fetch_from_array
from .torch_file import TensorTree

__all__ = ["flat", "named_as_released"]

Tensors = dict[str, LazyTensor]

WRAPPERS = re.compile(r"(^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What torch.compile and sharded training put between the parts of a name."""
RESPELLED = (
    ("model.language_model.", "model."),
    ("language_model.model.", "model."),
    ("language_model.lm_head.", "lm_head."),
)
"""Where newer releases of transformers keep the language model of a multimodal checkpoint."""
WEIGHT_NORM = (
    (".parametrizations.weight.original0", ".weight_g"),
    (".parametrizations.weight.original1", ".weight_v"),
)
"""torch.nn.utils.parametrizations.weight_norm, and the one before it."""


def flat(tree: TensorTree, prefix: str = "") -> Tensors:
    """Nested tensors by their dotted path."""
    tensors: Tensors = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        tensors |= flat(value, f"{name}.") if isinstance(value, dict) else {name: replace(value, name=name)}
    return tensors


def named_as_released(
    found: Mapping[str, LazyTensor], expected: Collection[str], where: str, notes: list[str]
) -> Tensors:
    """``found`` under names that ``expected`` has: prefixes and wrappers that all share are taken off, weight norm is
    called by its old names. What has no place keeps its name.

    Args:
        expected: names of the release.
        where: the file, for ``notes``.
    """
    tensors = {_without_wrappers(name): tensor for name, tensor in found.items()}
    for spelling, ours in RESPELLED:
        for name in [name for name in tensors if name.startswith(spelling)]:
            if (known := ours + name.removeprefix(spelling)) in expected and known not in tensors:
                tensors[known] = tensors.pop(name)
    tensors = _without_prefix(tensors, expected, where, notes)
    tensors = _with_weight_norm(tensors, expected)
    if changed := sorted(found.keys() - tensors.keys()):
        notes.append(f"{where}: the names of {len(changed)} tensors differ from the release's and were recognised.")
    return {name: replace(tensor, name=name) for name, tensor in tensors.items()}


def _without_wrappers(name: str) -> str:
    return WRAPPERS.sub(r"\1", name)


def _without_prefix(tensors: Tensors, expected: Collection[str], where: str, notes: list[str]) -> Tensors:
    """Take off what stands in front of the most names of ``expected``; with equally many, the shortest."""
    anchors = sorted(expected, key=len, reverse=True)[:3] + sorted(expected)[:3]
    candidates = {""} | {
        name.removesuffix(anchor) for anchor in anchors for name in tensors if name.endswith(f".{anchor}")
    }
    matches = {prefix: sum(prefix + name in tensors for name in expected) for prefix in candidates}
    best = min(candidates, key=lambda prefix: (-matches[prefix], len(prefix), prefix))
    if not best:
        return tensors
    others = [p for p in candidates if p != best and matches[p] == matches[best]]
    if others:
        notes.append(f"{where} holds the weights more than once; those under {best!r} were taken, not {others[0]!r}.")
        tensors = {name: t for name, t in tensors.items() if not name.startswith(tuple(others))}
    return {name.removeprefix(best): tensor for name, tensor in tensors.items()}


def _with_weight_norm(tensors: Tensors, expected: Collection[str]) -> Tensors:
    for new, old in WEIGHT_NORM:
        tensors = {
            (renamed if name.endswith(new) and (renamed := name.removesuffix(new) + old) in expected else name): tensor
            for name, tensor in tensors.items()
        }
    for length in [name for name in expected if name.endswith(".weight_g") and name not in tensors]:
        layer = length.removesuffix("_g")
        if layer in tensors and f"{layer}_v" not in tensors:
            tensors[f"{layer}_v"] = tensors.pop(layer)
            tensors[length] = _length(tensors[f"{layer}_v"], length)
    return tensors


def _length(direction: LazyTensor, name: str) -> LazyTensor:
    """‖v‖ of a weight whose weight norm was removed: folding both gives the weight again."""
    v = direction.read().astype(np.float64)
    norm = np.sqrt((v**2).sum(axis=tuple(range(1, v.ndim)), keepdims=True))
    return LazyTensor(name, norm.shape, "float64", direction.file, fetch_from_array(norm))
