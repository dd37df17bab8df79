"""What a tensor of a graph is: name, dtype, axes; and the check of what is fed to one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "TensorSpec", "check_feeds"]

Array = NDArray[np.generic]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph; an axis is a fixed length or the name of a variable one."""

    name: str
    dtype: str
    """numpy's name of the dtype: float32, int64, ..."""
    axes: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype} [{', '.join(map(str, self.axes))}]"

    def mismatch(self, array: Array) -> str | None:
        """Say how ``array`` differs from this spec, or None when it fits."""
        if array.dtype != np.dtype(self.dtype):
            return f"{self.name} is {array.dtype}, expected {self.dtype}"
        fits = array.ndim == len(self.axes) and all(
            isinstance(axis, str) or axis == length for axis, length in zip(self.axes, array.shape)
        )
        if not fits:
            return f"{self.name} has shape {list(array.shape)}, expected [{', '.join(map(str, self.axes))}]"
        return None


def check_feeds(graph: str, specs: Mapping[str, TensorSpec], feeds: Mapping[str, Array]) -> None:
    """Refuse feeds whose names, dtypes or shapes are not those of ``specs``.

    Raises:
        ValueError: naming every mismatch and the inputs that the graph really has; a caller's mistake,
            never a user's.
    """
    problems = [f"missing {name}" for name in specs if name not in feeds]
    problems += [f"unknown {name}" for name in feeds if name not in specs]
    for name, array in feeds.items():
        if name in specs and (problem := specs[name].mismatch(array)):
            problems.append(problem)
    if problems:
        expected = "; ".join(map(str, specs.values()))
        raise ValueError(f"{graph}: {'; '.join(problems)}. It takes {expected}.")
