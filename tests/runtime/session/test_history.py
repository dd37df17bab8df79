"""Histories over the golden checkpoint: whatever was read ahead, given up, cut or left behind, the next logits are
those of a model that is given the same conversation at once."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from support.scripted import rows_of
from vita_edge.engines.errors import ContextOverflow
from vita_edge.runtime import Assistant, Sound, Turn, read_frames, read_sound
from vita_edge.runtime.decoding.segments import splice
from vita_edge.runtime.decoding.top_k_logits import Row
from vita_edge.runtime.events.turn_clock import TurnClock
from vita_edge.runtime.session.history import History, SettledTurn
from vita_edge.runtime.session.open_turn import OpenTurn
from vita_edge.runtime.session.prompt_layout import ChronologicalLayout, PromptLayout
from vita_edge.runtime.text.prompt import (
    PastTurn,
    UserTurn,
    encode_prompt,
    live_demo_prompt,
    system_prompt,
    user_closing,
)
from vita_edge.verification.parity.demo_layout import DemoLayout

T = TypeVar("T")

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


def drained(steps: Generator[object, None, T]) -> T:
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value


class Talk:
    """A history, and the turn that its user is at."""

    def __init__(
        self, assistant: Assistant, *, sees: bool = False, layout: PromptLayout | None = None, capacity: int = 2000
    ) -> None:
        self.assistant = assistant
        self.history = History(
            lambda: assistant.language_model(capacity),
            layout or ChronologicalLayout(assistant.tokenizer, "live"),
            system_prompt(assistant.bundle.prompts, "live", UserTurn(frames=int(sees), clips=1)),
        )
        self.turn = self.new_turn()
        self.listen()

    def new_turn(self) -> OpenTurn:
        return OpenTurn(self.assistant.encoders, "live")

    def see(self, frame: NDArray[np.uint8]) -> None:
        self.turn.append_frame(frame)
        while self.turn.encode_ahead(TurnClock()):
            pass
        self.listen()

    def hear(self, clip: NDArray[np.float32]) -> int:
        """Encode what is settled of a clip so far; how many rows."""
        self.turn.hear(clip)
        before = self.rows
        while self.turn.encode_ahead(TurnClock()):
            pass
        return self.rows - before

    @property
    def rows(self) -> int:
        return sum(len(rows) for utterance in self.turn.content(ended=False).utterances for rows in utterance)

    def listen(self) -> None:
        """Read what is encoded."""
        drained(self.history.read_ahead(self.turn.content(ended=False)))

    def asked(self, clip: NDArray[np.float32]) -> Row:
        self.turn.hear(clip)
        self.turn.commit()
        drained(self.turn.encode(TurnClock()))
        logits = drained(self.history.read_turn(self.turn.content()))
        assert isinstance(logits, np.ndarray)
        return logits.copy()

    def say(self, logits: Row, reply: Sequence[int] = REPLY) -> None:
        """Let the model say ``reply``."""
        script = iter(reply)
        said = list(self.history.decode(logits, lambda _: next(script), len(reply), ()))
        assert said == list(reply)

    def settle(self, stored: int | None = None) -> SettledTurn:
        settled = self.history.settle(stored)
        self.turn = self.new_turn()
        self.listen()
        return settled

    def reopen(self) -> None:
        self.turn.reopen()
        self.history.reopen(self.turn.content(ended=False))

    def forget(self) -> None:
        self.turn = self.new_turn()
        self.history.forget()
        self.listen()


def sound(clip: NDArray[np.float32]) -> Sound:
    return Sound(clip, 16000)


def assert_same(assistant: Assistant, logits: Row, rows: NDArray[np.float32]) -> None:
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
    talk = Talk(assistant, sees=True)
    for frame in frames[:2]:
        talk.see(frame)
    for samples in range(8000, len(clip), 9000):
        talk.hear(clip[:samples])
        talk.listen()
    listened = talk.rows
    assert talk.turn.frames == 2 and listened > 20
    before = talk.history.timeline.tokens_read
    logits = talk.asked(clip)
    turn = Turn(sounds=[sound(clip)], frames=frames[:2])
    assert_same(assistant, logits, rows_of(assistant, [], turn, "live"))
    rows, closing = len(assistant.encoders.hear(sound(clip))), len(encode_prompt(user_closing(), assistant.tokenizer))
    assert talk.history.timeline.tokens_read - before == rows - listened + closing < 20


def test_nothing_is_read_before_anything_is_settled(assistant: Assistant, clip: NDArray[np.float32]) -> None:
    talk = Talk(assistant)
    position = talk.history.timeline.position
    assert talk.hear(clip[:4000]) == 0
    talk.listen()
    assert talk.history.timeline.position == position


def test_as_little_is_encoded_after_a_long_sentence_as_after_a_short_one(
    assistant: Assistant, clip: NDArray[np.float32]
) -> None:
    talk, long = Talk(assistant), np.tile(clip, 4)
    for samples in (30000, 60000, 240000):
        for end in range(0, samples, 800):
            talk.hear(long[:end])
        before = talk.rows
        talk.asked(long[:samples])
        (utterance,) = talk.turn.content().utterances
        assert sum(map(len, utterance)) - before <= 11
        talk.forget()


def test_a_frame_that_comes_after_some_of_the_sound_is_seen_before_it(
    assistant: Assistant, clip: NDArray[np.float32], frames: Sequence[NDArray[np.uint8]]
) -> None:
    talk = Talk(assistant, sees=True)
    talk.hear(clip[:30000])
    talk.listen()
    talk.see(frames[0])
    logits = talk.asked(clip)
    assert_same(assistant, logits, rows_of(assistant, [], Turn(sounds=[sound(clip)], frames=frames[:1]), "live"))


def test_as_little_is_read_after_the_endpoint_of_the_twentieth_turn_as_of_the_first(
    assistant: Assistant, clip: NDArray[np.float32]
) -> None:
    talk = Talk(assistant, capacity=4000)
    counts = []
    for _ in range(20):
        talk.hear(clip[:30000])
        talk.listen()
        before = talk.history.timeline.tokens_read
        talk.say(talk.asked(clip))
        counts.append(talk.history.timeline.tokens_read - before)
        talk.settle()
    assert len(set(counts)) == 1
    assert talk.history.turns == 20


# --- giving up


def test_a_sentence_that_goes_on_leaves_no_trace_of_the_response(
    assistant: Assistant, clip: NDArray[np.float32]
) -> None:
    hopeful, patient = Talk(assistant), Talk(assistant)
    for talk in (hopeful, patient):
        talk.hear(clip[:20000])
        talk.listen()
    hopeful.say(hopeful.asked(clip[:24000]))
    hopeful.reopen()
    for talk in (hopeful, patient):
        talk.hear(clip[:30000])
        talk.listen()
    np.testing.assert_array_equal(hopeful.asked(clip), patient.asked(clip))
    assert hopeful.history.timeline.position == patient.history.timeline.position
    hopeful.reopen()
    logits = hopeful.asked(clip)
    assert_same(assistant, logits, rows_of(assistant, [], Turn(sounds=[sound(clip)]), "live"))


def test_a_sentence_that_goes_on_after_its_response_was_settled_leaves_no_trace_either(
    assistant: Assistant, clip: NDArray[np.float32]
) -> None:
    talk = Talk(assistant)
    talk.hear(clip[:20000])
    talk.listen()
    talk.say(talk.asked(clip[:24000]))
    settled = talk.history.settle()
    talk.turn.reopen()
    talk.history.reopen_settled(settled, talk.turn.content(ended=False))
    assert talk.history.turns == 0
    logits = talk.asked(clip)
    assert_same(assistant, logits, rows_of(assistant, [], Turn(sounds=[sound(clip)]), "live"))


def test_noise_leaves_no_trace(
    assistant: Assistant, clip: NDArray[np.float32], frames: Sequence[NDArray[np.uint8]]
) -> None:
    disturbed, calm = Talk(assistant, sees=True), Talk(assistant, sees=True)
    for talk in (disturbed, calm):
        talk.say(talk.asked(clip))
        talk.settle()
    disturbed.see(frames[0])
    disturbed.hear(clip[:30000])
    disturbed.listen()
    disturbed.say(disturbed.asked(clip[:30000]), [70])
    disturbed.forget()
    np.testing.assert_array_equal(disturbed.asked(clip[5000:]), calm.asked(clip[5000:]))


# --- interruption


@pytest.mark.parametrize("heard", [0, 1, 5, len(REPLY)])
def test_after_an_interruption_the_history_holds_what_was_heard(
    assistant: Assistant, clip: NDArray[np.float32], heard: int
) -> None:
    for late in (False, True):
        talk = Talk(assistant)
        talk.say(talk.asked(clip))
        settled = talk.settle(None if late else heard)
        if late:  # the text was complete long before it was heard
            talk.history.cut_reply(settled, heard)
        first, second = Turn(sounds=[sound(clip)]), Turn(sounds=[sound(clip[9000:])])
        logits = talk.asked(clip[9000:])
        assert_same(assistant, logits, rows_of(assistant, [(first, REPLY[:heard])], second, "live"))


@pytest.mark.parametrize("order", ["chronological", "demo"])
@pytest.mark.parametrize("heard", [1, 5, len(REPLY)])
def test_a_reply_that_goes_on_after_noise_goes_on_as_if_nothing_had_been(
    assistant: Assistant, clip: NDArray[np.float32], heard: int, order: str
) -> None:
    layouts = [DemoLayout(assistant.tokenizer) if order == "demo" else None for _ in range(2)]
    disturbed, calm = (Talk(assistant, layout=layout) for layout in layouts)
    for talk in (disturbed, calm):
        talk.say(talk.asked(clip), [50, 51])
        talk.settle()
    calm.say(calm.asked(clip), [*REPLY, 70])
    disturbed.say(disturbed.asked(clip))
    settled = disturbed.settle(heard)
    disturbed.asked(clip[20000:])
    disturbed.forget()
    logits = drained(disturbed.history.resume(settled))
    assert isinstance(logits, np.ndarray)
    disturbed.say(logits.copy(), [70])
    assert disturbed.history.turns == calm.history.turns
    for talk in (disturbed, calm):
        talk.settle()
    got, want = disturbed.asked(clip[9000:]), calm.asked(clip[9000:])
    assert np.abs(got - want).max() < 1e-5 * np.abs(want).max()


def test_the_instructions_may_change_in_the_middle(assistant: Assistant, clip: NDArray[np.float32]) -> None:
    talk = Talk(assistant)
    talk.say(talk.asked(clip))
    talk.settle()
    talk.history.instructions = "Answer in one word."
    logits = talk.asked(clip)
    reported = {**assistant.bundle.prompts, "live": {"audio": "Answer in one word."}}
    turn = Turn(sounds=[sound(clip)])
    assert_same(assistant, logits, rows_of(assistant, [(turn, REPLY)], turn, "live", reported))


# --- old turns leave


def test_when_old_turns_leave_the_talk_stands_where_a_fresh_one_stands_that_was_given_the_rest(
    assistant: Assistant, clip: NDArray[np.float32], frames: Sequence[NDArray[np.uint8]]
) -> None:
    talk = Talk(assistant, sees=True)
    clips = [clip[3000 * i :] for i in range(5)]
    for number, each in enumerate(clips):
        talk.see(frames[number])
        talk.say(talk.asked(each), REPLY[: number + 1])
        talk.settle()
    talk.see(frames[0])
    history = talk.history
    before = history.timeline.position
    assert history.begin_compaction(160 / FREE)
    while history.compacting:
        assert history.timeline.position == before and history.turns == 5  # the talk could go on meanwhile
        assert 0 < history.compact(13) <= 13
    left = 5 - history.turns
    assert 0 < left < 5
    assert history.timeline.position < before
    logits = talk.asked(clip)
    past = [
        (Turn(sounds=[sound(each)], frames=[frames[number]]), REPLY[: number + 1]) for number, each in enumerate(clips)
    ]
    turn = Turn(sounds=[sound(clip)], frames=[frames[0]])
    assert_same(assistant, logits, rows_of(assistant, past[left:], turn, "live"))
    talk.say(logits)
    talk.settle(3)  # and it goes on
    after = [*past[left:], (turn, REPLY[:3])]
    assert_same(assistant, talk.asked(clip), rows_of(assistant, after, Turn(sounds=[sound(clip)]), "live"))


def test_turns_that_come_while_old_ones_are_read_again_are_not_lost(
    assistant: Assistant, clip: NDArray[np.float32]
) -> None:
    talk = Talk(assistant)
    for _ in range(3):
        talk.say(talk.asked(clip))
        talk.settle()
    assert talk.history.begin_compaction(100 / FREE)
    talk.history.compact(40)
    talk.say(talk.asked(clip[9000:]))
    talk.settle(2)
    while talk.history.compacting:
        talk.history.compact(1000)
    assert talk.history.turns == 2
    past = [(Turn(sounds=[sound(clip)]), REPLY), (Turn(sounds=[sound(clip[9000:])]), REPLY[:2])]
    assert_same(assistant, talk.asked(clip), rows_of(assistant, past, Turn(sounds=[sound(clip)]), "live"))


@pytest.mark.parametrize("slices", [0, 3, 9])
def test_what_is_given_up_while_old_turns_are_read_again_leaves_no_trace(
    assistant: Assistant, clip: NDArray[np.float32], slices: int
) -> None:
    talk = Talk(assistant)
    for _ in range(3):
        talk.say(talk.asked(clip))
        talk.settle()
    assert talk.history.begin_compaction(100 / FREE)
    talk.say(talk.asked(clip[9000:]))
    for _ in range(slices):  # in the middle of a turn whose reply is being heard
        talk.history.compact(30)
    talk.settle(2)  # interrupted
    talk.hear(clip[:30000])
    talk.listen()
    talk.history.compact(30)
    talk.say(talk.asked(clip[:30000]), [70])
    talk.history.compact(30)
    talk.forget()
    while talk.history.compacting:
        talk.history.compact(30)
    past = [(Turn(sounds=[sound(clip)]), REPLY), (Turn(sounds=[sound(clip[9000:])]), REPLY[:2])]
    assert_same(assistant, talk.asked(clip), rows_of(assistant, past, Turn(sounds=[sound(clip)]), "live"))


def test_a_reply_may_go_on_while_old_turns_are_read_again(assistant: Assistant, clip: NDArray[np.float32]) -> None:
    talk = Talk(assistant)
    for _ in range(2):
        talk.say(talk.asked(clip))
        settled = talk.settle(3)
    assert talk.history.begin_compaction(0)
    talk.history.compact(60)
    logits = drained(talk.history.resume(settled))
    assert isinstance(logits, np.ndarray)
    talk.say(logits.copy(), [70])
    assert not talk.history.compacting  # it was to keep nothing of the turn that goes on
    talk.settle()
    past = [(Turn(sounds=[sound(clip)]), REPLY[:3]), (Turn(sounds=[sound(clip)]), [*REPLY, 70])]
    assert_same(assistant, talk.asked(clip), rows_of(assistant, past, Turn(sounds=[sound(clip)]), "live"))


def test_nothing_leaves_while_all_of_it_may_stay(assistant: Assistant, clip: NDArray[np.float32]) -> None:
    talk = Talk(assistant)
    assert not talk.history.begin_compaction(0)
    talk.say(talk.asked(clip))
    talk.settle()
    assert not talk.history.begin_compaction(1000 / FREE)
    assert talk.history.begin_compaction(10 / FREE)


def test_a_question_that_does_not_fit_any_more_is_answered_without_the_past(
    assistant: Assistant, clip: NDArray[np.float32], frames: Sequence[NDArray[np.uint8]]
) -> None:
    talk = Talk(assistant, sees=True, capacity=330)
    while talk.history.timeline.room > 100:
        talk.say(talk.asked(clip))
        talk.settle()
    talk.see(frames[0])
    talk.hear(clip[:30000])
    talk.listen()
    assert talk.history.turns > 0
    with pytest.raises(ContextOverflow):
        talk.asked(np.tile(clip, 2))
    assert talk.history.drop_turns() and not talk.history.drop_turns()
    talk.reopen()
    logits = talk.asked(np.tile(clip, 2))
    turn = Turn(sounds=[sound(np.tile(clip, 2))], frames=[frames[0]])
    assert_same(assistant, logits, rows_of(assistant, [], turn, "live"))
    talk.forget()
    with pytest.raises(ContextOverflow):
        talk.asked(np.tile(clip, 9))


# --- the order of the reference's live demo


def test_the_demo_layout_is_the_prompt_of_the_live_demo(
    assistant: Assistant, clip: NDArray[np.float32], frames: Sequence[NDArray[np.uint8]]
) -> None:
    talk = Talk(assistant, sees=True, layout=DemoLayout(assistant.tokenizer))
    talk.say(talk.asked(clip))
    talk.settle(5)
    for frame in frames[:2]:
        talk.see(frame)
    logits = talk.asked(clip[9000:])

    first, second = UserTurn(clips=1), UserTurn(frames=2, clips=1)
    past = PastTurn(first, assistant.tokenizer.decode(REPLY[:5]))
    system = system_prompt(assistant.bundle.prompts, "live", second)
    ids = encode_prompt(live_demo_prompt(system, second, past), assistant.tokenizer)
    pictures = assistant.encoders.watch(frames[:2], "live")
    clips = [assistant.encoders.hear(sound(each)) for each in (clip, clip[9000:])]
    assert_same(assistant, logits, splice(ids, assistant.embeddings.rows, pictures, clips))
