"""A session that a thread is still opening: whoever made it goes on, and whoever uses it waits for what is left."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread

from .session import GraphSession
from .session_proxy import SessionProxy

__all__ = ["OpenedBeside"]


class OpenedBeside(SessionProxy):
    """Behaves as the session that ``opening`` returns; every use but ``name`` waits until it is open.

    What went wrong while it was opened is raised by the first use, and by each later one.

    Args:
        name: of the graph.
        opening: opens the session; called at once, in a thread of its own.
    """

    def __init__(self, name: str, opening: Callable[[], GraphSession]) -> None:
        self._name = name
        self._opened: Future[GraphSession] = Future()
        self._thread = Thread(target=self._open, args=(opening,), name=f"opening {name}", daemon=True)
        self._thread.start()

    def _open(self, opening: Callable[[], GraphSession]) -> None:
        try:
            self._opened.set_result(opening())
        except BaseException as error:
            self._opened.set_exception(error)

    @property
    def name(self) -> str:
        return self._name

    @property
    def session(self) -> GraphSession:
        return self._opened.result()

    @property
    def ready(self) -> bool:
        """Whether a use would not wait."""
        return self._opened.done()

    def close(self) -> None:
        """Wait until it is open, since an opening cannot be called off, and close it."""
        self._thread.join()
        if self._opened.exception() is None:
            self._opened.result().close()
