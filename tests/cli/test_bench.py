"""`vita-edge bench`: one question through the whole live path in real time, and everything that is said of many."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from support.bench_results import bench_result, turns
from support.command import run
from vita_edge.cli import bench
from vita_edge.cli.output.bench_text import bench_text
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import BadInput
from vita_edge.runtime import Sound, read_sound, write_wav
from vita_edge.runtime.metrics.bench_result import BenchResult
from vita_edge.runtime.metrics.machine_load import MachineLoad
from vita_edge.runtime.simulation.questions import Question, read_questions

BASELINE = Path(__file__).resolve().parents[1] / "data" / "behaviour" / "cases.json"


@pytest.fixture
def question(tmp_path: Path, long_question: Path) -> Path:
    """A second of somebody speaking, and a second and a half of silence."""
    sound = read_sound(long_question)
    speech = sound.heard_channel[: sound.sample_rate_hz]
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
    assert "Left out, not answered: hum.wav" in done.err


def test_the_question_that_comes_along_is_asked_about_its_picture(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "trace.json"
    done = run(capsys, "bench", tiny_bundle.path, "--turns", 1, "--max-new-tokens", 4, "--json", "--trace", trace)
    assert done.code == 0 and done.json["settings"]["image"] is True
    (turn,) = done.json["turns"]
    names = {event["name"] for event in json.loads(trace.read_text("utf-8"))["traceEvents"]}
    assert "own share of the cores %" in names
    assert "vision" in names and any(name.startswith("frame ") for name in names)
    assert turn["load"]["own_cpu_s"] > 0
    assert turn["acoustic_ms"] > turn["endpoint_ms"] >= 500 and done.json["cannot_be"] == []


def test_turns_that_are_finished_survive_a_signal_and_are_said_without_a_file(
    tiny_bundle: Bundle,
    question: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = signal.getsignal(signal.SIGINT)
    result = tmp_path / "result.json"

    def interrupt(done: int, total: int, turn: object) -> None:
        result.mkdir()  # where the result should go
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(bench, "_progress", interrupt)
    asked = ("--questions", question, "--turns", 50, "--max-new-tokens", 2, "--json", "-o", result)
    done = run(capsys, "bench", tiny_bundle.path, *asked)
    assert done.json["interrupted"] and len(done.json["turns"]) == 1 and done.json["asked"] == 50
    assert done.code == 1 and "result.json" in done.err
    result.rmdir()
    monkeypatch.setattr(bench, "_progress", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    done = run(capsys, "bench", tiny_bundle.path, *asked)
    assert done.code == 130 and "interrupted" in done.err
    assert BenchResult.read(result).interrupted
    assert signal.getsignal(signal.SIGINT) is before


# --- questions


def names(*paths: Path) -> list[str]:
    return [question.name for question in read_questions(paths)[0]]


def test_questions_are_the_sounds_of_a_folder_by_name(tmp_path: Path) -> None:
    for name in ("b.wav", "a.WAV", "c.flac.txt"):
        write_wav(tmp_path / name, np.ones(100, np.float32) / 2, 16_000)
    assert names(tmp_path) == ["a.WAV", "b.wav"]
    assert names(tmp_path / "b.wav", tmp_path) == ["b.wav", "a.WAV", "b.wav"]


def test_an_mp3_in_a_folder_is_read_and_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.mp3", np.sin(np.arange(16_000) / 5) / 2, 16_000, format="MP3")
    (tmp_path / "b.m4a").write_bytes(b"no sound")
    (tmp_path / "notes.txt").write_text("no sound either")
    questions, passed_over = read_questions([tmp_path])
    assert [question.name for question in questions] == ["a.mp3"] and passed_over == ["b.m4a"]
    (tmp_path / "a.mp3").unlink()
    with pytest.raises(BadInput, match=r"Found b\.m4a, which"):
        read_questions([tmp_path])


def test_a_question_ends_where_its_annotation_says(tmp_path: Path) -> None:
    samples = np.zeros(32_000, np.float32)
    samples[1_000:16_000] = 0.5 * np.sin(np.arange(15_000) / 3)
    write_wav(tmp_path / "q.wav", samples, 16_000)
    assert read_questions([tmp_path])[0][0].speech_end_s == pytest.approx(1.0, abs=0.01)
    (tmp_path / "q.json").write_text('{"speech_end_s": 1.5}')
    (question,) = read_questions([tmp_path])[0]
    assert question.speech_end_s == 1.5 and question.doubt is None
    for wrong in ("[]", '{"speech_end_s": "1"}', '{"speech_end_s": NaN}', '{"speech_end_s": 9}', "[" * 100_000, "{"):
        (tmp_path / "q.json").write_text(wrong)
        with pytest.raises(BadInput, match=r"q\.json does not annotate q\.wav"):
            read_questions([tmp_path])


def test_a_question_deep_in_noise_is_doubted() -> None:
    noise = np.random.default_rng(0).standard_normal(32_000).astype(np.float32) / 20
    noise[8_000:16_000] += 0.3 * np.sin(np.arange(8_000) / 4).astype(np.float32)
    assert "dB above its noise" in (Question("q", Sound(noise, 16_000)).doubt or "")
    assert "nothing stands out" in (Question("q", Sound(np.full(100, 0.1, np.float32), 16_000)).doubt or "")


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
        (("B", "-o", BASELINE), "cases.json exists"),
        (("B", "--trace", BASELINE), "cases.json exists"),
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


def test_what_cannot_be_believed_is_flagged() -> None:
    held = turns(6)
    wrong = [replace(turn, report=replace(turn.report, acoustic_ms=400.0)) for turn in held[:2]]
    run = replace(bench_result([*wrong, *held[2:]]), doubts={"q.wav": "its speech is only 3 dB above its noise"})
    text = bench_text(run)
    assert "the acoustic clock is below the endpoint, which cannot be: question-0.wav (1 turn), question-1" in text
    assert "the end of speech in q.wav is unsure: its speech is only 3 dB above its noise" in text
    assert run.to_json()["cannot_be"] == [0, 1]


def test_a_slow_turn_is_explained_by_what_else_the_machine_did() -> None:
    held = turns(9, scatter=0)
    load = MachineLoad(0.4, 0.62, 0.0, None, 1200.0, None, 88.0, None, 0.5)
    slow = replace(held[3], report=replace(held[3].report, acoustic_ms=4_000.0, load=load))
    text = bench_text(bench_result([*held[:3], slow, *held[4:]]))
    assert (
        "slow: turn 4 with speculation on, 4,000 ms, while other processes used 62% of the cores, "
        "the clock fell to 50% of its highest at 88 °C" in text
    )


def test_what_was_left_out_is_named() -> None:
    run = replace(
        bench_result(turns(6)), left_out={"not answered": {"a.wav": 3, "b.wav": 1}}, interrupted=True, asked=30
    )
    lines = bench_text(run).splitlines()
    assert "left out, not answered: a.wav (3 times), b.wav" in lines
    assert "interrupted: 6 turns of 30 were finished" in lines


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
