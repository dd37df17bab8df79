"""The language model over its KV cache: in pieces equals whole, and what is rewound was never there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vita_edge.engines.errors import ContextOverflow
from vita_edge.engines.onnxruntime.cpu import OnnxCpuSession
from vita_edge.engines.session import KvCache
from vita_edge.engines.tensors import Array
from vita_edge.runtime import Assistant
from vita_edge.runtime.decoding.decode_loop import decode_tokens

IDS = list(range(30, 70))


@pytest.fixture(scope="module")
def rows(assistant: Assistant) -> NDArray[np.float32]:
    return assistant.embeddings.rows(IDS)


def close(got: NDArray[np.float32], want: NDArray[np.float32]) -> bool:
    return bool(np.abs(got - want).max() < 1e-4 * np.abs(want).max())


@pytest.mark.parametrize("chunk", [1, 7, 39, 40])
def test_a_prompt_in_pieces_equals_the_prompt_at_once(
    assistant: Assistant, rows: NDArray[np.float32], chunk: int
) -> None:
    want = assistant.language_model(50).prefill(rows).copy()
    model = assistant.language_model(50)
    assert close(model.prefill(rows, chunk), want)
    assert model.position == 40


def test_a_long_prompt_is_read_in_calls_of_equal_size(
    assistant: Assistant, rows: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    infer = OnnxCpuSession.infer

    def watched(session: OnnxCpuSession, feeds: Mapping[str, Array], cache: KvCache | None = None) -> Any:
        seen.append(feeds["inputs_embeds"].shape[1])
        return infer(session, feeds, cache)

    monkeypatch.setattr(OnnxCpuSession, "infer", watched)
    monkeypatch.setattr(OnnxCpuSession, "rows_at_once", 16)
    model = assistant.language_model(100)
    model.read(rows)
    model.read(rows[:0])
    assert seen == [14, 13, 13]
    model.read(rows[:16])
    assert seen[3:] == [16]


def test_steps_equal_one_longer_prompt(assistant: Assistant, rows: NDArray[np.float32]) -> None:
    want = assistant.language_model(50).prefill(rows).copy()
    model = assistant.language_model(50)
    model.prefill(rows[:37])
    for token in IDS[37:]:
        logits = model.step(token)
    assert close(logits, want)


def test_what_was_rewound_was_never_there(assistant: Assistant, rows: NDArray[np.float32]) -> None:
    want = assistant.language_model(50).prefill(rows).copy()
    model = assistant.language_model(50)
    model.prefill(rows[:20])
    model.prefill(rows[::-1][:25])
    model.step(5)
    model.rewind(20)
    assert model.position == 20
    assert close(model.prefill(rows[20:]), want)


def test_two_caches_over_one_session_do_not_disturb_each_other(assistant: Assistant, rows: NDArray[np.float32]) -> None:
    want = assistant.language_model(50).prefill(rows).copy()
    one, other = assistant.language_model(50), assistant.language_model(60)
    one.prefill(rows[:20])
    other.prefill(rows[::-1])
    assert close(one.prefill(rows[20:]), want)


def test_a_prompt_that_does_not_fit_is_refused_and_changes_nothing(
    assistant: Assistant, rows: NDArray[np.float32]
) -> None:
    model = assistant.language_model(45)
    want = model.prefill(rows).copy()
    with pytest.raises(ContextOverflow, match="6 tokens do not fit into the 5 that are left"):
        model.prefill(rows[:6])
    assert (model.position, model.room) == (40, 5)
    model.rewind(0)
    assert close(model.prefill(rows), want)
    assert model.prefill(rows[:5]).shape == want.shape
    with pytest.raises(ContextOverflow):
        model.step(1)


def test_a_cache_larger_than_the_model_is_refused(assistant: Assistant) -> None:
    maximum = assistant.bundle.model.llm.context_tokens
    with pytest.raises(ContextOverflow, match="more than the model has"):
        assistant.language_model(maximum + 1)


def test_an_empty_prompt_is_a_mistake_of_the_caller(assistant: Assistant, rows: NDArray[np.float32]) -> None:
    with pytest.raises(ValueError, match="nothing to prefill"):
        assistant.language_model(10).prefill(rows[:0])


def test_the_token_yielded_last_is_not_in_the_cache_yet(assistant: Assistant, rows: NDArray[np.float32]) -> None:
    model = assistant.language_model(50)
    tokens = decode_tokens(model.prefill(rows), lambda logits: int(np.argmax(logits)), model.step, 3)
    for number, _ in enumerate(tokens):
        assert model.position == 40 + number
    assert model.position == 42
