"""`vita-edge bench`: one question through the whole live path in real time, and everything that is said of many."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.bench_results import bench_result, turns
from support.command import run
from vita_edge.cli.output.bench_text import bench_text
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import BadInput
from vita_edge.runtime import Sound, read_sound, write_wav
from vita_edge.runtime.metrics.bench_result import BenchResult
from vita_edge.runtime.simulation.bench_run import Question, read_questions


@pytest.fixture
def question(tmp_path: Path, long_question: Path) -> Path:
    """A second of somebody speaking, and a second and a half of silence."""
    sound = read_sound(long_question)
    speech = sound.first_channel[: sound.sample_rate_hz]
    silence = np.zeros(3 * sound.sample_rate_hz // 2, np.float32)
    write_wav(tmp_path / "short.wav", np.concatenate([speech, silence]), sound.sample_rate_hz)
    return tmp_path / "short.wav"


def test_a_question_is_asked_in_real_time_and_three_clocks_are_read(
    tiny_bundle: Bundle, question: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result, page, trace = (tmp_path / name for name in ("result.json", "page.html", "trace.json"))
    asked = ("--questions", question, "--turns", 1, "--max-new-tokens", 12)
    done = run(capsys, "bench", tiny_bundle.path, *asked, "-o", result, "--waterfall", page, "--trace", trace, "--json")
    assert (done.code, done.err) == (0, "")
    (turn,) = BenchResult.read(result).turns
    report = turn.report
    assert done.json["turns"] == json.loads(result.read_text("utf-8"))["turns"]
    assert (turn.question, turn.speculation, report.speculative) == ("short.wav", True, True)
    assert report.speech_s == pytest.approx(1.0, abs=0.3)
    assert report.late_ms is not None and abs(report.late_ms) < 300
    assert report.engine_ms is not None and report.server_ms is not None and report.acoustic_ms is not None
    assert report.engine_ms < report.server_ms
    assert report.acoustic_ms == pytest.approx(report.server_ms + report.late_ms, abs=120)  # the latency of the speaker
    assert 500 <= (report.endpoint_ms or 0) <= report.server_ms
    assert 0 < report.positions_after_speech <= report.positions
    assert 0 < report.tokens <= 12
    assert done.json["memory_peak_bytes"] > 50 << 20
    assert "short.wav" in page.read_text("utf-8") and json.loads(trace.read_text("utf-8"))["traceEvents"]


def test_a_recording_in_which_nobody_speaks_is_told_as_not_answered(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hum = 0.001 * np.sin(np.arange(4_000) / 16)
    write_wav(tmp_path / "hum.wav", hum, 16_000)
    done = run(capsys, "bench", tiny_bundle.path, "--questions", tmp_path / "hum.wav", "--turns", 1, "--json")
    done.assert_explains("None of the questions was answered")
    assert "1 not answered" in done.err


# --- questions


def test_questions_are_the_sounds_of_a_folder_by_name(tmp_path: Path) -> None:
    for name in ("b.wav", "a.WAV", "c.flac.txt"):
        write_wav(tmp_path / name, np.ones(100, np.float32) / 2, 16_000)
    assert [question.name for question in read_questions([tmp_path])] == ["a.WAV", "b.wav"]
    assert [question.name for question in read_questions([tmp_path / "b.wav", tmp_path])] == ["b.wav", "a.WAV", "b.wav"]


def test_a_question_ends_with_its_last_loud_sample_and_not_with_the_recording() -> None:
    samples = np.zeros(32_000, np.float32)
    samples[1_000:16_000] = 0.5
    samples[16_000:] = 0.004
    assert Question("q", Sound(samples, 16_000)).speech_end_s == pytest.approx(15_999 / 16_000)


def test_what_cannot_be_asked_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="There are no recordings"):
        read_questions([tmp_path])
    write_wav(tmp_path / "silence.wav", np.zeros(100, np.float32), 16_000)
    with pytest.raises(BadInput, match=r"silence\.wav is silent"):
        read_questions([tmp_path])


# --- misuse


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ((), "There is nothing to measure"),
        (("B", "--turns", "0"), "--turns is 0"),
        (("B", "--paired", "--history"), "exclude each other"),
        (("B", "--paired", "--no-speculation"), "with speculation and without"),
        (("B", "--waterfall", "a.jpg"), "neither a page nor a picture"),
        (("B", "-o", "none/a.json"), "There is no folder none"),
        (("B", "--compare", "a.json", "b.json"), "--compare stands alone"),
    ],
)
def test_misuse_is_told_before_anything_is_opened(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], what: str
) -> None:
    run(capsys, "bench", *arguments).assert_explains(what, code=2)


def test_a_picture_without_matplotlib_is_refused_before_the_measurement(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    run(capsys, "bench", "B", "--waterfall", "a.png").assert_explains("needs the package matplotlib")


# --- what is said


def test_the_summary_of_a_run_reads_like_this() -> None:
    assert bench_text(bench_result(turns(3, scatter=0), turns(3, scatter=0, on=False))) == (
        Path(__file__).with_name("bench_summary.txt")
    ).read_text("utf-8").rstrip("\n")


def test_waits_are_told_against_the_length_of_the_question_or_of_the_history() -> None:
    rows = [
        line.split("  ") for line in bench_text(bench_result(turns(12, scatter=0))).splitlines() if ".wav, " in line
    ]
    assert [[cell.strip() for cell in row if cell.strip()] for row in rows] == [
        ["speculation on", f"question-{i}.wav, {1.0 + i:.1f} s", acoustic, engine, "38", "4"]
        for i, (acoustic, engine) in enumerate([("1,008", "780"), ("1,242", "1,014"), ("1,476", "1,248")])
    ]
    held = bench_result(turns(12, scatter=0))
    text = bench_text(replace(held, settings={**held.settings, "history": True}))
    assert "60 to 180" in text and "380 to 500" in text and "question-0.wav, 1.0 s" not in text


def write(path: Path, result: BenchResult) -> Path:
    path.write_text(json.dumps(result.to_json()), "utf-8")
    return path


def test_comparing_says_what_got_worse_and_what_was_different(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = write(tmp_path / "a.json", bench_result(turns(30)))
    after = write(tmp_path / "b.json", bench_result(turns(30, slower=1.6, seed=1), threads=1))
    lines = run(capsys, "bench", "--compare", before, after).out.splitlines()
    assert "not the same: settings.threads, 2 → 1" in lines
    assert "speculation on, compared turn by turn" in lines
    (acoustic,) = (line for line in lines if line.startswith("acoustic clock"))
    assert acoustic.split()[-3:] == ["30", "pairs", "worse"]
    assert lines[-1].startswith("worse: acoustic clock by +6 %")
    back = run(capsys, "bench", "--compare", after, before).out.splitlines()
    assert back[-1].startswith("better: acoustic clock by −6 %")


def test_comparing_a_run_with_itself_finds_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.json", bench_result(turns(30)))
    result = run(capsys, "bench", "--compare", path, path)
    assert result.code == 0 and result.out.splitlines()[-1] == "no change beyond noise"
    facts = run(capsys, "bench", "--compare", path, path, "--json").json
    assert facts["conditions"] == []
    assert {change["verdict"] for change in facts["changes"]["on"]} == {"no change beyond noise"}


def test_runs_without_a_common_setting_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    on, off = (
        write(tmp_path / "a.json", bench_result(turns(3))),
        write(tmp_path / "b.json", bench_result(turns(3, on=False))),
    )
    run(capsys, "bench", "--compare", on, off).assert_explains("nothing in common", code=2)
    run(capsys, "bench", "--compare", on, tmp_path / "none").assert_explains("Cannot read")
