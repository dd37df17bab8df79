"""How much of the assistant's own voice is left in what it hears, and whether it still hears somebody else.

A simulated room (``runtime/simulation/room.py``) feeds the speaker back into the microphone at a known level. The far
end is speech of espeak-ng, or replies of a bundle of random weights. Printed for each level:

- ERLE: level of the echo in the microphone against what is left of it, after the first second;
- peak: of what is left, in dB of full scale;
- false: times a minute that the detector of speech begins to hear somebody where nobody speaks, without and with
  the canceller;
- heard: of the sentences spoken into the assistant's speech, one each 5.3 s, how many are detected, after how long
  (median, worst), and at what level they come through.

    python benchmarks/echo.py [--seconds 60]
"""

from __future__ import annotations

import argparse
import io
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import vita_edge
from vita_edge.runtime import Assistant, SessionOptions, Turn
from vita_edge.runtime.audio_io.device_protocols import BLOCK, MICROPHONE_RATE_HZ, AudioBlock
from vita_edge.runtime.audio_io.echo_canceller import CancelsEcho, EchoCanceller, Headphones
from vita_edge.runtime.audio_io.sound import Sound, resample
from vita_edge.runtime.audio_io.sound_files import read_sound
from vita_edge.runtime.simulation.room import Room
from vita_edge.runtime.turns.silero_vad import STEP, VoiceDetector

RATE = 24_000
SENTENCES = (
    "Hello, I can see a red cup on the table, and behind it a window with a view of the garden.",
    "The weather is mild today with a light wind from the west, and it should stay dry until the evening.",
    "First cut the onions, then fry them in butter until they are golden, and add the rice at the end.",
    "Let me think about that. There are three answers, and the second one is the most likely of them.",
)
QUESTION = "No, wait. I would like to ask something else now."
SPEECH, APART = 0.5, 16


class Playlist:
    """A source that plays float32 [n] at 24 kHz."""

    sample_rate_hz = RATE

    def __init__(self, samples: NDArray[np.float32]) -> None:
        self._left = samples

    def pull(self, count: int, at_s: float) -> NDArray[np.float32]:
        now, self._left = self._left[:count], self._left[count:]
        return np.pad(now, (0, count - now.size))


def espeak(text: str, voice: str, rate_hz: int) -> NDArray[np.float32]:
    """float32 [n] with a peak of 0.5."""
    wav = subprocess.run(["espeak-ng", "-v", voice, "--stdout", text], capture_output=True, check=True).stdout
    sound = read_sound(io.BytesIO(wav))
    samples = resample(sound.heard_channel, sound.sample_rate_hz, rate_hz)
    return samples * np.float32(0.5 / np.abs(samples).max())


def filled(pieces: Sequence[NDArray[np.float32]], seconds: float) -> NDArray[np.float32]:
    """The pieces in turn with pauses of half a second, for so long."""
    with_pauses = np.concatenate([np.pad(piece, (0, RATE // 2)) for piece in pieces])
    return np.resize(with_pauses, round(seconds * RATE))


def replies() -> list[NDArray[np.float32]]:
    """What the embedded bundle says to the sentences: random weights, so a made-up voice."""
    bundle = Path(vita_edge.__file__).parent / "demo" / "bundle"
    with Assistant(bundle) as assistant:
        pcm = [assistant.session(SessionOptions(seed=i)).ask(Turn(text=text)).pcm for i, text in enumerate(SENTENCES)]
    return [p.astype(np.float32) * np.float32(0.5 / max(np.abs(p).max(), 1e-6)) for p in pcm if p.size]


def listen(
    echo_db: float,
    far: NDArray[np.float32],
    canceller: CancelsEcho,
    said: Sequence[tuple[float, NDArray[np.float32]]] = (),
) -> NDArray[np.float32]:
    """float32 [n] at 16 kHz: what is heard behind the canceller."""
    room = Room(echo_db=echo_db, noise_dbfs=-65, start_s=0.0)
    for at_s, samples in said:
        room.say(Sound(samples, MICROPHONE_RATE_HZ), at_s)
    heard: list[AudioBlock] = []
    with room.microphone, room.speaker:
        room.speaker.start(Playlist(far), canceller.reference)
        for _ in range(far.size * MICROPHONE_RATE_HZ // RATE // BLOCK):
            room.tick()
            block = room.microphone.read(0)
            assert block is not None
            heard.append(canceller.step(block))
    return np.concatenate([block.samples for block in heard])


def probabilities(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    detector = VoiceDetector()
    return np.array([detector.step(samples[i : i + STEP]) for i in range(0, samples.size - STEP + 1, STEP)])


def triggers(found: NDArray[np.float64]) -> int:
    """How often speech begins; pauses of less than half a second do not end it."""
    steps = np.flatnonzero(found >= SPEECH)
    return int(np.count_nonzero(np.diff(steps, prepend=-APART) >= APART))


def level_db(samples: NDArray[np.float32]) -> float:
    return float(10 * np.log10(np.mean(samples.astype(np.float64) ** 2) + 1e-12))


def row(far: NDArray[np.float32], echo_db: float, *, suppress_noise: bool) -> str:
    second = MICROPHONE_RATE_HZ
    minutes = far.size / RATE / 60 - 1 / 60
    before = listen(echo_db, far, Headphones())[second:]
    after = listen(echo_db, far, EchoCanceller(suppress_noise=suppress_noise))[second:]
    false = [triggers(probabilities(samples)) / minutes for samples in (before, after)]
    question = espeak(QUESTION, "en-us+f3", MICROPHONE_RATE_HZ)
    said = [(at_s, question * np.float32(0.6)) for at_s in np.arange(3.0, far.size / RATE - 4, 5.3)]
    both = listen(echo_db, far, EchoCanceller(suppress_noise=suppress_noise), said)
    found = probabilities(both)
    waits, levels = [], []
    for at_s, samples in said:
        first = int(at_s * second / STEP)
        steps = np.flatnonzero(found[first : first + samples.size // STEP] >= SPEECH)
        waits += [((first + int(steps[0]) + 1) * STEP / second - at_s) * 1000] if steps.size else []
        begin = int(at_s * second)
        levels.append(level_db(both[begin : begin + samples.size]) - level_db(samples))
    peak_db = 20 * np.log10(np.abs(after).max())
    return (
        f"{echo_db:6.0f}  {level_db(before) - level_db(after):6.1f}  {peak_db:6.0f}  {false[0]:8.1f}  {false[1]:5.1f}"
        f"  {len(waits):5d}/{len(said)}  {np.median(waits):4.0f}, {max(waits):.0f} ms  {np.mean(levels):+.1f} dB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="of far end for each row (default: 60)")
    arguments = parser.parse_args()
    voices = ("en-us", "en-gb+f2")
    ends = {
        "speech": [espeak(text, voice, RATE) for voice in voices for text in SENTENCES],
        "replies of random weights": replies(),
    }
    for name, pieces in ends.items():
        far = filled(pieces, arguments.seconds)
        for suppress_noise in (False, True):
            print(
                f"\nfar end: {name}, {far.size / RATE:.0f} s; noise suppression {'mild' if suppress_noise else 'off'}"
            )
            print("echo dB  ERLE dB  peak  false without, with  heard  after  level")
            for echo_db in (-6.0, -12.0, -20.0):
                print(row(far, echo_db, suppress_noise=suppress_noise), flush=True)


if __name__ == "__main__":
    main()
