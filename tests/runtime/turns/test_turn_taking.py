"""Turn-taking by scripts of cues: v is a step of 32 ms with voice, - one without."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vita_edge.runtime.turns.endpoint_policy import EndpointPolicy
from vita_edge.runtime.turns.turn_events import (
    Action,
    AddresseeDecided,
    CancelPrefill,
    CancelResponse,
    CommitTurn,
    CompletenessEstimated,
    DropInterrupted,
    Duck,
    EndTurn,
    Interrupt,
    PlaybackDone,
    PlaybackStarted,
    Press,
    Release,
    ResponseFailed,
    Resume,
    SilenceFrame,
    SpeechFrame,
    StartPrefill,
    StartResponse,
    TurnEvent,
    TurnTimes,
    Unduck,
    WithdrawResponse,
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
            actions += self.machine.step((SpeechFrame if letter == "v" else SilenceFrame)(begin_s, self.now_s))
        return actions

    def reported(self, cue: TurnEvent) -> list[Action]:
        return self.machine.step(cue)

    def speak_until_heard(self) -> int:
        """A whole question, answered aloud; returns its turn."""
        begin = next(action for action in self.hear(SPEECH + END) if isinstance(action, StartResponse))
        self.reported(AddresseeDecided(begin.turn, True))
        self.reported(PlaybackStarted(begin.turn))
        assert self.state == "speaking"
        return begin.turn


def kinds(actions: list[Action]) -> list[str]:
    return [type(action).__name__ for action in actions]


# --- one question


def test_a_question_is_prepared_begun_at_the_pause_and_confirmed_at_the_endpoint() -> None:
    script = Script()
    assert script.hear("--v") == [StartPrefill()]
    assert script.state == "hearing"
    script.hear("v" * 9)
    assert script.hear("----") == []
    assert script.hear("-") == [StartResponse(1, pytest.approx(2 * STEP_S), pytest.approx(12 * STEP_S), True)]  # type: ignore[arg-type]
    assert script.state == "pausing"
    assert script.hear("-" * 10) == []
    assert script.hear("-") == [CommitTurn(1)]
    assert script.state == "thinking"
    script.reported(PlaybackStarted(1))
    assert script.state == "speaking"
    assert script.reported(PlaybackDone(1)) == [EndTurn(1)]
    assert script.state == "listening"


def test_a_sentence_that_goes_on_forgets_what_was_begun_and_keeps_its_beginning() -> None:
    script = Script()
    script.hear(SPEECH + PAUSE)
    assert script.hear("v") == [CancelResponse(1, "resumed")]
    assert script.state == "hearing"
    (begin,) = script.hear("v" * 5 + PAUSE)
    assert isinstance(begin, StartResponse)
    assert (begin.turn, begin.speech_begin_s, begin.speech_end_s) == (2, 0.0, pytest.approx(21 * STEP_S))


def test_without_speculation_nothing_is_begun_before_the_endpoint_and_the_clip_is_the_same() -> None:
    hopeful, patient = Script(), Script(TurnTimes(speculate=False))
    (started,) = hopeful.hear(SPEECH + PAUSE)[1:]
    assert kinds(patient.hear(SPEECH + PAUSE)) == ["StartPrefill"]
    assert patient.state == "pausing"
    begin, confirm = patient.hear("-" * 11)
    assert begin == replace(started, speculative=False)  # type: ignore[type-var]
    assert confirm == CommitTurn(1)


def test_after_some_attempts_in_vain_the_endpoint_is_waited_for() -> None:
    script = Script(TurnTimes(attempts=2))
    assert kinds(script.hear((SPEECH + PAUSE) * 4)) == [
        "StartPrefill",
        "StartResponse",
        "CancelResponse",
        "StartResponse",
        "CancelResponse",
    ]
    assert kinds(script.hear("-" * 11)) == ["StartResponse", "CommitTurn"]
    script.reported(PlaybackDone(3))
    assert kinds(script.hear(SPEECH + PAUSE)) == ["StartPrefill", "StartResponse"]  # the next question may hope again


def test_a_click_is_dismissed_and_a_yes_is_not() -> None:
    script = Script()
    assert script.hear("vv" + PAUSE) == [StartPrefill(), CancelPrefill()]
    assert script.state == "listening"
    assert kinds(script.hear("vvv" + PAUSE)) == ["StartPrefill", "StartResponse"]


def test_speech_that_does_not_end_is_answered_at_the_longest_time() -> None:
    script = Script(TurnTimes(max_utterance_ms=320))
    assert kinds(script.hear("v" * 10)) == ["StartPrefill", "StartResponse", "CommitTurn"]
    assert script.state == "thinking"


def test_speech_after_the_endpoint_and_before_the_first_sound_belongs_to_the_question() -> None:
    script = Script()
    script.hear(SPEECH + END)
    assert script.hear("v" * 6) == []
    assert script.hear("v") == [CancelResponse(1, "resumed")]  # 224 ms are not a click
    begin = script.hear(PAUSE)[-1]
    assert isinstance(begin, StartResponse) and begin.speech_begin_s == 0.0


def test_an_answer_without_a_sound_ends_the_turn() -> None:
    script = Script()
    script.hear(SPEECH + END)
    assert script.reported(PlaybackDone(1)) == [EndTurn(1)]
    assert script.state == "listening"


# --- noise


def test_noise_is_forgotten_at_the_endpoint_when_the_model_has_said_so_before() -> None:
    script = Script()
    script.hear(SPEECH + PAUSE)
    assert script.reported(AddresseeDecided(1, False)) == []
    assert script.hear("-" * 11) == [CancelResponse(1, "noise")]
    assert script.state == "listening"


def test_noise_is_forgotten_at_once_when_the_endpoint_is_past() -> None:
    script = Script()
    script.hear(SPEECH + END)
    assert script.reported(AddresseeDecided(1, False)) == [CancelResponse(1, "noise")]
    assert script.state == "listening"


def test_what_the_model_took_for_noise_may_become_a_question_when_the_user_goes_on() -> None:
    script = Script()
    script.hear(SPEECH + PAUSE)
    script.reported(AddresseeDecided(1, False))
    assert script.hear("v") == [CancelResponse(1, "resumed")]
    assert kinds(script.hear("v" + END)) == ["StartResponse", "CommitTurn"]


# --- interruption


def test_a_voice_over_the_reply_ducks_it_and_interrupts_it_when_it_lasts() -> None:
    script = Script()
    turn = script.speak_until_heard()
    assert script.hear("v") == [Duck()]
    assert script.state == "ducking"
    assert script.hear("vvvvv") == []
    assert script.hear("v") == [Interrupt(turn), StartPrefill()]
    assert script.state == "interrupted"
    begin = script.hear("vvv" + PAUSE)[-1]
    assert isinstance(begin, StartResponse)
    assert begin.speech_begin_s == pytest.approx(26 * STEP_S)  # where the voice began, not where it was believed
    script.hear("-" * 11)
    assert script.reported(AddresseeDecided(begin.turn, True)) == [DropInterrupted(turn)]
    assert script.reported(PlaybackStarted(begin.turn)) == []
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
        script.reported(AddresseeDecided(turn + 1, False))
        actions = script.hear("-" * 11)
    else:
        script.hear("-" * 11)
        actions = script.reported(AddresseeDecided(turn + 1, False))
    assert actions == [CancelResponse(turn + 1, "noise"), Resume(turn)]
    assert script.state == "speaking"
    assert script.reported(PlaybackDone(turn)) == [EndTurn(turn)]


def test_an_interruption_that_goes_on_after_a_pause_is_still_one() -> None:
    script = Script()
    turn = script.speak_until_heard()
    script.hear(SPEECH + PAUSE)
    assert script.hear("v") == [CancelResponse(turn + 1, "resumed")]
    assert script.state == "interrupted"
    script.hear(SPEECH + END)
    assert script.reported(AddresseeDecided(turn + 2, True)) == [DropInterrupted(turn)]


def test_an_answer_to_an_interruption_that_was_judged_before_the_endpoint_abandons_the_reply_there() -> None:
    script = Script()
    turn = script.speak_until_heard()
    script.hear(SPEECH + PAUSE)
    assert script.reported(AddresseeDecided(turn + 1, True)) == []  # the user may still go on
    assert script.hear("-" * 11) == [CommitTurn(turn + 1), DropInterrupted(turn)]


def test_a_voice_that_lasts_beyond_the_end_of_a_reply_is_the_next_question() -> None:
    script = Script()
    turn = script.speak_until_heard()
    script.hear("vv")
    assert kinds(script.reported(PlaybackDone(turn))) == ["EndTurn", "Unduck", "StartPrefill"]
    assert script.state == "hearing"
    begin = script.hear("vv" + PAUSE)[-1]
    assert isinstance(begin, StartResponse) and begin.speech_begin_s == pytest.approx(26 * STEP_S)


def test_a_voice_at_the_moment_of_the_first_sound_ducks_it() -> None:
    script = Script()
    script.hear(SPEECH + END + "vv")
    assert script.reported(PlaybackStarted(1)) == [Duck()]
    assert kinds(script.hear("vvvvv")) == ["Interrupt", "StartPrefill"]


def test_half_duplex_hears_nothing_while_it_speaks() -> None:
    script = Script(TurnTimes(full_duplex=False))
    turn = script.speak_until_heard()
    assert script.hear("v" * 50) == []
    script.reported(PlaybackDone(turn))
    assert script.hear("v") == [StartPrefill()]


# --- a button


def test_with_a_button_the_speech_is_what_lies_between_press_and_release() -> None:
    script = Script()
    assert script.reported(Press(1.0)) == [StartPrefill()]
    assert script.reported(Release(2.5)) == [StartResponse(1, 1.0, 2.5, False), CommitTurn(1)]
    script.reported(PlaybackStarted(1))
    assert script.reported(Press(4.0)) == [Interrupt(1), StartPrefill()]
    assert kinds(script.reported(Release(5.0))) == ["StartResponse", "CommitTurn"]


def test_a_tap_on_the_button_stops_the_reply() -> None:
    script = Script()
    script.reported(Press(1.0))
    script.reported(Release(2.0))
    script.reported(PlaybackStarted(1))
    script.reported(Press(3.0))
    assert script.reported(Release(3.05)) == [DropInterrupted(1), CancelPrefill()]
    assert script.state == "listening"


# --- what is out of date, what fails


def test_what_a_forgotten_attempt_tells_is_not_heard() -> None:
    script = Script()
    script.hear(SPEECH + PAUSE + "v" + PAUSE)
    for late in (AddresseeDecided(1, False), PlaybackStarted(1), PlaybackDone(1), ResponseFailed(1)):
        assert script.reported(late) == []
    assert script.state == "pausing"


def test_a_failed_answer_is_over_and_a_suspended_reply_goes_on() -> None:
    script = Script()
    script.hear(SPEECH + END)
    script.reported(ResponseFailed(1))
    assert script.state == "listening"
    turn = script.speak_until_heard()
    script.hear(SPEECH + END)
    assert script.reported(ResponseFailed(turn + 1)) == [Resume(turn)]
    assert script.state == "speaking"


def test_whatever_comes_in_whatever_order_the_machine_never_trips() -> None:
    """Every attempt ends (closed, forgotten, abandoned, failed) or is suspended before the next one begins."""
    import random

    random.seed(7)
    for trial in range(300):
        script = Script(TurnTimes(speculate=trial % 3 > 0, attempts=2, max_utterance_ms=1500))
        last = 0
        live: set[int] = set()
        for _ in range(200):
            cue = random.choice(
                [
                    "v",
                    "v",
                    "v",
                    "-",
                    "-",
                    "-",
                    "-----",
                    "-" * 12,
                    AddresseeDecided,
                    PlaybackStarted,
                    PlaybackDone,
                    ResponseFailed,
                ]
            )
            if isinstance(cue, str):
                actions = script.hear(cue)
            elif cue is AddresseeDecided:
                actions = script.reported(AddresseeDecided(last, random.random() < 0.5))
            else:
                actions = script.reported(cue(last))
                if cue is ResponseFailed and script.state == "listening":
                    live.discard(last)
            for action in actions:
                if isinstance(action, StartResponse):
                    last = action.turn
                    live.add(last)
                    assert len(live) <= 2  # at most one besides a suspended one
                elif isinstance(action, (EndTurn, CancelResponse, DropInterrupted)):
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


# --- a turn detector

POLICY = EndpointPolicy(complete_ms=200, open_ms=500, incomplete_ms=1000, sure=0.9, unsure=0.1)


def judged(probability: float, silence: str = "---") -> Script:
    """Speech, a silence, and what a detector says of it."""
    script = Script(TurnTimes(policy=POLICY))
    script.hear(SPEECH + silence)
    script.reported(CompletenessEstimated(script.machine.voice_end_s, probability))
    return script


@pytest.mark.parametrize(("probability", "steps"), [(0.95, 7), (0.5, 11), (0.05, 32)])
def test_the_endpoint_comes_when_the_probability_says(probability: float, steps: int) -> None:
    script = judged(probability)
    actions = script.hear("-" * (steps - 4))
    assert "CommitTurn" not in kinds(actions)
    assert kinds(script.hear("-"))[-1] == "CommitTurn"


def test_until_a_detector_has_spoken_the_fixed_silence_holds() -> None:
    script = Script(TurnTimes(policy=POLICY))
    script.hear(SPEECH + "-" * 15)
    assert kinds(script.hear("-")) == ["CommitTurn"]


def test_what_a_detector_said_of_one_silence_is_not_held_against_the_next() -> None:
    script = judged(0.05)
    script.hear("--" + SPEECH + "-" * 15)
    assert kinds(script.hear("-")) == ["CommitTurn"]


def test_a_detector_that_speaks_of_a_silence_that_is_over_changes_nothing() -> None:
    script = Script(TurnTimes(policy=POLICY))
    script.hear(SPEECH + "---")
    old_s = script.machine.voice_end_s
    script.hear("--vv--")
    script.reported(CompletenessEstimated(old_s, 0.99))
    assert "CommitTurn" not in kinds(script.hear("-" * 10))


def test_without_a_policy_a_detector_changes_nothing() -> None:
    script = Script()
    script.hear(SPEECH + "---")
    script.reported(CompletenessEstimated(script.machine.voice_end_s, 0.99))
    assert "CommitTurn" not in kinds(script.hear("-" * 12))
    assert "CommitTurn" in kinds(script.hear("-"))


# --- an answer that is withdrawn

EAGER = TurnTimes(withdraw_ms=500)


def test_who_goes_on_at_once_withdraws_the_answer_and_asks_one_question() -> None:
    script = Script(EAGER)
    turn = script.speak_until_heard()
    begun_s = 0.0
    actions = script.hear("----" + "v" * 7)
    assert kinds(actions) == ["Duck", "WithdrawResponse"]
    assert actions[1] == WithdrawResponse(turn)
    assert script.state == "hearing"
    begin = next(action for action in script.hear("v" * 5 + END) if isinstance(action, StartResponse))
    assert begin.speech_begin_s == begun_s and begin.turn == turn + 1


def test_who_speaks_later_interrupts() -> None:
    script = Script(EAGER)
    script.speak_until_heard()
    assert kinds(script.hear("-" * 20 + "v" * 7)) == ["Duck", "Interrupt", "StartPrefill"]


def test_a_voice_that_was_there_at_the_first_sound_withdraws_it_too() -> None:
    script = Script(EAGER)
    begin = next(action for action in script.hear(SPEECH + END) if isinstance(action, StartResponse))
    script.hear("vv")
    script.reported(PlaybackStarted(begin.turn))
    assert script.state == "ducking"
    assert "WithdrawResponse" in kinds(script.hear("v" * 6))


def test_unless_it_is_asked_for_nothing_is_withdrawn() -> None:
    script = Script()
    script.speak_until_heard()
    assert kinds(script.hear("v" * 7)) == ["Duck", "Interrupt", "StartPrefill"]
