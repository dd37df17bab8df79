"""Which profile of an engine takes a call, and how a call that is too long for all of them is cut. Needs no device."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from vita_edge.engines.errors import InferenceFailed

__all__ = ["ProfileShapes", "choose_profile", "max_positions", "of_a_later_layer", "pieces", "step_profile"]

Shape = tuple[int, ...]


class ShapeRange(Protocol):
    @property
    def min(self) -> Shape: ...
    @property
    def max(self) -> Shape: ...


class ProfileShapes(Protocol):
    """Smallest and largest shape of the inputs that vary (:class:`.build.profiles.Profile`)."""

    @property
    def ranges(self) -> Mapping[str, ShapeRange]: ...


def choose_profile(graph: str, profiles: Sequence[ProfileShapes], shapes: Mapping[str, Shape]) -> int:
    """Index of the profile that takes ``shapes`` and reaches least beyond them; 0 for an engine without profiles.

    Raises:
        InferenceFailed: none does.
    """
    if not profiles:
        return 0
    fitting = [index for index, profile in enumerate(profiles) if _fits(profile, shapes)]
    if fitting:
        return min(fitting, key=lambda index: _size(profiles[index]))
    refusals = [{n for n in profile.ranges if n in shapes and not _fit(profile, shapes, n)} for profile in profiles]
    refused = set.intersection(*refusals) or set.union(*refusals)
    named = sorted(name for name in refused if not of_a_later_layer(name))
    given = "; ".join(f"{name} {list(shapes[name])}" for name in named)
    allowed = " or ".join(
        "; ".join(f"{name} {_reported(profile.ranges[name])}" for name in named if name in profile.ranges)
        for profile in profiles
    )
    raise InferenceFailed(
        f"The engine of {graph} was not built for this input.",
        why=f"It is {given}; the engine takes {allowed}.",
        fix="Give a shorter input, or build engines with larger limits (--audio-seconds for a clip): see "
        "`vita-edge build --help`.",
    )


def of_a_later_layer(name: str) -> bool:
    """Whether it is a tensor of the past that the first layer has, too: one stands for all."""
    return re.match(r"past(_key_values)?\.[1-9]", name) is not None


def step_profile(profiles: Sequence[ProfileShapes], first: str) -> int | None:
    """Index of the profile that takes one position of the input ``first`` and no more, if there is one."""
    for index, profile in enumerate(profiles):
        found = profile.ranges.get(first)
        if found is not None and found.min[1] == found.max[1] == 1:
            return index
    return None


def max_positions(profiles: Sequence[ProfileShapes], first: str) -> int:
    """Positions of the input ``first`` that the largest profile takes."""
    return max((profile.ranges[first].max[1] for profile in profiles if first in profile.ranges), default=1)


def pieces(positions: int, maximum: int) -> list[slice]:
    """``positions`` in pieces of at most ``most``."""
    return [slice(start, min(start + maximum, positions)) for start in range(0, positions, maximum)]


def _fits(profile: ProfileShapes, shapes: Mapping[str, Shape]) -> bool:
    return all(_fit(profile, shapes, name) for name in profile.ranges if name in shapes)


def _fit(profile: ProfileShapes, shapes: Mapping[str, Shape], name: str) -> bool:
    limit, shape = profile.ranges[name], shapes[name]
    return len(shape) == len(limit.min) and all(
        low <= length <= high for low, length, high in zip(limit.min, shape, limit.max)
    )


def _size(profile: ProfileShapes) -> int:
    return sum(high - low for limit in profile.ranges.values() for low, high in zip(limit.min, limit.max))


def _reported(limit: ShapeRange) -> str:
    return f"[{', '.join(str(a) if a == b else f'{a}..{b}' for a, b in zip(limit.min, limit.max))}]"
