"""Turn-taking as a table: in which state which cue does what, and what each condition and deed means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ..events.session_events import TalkState
from .turn_events import (
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
    Stop,
    TurnEvent,
    TurnTimes,
    Unduck,
    WithdrawResponse,
)

__all__ = ["TABLE", "Condition", "Deed", "Situation", "TurnRow"]


@dataclass
class Situation:
    """What the machine remembers besides its state."""

    times: TurnTimes
    turn: int | None = None
    """The attempt to answer that is being made, held or heard."""
    suspended: int | None = None
    """A reply that was silenced and may go on, should the interruption be noise."""
    judged: bool | None = None
    """Whether the model took what it heard for meant for it; None before it has said so."""
    complete: float | None = None
    """How likely the turn is complete, by a turn detector; None before it has spoken of this silence."""
    now_s: float = 0.0
    """The end of the last frame."""
    asked_begin_s: float = 0.0
    """Where the speech begins that is being answered."""
    sounding_s: float = 0.0
    """When the reply began to be heard."""
    speech_begin_s: float = 0.0
    voice_end_s: float = 0.0
    """The last voice there was."""
    voiced_s: float = 0.0
    """Voice since the speech, or the voice over a reply, began."""
    attempts: int = 0
    next_turn: int = 1
    actions: list[Action] = field(default_factory=list)


Condition: TypeAlias = Callable[[Situation, TurnEvent], bool]
Deed: TypeAlias = Callable[[Situation, TurnEvent], None]


def _end_s(cue: TurnEvent) -> float:
    if isinstance(cue, (SpeechFrame, SilenceFrame)):
        return cue.end_s
    assert isinstance(cue, (Press, Release))
    return cue.at_s


def _silent_for(s: Situation, cue: TurnEvent, ms: float) -> bool:
    return _end_s(cue) - s.voice_end_s >= ms / 1000 - 1e-9


def always(s: Situation, cue: TurnEvent) -> bool:
    """in any case"""
    return True


def heard(s: Situation, cue: TurnEvent) -> bool:
    """voice over speech is listened to"""
    return s.times.full_duplex


def too_long(s: Situation, cue: TurnEvent) -> bool:
    """the speech has lasted for the longest time"""
    return _end_s(cue) - s.speech_begin_s >= s.times.max_utterance_ms / 1000


def pause(s: Situation, cue: TurnEvent) -> bool:
    """it has been silent for a pause"""
    return _silent_for(s, cue, s.times.speculation_delay_ms)


def click(s: Situation, cue: TurnEvent) -> bool:
    """it has been silent for a pause, and there was hardly any voice"""
    return pause(s, cue) and s.voiced_s < s.times.min_speech_ms / 1000


def may_speculate(s: Situation, cue: TurnEvent) -> bool:
    """it has been silent for a pause, and an answer may be tried"""
    return pause(s, cue) and s.times.speculate and s.attempts < s.times.attempts


def tapped(s: Situation, cue: TurnEvent) -> bool:
    """the button was held for less than the shortest speech"""
    return _end_s(cue) - s.speech_begin_s < s.times.min_speech_ms / 1000


def over(s: Situation, cue: TurnEvent) -> bool:
    """it has been silent until the endpoint"""
    return _silent_for(s, cue, s.times.silence_ms(s.complete))


def over_noise(s: Situation, cue: TurnEvent) -> bool:
    """it has been silent until the endpoint, and the model took it for noise"""
    return over(s, cue) and s.judged is False


def over_noise_in_a_reply(s: Situation, cue: TurnEvent) -> bool:
    """it has been silent until the endpoint, the model took it for noise, and a reply is suspended"""
    return over_noise(s, cue) and s.suspended is not None


def of_this_silence(s: Situation, cue: TurnEvent) -> bool:
    """it is about the silence that goes on"""
    return isinstance(cue, CompletenessEstimated) and cue.voice_end_s == s.voice_end_s


def in_a_reply(s: Situation, cue: TurnEvent) -> bool:
    """a reply is suspended"""
    return s.suspended is not None


def insisting(s: Situation, cue: TurnEvent) -> bool:
    """the voice has lasted long enough to interrupt"""
    assert isinstance(cue, SpeechFrame)
    return s.voiced_s + cue.end_s - cue.begin_s >= s.times.barge_in_ms / 1000 - 1e-9


def insisting_in_a_reply(s: Situation, cue: TurnEvent) -> bool:
    """the voice has lasted long enough to interrupt, and a reply is suspended"""
    return insisting(s, cue) and s.suspended is not None


def insisting_at_once(s: Situation, cue: TurnEvent) -> bool:
    """the voice has lasted long enough to interrupt, and the reply has been heard for a moment only"""
    assert isinstance(cue, SpeechFrame)
    heard_ms = 1000 * (cue.end_s - s.sounding_s)
    return s.times.withdraw_ms > 0 and insisting(s, cue) and heard_ms <= s.times.withdraw_ms + s.times.barge_in_ms


def calm(s: Situation, cue: TurnEvent) -> bool:
    """it has been silent long enough to think nothing of it"""
    return _silent_for(s, cue, s.times.unduck_delay_ms)


def voice_about(s: Situation, cue: TurnEvent) -> bool:
    """somebody is speaking at this moment"""
    return s.voiced_s > 0


def noise(s: Situation, cue: TurnEvent) -> bool:
    """the model was not addressed"""
    return isinstance(cue, AddresseeDecided) and not cue.addressed


def noise_in_a_reply(s: Situation, cue: TurnEvent) -> bool:
    """the model was not addressed, and a reply is suspended"""
    return noise(s, cue) and s.suspended is not None


def open_speech(s: Situation, cue: TurnEvent) -> None:
    """a speech begins here"""
    s.speech_begin_s = cue.begin_s if isinstance(cue, SpeechFrame) else _end_s(cue)
    s.voiced_s, s.attempts = 0.0, 0
    if isinstance(cue, SpeechFrame):
        count_voice(s, cue)


def count_voice(s: Situation, cue: TurnEvent) -> None:
    """the voice goes on"""
    assert isinstance(cue, SpeechFrame)
    s.voiced_s += cue.end_s - cue.begin_s
    s.voice_end_s, s.complete = cue.end_s, None


def drop_burst(s: Situation, cue: TurnEvent) -> None:
    """the voice was nothing"""
    s.voiced_s = 0.0


def dismiss(s: Situation, cue: TurnEvent) -> None:
    """CancelPrefill"""
    s.actions.append(CancelPrefill())
    s.voiced_s = 0.0


def prepare(s: Situation, cue: TurnEvent) -> None:
    """StartPrefill"""
    s.actions.append(StartPrefill())


def _begin(s: Situation, cue: TurnEvent, speculative: bool) -> None:
    s.turn, s.next_turn, s.judged = s.next_turn, s.next_turn + 1, None
    s.asked_begin_s = s.speech_begin_s
    s.attempts += speculative
    s.actions.append(StartResponse(s.turn, s.speech_begin_s, s.voice_end_s, speculative))


def start_speculation(s: Situation, cue: TurnEvent) -> None:
    """StartResponse, speculatively"""
    _begin(s, cue, speculative=True)


def begin(s: Situation, cue: TurnEvent) -> None:
    """StartResponse, unless it has started"""
    if s.turn is None:
        _begin(s, cue, speculative=False)


def end_speech(s: Situation, cue: TurnEvent) -> None:
    """the speech ends here"""
    s.voice_end_s = _end_s(cue)


def confirm(s: Situation, cue: TurnEvent) -> None:
    """CommitTurn"""
    assert s.turn is not None
    s.actions.append(CommitTurn(s.turn))
    s.voiced_s = 0.0
    if s.judged:
        abandon(s, cue)


def note_judgement(s: Situation, cue: TurnEvent) -> None:
    """remember what the model said"""
    assert isinstance(cue, AddresseeDecided)
    s.judged = cue.addressed


def note_completeness(s: Situation, cue: TurnEvent) -> None:
    """remember how likely the turn is complete"""
    assert isinstance(cue, CompletenessEstimated)
    s.complete = cue.probability


def abandon(s: Situation, cue: TurnEvent) -> None:
    """DropInterrupted, if a reply is suspended"""
    if s.suspended is not None:
        s.actions.append(DropInterrupted(s.suspended))
        s.suspended = None


def _forget(s: Situation, why: Literal["resumed", "noise", "stopped"]) -> None:
    if s.turn is not None:
        s.actions.append(CancelResponse(s.turn, why))
    s.turn = None


def forget_resumed(s: Situation, cue: TurnEvent) -> None:
    """CancelResponse: the user goes on"""
    _forget(s, "resumed")


def forget_noise(s: Situation, cue: TurnEvent) -> None:
    """CancelResponse: it was noise"""
    _forget(s, "noise")
    s.voiced_s = 0.0


def forget_stopped(s: Situation, cue: TurnEvent) -> None:
    """CancelResponse: it was stopped"""
    _forget(s, "stopped")
    s.voiced_s = 0.0


def drop_reply(s: Situation, cue: TurnEvent) -> None:
    """Interrupt; DropInterrupted"""
    assert s.turn is not None
    s.actions += [Interrupt(s.turn), DropInterrupted(s.turn)]
    s.turn = None


def answering(s: Situation, cue: TurnEvent) -> bool:
    """a response is being made"""
    return s.turn is not None


def duck(s: Situation, cue: TurnEvent) -> None:
    """Duck"""
    s.actions.append(Duck())


def unduck(s: Situation, cue: TurnEvent) -> None:
    """Unduck"""
    s.actions.append(Unduck())


def note_sounding(s: Situation, cue: TurnEvent) -> None:
    """remember when it began to be heard"""
    s.sounding_s = s.now_s


def withdraw(s: Situation, cue: TurnEvent) -> None:
    """Withdraw the reply: the user goes on with the question"""
    assert s.turn is not None
    s.actions.append(WithdrawResponse(s.turn))
    s.turn, s.attempts, s.speech_begin_s = None, 0, s.asked_begin_s


def interrupt(s: Situation, cue: TurnEvent) -> None:
    """Interrupt the reply, which is then suspended; StartPrefill"""
    assert s.turn is not None
    s.actions += [Interrupt(s.turn), StartPrefill()]
    s.suspended, s.turn, s.attempts = s.turn, None, 0


def resume(s: Situation, cue: TurnEvent) -> None:
    """Resume the suspended reply"""
    assert s.suspended is not None
    s.actions.append(Resume(s.suspended))
    s.turn, s.suspended, s.voiced_s = s.suspended, None, 0.0


def close(s: Situation, cue: TurnEvent) -> None:
    """EndTurn"""
    assert s.turn is not None
    s.actions.append(EndTurn(s.turn))
    s.turn = None


def give_up(s: Situation, cue: TurnEvent) -> None:
    """the turn is given up"""
    s.turn = None


@dataclass(frozen=True)
class TurnRow:
    """When the machine is in one of ``states`` and ``cue`` comes and ``when`` holds, it ``does`` and is ``then``."""

    states: tuple[TalkState, ...]
    cue: type[TurnEvent]
    when: Condition
    does: tuple[Deed, ...]
    then: TalkState


TABLE: tuple[TurnRow, ...] = (
    # nobody speaks
    TurnRow(("listening",), SpeechFrame, always, (open_speech, prepare), "hearing"),
    # the user speaks
    TurnRow(("hearing", "interrupted"), SpeechFrame, too_long, (count_voice, begin, confirm), "thinking"),
    TurnRow(("hearing",), SpeechFrame, always, (count_voice,), "hearing"),
    TurnRow(("interrupted",), SpeechFrame, always, (count_voice,), "interrupted"),
    TurnRow(("hearing",), SilenceFrame, click, (dismiss,), "listening"),
    TurnRow(("hearing", "interrupted"), SilenceFrame, may_speculate, (start_speculation,), "pausing"),
    TurnRow(("hearing", "interrupted"), SilenceFrame, pause, (), "pausing"),
    # the user is silent, perhaps only for a moment
    TurnRow(("pausing",), SpeechFrame, in_a_reply, (forget_resumed, count_voice), "interrupted"),
    TurnRow(("pausing",), SpeechFrame, always, (forget_resumed, count_voice), "hearing"),
    TurnRow(("pausing",), AddresseeDecided, always, (note_judgement,), "pausing"),
    TurnRow(("pausing",), SilenceFrame, over_noise_in_a_reply, (forget_noise, resume), "speaking"),
    TurnRow(("pausing",), SilenceFrame, over_noise, (forget_noise,), "listening"),
    TurnRow(("pausing",), SilenceFrame, over, (begin, confirm), "thinking"),
    # a turn detector has heard how the user stopped
    TurnRow(("hearing",), CompletenessEstimated, of_this_silence, (note_completeness,), "hearing"),
    TurnRow(("interrupted",), CompletenessEstimated, of_this_silence, (note_completeness,), "interrupted"),
    TurnRow(("pausing",), CompletenessEstimated, of_this_silence, (note_completeness,), "pausing"),
    # the user has finished, and nothing is heard yet
    TurnRow(("thinking",), SpeechFrame, insisting_in_a_reply, (forget_resumed, count_voice), "interrupted"),
    TurnRow(("thinking",), SpeechFrame, insisting, (forget_resumed, count_voice), "hearing"),
    TurnRow(("thinking",), SpeechFrame, always, (count_voice,), "thinking"),
    TurnRow(("thinking",), SilenceFrame, calm, (drop_burst,), "thinking"),
    TurnRow(("thinking",), AddresseeDecided, noise_in_a_reply, (forget_noise, resume), "speaking"),
    TurnRow(("thinking",), AddresseeDecided, noise, (forget_noise,), "listening"),
    TurnRow(("thinking",), AddresseeDecided, always, (abandon,), "thinking"),
    TurnRow(("thinking",), PlaybackStarted, voice_about, (abandon, note_sounding, duck), "ducking"),
    TurnRow(("thinking",), PlaybackStarted, always, (abandon, note_sounding), "speaking"),
    TurnRow(("thinking",), PlaybackDone, always, (abandon, close), "listening"),
    # the reply is heard
    TurnRow(("speaking",), SpeechFrame, heard, (open_speech, duck), "ducking"),
    TurnRow(("speaking",), PlaybackDone, always, (close,), "listening"),
    # the reply is heard more quietly: is it an interruption?
    TurnRow(("ducking",), SpeechFrame, insisting_at_once, (count_voice, withdraw), "hearing"),
    TurnRow(("ducking",), SpeechFrame, insisting, (count_voice, interrupt), "interrupted"),
    TurnRow(("ducking",), SpeechFrame, always, (count_voice,), "ducking"),
    TurnRow(("ducking",), SilenceFrame, calm, (drop_burst, unduck), "speaking"),
    TurnRow(("ducking",), PlaybackDone, always, (close, unduck, prepare), "hearing"),
    # the answer could not be made
    TurnRow(("pausing", "thinking"), ResponseFailed, in_a_reply, (give_up, resume), "speaking"),
    TurnRow(("pausing", "thinking", "speaking", "ducking"), ResponseFailed, always, (give_up, unduck), "listening"),
    # a button is held to talk
    TurnRow(("listening",), Press, always, (open_speech, prepare), "hearing"),
    TurnRow(("pausing", "thinking"), Press, in_a_reply, (forget_resumed,), "interrupted"),
    TurnRow(("pausing", "thinking"), Press, always, (forget_resumed,), "hearing"),
    TurnRow(("speaking", "ducking"), Press, always, (open_speech, interrupt), "interrupted"),
    TurnRow(("hearing",), Release, tapped, (dismiss,), "listening"),
    TurnRow(("interrupted",), Release, tapped, (abandon, dismiss), "listening"),
    TurnRow(("hearing", "interrupted"), Release, always, (end_speech, begin, confirm), "thinking"),
    # the session is to be silent
    TurnRow(("pausing", "thinking"), Stop, answering, (forget_stopped, abandon), "listening"),
    TurnRow(("pausing",), Stop, in_a_reply, (abandon,), "pausing"),
    TurnRow(("speaking", "ducking"), Stop, always, (drop_reply, unduck), "listening"),
    TurnRow(("interrupted",), Stop, always, (abandon,), "hearing"),
)
