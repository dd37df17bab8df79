"""Sessions in asyncio: the loop stays free, tasks are cancelled, several sessions answer at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from vita_edge.engines.errors import Misuse
from vita_edge.runtime import (
    Assistant,
    EventStream,
    SessionOptions,
    TextPiece,
    Turn,
    TurnDone,
    result,
    stream,
)
from vita_edge.runtime.events.session_events import TalkStateChanged

HELLO = Turn("Hello, how are you today?")
SPOKEN = SessionOptions(max_new_tokens=12, speech_top_k=2, seed=5)


def test_events_come_as_without_asyncio_and_the_loop_stays_free(assistant: Assistant) -> None:
    requested = list(assistant.session(SPOKEN).answer(HELLO))

    async def main() -> tuple[list[object], int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        events: list[object] = [event async for event in stream(assistant.session(SPOKEN).answer(HELLO))]
        ticking.cancel()
        return events, ticks

    events, ticks = asyncio.run(main())
    assert [type(event) for event in events] == [type(event) for event in requested]
    done, want = events[-1], requested[-1]
    assert isinstance(done, TurnDone) and isinstance(want, TurnDone)
    assert done.reply.token_ids == want.reply.token_ids
    np.testing.assert_array_equal(done.reply.pcm, want.reply.pcm)
    assert ticks > 10


def test_sessions_answer_at_once_what_each_answers_alone(assistant: Assistant) -> None:
    options = [replace(SPOKEN, seed=seed) for seed in (1, 2, 3)]
    alone = [assistant.session(each).ask(HELLO) for each in options]

    async def main() -> list[object]:
        return list(await asyncio.gather(*(result(assistant.session(each).answer(HELLO)) for each in options)))

    for reply, requested in zip(asyncio.run(main()), alone):
        assert reply.token_ids == requested.token_ids  # type: ignore[attr-defined]
        np.testing.assert_array_equal(reply.pcm, requested.pcm)  # type: ignore[attr-defined]


def test_leaving_the_loop_or_cancelling_the_task_ends_the_response(assistant: Assistant) -> None:
    session = assistant.session(replace(SPOKEN, max_new_tokens=300))

    async def left() -> None:
        async for event in stream(session.answer(HELLO)):
            if isinstance(event, TextPiece):
                break

    async def cancelled() -> None:
        task = asyncio.create_task(result(session.answer(HELLO)))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def main() -> object:
        await left()
        await cancelled()
        return await result(session.answer(HELLO, max_tokens=3))

    reply = asyncio.run(main())
    assert len(reply.token_ids) == 3  # type: ignore[attr-defined]
    assert session.turns >= 2


def test_errors_arrive_where_the_events_are_awaited(assistant: Assistant) -> None:
    with pytest.raises(Misuse, match="empty"):
        asyncio.run(result(assistant.session(SPOKEN).create_response()))


def test_events_of_a_live_session_can_be_awaited() -> None:
    async def main() -> list[object]:
        events = EventStream()
        await asyncio.to_thread(events, TalkStateChanged(1.0, "listening"))
        await asyncio.to_thread(events.close)
        return [event async for event in events]

    assert asyncio.run(main()) == [TalkStateChanged(1.0, "listening")]
