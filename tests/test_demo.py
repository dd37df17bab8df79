"""vita-edge demo: the whole way with nothing but what comes along."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile

from command import run
from vita_edge.engines.bundle import Bundle

DEMO = Path(__file__).parents[1] / "src" / "vita_edge" / "demo"


def test_the_demo_answers_a_spoken_question_about_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(capsys, "demo")
    assert (result.code, result.err) == (0, "")
    assert "random" in result.out.splitlines()[0]
    lines = {line.split("  ")[0]: line[13:] for line in result.out.splitlines()[1:]}
    for name in ("question", "picture"):
        assert Path(lines[name]).is_file()
    assert lines["reply"].strip()
    assert lines["state"].startswith("speech (")
    assert lines["speech"].endswith("s in reply.wav")
    assert lines["total"].endswith("ms, of which")
    assert soundfile.info(tmp_path / "reply.wav").frames > 0


def test_the_demo_tells_the_same_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wav = tmp_path / "reply.wav"
    facts = run(capsys, "demo", "-o", wav, "--json").json
    assert facts["audio"] == {
        "path": str(wav),
        "seconds": round(soundfile.info(wav).duration, 3),
        "sample_rate_hz": 24000,
    }
    assert Path(facts["question"]).is_file() and Path(facts["picture"]).is_file()
    assert "random" in facts["notice"]
    assert {"vision", "audio", "prefill", "decode", "speech_decoder", "codec"} <= set(facts["latency_ms"])


def test_the_demo_says_the_same_every_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = tmp_path / "a.wav", tmp_path / "b.wav"
    one, other = (run(capsys, "demo", "-o", file, "--json").json for file in files)
    assert one["token_ids"] == other["token_ids"]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_reply_that_cannot_be_written_is_told_before_the_demo_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "demo", "-o", tmp_path).assert_explains("is a folder", code=2)
    run(capsys, "demo", "-o", tmp_path / "none" / "reply.wav").assert_explains("There is no folder", code=2)


def test_the_embedded_bundle_is_whole_and_small() -> None:
    bundle = Bundle.open(DEMO / "bundle")
    assert list(bundle.damaged_files()) == []
    assert bundle.bytes < 6 << 20
