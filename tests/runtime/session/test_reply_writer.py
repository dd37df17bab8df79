"""A reply that a stop string ends: the text, its clauses, and when no further token is required."""

from __future__ import annotations

import pytest

from vita_edge.runtime import Assistant
from vita_edge.runtime.events.reply_events import TextPiece
from vita_edge.runtime.session.reply_writer import ReadyClause, ReplyWriter


def write(assistant: Assistant, text: str, *stop: str) -> tuple[ReplyWriter, str, list[str]]:
    """Give the tokens of ``text`` until the writer asks for no more; the writer, its pieces, its clauses."""
    facts = assistant.bundle.model
    writer = ReplyWriter(assistant.tokenizer, facts, "text", "live", stop_strings=stop)
    events = []
    for token in assistant.tokenizer.encode(text):
        events += writer.step(token)
        if writer.finished:
            break
    events += writer.flush()
    pieces = "".join(event.text for event in events if isinstance(event, TextPiece))
    return writer, pieces, [event.clause.written for event in events if isinstance(event, ReadyClause)]


def test_a_stop_string_ends_the_reply_and_is_neither_written_nor_spoken(assistant: Assistant) -> None:
    writer, text, clauses = write(assistant, "Hello there. We go STOP and more of it.", "STOP")
    assert writer.finished
    assert writer.text == text == "Hello there. We go "
    assert "".join(clauses).strip() == text.strip()
    assert len(writer.token_ids) < len(assistant.tokenizer.encode("Hello there. We go STOP and more of it."))


@pytest.mark.parametrize("stop", [(), ("never",), ("it!",)])
def test_without_one_nothing_is_held_back_in_the_end(assistant: Assistant, stop: tuple[str, ...]) -> None:
    writer, text, clauses = write(assistant, "Hello there. We go it", *stop)
    assert not writer.finished
    assert writer.text == text == "Hello there. We go it"
    assert "".join(clauses).strip() == text
