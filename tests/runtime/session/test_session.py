"""The verbs of a session: blocks and frames in, events out; cancelled, truncated and resumed; several at once."""

from __future__ import annotations

import gc
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from support.scripted import conversation, rows_of
from vita_edge.engines.errors import BadInput, ContextOverflow, Misuse, VitaEdgeError
from vita_edge.runtime import (
    Assistant,
    Reply,
    Session,
    SessionOptions,
    Sound,
    SpeechPiece,
    Turn,
    TurnDone,
    read_image,
    read_sound,
)
from vita_edge.runtime.audio_io.stream_resampler import StreamResampler
from vita_edge.runtime.decoding.logits_processors import AllowedTokens
from vita_edge.runtime.session.scheduler import FairLock

HELLO = Turn("Hello, how are you today?")
AGAIN = Turn("What do you see in this image?")
SILENT = SessionOptions(max_new_tokens=12, speak=False)
SPOKEN = SessionOptions(max_new_tokens=12, speech_top_k=2, seed=5, temperature=0.7)
LIVE = replace(SILENT, style="live")


@pytest.fixture(scope="module")
def clip(golden: Path) -> Sound:
    sound = read_sound(golden / "data" / "inputs" / "zh_ask.wav")
    assert sound.sample_rate_hz == 16000
    return sound


@pytest.fixture(scope="module")
def picture(golden: Path) -> NDArray[np.uint8]:
    return read_image(golden / "data" / "inputs" / "square.png")


def same(one: Reply, other: Reply) -> bool:
    return one.token_ids == other.token_ids and np.array_equal(one.pcm, other.pcm)


# --- what is handed over


def test_blocks_are_heard_as_the_whole_is(assistant: Assistant, clip: Sound) -> None:
    whole = assistant.session(LIVE).ask(Turn(sounds=[clip]))
    session = assistant.session(LIVE)
    pcm = (clip.heard_channel * 32768).round().clip(-32768, 32767).astype(np.int16)
    for start in range(0, len(pcm), 441):
        session.append_audio(pcm[start : start + 441], 16000)
    reply = session.create_response().result()
    assert (reply.token_ids, reply.prompt_tokens) == (whole.token_ids, whole.prompt_tokens)


@pytest.mark.parametrize("rate_hz", [8000, 24000, 44100, 48000])
def test_blocks_of_any_rate_are_heard_to_their_end(assistant: Assistant, clip: Sound, rate_hz: int) -> None:
    resampler = StreamResampler(16000, rate_hz)
    samples = resampler.step(np.append(clip.heard_channel, np.zeros(800, np.float32)))
    session = assistant.session(LIVE)
    for start in range(0, len(samples), 300):
        session.append_audio(samples[start : start + 300].astype(np.float64), rate_hz)
    assert session.commit()
    session.append_audio(samples[: rate_hz // 2], rate_hz)
    session.clear_audio()
    assert not session.commit()
    reply = session.create_response().result()
    assert abs(reply.prompt_tokens - assistant.session(LIVE).ask(Turn(sounds=[clip])).prompt_tokens) <= 1


def test_what_is_read_in_spare_time_changes_nothing_but_what_is_left(
    assistant: Assistant, clip: Sound, picture: NDArray[np.uint8]
) -> None:
    patient, early = assistant.session(LIVE), assistant.session(LIVE)
    for session in (patient, early):
        session.append_frame(picture)
    while early.prefill():
        pass
    for start in range(0, clip.heard_channel.size, 1600):
        for session in (patient, early):
            session.append_audio(clip.heard_channel[start : start + 1600], 16000)
        while early.prefill():
            pass
    requested, reply = (session.create_response().result() for session in (patient, early))
    assert reply.token_ids == requested.token_ids
    assert reply.prompt_tokens < 20 < requested.prompt_tokens
    assert early.tokens == patient.tokens


def test_what_is_appended_while_a_response_is_made_belongs_to_the_next(assistant: Assistant) -> None:
    session, model = conversation(assistant)
    response = session.answer(HELLO)
    for number, _ in enumerate(response):
        if not number:
            session.append_text(AGAIN.text)
    first = assistant.session(SILENT).ask(HELLO)
    session.create_response().result()
    want = assistant.language_model(2000).prefill(rows_of(assistant, [(HELLO, first.token_ids)], AGAIN))
    assert np.abs(model.prompt_logits[-1] - want).max() < 1e-4 * np.abs(want).max()


def test_audio_and_pixels_that_are_none_are_refused_and_the_session_goes_on(assistant: Assistant) -> None:
    session = assistant.session(SILENT)
    blocks = (np.zeros((4, 2), np.float32), np.zeros(4, np.int32), np.zeros(4, bool), ["a"])
    for block in blocks:
        with pytest.raises(BadInput):
            session.append_audio(block, 16000)
    for pixels in (np.full((4, 4), np.nan), np.zeros((0, 0, 3), np.uint8), np.zeros((9, 8, 7), np.uint8)):
        with pytest.raises(BadInput):
            session.append_frame(pixels)  # type: ignore[arg-type]
    session.append_audio(np.zeros(160, np.int16), 16000)
    with pytest.raises(Misuse, match="sample rate"):
        session.append_audio(np.zeros(160, np.int16), 8000)
    with pytest.raises(BadInput, match="too short"):
        session.commit()
    assert session.ask(HELLO).token_ids == assistant.session(SILENT).ask(HELLO).token_ids


@pytest.mark.parametrize("shape", [(60, 50), (60, 50, 4)])
def test_gray_and_transparent_pictures_are_seen(assistant: Assistant, shape: tuple[int, ...]) -> None:
    session = assistant.session(SILENT)
    session.append_image(np.full(shape, 200, np.uint8))
    assert session.create_response().result().token_ids


# --- limits and instructions


def test_a_response_has_its_own_limit_and_sampling(assistant: Assistant) -> None:
    session = assistant.session(SILENT)
    short = session.answer(HELLO, max_tokens=3).result()
    assert (len(short.token_ids), short.finish_reason) == (3, "length")
    drawn = assistant.session(SILENT).ask(HELLO, temperature=2.0, seed=4)
    assert drawn.token_ids == assistant.session(replace(SILENT, temperature=2.0, seed=4)).ask(HELLO).token_ids
    with pytest.raises(Misuse, match="max_new_tokens"):
        session.answer(HELLO, max_tokens=0)


def test_other_instructions_are_read_before_all_that_was_said(assistant: Assistant) -> None:
    session, model = conversation(assistant)
    first = session.ask(HELLO)
    session.instructions = "Answer in one word."
    session.ask(AGAIN)
    reported = dict(assistant.bundle.prompts)
    reported["command_line"] = dict.fromkeys(reported["command_line"], "Answer in one word.")
    rows = rows_of(assistant, [(HELLO, first.token_ids)], AGAIN, prompts=reported)
    want = assistant.language_model(2000).prefill(rows)
    assert np.abs(model.prompt_logits[-1] - want).max() < 1e-4 * np.abs(want).max()


def test_instructions_of_one_response_are_gone_with_the_next(assistant: Assistant) -> None:
    session, plain = assistant.session(SILENT), assistant.session(SILENT)
    other = session.ask(HELLO, instructions="Sing.")
    assert other.prompt_tokens != plain.ask(HELLO).prompt_tokens
    session.reset()
    plain.reset()
    assert session.ask(HELLO).prompt_tokens == plain.ask(HELLO).prompt_tokens


def test_where_old_turns_may_leave_a_full_context_refuses_nothing(assistant: Assistant) -> None:
    prompt = assistant.session(SILENT).ask(HELLO).prompt_tokens
    options = replace(SILENT, context_tokens=prompt + 40)
    with pytest.raises(ContextOverflow):
        strict = assistant.session(options)
        for _ in range(3):
            strict.ask(HELLO)
    session = assistant.session(replace(options, when_full="drop_oldest"))
    replies = [session.ask(HELLO) for _ in range(4)]
    assert 1 <= session.turns < 4
    assert replies[0].token_ids == assistant.session(SILENT).ask(HELLO).token_ids
    assert all(reply.token_ids for reply in replies)


# --- cancelled, truncated, resumed


def test_a_response_can_be_cancelled_before_its_first_event(assistant: Assistant) -> None:
    session = assistant.session(SILENT)
    response = session.answer(HELLO)
    assert response.state == "queued"
    assert session.cancel() and not session.cancel()
    (done,) = response
    assert isinstance(done, TurnDone) and done.reply.finish_reason == response.finish_reason == "cancelled"
    assert (session.turns, session.tokens) == (0, 0)
    assert session.ask(HELLO).token_ids == assistant.session(SILENT).ask(HELLO).token_ids


def test_cancelling_from_another_thread_takes_effect_within_one_call_of_a_graph(
    assistant: Assistant, picture: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while a turn is read, before anything was said."""
    session = assistant.session(SILENT)
    calls: list[str] = []
    reading = threading.Event()
    see = assistant.encoders._vision.infer

    def watched(*arguments: object) -> object:
        calls.append("vision")
        if len(calls) == 3:
            reading.set()
            cancelling.join(5)
        return see(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(assistant.encoders._vision, "infer", watched)
    response = session.answer(Turn("Which?", images=[np.hstack([picture] * 3)]))
    cancelled = threading.Event()

    def cancel() -> None:
        reading.wait(10)
        response._cancelled.set()  # what cancel() does first; then it waits for the step to end
        cancelled.set()

    cancelling = threading.Thread(target=cancel)
    cancelling.start()
    (done,) = response
    assert cancelled.is_set() and len(calls) == 3
    assert isinstance(done, TurnDone) and done.reply.finish_reason == "cancelled"
    assert session.turns == 0


def test_a_reset_from_another_thread_ends_the_response(assistant: Assistant) -> None:
    session = assistant.session(replace(SILENT, max_new_tokens=400))
    events = []
    for event in session.answer(HELLO):
        events.append(event)
        if len(events) == 3:
            thread = threading.Thread(target=session.reset)
            thread.start()
            thread.join(5)
            assert not thread.is_alive()
    assert isinstance(events[-1], TurnDone) and events[-1].reply.finish_reason == "cancelled"
    assert len(events) == 4
    assert (session.turns, session.tokens) == (0, 0)


def test_what_was_not_heard_is_forgotten(assistant: Assistant) -> None:
    script = assistant.tokenizer.encode("Yes. Maybe we go. And then we stay, for a long time.")
    session, model = conversation(assistant, script, replace(SPOKEN, temperature=0.0, max_new_tokens=len(script)))
    reply = session.ask(HELLO)
    assert session.truncate(heard_s=0.0) == 0
    assert session.truncate(heard_s=reply.seconds + 1) == len(script)
    retained = [session.truncate(heard_s=second) for second in np.arange(reply.seconds, 0, -0.2)]
    assert retained == sorted(retained, reverse=True) and len(set(retained)) > 3
    session.truncate(tokens=5)
    session.ask(AGAIN)
    want = assistant.language_model(2000).prefill(rows_of(assistant, [(HELLO, script[:5])], AGAIN))
    assert np.abs(model.prompt_logits[-1] - want).max() < 1e-4 * np.abs(want).max()
    with pytest.raises(Misuse, match="neither or both"):
        session.truncate()
    session.reset()
    with pytest.raises(Misuse, match="no reply"):
        session.truncate(tokens=1)


@pytest.mark.parametrize("left_after", [1, 4, 9])
def test_a_reply_that_goes_on_says_the_same_words_with_the_same_voice(assistant: Assistant, left_after: int) -> None:
    options = replace(SPOKEN, max_new_tokens=24)
    whole = assistant.session(options).ask(HELLO)
    session = assistant.session(options)
    heard = []
    for number, event in enumerate(session.answer(HELLO), 1):
        if isinstance(event, SpeechPiece):
            heard.append(event.pcm)
        if number == left_after:
            break
    session.truncate(tokens=1)
    response = session.resume()
    heard += [event.pcm for event in response if isinstance(event, SpeechPiece)]
    assert response.result().token_ids == whole.token_ids
    np.testing.assert_array_equal(np.concatenate(heard), whole.pcm)
    assert session.turns == 1


def test_nothing_can_go_on_where_nothing_was_said(assistant: Assistant) -> None:
    with pytest.raises(Misuse, match="no reply"):
        assistant.session(SILENT).resume()


# --- threads


def test_two_threads_on_one_session_get_a_clear_error(assistant: Assistant) -> None:
    session = assistant.session(replace(SILENT, max_new_tokens=200))
    inside, refused = threading.Event(), []

    def other() -> None:
        inside.wait(5)
        try:
            session.ask(AGAIN)
        except VitaEdgeError as error:
            refused.append(error)

    thread = threading.Thread(target=other)
    thread.start()
    reply = None
    for number, event in enumerate(session.answer(HELLO)):
        if number == 2:
            inside.set()
            thread.join(5)
        if isinstance(event, TurnDone):
            reply = event.reply
    (error,) = refused
    assert isinstance(error, Misuse) and "another thread" in error.what and "cancel()" in error.fix
    assert reply and reply.finish_reason == "length"
    session.clear()


@pytest.mark.parametrize("count", [2, 3])
def test_sessions_that_take_turns_say_what_each_says_alone(assistant: Assistant, count: int) -> None:
    options = [replace(SPOKEN, seed=seed) for seed in range(count)]
    turns = [HELLO, AGAIN, Turn("And now?")]
    alone = [[assistant_session.ask(turn) for turn in turns] for assistant_session in map(assistant.session, options)]
    together: list[list[Reply]] = [[] for _ in options]
    sessions = [assistant.session(each) for each in options]
    for turn in turns:
        responses = [session.answer(turn) for session in sessions]
        living = list(range(count))
        while living:
            for number in list(living):
                event = next(responses[number])
                if isinstance(event, TurnDone):
                    together[number].append(event.reply)
                    living.remove(number)
    assert all(same(a, b) for mine, theirs in zip(alone, together) for a, b in zip(mine, theirs))


@pytest.mark.parametrize("count", [2, 3])
def test_sessions_in_threads_say_what_each_says_alone(assistant: Assistant, count: int) -> None:
    options = [replace(SPOKEN, seed=seed) for seed in range(count)]

    def hold(session: Session) -> list[Reply]:
        return [session.ask(turn) for turn in (HELLO, AGAIN)]

    alone = [hold(assistant.session(each)) for each in options]
    for _ in range(3):
        together: list[list[Reply]] = [[] for _ in options]

        def run(number: int, found: list[list[Reply]] = together) -> None:
            found[number] = hold(assistant.session(options[number]))

        threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(same(a, b) for mine, theirs in zip(alone, together) for a, b in zip(mine, theirs))


def test_a_lock_is_handed_over_in_the_order_in_which_it_was_asked_for() -> None:
    lock, order = FairLock(), []
    lock.acquire()
    threads = []

    def take(number: int) -> Callable[[], None]:
        def run() -> None:
            lock.acquire()
            order.append(number)
            lock.release()

        return run

    for number in range(8):
        threads.append(threading.Thread(target=take(number)))
        threads[-1].start()
        while len(lock._waiting) <= number:
            pass
    lock.release()
    for thread in threads:
        thread.join()
    assert order == list(range(8))


def test_the_memory_of_a_session_is_its_two_caches(assistant: Assistant) -> None:
    facts = assistant.bundle.model
    small, large = (assistant.session(SessionOptions(context_tokens=tokens)).cache_bytes for tokens in (100, 200))
    llm = facts.llm
    assert large - small == 100 * llm.layers * 2 * llm.kv_heads * llm.head_dim * 4
    assert small > 100 * llm.layers * 2 * llm.kv_heads * llm.head_dim * 4
    assert assistant.session_bytes(SessionOptions(context_tokens=200)) == large


def test_two_hundred_failed_answers_leave_nothing_behind(
    assistant: Assistant, clip: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, model = conversation(assistant)
    step = model.step
    monkeypatch.setattr(model, "step", lambda token: step(token) * np.float32("nan"))

    def fail(times: int) -> int:
        for _ in range(times):
            with pytest.raises(VitaEdgeError, match="nan"):
                session.ask(Turn("Who?", sounds=[clip]))
        model.prompt_logits.clear()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = fail(20)
        after = fail(200)
    finally:
        tracemalloc.stop()
    assert after - before < 100_000  # of 200 clips with 300,000 bytes each
    assert session.turns == 0


# --- what the reply is made of


def test_a_grammar_decides_the_tokens_and_sees_those_of_the_reply(assistant: Assistant) -> None:
    forced = assistant.tokenizer.encode("Call for help now")
    seen: list[tuple[int, ...]] = []

    def allowed(said: Sequence[int]) -> Sequence[int]:
        seen.append(tuple(said))
        return [forced[len(said)] if len(said) < len(forced) else assistant.bundle.model.tokens.im_end]

    session = assistant.session(SessionOptions(max_new_tokens=len(forced) + 1, speak=False))
    reply = session.answer(Turn("Hello"), logits_processors=[AllowedTokens(allowed)]).result()
    assert reply.token_ids == tuple(forced)
    assert reply.finish_reason == "stop"
    assert seen == [tuple(forced[:n]) for n in range(len(forced) + 1)]


def test_a_stop_string_ends_the_reply_and_what_was_decoded_stays_in_the_history(assistant: Assistant) -> None:
    forced = assistant.tokenizer.encode("Call for help now and then go")
    grammar = AllowedTokens(lambda said: [forced[len(said)]])
    session = assistant.session(SessionOptions(max_new_tokens=len(forced), speak=False, stop=("help n",)))
    reply = session.answer(Turn("Hello"), logits_processors=[grammar]).result()
    assert (reply.text, reply.finish_reason) == ("Call for", "stop")
    assert len(reply.token_ids) < len(forced)
    unlimited = assistant.session(SessionOptions(max_new_tokens=len(forced), speak=False))
    assert unlimited.answer(Turn("Hello"), logits_processors=[grammar]).result().finish_reason == "length"


def test_top_p_and_the_repetition_penalty_may_be_given_for_one_response(assistant: Assistant) -> None:
    session = assistant.session(SessionOptions(max_new_tokens=8, speak=False))
    greedy = session.answer(Turn("Hello")).result()
    session.reset()
    narrow = session.answer(Turn("Hello"), temperature=5.0, top_p=1e-9).result()
    assert narrow.token_ids == greedy.token_ids
    session.reset()
    penalised = session.answer(Turn("Hello"), repetition_penalty=1e9).result()
    assert len(set(penalised.token_ids)) == len(penalised.token_ids)


def test_a_session_that_nobody_holds_gives_its_caches_back_at_once(assistant: Assistant) -> None:
    gc.collect()
    gc.disable()
    try:
        session = assistant.session(SPOKEN)
        session.ask(HELLO)
        cache = weakref.ref(session.history.timeline.model.cache)
        del session
        assert cache() is None
    finally:
        gc.enable()
