"""A talk of many turns: memory and latency must not grow. `python benchmarks/long_talk.py --help`

The talk goes through microphone, threads, model, voice and speaker of a simulated room that is stepped by hand, so that
300 turns take minutes. Every few turns a question is interrupted or noise. Times are those of the work that was done,
since the room's clock stands still meanwhile.
"""

from __future__ import annotations

import argparse
import gc
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vita_edge.runtime import Assistant, demo_folder, read_sound
from vita_edge.runtime.audio_io.echo_canceller import Headphones
from vita_edge.runtime.events.session_events import (
    FirstPcm,
    FirstSound,
    HistoryShortened,
    Interrupted,
    SessionEvent,
    TalkStateChanged,
    TurnBegan,
    TurnEnded,
    TurnForgotten,
)
from vita_edge.runtime.live.live_options import LiveOptions
from vita_edge.runtime.live.live_session import LiveSession
from vita_edge.runtime.simulation.lockstep import Lockstep
from vita_edge.runtime.simulation.room import Room

PAGE_KIB = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", nargs="?", type=Path, default=demo_folder() / "bundle", help="default: the demo's")
    parser.add_argument("--turns", type=int, default=300)
    parser.add_argument("--context", type=int, default=1024, help="positions of the KV cache (default: 1024)")
    parser.add_argument("--max-new-tokens", type=int, default=24)
    parser.add_argument("--interrupt-every", type=int, default=5, help="turns of which one is interrupted (default: 5)")
    arguments = parser.parse_args()
    question = read_sound(demo_folder() / "question.wav")
    watch = Watch()
    options = LiveOptions(max_new_tokens=arguments.max_new_tokens, context_tokens=arguments.context)
    room = Room(keep_s=1.0, start_s=0.0)
    begin_s = time.monotonic()
    with Assistant(arguments.bundle) as assistant:
        talk = LiveSession(
            assistant, room.microphone, room.speaker, options=options, canceller=Headphones(), observers=[watch]
        )
        with Lockstep(room, talk) as step:
            for number in range(arguments.turns):
                step.say(question)
                over = watch.over
                if number % arguments.interrupt_every == arguments.interrupt_every - 1:
                    sounding = watch.sounding
                    step.until(lambda sounding=sounding: watch.sounding > sounding, 5.0)
                    continue  # the next question interrupts the reply
                step.until(lambda over=over: watch.over > over, 60.0)
                step.until(lambda: watch.state == "listening", 60.0)
                watch.note_memory()
    report(watch, arguments.turns, time.monotonic() - begin_s)


class Watch:
    """Counts what happens, and notes the memory after every turn and the work until the first sound."""

    def __init__(self) -> None:
        self.over = self.sounding = self.interrupted = self.noise = self.shortened = 0
        self.state = "listening"
        self.rss_kib: list[int] = []
        self.engine_ms: list[float] = []
        self._began_s: dict[int, float] = {}

    def __call__(self, event: SessionEvent) -> None:
        match event:
            case TurnBegan(turn, at_s):
                self._began_s = {turn: at_s}
            case FirstPcm(turn, at_s) if turn in self._began_s:
                self.engine_ms.append(1000 * (at_s - self._began_s[turn]))
            case TalkStateChanged(_, state):
                self.state = state
            case FirstSound():
                self.sounding += 1
            case TurnEnded():
                self.over += 1
            case TurnForgotten(_, _, "noise"):
                self.noise += 1
                self.over += 1
            case Interrupted():
                self.interrupted += 1
            case HistoryShortened():
                self.shortened += 1

    def note_memory(self) -> None:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.rss_kib.append(pages * PAGE_KIB)


def report(watch: Watch, turns: int, seconds: float) -> None:
    settled = np.array(watch.rss_kib[turns // 3 :], float)  # after the caches were filled for the first time
    slope, spread = slope_of(settled)
    first, last = np.median(watch.engine_ms[:20]), np.median(watch.engine_ms[-20:])
    print(f"{turns} turns in {seconds:.0f} s: {watch.interrupted} interrupted, {watch.noise} taken for noise,")
    print(f"  old turns left {watch.shortened} times")
    print(
        f"memory        {settled[0] / 1024:.1f} MiB after a third of the turns, {settled[-1] / 1024:.1f} MiB at the end"
    )
    print(f"  slope       {slope:+.2f} ± {spread:.2f} KiB a turn over the last two thirds (± two standard errors)")
    print(f"first sound   {first:.1f} ms of work in the first 20 attempts, {last:.1f} ms in the last 20 (medians)")


def slope_of(values: NDArray[np.float64]) -> tuple[float, float]:
    """Least squares slope a step, and two standard errors of it."""
    x = np.arange(len(values)) - (len(values) - 1) / 2
    slope = float(x @ values / (x @ x))
    rest = values - values.mean() - slope * x
    return slope, 2 * float(np.sqrt(rest @ rest / (len(values) - 2) / (x @ x)))


if __name__ == "__main__":
    main()
