"""The acoustic clock of devices, against the truth: a simulated room stands for loudspeaker, air and microphone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vita_edge.engines.errors import DeviceFailed
from vita_edge.runtime import Assistant, demo_folder
from vita_edge.runtime.events.session_events import FirstSound, SessionEvent
from vita_edge.runtime.live.live_options import LiveOptions
from vita_edge.runtime.simulation.bench_run import BenchRun, Variant
from vita_edge.runtime.simulation.device_room import DeviceRoom
from vita_edge.runtime.simulation.questions import read_questions
from vita_edge.runtime.simulation.room import Room
from vita_edge.runtime.turns.turn_events import TurnTimes

DELAY_S = 0.06


def test_a_chirp_tells_the_delay_of_the_path() -> None:
    with Room(echo_db=-12, echo_delay_s=DELAY_S, noise_dbfs=-60) as air:
        path = DeviceRoom(air.microphone, air.speaker).check()
    assert path.delay_s == pytest.approx(DELAY_S, abs=0.005)


def test_a_microphone_that_does_not_hear_the_loudspeaker_is_named() -> None:
    with Room(echo_db=None, noise_dbfs=-50) as air, pytest.raises(DeviceFailed, match="does not hear the loudspeaker"):
        DeviceRoom(air.microphone, air.speaker).check()


def test_question_and_reply_are_timed_at_the_microphone_to_within_5_ms() -> None:
    (question,) = read_questions([demo_folder() / "question.wav"])[0]
    options = LiveOptions(max_new_tokens=12, speech_top_k=1)
    times = TurnTimes(full_duplex=False)
    with (
        Room(echo_db=-9, echo_delay_s=DELAY_S, noise_dbfs=-60) as air,
        Assistant(demo_folder() / "bundle") as assistant,
    ):
        said: list[float] = []

        def room() -> DeviceRoom:
            made = DeviceRoom(air.microphone, air.speaker)
            say = made.say

            def noted(sound, at_s=None):  # type: ignore[no-untyped-def]
                utterance = say(sound, at_s)
                said.append(utterance.begin_s)
                return utterance

            made.say = noted  # type: ignore[method-assign]
            return made

        happened: list[SessionEvent] = []
        run = BenchRun(
            assistant, [question], options=replace(options, times=times), room=room, observers=[happened.append]
        )
        turns = list(run.run(1, [Variant(times)]))
    assert len(turns) == 1, run.left_out
    # when the loudspeaker played the question and the reply is known here: the same delay is behind both
    (reply,) = (one for one in happened if isinstance(one, FirstSound))
    truth_ms = 1000 * (reply.at_s - said[0] - question.speech_end_s)
    assert turns[0].report.acoustic_ms == pytest.approx(truth_ms, abs=5.0)
