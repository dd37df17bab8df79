"""Sessions in asyncio: events of a response, and of a live session, as asynchronous iterators.

A response is computed on a worker thread of its own, one event after the other; the loop stays free meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from ..events.reply_events import Event, Reply, TurnDone
from ..events.session_events import SessionEvent
from .response import Response

__all__ = ["EventStream", "result", "stream"]


class _Stream:
    """The events of a response; dropped, it cancels the response."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=f"response {response.id}")

    def __aiter__(self) -> _Stream:
        return self

    async def __anext__(self) -> Event:
        loop = asyncio.get_running_loop()
        try:
            event = await loop.run_in_executor(self._worker, next, self._response, None)
        except asyncio.CancelledError:
            self.close()
            raise
        if event is None:
            raise StopAsyncIteration
        return event

    def close(self) -> None:
        """Cancel the response, behind the step that is being made."""
        self._response.cancel(wait=False)
        self._worker.submit(self._response.cancel)
        self._worker.shutdown(wait=False)

    def __del__(self) -> None:
        if not self._response.cancelled:
            self.close()


def stream(response: Response) -> AsyncIterator[Event]:
    """The events of ``response``, as they are made.

    Leaving the loop, or cancelling the task, cancels the response within one call of a graph.

    ::

        async for event in stream(session.create_response()):
            ...

    Raises, while it is iterated:
        VitaEdgeError: as iterating over the response does.
    """
    return _Stream(response)


async def result(response: Response) -> Reply:
    """Make all of ``response``; see :func:`stream`."""
    async for event in stream(response):
        if isinstance(event, TurnDone):
            return event.reply
    return response.result()


class EventStream:
    """An observer of a live session that is an asynchronous iterator of its events.

    ::

        events = EventStream()
        with LiveSession(assistant, audio_input, audio_output, observers=[events]):
            async for event in events:
                ...

    Made inside of the loop that iterates. Events that nobody has taken yet wait; :meth:`close` ends the iteration.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[SessionEvent | None] = asyncio.Queue()

    def __call__(self, event: SessionEvent) -> None:
        """Called by the session, from its threads."""
        self._put(event)

    def close(self) -> None:
        """No event will follow; from any thread."""
        self._put(None)

    def _put(self, event: SessionEvent | None) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> SessionEvent:
        event = await self._events.get()
        if event is None:
            raise StopAsyncIteration
        return event
