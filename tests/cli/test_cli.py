"""The command line as a whole: help, exit codes, JSON, and what happens when somebody interrupts it."""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.command import run
from support.spoil import rewrite
from vita_edge import __version__
from vita_edge.cli import COMMANDS, build_parser, main
from vita_edge.cli.output.show import print_json, table
from vita_edge.engines.bundle.format import Bundle

VITA_EDGE = "import sys; from vita_edge.cli import main; sys.exit(main())"


def shell(command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a line of sh in which $VITA_EDGE is the program and $1 … are ``arguments``."""
    return subprocess.run(
        ["sh", "-c", command, "sh", *map(str, arguments)],
        env={**os.environ, "PYTHON": sys.executable, "VITA_EDGE": VITA_EDGE},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# --- help


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_is_whole_and_fits_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = run(capsys, command, "--help")
    assert (result.code, result.err) == (0, "")
    assert COMMANDS[command][1:].split(":")[0] in result.out.replace("\n", " ")
    assert max(map(len, result.out.splitlines())) <= 80
    for option in ("--json", "--debug"):
        assert option in result.out
    assert "None" not in result.out and "==SUPPRESS" not in result.out


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, "--help")
    assert result.code == 0
    for command in COMMANDS:
        assert re.search(rf"^ +{command}\s+\w", result.out, re.MULTILINE)


@pytest.mark.parametrize("command", ["ask", "demo"])
def test_every_option_of_a_talk_is_explained(capsys: pytest.CaptureFixture[str], command: str) -> None:
    text = run(capsys, command, "--help").out
    options = text[text.index("options:") :]
    for line in re.findall(r"^  -.*(?:\n {3,}.*)*", options, re.MULTILINE):
        assert re.search(r"(\s{2,}|\n\s+)\w", line[3:]), line


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version").out == f"vita-edge {__version__}\n"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from vita_edge.cli import build_parser; build_parser();"
        "print({'numpy', 'onnxruntime', 'onnx', 'tokenizers', 'PIL', 'cv2', 'soundfile'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# --- misuse and failure


@pytest.mark.parametrize("arguments", [(), ("sing",), ("ask",), ("export", "x"), ("verify", "x"), ("demo", "--no")])
def test_what_does_not_exist_exits_with_2_and_names_the_help(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    result = run(capsys, *arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ") and "--help` for what it takes" in result.err


def test_debug_shows_the_traceback_and_keeps_the_exit_code(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    failed = run(capsys, "inspect", tmp_path, "--debug")
    assert (failed.code, failed.out) == (1, "")
    assert failed.err.startswith("Traceback")
    assert "is not a bundle" in failed.err
    misused = run(capsys, "ask", tmp_path, "--debug")
    assert misused.code == 2 and "Traceback" in misused.err


def raising(error: BaseException) -> object:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def fails_with(
    error: BaseException, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[int, list[str]]:
    monkeypatch.setattr(Bundle, "open", raising(error))
    result = run(capsys, "inspect", tmp_path)
    assert result.out == ""
    return result.code, result.err.strip().splitlines()


def test_an_interruption_exits_with_130(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fails_with(KeyboardInterrupt(), tmp_path, capsys, monkeypatch) == (130, ["interrupted"])


def test_a_mistake_of_ours_is_named_as_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, lines = fails_with(ZeroDivisionError("by zero"), tmp_path, capsys, monkeypatch)
    assert code == 1
    assert lines[:2] == ["error: ZeroDivisionError: by zero", "This is a bug in vita-edge."]
    assert "--debug" in lines[2]


def test_too_little_memory_is_told_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, lines = fails_with(MemoryError("Unable to allocate 9 GiB"), tmp_path, capsys, monkeypatch)
    assert (code, lines[0], lines[1]) == (1, "error: There is not enough memory.", "Unable to allocate 9 GiB")


def test_standard_output_that_is_full_is_told_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, lines = fails_with(OSError(errno.ENOSPC, "No space left on device"), tmp_path, capsys, monkeypatch)
    assert (code, lines[0]) == (1, "error: Cannot write to standard output.")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_device_behind_standard_output_fails_without_a_traceback(tiny_bundle: Bundle) -> None:
    done = shell('"$PYTHON" -c "$VITA_EDGE" inspect "$1" --json > /dev/full', tiny_bundle.path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: Cannot write to standard output.\nNo space left on device.\n")
    assert len(done.stderr.splitlines()) == 3


def test_a_reader_that_leaves_ends_the_command_quietly(tiny_bundle: Bundle) -> None:
    done = shell('{ "$PYTHON" -c "$VITA_EDGE" inspect "$1"; echo $? >&2; } | true', tiny_bundle.path)
    assert done.stderr in ("1\n", "0\n")  # 0 when all was written before the reader left


def test_a_terminal_that_knows_no_chinese_gets_question_marks(tiny_bundle: Bundle) -> None:
    line = 'PYTHONIOENCODING=ascii "$PYTHON" -c "$VITA_EDGE" ask "$1" --text Hi --no-speech --max-new-tokens 20'
    done = shell(line, tiny_bundle.path)
    assert done.returncode == 0
    assert done.stdout.strip().isascii() and "?" in done.stdout


# --- what every command prints


def test_json_of_every_command_is_one_object_and_nothing_else(
    tmp_path: Path, golden: Path, tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, practice = tmp_path / "bundle", tmp_path / "practice"
    keys = {
        ("practice", practice): {"checkpoint", "size", "seed", "bytes"},
        ("export", golden / "checkpoint", "-o", bundle): {"bundle", "bytes", "precision", "parameters", "notes"},
        ("inspect", bundle): {"bundle", "components", "memory_bytes", "notice", "checksums"},
        ("inspect", bundle, "--check"): {"checksums"},
        ("estimate", bundle): {"model", "bundle", "context_tokens", "turn", "estimates", "yardsticks"},
        ("ask", bundle, "--text", "a", "--max-new-tokens", 3): {"state", "text", "token_ids", "audio", "latency_ms"},
        ("clean", tmp_path): {"leftovers"},
        ("demo", "-o", tmp_path / "r.wav", "--max-new-tokens", 3): {"audio", "turns"},
    }
    for arguments, expected in keys.items():
        result = run(capsys, *arguments, "--json")
        assert (result.code, result.err) == (0, ""), arguments
        assert expected <= set(result.json), arguments
    assert set(COMMANDS) == {arguments[0] for arguments in keys} | {
        "verify",
        "bench",
        "build",
        "calibrate",
        "record",
        "chat",
        "devices",
    }  # tested apart


def test_verify_prints_one_object_and_exits_with_1_when_something_is_off(
    golden: Path, tiny_bundle: Bundle, bundle_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(capsys, "verify", tiny_bundle.path, "--golden", golden, "--json")
    assert (result.code, result.err, result.json["passed"]) == (0, "", True)
    weights = bundle_copy / "components" / "codec.bin"
    rewrite(weights, bytes(weights.stat().st_size))
    result = run(capsys, "verify", bundle_copy, "--golden", golden, "--json")
    assert (result.code, result.err, result.json["passed"]) == (1, "", False)
    assert {stage["stage"] for stage in result.json["stages"] if stage["failed"]} >= {"codec"}
    table = run(capsys, "verify", bundle_copy, "--golden", golden)
    assert table.code == 1 and "OFF  codec: " in table.out and "\nFAILED: " in table.out
    run(capsys, "verify", tiny_bundle.path, "--golden", golden / "none").assert_explains("no recorded arrays")


def test_inspect_names_parts_and_memory_in_columns(tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, "inspect", tiny_bundle.path, "--check")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    header = next(line for line in lines if line.startswith("component "))
    rows = lines[lines.index(header) + 1 :][: len(tiny_bundle.components)]
    assert {len(row) for row in rows} == {len(header)}
    assert "kv cache per 1000 tokens" in result.out
    assert lines[-1].endswith(f"all {len(tiny_bundle.files)} files are as the manifest says")


def test_export_and_practice_say_what_they_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = run(capsys, "practice", tmp_path / "checkpoint")
    assert made.code == 0 and made.out.startswith(f"{tmp_path / 'checkpoint'}: random weights of size tiny, ")
    exported = run(capsys, "export", tmp_path / "checkpoint", "-o", tmp_path / "bundle", "--notice", "Just practice.")
    assert exported.code == 0
    assert exported.out.startswith(f"{tmp_path / 'bundle'}: ") and exported.out.endswith(" fp32\n")
    assert "Just practice." in exported.err
    assert run(capsys, "inspect", tmp_path / "bundle", "--json").json["notice"] == "Just practice."


def test_numbers_of_a_list_stay_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    facts = {
        "ids": [1, -2, 3.5e-7],
        "none": [],
        "text": "[\n1,\n 2]",
        "names": ["a", "b"],
        "deep": {"x": [[1], [2, 3]]},
    }
    print_json(facts)
    out = capsys.readouterr().out
    assert json.loads(out) == facts
    assert "[1, -2, 3.5e-07]" in out


def test_a_table_is_flushed_left_and_right() -> None:
    assert table([("name", "ms"), ("a", "100")]) == "name   ms\na     100"


def test_main_reads_the_command_line_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["vita-edge", "--version"])
    with pytest.raises(SystemExit) as leaving:
        main()
    assert leaving.value.code == 0


def commands() -> dict[str, argparse.ArgumentParser]:
    actions = build_parser()._actions
    return dict(next(action for action in actions if isinstance(action, argparse._SubParsersAction)).choices)


@pytest.mark.parametrize("command", commands())
def test_every_option_that_has_a_default_shows_it(command: str) -> None:
    text = commands()[command].format_help()
    for action in commands()[command]._actions:
        if action.help is argparse.SUPPRESS or action.nargs == 0 or action.required or not action.option_strings:
            continue
        if action.default not in (None, "", []):
            shown = text[text.index(f"  {', '.join(action.option_strings)}".split(",")[0]) :]
            assert "default" in shown[: shown.find("\n  -", 4)], action.option_strings


@pytest.mark.parametrize(("words", "guess"), [(["aks"], "ask"), (["ask", "B", "--audoi", "x"], "--audio")])
def test_what_is_misspelt_is_guessed(
    words: list[str], guess: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["vita-edge", *words])
    with pytest.raises(SystemExit) as ended:
        main(words)
    err = capsys.readouterr().err
    assert ended.value.code == 2
    assert err.startswith("error: ") and f"Did you mean {guess}?" in err and "usage" not in err
