"""A response that is cancelled, resumed or refused at any moment loses nothing and leaves nothing behind."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vita_edge.runtime import Assistant, BadInput, Misuse, SessionOptions, SpeechPiece, TextPiece, Turn, TurnDone
from vita_edge.runtime.session.scheduler import Scheduler

HELLO, AGAIN = Turn("Hello, how are you today?"), Turn("What do you see in this image?")
SILENT = SessionOptions(max_new_tokens=12, speak=False)
SPOKEN = SessionOptions(max_new_tokens=12, speech_top_k=2, seed=5, temperature=0.7)


def said(events: Sequence[Any]) -> tuple[str, list[int]]:
    """Text and samples."""
    text = "".join(event.text for event in events if isinstance(event, TextPiece))
    pcm = [event.pcm for event in events if isinstance(event, SpeechPiece)]
    return text, np.concatenate(pcm).tolist() if pcm else []


def until_done(response: Iterator[Any]) -> list[Any]:
    return [event for event in response if not isinstance(event, TurnDone)]


def test_a_response_that_is_cancelled_after_any_event_and_resumed_says_all_of_it(assistant: Assistant) -> None:
    whole = until_done(assistant.session(SPOKEN).answer(HELLO))
    for last in range(len(whole)):
        session = assistant.session(SPOKEN)
        events = []
        for event in session.answer(HELLO):
            if isinstance(event, TurnDone):
                break
            events.append(event)
            if len(events) == last + 1:
                session.cancel()
        events += until_done(session.resume())
        assert said(events) == said(whole), f"cancelled after event {last}"


def test_the_language_model_runs_in_its_own_lane_only(assistant: Assistant, monkeypatch: pytest.MonkeyPatch) -> None:
    session = assistant.session(replace(SPOKEN, max_new_tokens=150, temperature=1.5))
    held: list[str] = []
    seen: set[tuple[str, ...]] = set()
    model, step = session.history.timeline.model, Scheduler.step
    decode = model.step

    @contextlib.contextmanager
    def watched(self: Scheduler, lane: Any) -> Iterator[None]:
        with step(self, lane):
            held.append(lane)
            yield
            held.pop()

    def decoded(token: int) -> Any:
        seen.add(tuple(held))
        return decode(token)

    response = session.answer(HELLO)
    monkeypatch.setattr(Scheduler, "step", watched)
    monkeypatch.setattr(model, "step", decoded)
    response.result()
    assert seen == {("language",)}


def test_an_old_response_does_not_end_the_one_that_goes_on_with_it(assistant: Assistant) -> None:
    session = assistant.session(SILENT)
    old = session.answer(HELLO)
    next(old)
    session.cancel()
    resumed = session.resume()
    next(resumed)
    old.cancel()
    assert not resumed.ended
    assert resumed.result().finish_reason in ("length", "stop")


def test_instructions_of_one_response_do_not_stay(assistant: Assistant) -> None:
    session = assistant.session(SILENT)
    session.ask(HELLO)
    before = session.history.instructions
    session.ask(AGAIN, instructions="Sing.")
    session.ask(AGAIN)
    assert session.history.instructions == before


def test_other_instructions_forget_no_turn_that_has_room(assistant: Assistant) -> None:
    tokens = assistant.session(SILENT).ask(HELLO).prompt_tokens
    session = assistant.session(replace(SILENT, when_full="drop_oldest", context_tokens=int(tokens * 1.4)))
    session.ask(HELLO)
    session.instructions = "Be brief. " * 8
    session.read_ahead(1)
    assert session.turns == 1


def test_a_turn_that_cannot_be_appended_takes_nothing_else_along(assistant: Assistant) -> None:
    session = assistant.session(SILENT)
    session.append_text("still here")
    with pytest.raises(BadInput):
        session.append_turn(Turn("bad \ud800"))
    assert session._turn.counted().text == "still here"


def test_a_reset_within_a_step_takes_effect_behind_it(assistant: Assistant) -> None:
    session = assistant.session(SILENT)
    calls = 0

    def reset(token_ids: Sequence[int], logits: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            session.reset()

    list(session.answer(HELLO, logits_processors=[reset]))
    assert session.turns == 0
    assert session.ask(HELLO).token_ids


def test_a_question_that_is_refused_is_not_part_of_the_next(assistant: Assistant) -> None:
    session = assistant.session(SILENT)
    response = session.answer(HELLO)
    next(response)
    refused: list[Misuse] = []

    def ask() -> None:
        try:
            session.ask(AGAIN)
        except Misuse as error:
            refused.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert len(refused) == 1
    assert session._turn.empty
