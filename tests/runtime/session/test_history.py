"""Dialogues over the golden checkpoint: whatever was read ahead, given up, cut or left behind, the next logits are
those of a model that is told the same conversation at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from support.scripted import rows_of
from vita_edge.engines.errors import ContextOverflow
from vita_edge.runtime import Assistant, Sound, Turn, read_frames, read_sound
from vita_edge.runtime.decoding.sampling import Logits
from vita_edge.runtime.decoding.segments import splice
from vita_edge.runtime.session.dialogue import Dialogue, Order
from vita_edge.runtime.text.prompt import (
    PastTurn,
    UserTurn,
    encode_prompt,
    live_demo_prompt,
    system_prompt,
    user_closing,
)

FREE = 2000 - 130
"""Positions behind the system prompt, or nearly."""
REPLY = [60, 61, 62, 63, 64, 65, 66, 67]


@pytest.fixture(scope="module")
def clip(golden: Path) -> NDArray[np.float32]:
    """3.4 s of speech."""
    sound = read_sound(golden / "data" / "inputs" / "zh_ask.wav")
    assert sound.sample_rate_hz == 16000
    return sound.heard_channel


@pytest.fixture(scope="module")
def frames(golden: Path) -> Sequence[NDArray[np.uint8]]:
    return read_frames(golden / "data" / "inputs" / "clip_2.json")[0]


def dialogue(
    assistant: Assistant, *, sees: bool = False, order: Order = "chronological", capacity: int = 2000
) -> Dialogue:
    made = Dialogue(
        assistant.language_model(capacity),
        lambda: assistant.language_model(capacity),
        assistant.encoders,
        assistant.tokenizer,
        assistant.bundle.model,
        assistant.bundle.prompts,
        sees=sees,
        order=order,
    )
    made.open()
    return made


def asked(talk: Dialogue, clip: NDArray[np.float32]) -> Logits:
    talk.hear(clip)
    return talk.ask().copy()


def say(talk: Dialogue, logits: Logits, reply: Sequence[int] = REPLY) -> None:
    """Let the model say ``reply``."""
    script = iter(reply)
    said = list(talk.timeline.decode(logits, lambda _: next(script), len(reply), ()))
    assert said == list(reply)


def sound(clip: NDArray[np.float32]) -> Sound:
    return Sound(clip, 16000)


def assert_same(assistant: Assistant, logits: Logits, rows: NDArray[np.float32]) -> None:
    want = assistant.language_model(2000).prefill(rows)
    assert np.abs(logits - want).max() < 1e-4 * np.abs(want).max()


# --- reading ahead


def test_rows_of_a_growing_clip_are_settled_when_it_is_said(assistant: Assistant, clip: NDArray[np.float32]) -> None:
    whole = assistant.encoders.hear(sound(clip))
    facts = assistant.bundle.model.audio
    front_end = assistant.encoders.audio_front_end
    seen = set()
    for samples in range(4000, len(clip), 2711):
        settled = facts.settled_positions(front_end.frames(samples))
        seen.add(settled)
        part = assistant.encoders.hear(sound(clip[:samples]))
        assert 0 <= settled < len(part)
        np.testing.assert_allclose(part[:settled], whole[:settled], atol=1e-4 * np.abs(whole).max())
    assert len(seen) > 8 and max(seen) > 20
    assert replace(facts, chunk_size=0).settled_positions(300) == 0  # everything sees the end


def test_the_row_behind_the_settled_ones_is_not_settled(assistant: Assistant, clip: NDArray[np.float32]) -> None:
    """Else the rule would be wasteful: some length changes the very next row by what follows it."""
    whole = assistant.encoders.hear(sound(clip))
    facts, front_end = assistant.bundle.model.audio, assistant.encoders.audio_front_end
    moved = []
    for samples in range(8000, len(clip) - 4000, 1601):
        settled = facts.settled_positions(front_end.frames(samples))
        part = assistant.encoders.hear(sound(clip[:samples]))
        moved.append(np.abs(part[settled] - whole[settled]).max() > 1e-3 * np.abs(whole).max())
    assert np.mean(moved) > 0.5


def test_what_was_read_ahead_gives_what_one_prompt_gives(
    assistant: Assistant, clip: NDArray[np.float32], frames: Sequence[NDArray[np.uint8]]
) -> None:
    talk = dialogue(assistant, sees=True)
    for frame in frames[:2]:
        talk.see(assistant.encoders.watch([frame], "live"))
    for samples in range(8000, len(clip), 9000):
        talk.hear(clip[:samples], ended=False)
        talk.listen()
    assert talk.frames == 2 and talk.listened > 20
    before = talk.timeline.tokens_read
    logits = asked(talk, clip)
    turn = Turn(sounds=[sound(clip)], frames=frames[:2])
    assert_same(assistant, logits, rows_of(assistant, [], turn, "live"))
    rows, closing = len(assistant.encoders.hear(sound(clip))), len(encode_prompt(user_closing(), assistant.tokenizer))
    assert talk.timeline.tokens_read - before == rows - talk.listened + closing < 20


def test_what_is_worth_a_piece_and_a_reading(assistant: Assistant, clip: NDArray[np.float32]) -> None:
    """Pieces are smaller than readings, and nothing is worth doing twice."""
    talk = dialogue(assistant)
    heard, listened = [], []
    for samples in range(0, 40000, 160):
        if talk.worth_hearing(samples):
            heard.append(talk.hear(clip[:samples], ended=False))
            assert not talk.worth_hearing(samples)
        if talk.worth_listening:
            before = talk.timeline.position
            talk.listen()
            listened.append(talk.timeline.position - before)
            assert not talk.worth_listening
    assert set(heard) == {4} and set(listened) == {8}
    assert talk.listened == sum(listened) and sum(heard) - talk.listened in (0, 4)


def test_nothing_is_read_before_anything_is_settled(assistant: Assistant, clip: NDArray[np.float32]) -> None:
    talk = dialogue(assistant)
    position = talk.timeline.position
    assert talk.untouched
    assert talk.hear(clip[:4000], ended=False) == 0
    talk.listen()
    assert (talk.listened, talk.timeline.position) == (0, position)


def test_as_little_is_encoded_after_a_long_sentence_as_after_a_short_one(
    assistant: Assistant, clip: NDArray[np.float32]
) -> None:
    talk, long = dialogue(assistant), np.tile(clip, 4)
    for samples in (30000, 60000, 240000):
        for end in range(0, samples, 800):
            if talk.worth_hearing(end):
                talk.hear(long[:end], ended=False)
        assert talk.hear(long[:samples]) <= 11
        talk.forget()


def test_frames_come_before_the_sound(
    assistant: Assistant, clip: NDArray[np.float32], frames: Sequence[NDArray[np.uint8]]
) -> None:
    talk = dialogue(assistant, sees=True)
    talk.hear(clip, ended=False)
    talk.listen()
    with pytest.raises(ValueError, match="before the sound"):
        talk.see(assistant.encoders.watch(frames[:1], "live"))


def test_as_little_is_read_after_the_endpoint_of_the_twentieth_turn_as_of_the_first(
    assistant: Assistant, clip: NDArray[np.float32]
) -> None:
    talk = dialogue(assistant, capacity=4000)
    counts = []
    for _ in range(20):
        talk.hear(clip[:30000], ended=False)
        talk.listen()
        before = talk.timeline.tokens_read
        say(talk, asked(talk, clip))
        counts.append(talk.timeline.tokens_read - before)
        talk.settle(REPLY, len(REPLY))
    assert len(set(counts)) == 1
    assert talk.turns == 20


# --- giving up


def test_a_sentence_that_goes_on_leaves_no_trace_of_the_attempt(
    assistant: Assistant, clip: NDArray[np.float32]
) -> None:
    hopeful, patient = dialogue(assistant), dialogue(assistant)
    for talk in (hopeful, patient):
        talk.hear(clip[:20000], ended=False)
        talk.listen()
    say(hopeful, asked(hopeful, clip[:24000]))
    hopeful.unask()
    np.testing.assert_array_equal(asked(hopeful, clip), asked(patient, clip))
    assert hopeful.timeline.position == patient.timeline.position
    assert_same(assistant, asked_again(hopeful, clip), rows_of(assistant, [], Turn(sounds=[sound(clip)]), "live"))


def asked_again(talk: Dialogue, clip: NDArray[np.float32]) -> Logits:
    talk.unask()
    return asked(talk, clip)


def test_noise_leaves_no_trace(
    assistant: Assistant, clip: NDArray[np.float32], frames: Sequence[NDArray[np.uint8]]
) -> None:
    disturbed, calm = dialogue(assistant, sees=True), dialogue(assistant, sees=True)
    for talk in (disturbed, calm):
        say(talk, asked(talk, clip))
        talk.settle(REPLY, len(REPLY))
    disturbed.see(assistant.encoders.watch(frames[:1], "live"))
    disturbed.hear(clip[:30000], ended=False)
    disturbed.listen()
    say(disturbed, asked(disturbed, clip[:30000]), [70])
    disturbed.forget()
    assert (disturbed.frames, disturbed.listened) == (0, 0)
    np.testing.assert_array_equal(asked(disturbed, clip[5000:]), asked(calm, clip[5000:]))


# --- interruption


@pytest.mark.parametrize("heard", [0, 1, 5, len(REPLY)])
def test_after_an_interruption_the_history_holds_what_was_heard(
    assistant: Assistant, clip: NDArray[np.float32], heard: int
) -> None:
    talk = dialogue(assistant)
    say(talk, asked(talk, clip))
    talk.settle(REPLY, heard)
    first, second = Turn(sounds=[sound(clip)]), Turn(sounds=[sound(clip[9000:])])
    logits = asked(talk, clip[9000:])
    assert_same(assistant, logits, rows_of(assistant, [(first, REPLY[:heard])], second, "live"))


@pytest.mark.parametrize("order", ["chronological", "demo"])
@pytest.mark.parametrize("heard", [1, 5, len(REPLY)])
def test_a_reply_that_goes_on_after_noise_goes_on_as_if_nothing_had_been(
    assistant: Assistant, clip: NDArray[np.float32], heard: int, order: Order
) -> None:
    disturbed, calm = dialogue(assistant, order=order), dialogue(assistant, order=order)
    for talk in (disturbed, calm):
        say(talk, asked(talk, clip), [50, 51])
        talk.settle([50, 51], 2)
    say(calm, asked(calm, clip), [*REPLY, 70])
    say(disturbed, asked(disturbed, clip))
    turn = disturbed.settle(REPLY, heard)
    asked(disturbed, clip[20000:])
    disturbed.forget()
    say(disturbed, disturbed.resume(turn).copy(), [70])
    assert disturbed.turns == calm.turns
    for talk in (disturbed, calm):
        talk.settle([*REPLY, 70], len(REPLY) + 1)
    logits, want = asked(disturbed, clip[9000:]), asked(calm, clip[9000:])
    assert np.abs(logits - want).max() < 1e-5 * np.abs(want).max()


# --- old turns leave


def test_when_old_turns_leave_the_talk_stands_where_a_fresh_one_stands_that_was_told_the_rest(
    assistant: Assistant, clip: NDArray[np.float32], frames: Sequence[NDArray[np.uint8]]
) -> None:
    talk = dialogue(assistant, sees=True)
    clips = [clip[3000 * i :] for i in range(5)]
    for number, each in enumerate(clips):
        talk.see(assistant.encoders.watch([frames[number]], "live"))
        say(talk, asked(talk, each))
        talk.settle(REPLY[: number + 1], number + 1)
    talk.see(assistant.encoders.watch([frames[0]], "live"))
    before = talk.timeline.position
    assert talk.remember_less(160 / FREE)
    while talk.recollecting:
        assert talk.timeline.position == before and talk.turns == 5  # the talk could go on meanwhile
        assert 0 < talk.recollect(13) <= 13
    left = 5 - talk.turns
    assert 0 < left < 5
    assert talk.timeline.position < before
    logits = asked(talk, clip)
    past = [
        (Turn(sounds=[sound(each)], frames=[frames[number]]), REPLY[: number + 1]) for number, each in enumerate(clips)
    ]
    turn = Turn(sounds=[sound(clip)], frames=[frames[0]])
    assert_same(assistant, logits, rows_of(assistant, past[left:], turn, "live"))
    say(talk, logits)
    talk.settle(REPLY, 3)  # and it goes on
    after = [*past[left:], (turn, REPLY[:3])]
    assert_same(assistant, asked(talk, clip), rows_of(assistant, after, Turn(sounds=[sound(clip)]), "live"))


def test_turns_that_come_while_old_ones_are_read_again_are_not_lost(
    assistant: Assistant, clip: NDArray[np.float32]
) -> None:
    talk = dialogue(assistant)
    for _ in range(3):
        say(talk, asked(talk, clip))
        talk.settle(REPLY, len(REPLY))
    assert talk.remember_less(100 / FREE)
    talk.recollect(40)
    say(talk, asked(talk, clip[9000:]))
    talk.settle(REPLY, 2)
    while talk.recollecting:
        talk.recollect(1000)
    assert talk.turns == 2
    past = [(Turn(sounds=[sound(clip)]), REPLY), (Turn(sounds=[sound(clip[9000:])]), REPLY[:2])]
    assert_same(assistant, asked(talk, clip), rows_of(assistant, past, Turn(sounds=[sound(clip)]), "live"))


@pytest.mark.parametrize("slices", [0, 3, 9])
def test_what_is_given_up_while_old_turns_are_read_again_leaves_no_trace(
    assistant: Assistant, clip: NDArray[np.float32], slices: int
) -> None:
    talk = dialogue(assistant)
    for _ in range(3):
        say(talk, asked(talk, clip))
        talk.settle(REPLY, len(REPLY))
    assert talk.remember_less(100 / FREE)
    say(talk, asked(talk, clip[9000:]))
    for _ in range(slices):  # in the middle of a turn whose reply is being heard
        talk.recollect(30)
    talk.settle(REPLY, 2)  # interrupted
    talk.hear(clip[:30000], ended=False)
    talk.listen()
    talk.recollect(30)
    say(talk, asked(talk, clip[:30000]), [70])
    talk.recollect(30)
    talk.forget()
    while talk.recollecting:
        talk.recollect(30)
    past = [(Turn(sounds=[sound(clip)]), REPLY), (Turn(sounds=[sound(clip[9000:])]), REPLY[:2])]
    assert_same(assistant, asked(talk, clip), rows_of(assistant, past, Turn(sounds=[sound(clip)]), "live"))


def test_a_reply_may_go_on_while_old_turns_are_read_again(assistant: Assistant, clip: NDArray[np.float32]) -> None:
    talk = dialogue(assistant)
    for _ in range(2):
        say(talk, asked(talk, clip))
        turn = talk.settle(REPLY, 3)
    assert talk.remember_less(0)
    talk.recollect(60)
    say(talk, talk.resume(turn).copy(), [70])
    assert not talk.recollecting  # it was to keep nothing of the turn that goes on
    talk.settle([*REPLY, 70], len(REPLY) + 1)
    past = [(Turn(sounds=[sound(clip)]), REPLY[:3]), (Turn(sounds=[sound(clip)]), [*REPLY, 70])]
    assert_same(assistant, asked(talk, clip), rows_of(assistant, past, Turn(sounds=[sound(clip)]), "live"))


def test_nothing_leaves_while_all_of_it_may_stay(assistant: Assistant, clip: NDArray[np.float32]) -> None:
    talk = dialogue(assistant)
    assert not talk.remember_less(0)
    say(talk, asked(talk, clip))
    talk.settle(REPLY, len(REPLY))
    assert not talk.remember_less(1000 / FREE)
    assert talk.remember_less(10 / FREE)


def test_a_question_that_does_not_fit_any_more_is_answered_without_the_past(
    assistant: Assistant, clip: NDArray[np.float32], frames: Sequence[NDArray[np.uint8]]
) -> None:
    talk = dialogue(assistant, sees=True, capacity=330)
    while talk.timeline.room > 100:
        say(talk, asked(talk, clip))
        talk.settle(REPLY, len(REPLY))
    talk.see(assistant.encoders.watch([frames[0]], "live"))
    talk.hear(clip[:30000], ended=False)
    talk.listen()
    assert talk.turns > 0
    logits = asked(talk, np.tile(clip, 2))
    assert talk.turns == 0
    turn = Turn(sounds=[sound(np.tile(clip, 2))], frames=[frames[0]])
    assert_same(assistant, logits, rows_of(assistant, [], turn, "live"))
    talk.forget()
    with pytest.raises(ContextOverflow):
        asked(talk, np.tile(clip, 9))


# --- the order of the reference's live demo


def test_the_demo_order_is_the_prompt_of_the_live_demo(
    assistant: Assistant, clip: NDArray[np.float32], frames: Sequence[NDArray[np.uint8]]
) -> None:
    talk = dialogue(assistant, sees=True, order="demo")
    say(talk, asked(talk, clip))
    talk.settle(REPLY, 5)
    for frame in frames[:2]:
        talk.see(assistant.encoders.watch([frame], "live"))
    logits = asked(talk, clip[9000:])

    first, second = UserTurn(clips=1), UserTurn(frames=2, clips=1)
    past = PastTurn(first, assistant.tokenizer.decode(REPLY[:5]))
    system = system_prompt(assistant.bundle.prompts, "live", second)
    ids = encode_prompt(live_demo_prompt(system, second, past), assistant.tokenizer)
    pictures = assistant.encoders.watch(frames[:2], "live")
    clips = [assistant.encoders.hear(sound(each)) for each in (clip, clip[9000:])]
    assert_same(assistant, logits, splice(ids, assistant.embeddings.rows, pictures, clips))
