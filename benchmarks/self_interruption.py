"""How often the assistant interrupts itself through a loudspeaker. `python benchmarks/self_interruption.py --help`

A whole live talk in a simulated room that is stepped by hand. The assistant answers with real speech (recordings that
are read aloud in place of its voice, since the voice of random weights sounds like nobody), the microphone hears it at
a known level, and nobody else speaks. Every interruption is therefore a false one.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vita_edge.runtime import Assistant, Sound, demo_folder, read_sound
from vita_edge.runtime.audio_io.echo_canceller import CancelsEcho, EchoCanceller, Headphones
from vita_edge.runtime.audio_io.sound import resample
from vita_edge.runtime.events.session_events import FirstSound, Interrupted, SessionEvent, TalkState, TalkStateChanged
from vita_edge.runtime.live.live_options import LiveOptions
from vita_edge.runtime.live.live_session import LiveSession
from vita_edge.runtime.simulation.lockstep import Lockstep
from vita_edge.runtime.simulation.room import Room
from vita_edge.runtime.text.clause_cutter import Clause
from vita_edge.runtime.turns.turn_events import TurnTimes

MODES = ("cancel", "half-duplex", "nothing")
GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden" / "tiny-a" / "data" / "inputs"


class ReadAloud:
    """In place of a voice: reads ``speech``, float32 [n] at 24 kHz, for some seconds, whatever it is asked to say."""

    def __init__(self, speech: NDArray[np.float32], samples_per_code: int) -> None:
        self._speech, self._samples = speech, samples_per_code
        self.seconds = 1.0

    sample_rate_hz = 24_000

    def check(self) -> None:
        """It can be spoken."""

    def clause(self, clause: Clause, *_: object) -> Reading:
        codes = int(self.seconds * 24_000) // self._samples if clause.first else 0
        return Reading(self._speech, self._samples, codes)


class Reading:
    """One clause that is read."""

    def __init__(self, speech: NDArray[np.float32], samples_per_code: int, codes: int) -> None:
        self._speech, self._samples, self._codes = speech, samples_per_code, iter(range(codes))

    def codes(self) -> Iterator[int | None]:
        yield from self._codes
        yield None

    def sound(self, code: int | None) -> NDArray[np.float32]:
        if code is None:
            return np.zeros(0, np.float32)
        begin = code * self._samples
        return np.take(self._speech, np.arange(begin, begin + self._samples), mode="wrap")


class Watch:
    """Counts interruptions, and the time in which the assistant was heard."""

    def __init__(self) -> None:
        self.interruptions = self.sounding = 0
        self.state: TalkState = "listening"

    def __call__(self, event: SessionEvent) -> None:
        match event:
            case Interrupted():
                self.interruptions += 1
            case FirstSound():
                self.sounding += 1
            case TalkStateChanged(_, state):
                self.state = state


def false_interruptions(
    assistant: Assistant, question: Sound, speech: NDArray[np.float32], echo_db: float, mode: str, seconds: float
) -> tuple[int, float]:
    """Ask ``question`` and let the assistant speak for ``seconds``: interruptions, and the seconds that it was heard.

    After an interruption the talk goes on as it would: what was heard is answered, with the next seconds of speech.
    """
    canceller: CancelsEcho = EchoCanceller() if mode == "cancel" else Headphones()
    options = LiveOptions(max_new_tokens=4, times=TurnTimes(full_duplex=mode != "half-duplex"))
    watch, room = Watch(), Room(echo_db=echo_db, noise_dbfs=-65.0, start_s=0.0)
    made, reader = assistant.new_synthesizer, ReadAloud(speech, assistant.bundle.model.codec.samples_per_code)
    assistant.new_synthesizer = lambda: reader  # type: ignore[assignment, method-assign, return-value]
    try:
        talk = LiveSession(
            assistant, room.microphone, room.speaker, options=options, canceller=canceller, observers=[watch]
        )
        with Lockstep(room, talk) as step:
            heard_s, skipped = 0.0, 0
            while heard_s < seconds:
                reader.seconds = max(seconds - heard_s, 1.0)
                # random weights may take a question for noise, and would do so for ever: another one every time
                step.say(Sound(question.heard_channel[skipped:], question.sample_rate_hz))
                skipped += 160
                sounding = watch.sounding
                step.until(lambda sounding=sounding: watch.sounding > sounding, 5.0)
                before_s = room.now_s
                step.until(lambda: watch.state == "listening", seconds - heard_s + 1.0)
                heard_s += room.now_s - before_s
    finally:
        assistant.new_synthesizer = made  # type: ignore[method-assign]
    return watch.interruptions, heard_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of speech in each case (default: 60)")
    parser.add_argument("--speech", type=Path, nargs="+", default=sorted(GOLDEN.glob("[ez]*.wav")), metavar="WAV")
    arguments = parser.parse_args()
    speech = far_end(arguments.speech)
    question = read_sound(demo_folder() / "question.wav")
    print(f"{'echo':>8}" + "".join(f"{mode:>16}" for mode in MODES) + "    interruptions a minute of speaking")
    with Assistant(demo_folder() / "bundle") as assistant:
        for echo_db in (-6.0, -12.0, -20.0):
            row = f"{echo_db:5.0f} dB"
            for mode in MODES:
                count, heard_s = false_interruptions(assistant, question, speech, echo_db, mode, arguments.seconds)
                row += f"{60 * count / heard_s:>16.1f}"
            print(row, flush=True)


def far_end(paths: Sequence[Path]) -> NDArray[np.float32]:
    """The recordings one after the other, at the rate of the speaker and at a peak of 0.5."""
    sounds = [read_sound(path) for path in paths]
    joined = np.concatenate([resample(sound.heard_channel, sound.sample_rate_hz, 24_000) for sound in sounds])
    return 0.5 * joined / np.abs(joined).max()


if __name__ == "__main__":
    main()
