"""vita-edge demo: the whole way with nothing but what comes along."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import soundfile

from support.command import run
from vita_edge.cli import demo
from vita_edge.engines.bundle.format import Bundle

DEMO = Path(__file__).parents[2] / "src" / "vita_edge" / "demo"
QUESTIONS = ("What colour is the circle?", "And the cross?", "(a tune)")
ANSWERS = ("The circle is orange.", "The cross is green.")


def test_the_demo_hears_sees_remembers_and_ignores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(capsys, "demo")
    assert (result.code, result.err) == (0, "")
    assert "shapes" in result.out.splitlines()[0]
    reported = [(line[:13].strip(), line[13:]) for line in result.out.splitlines()]
    lines = {name: [value for other, value in reported if other == name] for name, _ in reported}
    assert lines["question"] == list(QUESTIONS)
    assert len(lines["recording"]) == 3 and len(lines["picture"]) == 1
    assert all(Path(file).is_file() for file in (*lines["recording"], *lines["picture"]))
    first, second, ignored = lines["reply"]
    assert (first, second) == ANSWERS
    assert ignored == "(nothing: it was not asked)"
    assert [state.split()[0] for state in lines["state"]] == ["speech", "speech", "noise"]
    assert lines["speech"][0].endswith("s in reply.wav") and lines["speech"][2] == "none"
    assert all(total.endswith("ms, of which") for total in lines["total"])
    assert soundfile.info(tmp_path / "reply.wav").duration > 1.5


def test_the_demo_tells_the_same_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wav = tmp_path / "reply.wav"
    facts = run(capsys, "demo", "-o", wav, "--json").json
    assert facts["audio"] == str(wav)
    assert [turn["state"] for turn in facts["turns"]] == ["speech", "speech", "noise"]
    assert tuple(turn["said"] for turn in facts["turns"]) == QUESTIONS
    assert tuple(turn["text"] for turn in facts["turns"][:2]) == ANSWERS
    spoken = sum(turn["audio"]["seconds"] for turn in facts["turns"][:2])
    assert soundfile.info(wav).duration == pytest.approx(spoken + 0.5, abs=0.01)
    assert {"vision", "audio", "prefill", "decode", "speech_decoder", "codec"} <= set(facts["turns"][0]["latency_ms"])


def test_the_demo_plays_questions_and_replies_to_whoever_sits_at_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    played: list[float] = []
    monkeypatch.setattr(
        demo, "find_loudspeaker", lambda: lambda samples, rate_hz: played.append(len(samples) / rate_hz)
    )
    run(capsys, "demo", "-o", tmp_path / "reply.wav")
    assert not played  # nobody sits there
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    run(capsys, "demo", "-o", tmp_path / "reply.wav", "--force", "--mute")
    assert not played
    run(capsys, "demo", "-o", tmp_path / "reply.wav", "--force")
    recordings = [soundfile.info(DEMO / name).duration for name in ("question.wav", "follow-up.wav", "noise.wav")]
    question, first, further, second, noise = played
    assert [question, further, noise] == pytest.approx(recordings)
    assert first + second + 0.5 == pytest.approx(soundfile.info(tmp_path / "reply.wav").duration, abs=0.01)


def test_the_demo_says_the_same_every_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = tmp_path / "a.wav", tmp_path / "b.wav"
    one, other = (run(capsys, "demo", "-o", file, "--json").json for file in files)
    assert [turn["token_ids"] for turn in one["turns"]] == [turn["token_ids"] for turn in other["turns"]]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_one_can_go_on_by_typing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = f"What is three plus four?\n/audio nothing.wav\n/image {DEMO / 'picture.png'}\nWhat do you see?\n\nmore\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    result = run(capsys, "demo", "--interactive", "-o", tmp_path / "reply.wav")
    assert (result.code, result.err) == (0, "")
    further = result.out.split("Type a question.")[1]
    assert "Three plus four is seven." in further
    assert "nothing.wav" in further and "I see " in further
    assert further.count("state        text") == 2


def test_the_demo_does_not_ask_a_program_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "demo", "--interactive", "--json").assert_explains("exclude each other", code=2)


def test_a_reply_that_cannot_be_written_is_told_before_the_demo_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "demo", "-o", tmp_path).assert_explains("is a folder", code=2)
    run(capsys, "demo", "-o", tmp_path / "none" / "reply.wav").assert_explains("There is no folder", code=2)


def test_the_embedded_bundle_is_whole_and_small() -> None:
    bundle = Bundle.open(DEMO / "bundle")
    assert list(bundle.damaged_files()) == []
    assert bundle.bytes < 24 << 20
