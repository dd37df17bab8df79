"""A session that stands for another one: a base for those that change one thing about it."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

from .session import GraphSession, KvCache
from .tensors import Array, TensorSpec

__all__ = ["SessionProxy"]


class SessionProxy:
    """Hands every use on to :attr:`session`; see :class:`~vita_edge.engines.session.GraphSession`."""

    @property
    def session(self) -> GraphSession:
        """The session that it stands for."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        return self.session.name

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        return self.session.inputs

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        return self.session.outputs

    @property
    def max_tokens(self) -> int | None:
        return self.session.max_tokens

    @property
    def rows_at_once(self) -> int:
        return self.session.rows_at_once

    def infer(self, feeds: Mapping[str, Array], cache: KvCache | None = None) -> Mapping[str, Array]:
        return self.session.infer(feeds, cache)

    def new_cache(self, capacity_tokens: int) -> KvCache:
        return self.session.new_cache(capacity_tokens)

    def close(self) -> None:
        self.session.close()

    def __enter__(self) -> SessionProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
