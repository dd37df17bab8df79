"""A session that a thread is still opening: whoever made it goes on, and whoever uses it waits for what is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from threading import Thread
from types import TracebackType

from .session import KvCache, Session
from .tensors import Array, TensorSpec

__all__ = ["OpenedBeside"]


class OpenedBeside:
    """Behaves as the session that ``opening`` returns; every use but ``name`` waits until it is open.

    What went wrong while it was opened is raised by the first use, and by each later one.

    Args:
        name: of the graph.
        opening: opens the session; called at once, in a thread of its own.
    """

    def __init__(self, name: str, opening: Callable[[], Session]) -> None:
        self.name = name
        self._opened: Future[Session] = Future()
        self._thread = Thread(target=self._open, args=(opening,), name=f"opening {name}", daemon=True)
        self._thread.start()

    def _open(self, opening: Callable[[], Session]) -> None:
        try:
            self._opened.set_result(opening())
        except BaseException as error:
            self._opened.set_exception(error)

    @property
    def ready(self) -> bool:
        """Whether a use would not wait."""
        return self._opened.done()

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        return self._opened.result().inputs

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        return self._opened.result().outputs

    @property
    def max_tokens(self) -> int | None:
        return self._opened.result().max_tokens

    @property
    def rows_at_once(self) -> int:
        return self._opened.result().rows_at_once

    def infer(self, feeds: Mapping[str, Array], cache: KvCache | None = None) -> Mapping[str, Array]:
        return self._opened.result().infer(feeds, cache)

    def new_cache(self, capacity_tokens: int) -> KvCache:
        return self._opened.result().new_cache(capacity_tokens)

    def close(self) -> None:
        """Wait until it is open, since an opening cannot be called off, and close it."""
        self._thread.join()
        if self._opened.exception() is None:
            self._opened.result().close()

    def __enter__(self) -> OpenedBeside:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
