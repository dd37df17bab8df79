"""Turn-taking by scripts of cues: v is a step of 32 ms with voice, - one without."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vita_edge.runtime.turns.turn_events import (
    Abandon,
    Action,
    Begin,
    Close,
    Confirm,
    Cue,
    Dismiss,
    Duck,
    Ended,
    Failed,
    Forget,
    Interrupt,
    Judged,
    Prepare,
    Press,
    Release,
    Resume,
    Silence,
    Sounding,
    TurnTimes,
    Unduck,
    Voice,
)
from vita_edge.runtime.turns.turn_table import TABLE
from vita_edge.runtime.turns.turn_taking import TurnTaking

STEP_S = 0.032
SPEECH = "v" * 10
PAUSE = "-" * 5  # 160 ms: the first silence of at least 150
END = "-" * 16  # 512 ms


class Script:
    """A machine with a clock that goes on by a step for every letter."""

    def __init__(self, times: TurnTimes | None = None) -> None:
        self.machine = TurnTaking(times)
        self.steps = 0

    @property
    def state(self) -> str:
        return self.machine.state

    @property
    def now_s(self) -> float:
        return self.steps * STEP_S

    def hear(self, letters: str) -> list[Action]:
        actions: list[Action] = []
        for letter in letters:
            begin_s = self.now_s
            self.steps += 1
            actions += self.machine.step((Voice if letter == "v" else Silence)(begin_s, self.now_s))
        return actions

    def told(self, cue: Cue) -> list[Action]:
        return self.machine.step(cue)

    def speak_until_heard(self) -> int:
        """A whole question, answered aloud; returns its turn."""
        begin = next(action for action in self.hear(SPEECH + END) if isinstance(action, Begin))
        self.told(Judged(begin.turn, True))
        self.told(Sounding(begin.turn))
        assert self.state == "speaking"
        return begin.turn


def kinds(actions: list[Action]) -> list[str]:
    return [type(action).__name__ for action in actions]


# --- one question


def test_a_question_is_prepared_begun_at_the_pause_and_confirmed_at_the_endpoint() -> None:
    script = Script()
    assert script.hear("--v") == [Prepare()]
    assert script.state == "hearing"
    script.hear("v" * 9)
    assert script.hear("----") == []
    assert script.hear("-") == [Begin(1, pytest.approx(2 * STEP_S), pytest.approx(12 * STEP_S), True)]  # type: ignore[arg-type]
    assert script.state == "pausing"
    assert script.hear("-" * 10) == []
    assert script.hear("-") == [Confirm(1)]
    assert script.state == "thinking"
    script.told(Sounding(1))
    assert script.state == "speaking"
    assert script.told(Ended(1)) == [Close(1)]
    assert script.state == "listening"


def test_a_sentence_that_goes_on_forgets_what_was_begun_and_keeps_its_beginning() -> None:
    script = Script()
    script.hear(SPEECH + PAUSE)
    assert script.hear("v") == [Forget(1, "resumed")]
    assert script.state == "hearing"
    (begin,) = script.hear("v" * 5 + PAUSE)
    assert isinstance(begin, Begin)
    assert (begin.turn, begin.speech_begin_s, begin.speech_end_s) == (2, 0.0, pytest.approx(21 * STEP_S))


def test_without_speculation_nothing_is_begun_before_the_endpoint_and_the_clip_is_the_same() -> None:
    hopeful, patient = Script(), Script(TurnTimes(speculate=False))
    (begun,) = hopeful.hear(SPEECH + PAUSE)[1:]
    assert kinds(patient.hear(SPEECH + PAUSE)) == ["Prepare"]
    assert patient.state == "pausing"
    begin, confirm = patient.hear("-" * 11)
    assert begin == replace(begun, speculative=False)  # type: ignore[type-var]
    assert confirm == Confirm(1)


def test_after_some_attempts_in_vain_the_endpoint_is_waited_for() -> None:
    script = Script(TurnTimes(attempts=2))
    assert kinds(script.hear((SPEECH + PAUSE) * 4)) == ["Prepare", "Begin", "Forget", "Begin", "Forget"]
    assert kinds(script.hear("-" * 11)) == ["Begin", "Confirm"]
    script.told(Ended(3))
    assert kinds(script.hear(SPEECH + PAUSE)) == ["Prepare", "Begin"]  # the next question may hope again


def test_a_click_is_dismissed_and_a_yes_is_not() -> None:
    script = Script()
    assert script.hear("vv" + PAUSE) == [Prepare(), Dismiss()]
    assert script.state == "listening"
    assert kinds(script.hear("vvv" + PAUSE)) == ["Prepare", "Begin"]


def test_speech_that_does_not_end_is_answered_at_the_longest_time() -> None:
    script = Script(TurnTimes(longest_ms=320))
    assert kinds(script.hear("v" * 10)) == ["Prepare", "Begin", "Confirm"]
    assert script.state == "thinking"


def test_speech_after_the_endpoint_and_before_the_first_sound_belongs_to_the_question() -> None:
    script = Script()
    script.hear(SPEECH + END)
    assert script.hear("v" * 6) == []
    assert script.hear("v") == [Forget(1, "resumed")]  # 224 ms are not a click
    begin = script.hear(PAUSE)[-1]
    assert isinstance(begin, Begin) and begin.speech_begin_s == 0.0


def test_an_answer_without_a_sound_ends_the_turn() -> None:
    script = Script()
    script.hear(SPEECH + END)
    assert script.told(Ended(1)) == [Close(1)]
    assert script.state == "listening"


# --- noise


def test_noise_is_forgotten_at_the_endpoint_when_the_model_has_said_so_before() -> None:
    script = Script()
    script.hear(SPEECH + PAUSE)
    assert script.told(Judged(1, False)) == []
    assert script.hear("-" * 11) == [Forget(1, "noise")]
    assert script.state == "listening"


def test_noise_is_forgotten_at_once_when_the_endpoint_is_past() -> None:
    script = Script()
    script.hear(SPEECH + END)
    assert script.told(Judged(1, False)) == [Forget(1, "noise")]
    assert script.state == "listening"


def test_what_the_model_took_for_noise_may_become_a_question_when_the_user_goes_on() -> None:
    script = Script()
    script.hear(SPEECH + PAUSE)
    script.told(Judged(1, False))
    assert script.hear("v") == [Forget(1, "resumed")]
    assert kinds(script.hear("v" + END)) == ["Begin", "Confirm"]


# --- interruption


def test_a_voice_over_the_reply_ducks_it_and_interrupts_it_when_it_lasts() -> None:
    script = Script()
    turn = script.speak_until_heard()
    assert script.hear("v") == [Duck()]
    assert script.state == "ducking"
    assert script.hear("vvvvv") == []
    assert script.hear("v") == [Interrupt(turn), Prepare()]
    assert script.state == "interrupted"
    begin = script.hear("vvv" + PAUSE)[-1]
    assert isinstance(begin, Begin)
    assert begin.speech_begin_s == pytest.approx(26 * STEP_S)  # where the voice began, not where it was believed
    script.hear("-" * 11)
    assert script.told(Judged(begin.turn, True)) == [Abandon(turn)]
    assert script.told(Sounding(begin.turn)) == []
    assert script.state == "speaking"


def test_a_cough_only_ducks_the_reply() -> None:
    script = Script()
    script.speak_until_heard()
    assert script.hear("vv" + "-" * 7) == [Duck()]
    assert script.hear("-") == [Unduck()]
    assert script.state == "speaking"
    assert script.hear("vvvvv") == [Duck()]  # counted anew


@pytest.mark.parametrize("judged_before_the_endpoint", [True, False])
def test_noise_over_a_reply_lets_it_go_on(judged_before_the_endpoint: bool) -> None:
    script = Script()
    turn = script.speak_until_heard()
    script.hear(SPEECH + PAUSE)
    actions: list[Action] = []
    if judged_before_the_endpoint:
        script.told(Judged(turn + 1, False))
        actions = script.hear("-" * 11)
    else:
        script.hear("-" * 11)
        actions = script.told(Judged(turn + 1, False))
    assert actions == [Forget(turn + 1, "noise"), Resume(turn)]
    assert script.state == "speaking"
    assert script.told(Ended(turn)) == [Close(turn)]


def test_an_interruption_that_goes_on_after_a_pause_is_still_one() -> None:
    script = Script()
    turn = script.speak_until_heard()
    script.hear(SPEECH + PAUSE)
    assert script.hear("v") == [Forget(turn + 1, "resumed")]
    assert script.state == "interrupted"
    script.hear(SPEECH + END)
    assert script.told(Judged(turn + 2, True)) == [Abandon(turn)]


def test_an_answer_to_an_interruption_that_was_judged_before_the_endpoint_abandons_the_reply_there() -> None:
    script = Script()
    turn = script.speak_until_heard()
    script.hear(SPEECH + PAUSE)
    assert script.told(Judged(turn + 1, True)) == []  # the user may still go on
    assert script.hear("-" * 11) == [Confirm(turn + 1), Abandon(turn)]


def test_a_voice_that_lasts_beyond_the_end_of_a_reply_is_the_next_question() -> None:
    script = Script()
    turn = script.speak_until_heard()
    script.hear("vv")
    assert kinds(script.told(Ended(turn))) == ["Close", "Unduck", "Prepare"]
    assert script.state == "hearing"
    begin = script.hear("vv" + PAUSE)[-1]
    assert isinstance(begin, Begin) and begin.speech_begin_s == pytest.approx(26 * STEP_S)


def test_a_voice_at_the_moment_of_the_first_sound_ducks_it() -> None:
    script = Script()
    script.hear(SPEECH + END + "vv")
    assert script.told(Sounding(1)) == [Duck()]
    assert kinds(script.hear("vvvvv")) == ["Interrupt", "Prepare"]


def test_half_duplex_hears_nothing_while_it_speaks() -> None:
    script = Script(TurnTimes(hears_over_speech=False))
    turn = script.speak_until_heard()
    assert script.hear("v" * 50) == []
    script.told(Ended(turn))
    assert script.hear("v") == [Prepare()]


# --- a button


def test_with_a_button_the_speech_is_what_lies_between_press_and_release() -> None:
    script = Script()
    assert script.told(Press(1.0)) == [Prepare()]
    assert script.told(Release(2.5)) == [Begin(1, 1.0, 2.5, False), Confirm(1)]
    script.told(Sounding(1))
    assert script.told(Press(4.0)) == [Interrupt(1), Prepare()]
    assert kinds(script.told(Release(5.0))) == ["Begin", "Confirm"]


def test_a_tap_on_the_button_stops_the_reply() -> None:
    script = Script()
    script.told(Press(1.0))
    script.told(Release(2.0))
    script.told(Sounding(1))
    script.told(Press(3.0))
    assert script.told(Release(3.05)) == [Abandon(1), Dismiss()]
    assert script.state == "listening"


# --- what is out of date, what fails


def test_what_a_forgotten_attempt_tells_is_not_heard() -> None:
    script = Script()
    script.hear(SPEECH + PAUSE + "v" + PAUSE)
    for late in (Judged(1, False), Sounding(1), Ended(1), Failed(1)):
        assert script.told(late) == []
    assert script.state == "pausing"


def test_a_failed_answer_is_over_and_a_suspended_reply_goes_on() -> None:
    script = Script()
    script.hear(SPEECH + END)
    script.told(Failed(1))
    assert script.state == "listening"
    turn = script.speak_until_heard()
    script.hear(SPEECH + END)
    assert script.told(Failed(turn + 1)) == [Resume(turn)]
    assert script.state == "speaking"


def test_whatever_comes_in_whatever_order_the_machine_never_trips() -> None:
    """Every attempt ends (closed, forgotten, abandoned, failed) or is suspended before the next one begins."""
    import random

    random.seed(7)
    for trial in range(300):
        script = Script(TurnTimes(speculate=trial % 3 > 0, attempts=2, longest_ms=1500))
        last = 0
        live: set[int] = set()
        for _ in range(200):
            cue = random.choice(["v", "v", "v", "-", "-", "-", "-----", "-" * 12, Judged, Sounding, Ended, Failed])
            if isinstance(cue, str):
                actions = script.hear(cue)
            elif cue is Judged:
                actions = script.told(Judged(last, random.random() < 0.5))
            else:
                actions = script.told(cue(last))
                if cue is Failed and script.state == "listening":
                    live.discard(last)
            for action in actions:
                if isinstance(action, Begin):
                    last = action.turn
                    live.add(last)
                    assert len(live) <= 2  # at most one besides a suspended one
                elif isinstance(action, (Close, Forget, Abandon)):
                    live.remove(action.turn)
                elif isinstance(action, Resume):
                    live.discard(last)
                    last = action.turn


def test_every_row_of_the_table_can_be_reached() -> None:
    """A row that is shadowed by an earlier one would be a lie to whoever reads the table."""
    for number, row in enumerate(TABLE):
        for earlier in TABLE[:number]:
            shadowed = earlier.cue is row.cue and earlier.when is row.when and set(row.states) <= set(earlier.states)
            assert not shadowed, (number, row)
        assert row.when.__doc__ and all(deed.__doc__ for deed in row.does)
