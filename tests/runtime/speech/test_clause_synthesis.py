"""The voice: sentences to sound over the golden checkpoint's speech decoder and codec."""

from __future__ import annotations

import copy
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from vita_edge.engines.errors import BadBundle
from vita_edge.runtime import Assistant
from vita_edge.runtime.decoding.sampling import make_speech_sampler
from vita_edge.runtime.events.turn_clock import TurnClock
from vita_edge.runtime.speech import clause_synthesis
from vita_edge.runtime.speech.clause_synthesis import Streaming, Synthesizer
from vita_edge.runtime.speech.speech_decoder import SpeechDecoder
from vita_edge.runtime.text.clause_cutter import Clause, ClauseCutter


def clause(text: str) -> Clause:
    cutter = ClauseCutter()
    return [*cutter.step(text), *cutter.flush()][0]


SENTENCE = clause("it looks like a simple drawing.")


def spoken(
    assistant: Assistant, streaming: Streaming, top_k: int = 1, seed: int = 0, text: Clause = SENTENCE
) -> tuple[list[int], list[NDArray[np.float32]]]:
    """The codes that were drawn, the end left out, and the pieces of sound."""
    codes: list[int] = []
    sample = make_speech_sampler(assistant.bundle.model.speech, top_k, seed)

    def drawing(logits: NDArray[np.float32]) -> int:
        codes.append(sample(logits))
        return codes[-1]

    pieces = [piece.copy() for piece in assistant.voice.speak(text, drawing, streaming)]
    return [code for code in codes if code < assistant.bundle.model.speech.codes], pieces


@pytest.mark.parametrize("streaming", ["exact", "reference"])
def test_the_pieces_of_a_sentence_join_to_one_pass_of_the_codec(assistant: Assistant, streaming: Streaming) -> None:
    codes, pieces = spoken(assistant, streaming)
    whole = assistant.voice.decode(np.array([codes]))
    assert len(codes) > 60 and len(pieces) > 1
    assert whole.shape == (600 * len(codes),)
    # the reference looks 10 codes ahead: as far as this small codec hears
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-5)


def test_both_ways_of_streaming_speak_the_same_codes(assistant: Assistant) -> None:
    assert spoken(assistant, "exact", top_k=2, seed=4)[0] == spoken(assistant, "reference", top_k=2, seed=4)[0]


def test_exact_streaming_is_heard_after_a_few_codes_and_then_in_growing_pieces(assistant: Assistant) -> None:
    facts = assistant.bundle.model.codec
    drawn: list[int] = []
    sample = make_speech_sampler(assistant.bundle.model.speech)

    def drawing(logits: NDArray[np.float32]) -> int:
        drawn.append(1)
        return sample(logits)

    moments = [(len(drawn), len(piece)) for piece in assistant.voice.speak(SENTENCE, drawing)]
    assert moments[0] == (12 + facts.right_context, 12 * 600)
    assert (
        moments[1:4]
        == [(spoken + facts.right_context, codes * 600) for spoken, codes in ((24, 12), (44, 20), (84, 40))][
            : len(moments) - 2
        ]
    )
    assert len(moments) > 3


def test_the_same_seed_makes_the_same_sound_and_another_one_does_not(assistant: Assistant) -> None:
    one, same, other = (np.concatenate(spoken(assistant, "exact", 2, seed)[1]) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_sentence_left_in_the_middle_does_not_disturb_the_next(assistant: Assistant) -> None:
    want = spoken(assistant, "exact")
    sample = make_speech_sampler(assistant.bundle.model.speech)
    for _ in assistant.voice.speak(clause("Please describe the image, and take your time."), sample):
        break
    codes, pieces = spoken(assistant, "exact")
    assert codes == want[0]
    np.testing.assert_array_equal(np.concatenate(pieces), np.concatenate(want[1]))


def test_a_sentence_longer_than_the_cache_is_spoken_in_parts(
    assistant: Assistant, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = assistant.tokenizer.encode(SENTENCE.text)
    monkeypatch.setattr(SpeechDecoder, "max_tokens", 10)
    sample = make_speech_sampler(assistant.bundle.model.speech)
    parts = [list(assistant.voice.decoder.codes(assistant.embeddings.rows(ids[i : i + 10]), sample)) for i in (0, 10)]
    codes, pieces = spoken(assistant, "exact")
    assert codes[: len(parts[0]) + len(parts[1])] == parts[0] + parts[1]
    assert sum(map(len, pieces)) == 600 * len(codes)


def test_a_clause_that_does_not_end_by_itself_is_named(
    assistant: Assistant, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    codes, _ = spoken(assistant, "exact")
    assert "did not end" not in caplog.text
    monkeypatch.setattr(clause_synthesis, "MAX_CODES", len(codes))
    spoken(assistant, "exact")
    assert "did not end by itself" in caplog.text


def test_the_time_of_decoder_and_codec_is_told_apart(assistant: Assistant) -> None:
    clock = TurnClock()
    for _ in assistant.voice.speak(SENTENCE, make_speech_sampler(assistant.bundle.model.speech), clock=clock):
        pass
    assert set(clock.latency_ms()) == {"speech_decoder", "codec"}


def with_codec(assistant: Assistant, streams: int, wave: NDArray[np.float32]) -> Synthesizer:
    voice = copy.copy(assistant.voice)
    voice._facts = dataclasses.replace(assistant.bundle.model.codec, streams=streams)
    voice._codec = SimpleNamespace(infer=lambda feeds: {"waveform": wave})  # type: ignore[assignment]
    return voice


def test_a_codec_of_several_streams_is_refused(assistant: Assistant) -> None:
    with pytest.raises(BadBundle, match="2 codes a frame"):
        with_codec(assistant, 2, np.zeros((1, 600), np.float32)).check()
    assistant.voice.check()


def test_a_codec_that_makes_no_sound_but_nan_is_refused(assistant: Assistant) -> None:
    voice = with_codec(assistant, 1, np.full((1, 600), np.nan, np.float32))
    with pytest.raises(BadBundle, match="not numbers"):
        list(voice.speak(SENTENCE, make_speech_sampler(assistant.bundle.model.speech)))


def test_a_special_code_is_no_sound(assistant: Assistant) -> None:
    with pytest.raises(BadBundle, match="special code"):
        list(assistant.voice.speak(SENTENCE, lambda logits: assistant.bundle.model.speech.bos))
