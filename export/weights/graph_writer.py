"""What weight formats and lowerings ask of a graph that is being written: nodes, constants, weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from .blob import Blob
from .weight import Weight

__all__ = ["GraphWriter"]


class GraphWriter(Protocol):
    """See :class:`~vita_edge.export.graphs.graph_builder.GraphBuilder`, which is one."""

    @property
    def floats(self) -> str: ...

    def scope(self, name: str) -> AbstractContextManager[None]: ...

    def input(self, name: str, dtype: str, axes: Sequence[int | str]) -> str: ...

    def output(self, tensor: str, name: str, dtype: str, axes: Sequence[int | str]) -> None: ...

    def inner(self, x: str) -> str: ...

    def op(
        self, kind: str, *inputs: str, outputs: int = 1, domain: str = "", called: str | None = None, **attributes: Any
    ) -> Any: ...

    def node(
        self, kind: str, inputs: Sequence[str], outputs: Sequence[str], domain: str = "", **attributes: Any
    ) -> None: ...

    def constant(self, value: object, dtype: str = "int64", name: str | None = None) -> str: ...

    def weight(self, name: str, weight: Weight, *, learned: bool = True, dtype: str | None = None) -> str: ...

    def blob(self, blob: Blob) -> str: ...

    def remembered(self, what: str, x: str, make: Callable[[], str]) -> str: ...

    def reshape(self, x: str, shape: Sequence[int]) -> str: ...

    def scale(self, x: str, factor: float) -> str: ...

    def take(self, x: str, start: int, stop: int, axis: int) -> str: ...

    def length(self, x: str, axis: int) -> str: ...
