"""Nothing that comes from a file, a name or a model steers the terminal: colours, titles, lines written over."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from support.command import run
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import BadInput
from vita_edge.engines.printable import printable, printable_line

ATTACKS = {
    "colour": "\x1b[31mred\x1b[0m",
    "title": "\x1b]0;owned\x07",
    "one byte CSI": "\x9b2J",
    "over the line": "all is well\rerror",
    "backspace": "a\x08b",
    "right to left": "photo\u202egnp.exe",
    "line separator": "a\u2028b",
    "half of a pair": "a\udc9bb",
}
BY_JSON = {name: text for name, text in ATTACKS.items() if name != "half of a pair"}
"""A manifest with half of a surrogate pair is refused as a whole."""


@pytest.mark.parametrize("text", ATTACKS.values(), ids=list(ATTACKS))
def test_what_steers_a_terminal_is_spelled_out(text: str) -> None:
    shown = printable(text)
    assert shown != text
    assert printable(shown) == shown
    assert json.loads(f'"{shown}"') == text  # in JSON it still means the same
    assert str(BadInput(text, why=text, fix=text)) == "\n".join([shown] * 3)


def test_what_people_write_stays_as_it_is() -> None:
    for text in ("Zürich, 你好\u3000世界。", "👩\u200d🚀 ☞ ☟ ☜", "a\tb\nc", "\u00a0non-breaking", "שלום مرحبا"):
        assert printable(text) == text
    assert printable_line("a\nb\tc") == "a\\u000ab c"


def spoiled(bundle: Path, change: dict[str, str]) -> Path:
    manifest = bundle / "manifest.json"
    facts = json.loads(manifest.read_text("utf-8")) | change
    manifest.unlink()  # the copy shares its files
    manifest.write_text(json.dumps(facts), "utf-8")
    return bundle


@pytest.mark.parametrize("text", BY_JSON.values(), ids=list(BY_JSON))
def test_a_bundle_cannot_steer_the_terminal(text: str, bundle_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoiled(bundle_copy, {"notice": text, "producer": text})
    result = run(capsys, "inspect", bundle_copy)
    assert printable(text) in result.out
    assert text not in result.out
    facts = json.loads(run(capsys, "inspect", bundle_copy, "--json").out)
    assert facts["notice"] == text  # a program gets what is there


@pytest.mark.parametrize("name", ["a\x1b[31m.wav", "a\r.wav", "a\x9b.wav"])
def test_a_name_in_an_error_cannot_either(name: str, tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--audio", "--image", "--video", "--turns"):
        result = run(capsys, "ask", tiny_bundle.path, option, name)
        assert result.code
        assert name not in result.err
        assert printable(name) in result.err


def test_neither_does_misuse_on_a_real_terminal(tmp_path: Path) -> None:
    """The parser's own messages quote what was typed."""
    ours, theirs = pty.openpty()
    code = (
        "import sys; from vita_edge.cli import main; sys.exit(main(['ask', '\\x1b]0;owned\\x07', '--no-such-option']))"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=theirs, stderr=theirs, cwd=tmp_path, check=False)
    os.close(theirs)
    shown = os.read(ours, 65536)
    os.close(ours)
    assert done.returncode == 2
    assert b"\x07" not in shown
    assert b"\x1b]" not in shown
