"""`vita-edge chat` as a process of its own, through PortAudio and a PulseAudio server whose null sinks are the room."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pytest

from support.pulse import SPEAKER_RATE_HZ, PulseRoom, missing, wait_until
from vita_edge.runtime.metrics.turn_log import read_turn_log

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

DATA = Path(__file__).parents[1] / "data"
LONG_TALKER = 43
"""A seed of practice weights that answers everything with half a minute of sound."""
AUDIBLE = 0.02
VITA_EDGE = str(Path(sys.executable).with_name("vita-edge"))


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that talks for long."""
    from vita_edge.export.bundle import export_bundle
    from vita_edge.export.practice.write_practice import write_practice_checkpoint

    folder = tmp_path_factory.mktemp("talker")
    write_practice_checkpoint(folder / "checkpoint", "tiny", seed=LONG_TALKER)
    export_bundle(folder / "checkpoint", folder / "bundle")
    return folder / "bundle"


@pytest.fixture(scope="module")
def room() -> Iterator[PulseRoom]:
    with PulseRoom() as opened:
        yield opened


class Chat:
    """A running `vita-edge chat`."""

    def __init__(self, room: PulseRoom, bundle: Path, *options: str) -> None:
        self.room = room
        command = [VITA_EDGE, "chat", str(bundle), "--json", *options]
        self.process = subprocess.Popen(
            command, env=os.environ | room.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._heard_before = 0

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.lines.append(line)

    def wait_for(self, words: str, timeout_s: float = 30.0) -> None:
        """Wait for a line that says so."""

        def said() -> bool:
            assert self.process.poll() is None or any(words in line for line in self.lines), "".join(self.lines)
            return any(words in line for line in self.lines)

        wait_until(said, timeout_s)

    def ask(self, path: Path) -> None:
        """Let the microphone hear a question, to its end."""
        self._heard_before = len(self.room.speaker())
        assert self.room.play(path).wait(30) == 0

    def wait_for_sound(self, timeout_s: float = 20.0) -> None:
        """Wait until the speaker plays something that it did not play when the question was asked."""
        wait_until(lambda: np.abs(self.room.speaker()[self._heard_before :]).max(initial=0) > AUDIBLE, timeout_s)

    def quiet_for(self, seconds: float) -> bool:
        """Whether the speaker has been quiet for the last ``seconds``."""
        return bool(np.abs(self.room.speaker()[-int(seconds * SPEAKER_RATE_HZ) :]).max(initial=0) < AUDIBLE)

    def leave(self) -> tuple[dict[str, Any], float]:
        """Ctrl-C: the JSON object, and the seconds that leaving took."""
        begin_s = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        assert self.process.stdout
        out = self.process.stdout.read()
        code = self.process.wait(20)
        took_s = time.monotonic() - begin_s
        assert code == 0, "".join(self.lines)
        return json.loads(out), took_s

    def __enter__(self) -> Chat:
        self.wait_for("listening")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream
            stream.close()


def test_a_question_is_heard_and_the_reply_comes_out_of_the_speaker(
    room: PulseRoom, random_bundle: Path, long_question: Path, tmp_path: Path
) -> None:
    log, trace = tmp_path / "talk.jsonl", tmp_path / "talk.json"
    options = ("--echo", "headphones", "--latency", "--log", str(log), "--trace", str(trace))
    with Chat(room, random_bundle, *options) as chat:
        chat.ask(long_question)
        chat.wait_for_sound()
        chat.wait_for("tokens prefilled after speech")  # what --latency shows when the turn is over
        facts, took_s = chat.leave()
    (turn,) = facts["turns"]
    assert turn["state"] == "speech" and turn["text"]
    assert 500 <= turn["server_ms"] < 2000
    assert took_s < 2.0
    (logged,) = read_turn_log(log)
    assert logged.text == turn["text"]
    assert {event["ph"] for event in json.loads(trace.read_text())["traceEvents"]} >= {"M", "X"}
    said = [line[6:].strip() for line in chat.lines if line.startswith("vita  ")]
    assert said and said[0] in turn["text"]


def test_a_word_over_the_reply_silences_it(room: PulseRoom, talker: Path, long_question: Path) -> None:
    with Chat(room, talker, "--echo", "headphones") as chat:
        chat.ask(long_question)
        chat.wait_for_sound()
        assert room.play(DATA / "stop-en-us.flac").wait(10) == 0
        wait_until(lambda: chat.quiet_for(0.3), 5.0)
        chat.wait_for("vita  …")  # the interrupted reply was given up for the answer to what was said
        facts, _ = chat.leave()
    cut = facts["turns"][0]["interruption"]
    assert 0 <= cut["silent_ms"] < 200
    assert 0 <= cut["tokens_heard"] < cut["tokens_written"]


@pytest.mark.parametrize("echo_db", [-6, -20])
def test_through_a_loudspeaker_it_does_not_interrupt_itself(
    room: PulseRoom, random_bundle: Path, long_question: Path, echo_db: int
) -> None:
    with Chat(room, random_bundle, "--echo", "cancel", "--latency") as chat, room.echo(echo_db):
        for number in range(2):
            chat.ask(long_question)
            chat.wait_for_sound()
            wait_until(lambda number=number: sum("after speech" in line for line in chat.lines) > number)
        facts, _ = chat.leave()
    assert len(facts["turns"]) == 2
    assert not any(turn["interruption"] for turn in facts["turns"])


def test_a_microphone_that_does_not_exist_is_explained_before_the_bundle_is_opened(
    room: PulseRoom, random_bundle: Path
) -> None:
    command = [
        VITA_EDGE,
        "chat",
        str(random_bundle),
        "--input-device",
        "nowhere",
    ]
    done = subprocess.run(command, env=os.environ | room.environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stdout == ""
    lines = done.stderr[done.stderr.index("error: ") :].strip().splitlines()
    assert len(lines) == 3 and "nowhere" in lines[0]
