"""What exists is not replaced unasked, a name does not lie, and what was said is its owner's alone to read."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

from support.command import run
from vita_edge.cli.output.output_file import check_output, free_name
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import Misuse
from vita_edge.runtime.metrics.perfetto_trace import Trace
from vita_edge.runtime.metrics.turn_log import TurnLog

SHORT = ("--text", "a", "--max-new-tokens", "4")
Capsys = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def generous_umask() -> Iterator[None]:
    before = os.umask(0o000)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_reply_that_exists_is_replaced_only_when_asked(tiny_bundle: Bundle, tmp_path: Path, capsys: Capsys) -> None:
    wav = tmp_path / "reply.wav"
    wav.write_bytes(b"mine")
    result = run(capsys, "ask", tiny_bundle.path, *SHORT, "-o", wav)
    result.assert_explains("exists", code=2)
    assert "--force" in result.err
    assert wav.read_bytes() == b"mine"
    assert run(capsys, "ask", tiny_bundle.path, *SHORT, "-o", wav, "--force").code == 0
    assert soundfile.info(wav).frames


def test_each_of_several_replies_is_looked_at_before_the_first(
    tiny_bundle: Bundle, tmp_path: Path, capsys: Capsys
) -> None:
    turns = tmp_path / "turns.json"
    turns.write_text(json.dumps([{"text": "a"}, {"text": "b"}]))
    (tmp_path / "reply-2.wav").write_bytes(b"mine")
    words = ("ask", tiny_bundle.path, "--turns", turns, "--max-new-tokens", 4, "-o", tmp_path / "reply.wav")
    run(capsys, *words).assert_explains("reply-2.wav exists", code=2)
    assert not (tmp_path / "reply-1.wav").exists()
    assert run(capsys, *words, "--force").code == 0
    assert soundfile.info(tmp_path / "reply-2.wav").frames


@pytest.mark.parametrize("name", ["reply.mp3", "reply.flac", "reply.json", "reply.wav.ogg"])
def test_a_name_that_does_not_fit_is_refused(name: str, tiny_bundle: Bundle, tmp_path: Path, capsys: Capsys) -> None:
    for command in (("ask", tiny_bundle.path, *SHORT), ("demo",)):
        run(capsys, *command, "-o", tmp_path / name).assert_explains("would not be what its name says", code=2)
    assert not (tmp_path / name).exists()


def test_results_of_a_measurement_are_json(tiny_bundle: Bundle, tmp_path: Path, capsys: Capsys) -> None:
    for option in ("-o", "--trace"):
        result = run(capsys, "bench", tiny_bundle.path, option, tmp_path / "result.html")
        result.assert_explains("would not be what its name says", code=2)
    (tmp_path / "baseline.json").write_text("{}")
    run(capsys, "bench", tiny_bundle.path, "-o", tmp_path / "baseline.json").assert_explains("exists", code=2)


def test_names_that_fit_and_places_that_are_no_files_are_taken(tmp_path: Path) -> None:
    for name in ("reply.wav", "REPLY.WAV", "reply"):
        check_output(tmp_path / name, suffixes=(".wav",))
    check_output(Path("/dev/null"), suffixes=(".wav",))
    check_output(None)
    (tmp_path / "link.wav").symlink_to(tmp_path / "reply.wav")
    check_output(tmp_path / "link.wav", suffixes=(".wav",))
    (tmp_path / "reply.wav").touch()
    with pytest.raises(Misuse, match="exists"):
        check_output(tmp_path / "link.wav", suffixes=(".wav",))


def test_the_demo_takes_the_next_name_that_is_free(tmp_path: Path) -> None:
    first = tmp_path / "reply.wav"
    assert free_name(first) == first
    for name in ("reply.wav", "reply-2.wav"):
        (tmp_path / name).touch()
    assert free_name(first) == tmp_path / "reply-3.wav"


def test_what_was_said_is_its_owners_alone_to_read(tiny_bundle: Bundle, tmp_path: Path, capsys: Capsys) -> None:
    words = ("ask", tiny_bundle.path, *SHORT, "-o", tmp_path / "reply.wav", "--record", tmp_path / "feeds")
    assert run(capsys, *words).code == 0
    with TurnLog(tmp_path / "talk.jsonl", lambda error: None):
        pass
    Trace().write(tmp_path / "trace.json")
    assert {name: mode(tmp_path / name) for name in ("reply.wav", "talk.jsonl", "trace.json", "feeds")} == {
        "reply.wav": 0o600,
        "talk.jsonl": 0o600,
        "trace.json": 0o600,
        "feeds": 0o700,
    }


def test_a_certificate_that_exists_is_kept(tiny_bundle: Bundle, golden: Path, tmp_path: Path, capsys: Capsys) -> None:
    (tmp_path / "c.html").write_text("signed")
    words = ("verify", tiny_bundle.path, "--golden", golden, "--certificate", tmp_path / "c")
    run(capsys, *words).assert_explains("c.html exists", code=2)
    assert (tmp_path / "c.html").read_text() == "signed"
