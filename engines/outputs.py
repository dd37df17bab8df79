"""Outputs of a graph that lie on a device, and are copied to the host when somebody looks at them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from .tensors import Array

__all__ = ["DeviceOutputs"]


class DeviceOutputs(Mapping[str, Array]):
    """Name → array, read once, at the first look. Like all outputs, valid until the next call of their session.

    Whoever needs the best token of 152,000 logits does not pay for a copy of all of them.
    """

    def __init__(self, readers: Mapping[str, Callable[[], Array]]) -> None:
        self._readers = readers
        self._read: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        array = self._read.get(name)
        if array is None:
            array = self._read[name] = self._readers[name]()
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)
