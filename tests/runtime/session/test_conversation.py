"""Conversations over the golden checkpoint: its words mean nothing, but every rule of a conversation holds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from support.scripted import ScriptedModel, conversation, rows_of
from vita_edge.engines.errors import BadInput, ContextOverflow, Misuse, VitaEdgeError
from vita_edge.runtime import (
    Assistant,
    SessionOptions,
    Sound,
    SpeechPiece,
    StateDecided,
    TextPiece,
    Turn,
    TurnDone,
    read_frames,
    read_image,
    read_sound,
    sample_positions,
)
from vita_edge.runtime.audio_io.pcm import to_pcm16, trim_leading_silence
from vita_edge.runtime.decoding.decode_loop import decode_tokens
from vita_edge.runtime.decoding.sampling import make_speech_sampler
from vita_edge.runtime.text.clause_cutter import ClauseCutter
from vita_edge.runtime.text.prompt import Style

HELLO = Turn("Hello, how are you today?")
AGAIN = Turn("What do you see in this image?")
SILENT = SessionOptions(max_new_tokens=12, speak=False)
SPOKEN = SessionOptions(max_new_tokens=12, speech_top_k=1)


@pytest.fixture(scope="module")
def inputs(golden: Path) -> Path:
    return golden / "data" / "inputs"


@pytest.fixture(scope="module")
def clip(inputs: Path) -> Sound:
    return read_sound(inputs / "en_short.wav")


@pytest.fixture(scope="module")
def picture(inputs: Path) -> NDArray[np.uint8]:
    return read_image(inputs / "square.png")


@pytest.fixture(scope="module")
def frames(inputs: Path) -> Sequence[NDArray[np.uint8]]:
    return read_frames(inputs / "clip_2.json", sample_positions)[0]


@pytest.fixture(scope="module")
def hands(assistant: Assistant) -> dict[str, int]:
    tokens = assistant.bundle.model.tokens
    assert tokens.state_speech and tokens.state_noise and tokens.state_text
    return {"speech": tokens.state_speech, "noise": tokens.state_noise, "text": tokens.state_text}


def assert_continues(assistant: Assistant, model: ScriptedModel, rows: NDArray[np.float32]) -> None:
    """What followed the last prompt is what follows ``rows`` read at once by a model that has heard nothing else."""
    want = assistant.language_model(2000).prefill(rows)
    assert np.abs(model.prompt_logits[-1] - want).max() < 1e-4 * np.abs(want).max()


# --- what comes, and in which order


def test_state_comes_first_then_text_and_sound_and_the_whole_reply_last(assistant: Assistant) -> None:
    events = list(assistant.session(SPOKEN).answer(HELLO))
    assert [isinstance(event, StateDecided) for event in events] == [True] + [False] * (len(events) - 1)
    assert [isinstance(event, TurnDone) for event in events] == [False] * (len(events) - 1) + [True]
    assert isinstance(events[1], TextPiece)
    kinds = {type(event) for event in events[1:-1]}
    assert kinds == {TextPiece, SpeechPiece}


def test_pieces_join_to_the_reply(assistant: Assistant) -> None:
    *events, done = assistant.session(SPOKEN).answer(HELLO)
    assert isinstance(done, TurnDone)
    assert "".join(event.text for event in events if isinstance(event, TextPiece)).strip() == done.reply.text
    spoken = [event for event in events if isinstance(event, SpeechPiece)]
    np.testing.assert_array_equal(np.concatenate([event.pcm for event in spoken]), done.reply.pcm)
    assert {event.sample_rate_hz for event in spoken} == {24000} == {done.reply.sample_rate_hz}
    assert assistant.tokenizer.decode(done.reply.token_ids).strip() == done.reply.text
    assert done.reply.seconds == len(done.reply.pcm) / 24000


def test_a_sentence_is_spoken_before_the_next_one_is_decoded(assistant: Assistant) -> None:
    text = assistant.tokenizer.encode("Yes. Maybe we go.")
    talk, _ = conversation(assistant, text, replace(SPOKEN, max_new_tokens=len(text)))
    kinds = [type(event) for event in talk.answer(HELLO)]
    first_sound, last_text = kinds.index(SpeechPiece), len(kinds) - 1 - kinds[::-1].index(TextPiece)
    assert first_sound < last_text


def test_latency_names_stages_and_moments(assistant: Assistant, clip: Sound, picture: NDArray[np.uint8]) -> None:
    latency = assistant.session(SPOKEN).ask(Turn(sounds=[clip], images=[picture])).latency_ms
    stages = {"prompt", "vision", "audio", "prefill", "decode", "speech_decoder", "codec"}
    assert set(latency) == stages | {"first_text", "first_audio", "total"}
    assert latency["first_text"] < latency["first_audio"] <= latency["total"]
    assert sum(latency[stage] for stage in stages) <= latency["total"]


def test_without_speech_no_sound_is_made(assistant: Assistant) -> None:
    *events, done = assistant.session(SILENT).answer(HELLO)
    assert isinstance(done, TurnDone) and len(done.reply.pcm) == 0
    assert not any(isinstance(event, SpeechPiece) for event in events)
    assert "codec" not in done.reply.latency_ms
    assert done.reply.token_ids == assistant.session(SPOKEN).ask(HELLO).token_ids


# --- the same again


def test_greedy_says_the_same_every_time(assistant: Assistant, clip: Sound) -> None:
    first, second = (assistant.session(SPOKEN).ask(Turn(sounds=[clip])) for _ in range(2))
    assert first.token_ids == second.token_ids
    np.testing.assert_array_equal(first.pcm, second.pcm)


def test_the_same_seed_gives_the_same_tokens_and_the_same_sound_bit_for_bit(assistant: Assistant) -> None:
    options = SessionOptions(max_new_tokens=12, temperature=1.5, seed=7)
    first, second = (assistant.session(options).ask(HELLO) for _ in range(2))
    assert first.token_ids == second.token_ids
    np.testing.assert_array_equal(first.pcm, second.pcm)


def test_another_seed_draws_other_words_and_another_sound(assistant: Assistant) -> None:
    drawn = [assistant.session(SessionOptions(max_new_tokens=8, temperature=2.0, seed=s, speak=False)) for s in (1, 2)]
    assert drawn[0].ask(HELLO).token_ids != drawn[1].ask(HELLO).token_ids
    one, other = (assistant.session(SessionOptions(max_new_tokens=8, seed=seed)).ask(HELLO) for seed in (1, 2))
    assert one.token_ids == other.token_ids  # the text is greedy
    assert not np.array_equal(one.pcm, other.pcm)


def test_after_a_reset_all_is_as_before_the_first_turn(assistant: Assistant) -> None:
    talk = assistant.session(SessionOptions(max_new_tokens=8, temperature=1.5, seed=3))
    first = talk.ask(HELLO)
    talk.ask(AGAIN)
    talk.reset()
    assert talk.tokens == 0 and talk.turns == 0
    again = talk.ask(HELLO)
    assert again.token_ids == first.token_ids
    np.testing.assert_array_equal(again.pcm, first.pcm)


# --- several turns


@pytest.mark.parametrize("style", ["command_line", "live"])
def test_a_second_turn_equals_the_whole_conversation_read_at_once(
    assistant: Assistant, clip: Sound, picture: NDArray[np.uint8], style: Style
) -> None:
    talk, model = conversation(assistant, options=replace(SILENT, style=style))
    first, second = Turn(sounds=[clip], images=[picture]), Turn("And now?", sounds=[clip])
    reply = talk.ask(first)
    answer = talk.ask(second)
    whole = rows_of(assistant, [(first, reply.token_ids)], second, style)
    assert_continues(assistant, model, whole)
    fresh = assistant.language_model(2000)
    tokens = decode_tokens(fresh.prefill(whole), lambda logits: int(np.argmax(logits)), fresh.step, 12)
    stop = assistant.bundle.model.tokens.im_end
    assert tuple(itertools.takewhile(lambda token: token != stop, tokens)) == answer.token_ids


def test_a_finished_reply_and_one_that_was_cut_off_both_stay_whole_in_the_next_turn(assistant: Assistant) -> None:
    stop = assistant.bundle.model.tokens.im_end
    for script, finished in (([40, 41, stop], True), ([40, 41], False)):
        talk, model = conversation(assistant, script, replace(SILENT, max_new_tokens=3 if finished else 2))
        reply = talk.ask(HELLO)
        assert (reply.token_ids, reply.finished) == ((40, 41), finished)
        assert talk.tokens == reply.prompt_tokens + 2
        talk.ask(AGAIN)
        assert_continues(assistant, model, rows_of(assistant, [(HELLO, (40, 41))], AGAIN))


@pytest.mark.parametrize("pieces", [0, 1, 4])
def test_leaving_the_loop_early_keeps_what_was_said(assistant: Assistant, pieces: int) -> None:
    whole = assistant.session(SILENT).ask(HELLO)
    talk, model = conversation(assistant)
    for number, _ in enumerate(talk.answer(HELLO)):  # the state, then text
        if number == pieces:
            break
    said = whole.token_ids[: talk.tokens - whole.prompt_tokens]
    assert len(said) >= pieces
    talk.ask(AGAIN)
    assert_continues(assistant, model, rows_of(assistant, [(HELLO, said)], AGAIN))


def test_leaving_in_the_middle_of_speech_is_sound_too(assistant: Assistant) -> None:
    talk, model = conversation(assistant, options=SPOKEN)
    said: tuple[int, ...] = ()
    for event in talk.answer(HELLO):
        if isinstance(event, SpeechPiece):
            break
    whole = assistant.session(SILENT).ask(HELLO)
    said = whole.token_ids[: talk.tokens - whole.prompt_tokens]
    again = talk.ask(AGAIN)
    assert_continues(assistant, model, rows_of(assistant, [(HELLO, said)], AGAIN))
    assert len(again.pcm)


def test_a_turn_whose_iterator_is_still_held_ends_when_the_next_is_asked(assistant: Assistant) -> None:
    talk, model = conversation(assistant)
    held = talk.answer(HELLO)
    next(held)
    whole = assistant.session(SILENT).ask(HELLO)
    talk.ask(AGAIN)
    (done,) = held
    assert isinstance(done, TurnDone) and done.reply.finish_reason == "cancelled"
    assert_continues(assistant, model, rows_of(assistant, [(HELLO, whole.token_ids[:1])], AGAIN))


def test_a_reset_in_the_middle_of_a_turn_ends_it(assistant: Assistant) -> None:
    talk, _ = conversation(assistant)
    first, done = (next(iter(talk.reset() or [event])) for event in talk.answer(HELLO))
    assert isinstance(first, StateDecided) and isinstance(done, TurnDone)
    assert done.reply.finish_reason == "cancelled"
    assert talk.tokens == 0
    assert talk.ask(HELLO).token_ids == assistant.session(SILENT).ask(HELLO).token_ids


# --- state


@pytest.mark.parametrize("state", ["speech", "text"])
def test_the_first_token_says_what_the_question_was(assistant: Assistant, hands: dict[str, int], state: str) -> None:
    talk, _ = conversation(assistant, [hands[state], *assistant.tokenizer.encode(" Yes.")], SPOKEN)
    first, *_, done = talk.answer(HELLO)
    assert first == StateDecided(state, True)  # type: ignore[arg-type]
    assert isinstance(done, TurnDone)
    assert (done.reply.state, done.reply.state_marked) == (state, True)
    assert done.reply.token_ids[0] == hands[state]
    assert done.reply.text.startswith("Yes.")  # the hand is not read out
    assert len(done.reply.pcm)


def test_without_a_hand_the_kind_of_the_question_is_the_state(assistant: Assistant, clip: Sound) -> None:
    for turn, state in ((HELLO, "text"), (Turn(sounds=[clip]), "speech"), (Turn("What?", sounds=[clip]), "speech")):
        reply = conversation(assistant, [40])[0].ask(turn)
        assert (reply.state, reply.state_marked) == (state, False)


def test_a_reply_that_ends_at_once_is_empty_and_still_has_a_state(assistant: Assistant, clip: Sound) -> None:
    talk, model = conversation(assistant, [assistant.bundle.model.tokens.im_end], SPOKEN)
    turn = Turn(sounds=[clip])
    first, done = talk.answer(turn)
    assert first == StateDecided("speech", False)
    assert isinstance(done, TurnDone)
    assert (done.reply.text, done.reply.token_ids, done.reply.finished) == ("", (), True)
    assert len(done.reply.pcm) == 0
    talk.ask(AGAIN)
    assert_continues(assistant, model, rows_of(assistant, [(turn, ())], AGAIN))


def test_noise_is_not_spoken_and_leaves_no_trace(assistant: Assistant, hands: dict[str, int], clip: Sound) -> None:
    options = SessionOptions(max_new_tokens=10, temperature=1.0, seed=5)
    talk, model = conversation(assistant, options=options)
    untold = assistant.session(options)
    assert talk.ask(HELLO).token_ids == untold.ask(HELLO).token_ids
    tokens, turns = talk.tokens, talk.turns

    model.script = [hands["noise"], *assistant.tokenizer.encode("No.")]
    first, *events, done = talk.answer(Turn(sounds=[clip]))
    assert first == StateDecided("noise", True)
    assert not any(isinstance(event, SpeechPiece) for event in events)
    assert isinstance(done, TurnDone)
    assert (done.reply.state, len(done.reply.pcm)) == ("noise", 0)
    assert (talk.tokens, talk.turns) == (tokens, turns)

    answer, expected = talk.ask(AGAIN), untold.ask(AGAIN)
    assert answer.token_ids == expected.token_ids
    np.testing.assert_array_equal(answer.pcm, expected.pcm)


def test_noise_that_nobody_listens_to_the_end_of_leaves_no_trace_either(
    assistant: Assistant, hands: dict[str, int]
) -> None:
    talk, model = conversation(assistant)
    talk.ask(HELLO)
    tokens = talk.tokens
    model.script = [hands["noise"]]
    for _ in talk.answer(Turn("psst")):
        break
    assert (talk.tokens, talk.turns) == (tokens, 1)


def test_noise_as_the_first_turn_leaves_the_system_prompt_to_the_next(
    assistant: Assistant, hands: dict[str, int], clip: Sound, picture: NDArray[np.uint8]
) -> None:
    talk, _ = conversation(assistant, [hands["noise"]])
    talk.ask(Turn(sounds=[clip]))
    turn = Turn("What is this?", images=[picture])
    assert talk.ask(turn).token_ids == assistant.session(SILENT).ask(turn).token_ids


def test_in_live_style_a_role_line_is_part_of_the_reply_and_on_the_command_line_it_ends_it(
    assistant: Assistant,
) -> None:
    script = [40, assistant.bundle.model.tokens.im_start, 41]
    reported = {
        style: conversation(assistant, script, SessionOptions(style=style, max_new_tokens=3, speak=False))[0].ask(HELLO)
        for style in ("command_line", "live")
    }
    assert (reported["command_line"].token_ids, reported["command_line"].finished) == ((40,), True)
    assert (reported["live"].token_ids, reported["live"].finished) == (tuple(script), False)


# --- what can be asked


@pytest.mark.parametrize("style", ["command_line", "live"])
def test_text_sound_pictures_and_video_can_be_asked_alone_and_together(
    assistant: Assistant, clip: Sound, picture: NDArray[np.uint8], frames: Sequence[NDArray[np.uint8]], style: Style
) -> None:
    wide = np.hstack([picture, picture, picture])
    turns = {
        "text": HELLO,
        "picture": Turn(images=[picture]),
        "sound": Turn(sounds=[clip]),
        "picture and sound": Turn(images=[picture], sounds=[clip]),
        "several pictures": Turn("Which?", images=[picture, wide]),
        "several clips": Turn(sounds=[clip, clip]),
        "video": Turn("What happens?", frames=frames),
        "all": Turn("What?", sounds=[clip, clip], images=[wide, picture], frames=frames),
    }
    seen = set()
    for name, turn in turns.items():
        talk, model = conversation(assistant, options=replace(SILENT, style=style, max_new_tokens=4))
        reply = talk.ask(turn)
        rows = rows_of(assistant, [], turn, style)
        assert reply.prompt_tokens == len(rows), name
        assert_continues(assistant, model, rows)
        seen.add(model.prompt_logits[0].tobytes())
    assert len(seen) == len(turns)


def test_fewer_tiles_are_fewer_positions(assistant: Assistant, picture: NDArray[np.uint8]) -> None:
    turn = Turn("What?", images=[np.hstack([picture, picture])])
    many, one = (assistant.session(replace(SILENT, max_tiles=maximum)).ask(turn) for maximum in (None, 1))
    facts = assistant.bundle.model.vision
    assert many.prompt_tokens - one.prompt_tokens == 8 * facts.tokens_per_tile  # 4 x 2 tiles and the whole, or one


def test_a_turn_with_nothing_in_it_is_refused(assistant: Assistant) -> None:
    talk = assistant.session(SILENT)
    for turn in (Turn(), Turn("  \n")):
        with pytest.raises(Misuse, match="empty"):
            talk.ask(turn)
    assert talk.tokens == 0


def test_options_that_make_no_sense_are_refused_before_anything_is_asked(assistant: Assistant) -> None:
    bad = ({"max_new_tokens": 0}, {"max_tiles": 0}, {"context_tokens": 0}, {"seed": -1})
    for options in bad:
        with pytest.raises(Misuse, match=next(iter(options))):
            SessionOptions(**options)  # type: ignore[arg-type]
    for options in ({"temperature": -1.0}, {"temperature": float("nan")}, {"top_k": -1}, {"style": "odd"}):
        with pytest.raises(Misuse):
            assistant.session(SessionOptions(**options))  # type: ignore[arg-type]
    with pytest.raises(ContextOverflow):
        assistant.session(SessionOptions(context_tokens=1 << 30))


# --- too much


def test_a_text_of_100_000_characters_is_refused_and_the_conversation_goes_on(assistant: Assistant) -> None:
    talk, model = conversation(assistant)
    reply = talk.ask(HELLO)
    tokens = talk.tokens
    with pytest.raises(ContextOverflow, match="a prompt may have 6,200"):
        talk.ask(Turn("word " * 20_000))
    assert (talk.tokens, talk.turns) == (tokens, 1)
    talk.ask(AGAIN)
    assert_continues(assistant, model, rows_of(assistant, [(HELLO, reply.token_ids)], AGAIN))


def test_what_does_not_fit_is_refused_before_it_is_looked_at(
    assistant: Assistant, picture: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("encoded in vain")

    monkeypatch.setattr(assistant.encoders, "see", never)
    with pytest.raises(ContextOverflow):
        assistant.session(SILENT).ask(Turn("Which?", images=[picture] * 400))
    with pytest.raises(ContextOverflow, match="left of the context"):
        assistant.session(replace(SILENT, context_tokens=100)).ask(Turn("Which?", images=[picture]))


def test_a_full_cache_ends_a_reply_and_refuses_the_next_turn_until_it_is_reset(assistant: Assistant) -> None:
    prompt = assistant.session(SILENT).ask(HELLO).prompt_tokens
    talk = assistant.session(SessionOptions(context_tokens=prompt + 5, speak=False))
    reply = talk.ask(HELLO)
    assert (len(reply.token_ids), reply.finished) == (6, False)  # the last one need not be in the cache
    for _ in range(2):
        with pytest.raises(ContextOverflow, match="left of the context"):
            talk.ask(AGAIN)
        assert talk.turns == 1
    talk.reset()
    assert talk.ask(HELLO).token_ids == reply.token_ids


def test_a_turn_that_fits_exactly_still_says_one_token(assistant: Assistant) -> None:
    prompt = assistant.session(SILENT).ask(HELLO).prompt_tokens
    reply = assistant.session(SessionOptions(context_tokens=prompt, speak=False)).ask(HELLO)
    assert len(reply.token_ids) == 1
    with pytest.raises(ContextOverflow):
        assistant.session(SessionOptions(context_tokens=prompt - 1, speak=False)).ask(HELLO)


def test_an_input_that_cannot_be_used_leaves_the_conversation_as_it_was(assistant: Assistant, clip: Sound) -> None:
    talk, model = conversation(assistant)
    reply = talk.ask(HELLO)
    short = Sound(clip.samples[:, :800], clip.sample_rate_hz)
    for turn in (Turn(sounds=[clip, short]), Turn("\ud83d"), Turn(sounds=[Sound(clip.samples * np.nan, 16000)])):
        with pytest.raises(BadInput):
            talk.ask(turn)
    talk.ask(AGAIN)
    assert_continues(assistant, model, rows_of(assistant, [(HELLO, reply.token_ids)], AGAIN))


def test_a_turn_that_fails_on_the_way_leaves_no_trace(assistant: Assistant, monkeypatch: pytest.MonkeyPatch) -> None:
    talk, model = conversation(assistant)
    reply = talk.ask(HELLO)
    broken = model.step
    monkeypatch.setattr(model, "step", lambda token: broken(token) * np.float32("nan"))
    with pytest.raises(VitaEdgeError, match="best logit is nan"):
        talk.ask(AGAIN)
    monkeypatch.undo()
    assert talk.turns == 1
    talk.ask(AGAIN)
    assert_continues(assistant, model, rows_of(assistant, [(HELLO, reply.token_ids)], AGAIN))


# --- speech


def test_the_sound_of_a_reply_is_one_codec_pass_of_each_sentence_without_the_silence_before_it(
    assistant: Assistant,
) -> None:
    *events, done = assistant.session(replace(SPOKEN, max_new_tokens=24)).answer(HELLO)
    assert isinstance(done, TurnDone)
    cutter = ClauseCutter()
    clauses = [c for event in events if isinstance(event, TextPiece) for c in cutter.step(event.text)]
    clauses += cutter.flush()
    assert len(clauses) > 1
    sample = make_speech_sampler(assistant.bundle.model.speech)
    waves = []
    for clause in clauses:
        codes = list(
            assistant.voice.decoder.codes(assistant.embeddings.rows(assistant.tokenizer.encode(clause.text)), sample)
        )
        waves += [assistant.voice.decode(np.array([codes])).copy()] if codes else []
    whole = to_pcm16(trim_leading_silence(np.concatenate(waves)))
    assert len(done.reply.pcm) == len(whole)
    assert np.abs(done.reply.pcm.astype(int) - whole).max() <= 1
    reported = [event.clause for event in events if isinstance(event, SpeechPiece)]
    assert [text for text, _ in itertools.groupby(reported)] == [
        clause.written for clause in clauses if clause.written in reported
    ]


def test_the_reference_way_of_streaming_speaks_the_same_words(assistant: Assistant) -> None:
    exact, reference = (
        assistant.session(replace(SPOKEN, streaming=streaming)).ask(HELLO) for streaming in ("exact", "reference")
    )
    assert exact.token_ids == reference.token_ids
    assert 0 < len(reference.pcm) <= len(exact.pcm)  # it trims every piece of the first sentence
    tail = 2400
    assert np.abs(exact.pcm[-tail:].astype(int) - reference.pcm[-tail:]).max() <= 1
