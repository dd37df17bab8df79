"""The documentation tells the truth: links resolve, commands parse, code compiles, lists name what there is."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.cli_page import documented_keys, printed_keys, section
from vita_edge import __version__, cli
from vita_edge.runtime import read_sound

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "src" / "vita_edge" / "demo"
PAGES = [ROOT / "README.md", ROOT / "README.zh.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
CLI_PAGE = (ROOT / "docs" / "reference" / "cli.md").read_text("utf-8")

needs_demo = pytest.mark.skipif(not (DEMO / "bundle" / "manifest.json").is_file(), reason="the demo is not here")


def blocks(text: str, language: str) -> list[str]:
    """Fenced blocks of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """Words of every command in the ``sh`` blocks of a page."""
    lines = "\n".join(blocks(text, "sh")).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def named(paths: list[Path]) -> Any:
    return pytest.mark.parametrize("page", paths, ids=[str(path.relative_to(ROOT)) for path in paths])


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Command → its parser."""
    actions = cli.build_parser()._actions
    return dict(next(a for a in actions if isinstance(a, argparse._SubParsersAction)).choices)


@named(PAGES)
def test_links_of_the_page_resolve(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text("utf-8"))):
            broken.append(target)
    assert not broken


def anchors(text: str) -> set[str]:
    """Headings as they are linked to."""
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }


def test_every_decision_is_in_the_list() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    listed = re.findall(r"\]\((\d[^)]*)\)", (ROOT / "docs" / "decisions" / "README.md").read_text("utf-8"))
    assert listed == [page.name for page in pages]


@named(PAGES)
def test_commands_of_the_page_parse(page: Path) -> None:
    targets = re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for words in commands(page.read_text("utf-8")):
        if words[0] == "vita-edge":
            try:
                cli.build_parser().parse_args(words[1:])
            except SystemExit:
                pytest.fail(f"does not parse: {shlex.join(words)}")
        if words[0] == "make":
            assert set(words[1:]) <= set(targets)


@named(PAGES)
def test_python_and_json_of_the_page_are_well_formed(page: Path) -> None:
    text = page.read_text("utf-8")
    for i, block in enumerate(blocks(text, "python")):
        compile(block, f"{page.name}, block {i}", "exec")
        names(block)
    for block in blocks(text, "json"):
        json.loads(block)


def names(block: str) -> None:
    """Run the imports of a block: what it takes from the package is there."""
    for line in block.splitlines():
        if line.startswith(("import ", "from ")):
            try:
                exec(compile(line, "import", "exec"), {})
            except ModuleNotFoundError as missing:
                if missing.name != "torch":  # of one extra, and large: the tests do without it where it is absent
                    raise


def test_the_readme_names_the_wheel_of_this_version() -> None:
    named_wheels = set(re.findall(r"vita_edge-([\w.]+)-py3-none-any\.whl", PAGES[0].read_text("utf-8")))
    assert named_wheels == {__version__}


def test_the_commands_for_practising_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = 0
    for words in commands((ROOT / "docs" / "how-to" / "practise-without-weights.md").read_text("utf-8")):
        assert words[0] == "vita-edge"
        if words[1] == "demo" and not DEMO.is_dir():
            continue
        assert cli.main(words[1:]) == 0, capsys.readouterr().err
        ran += 1
    assert ran >= 4
    assert read_sound("reply.wav").seconds > 0


@needs_demo
def test_the_example_talks(tmp_path: Path) -> None:
    script = ROOT / "examples" / "talk.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), "-o", "talk.wav"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 3  # two replies, and where the sound is
    assert read_sound(tmp_path / "talk.wav").sample_rate_hz == 24_000


# --- the reference of the command line


def test_the_reference_lists_the_commands_there_are() -> None:
    assert set(re.findall(r"^## vita-edge (\S+)$", CLI_PAGE, re.MULTILINE)) == set(parsers())


@pytest.mark.parametrize("command", sorted(parsers()))
def test_the_reference_lists_the_options_there_are(command: str) -> None:
    cells = re.findall(r"^\| (`.*?) \|", section(command), re.MULTILINE)
    for_all = {"-h", "--help", "--json", "--debug"}
    reported = {word for cell in cells for word in re.findall(r"(?<![\w-])--?[a-z][\w-]*", cell)}
    there = {option for action in parsers()[command]._actions for option in action.option_strings}
    assert reported == there - for_all
    positional = {str(a.metavar) for a in parsers()[command]._actions if not a.option_strings}
    assert positional <= set(re.findall(r"`([A-Z]+)`", section(command)))
    assert all(f"`{option}`" in CLI_PAGE for option in for_all)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a practice checkpoint and its bundle are made."""
    return tmp_path_factory.mktemp("docs")


def printed(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    capsys.readouterr()
    assert cli.main([str(word) for word in words]) == 0
    facts: dict[str, Any] = json.loads(capsys.readouterr().out)
    return facts


def test_the_reference_lists_the_json_keys_of_practice_export_and_inspect(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = {
        "practice": printed(capsys, "practice", folder / "checkpoint", "--json"),
        "export": printed(capsys, "export", folder / "checkpoint", "-o", folder / "bundle", "--json"),
        "inspect": printed(capsys, "inspect", folder / "bundle", "--check", "--json"),
    }
    for command, facts in made.items():
        reported = documented_keys(command)
        assert set(printed_keys(facts, reported)) == reported, command


@pytest.mark.skipif(not importlib.util.find_spec("tensorrt_rtx"), reason="tensorrt_rtx is not installed")
def test_the_reference_lists_the_json_keys_of_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    golden = ROOT / "tests" / "golden" / "tiny-a"
    bundle, what = tmp_path / "bundle", ("--component", "speech_decoder", "--sm", "sm86")
    printed(capsys, "export", golden / "checkpoint", "-o", bundle, "--target", "tensorrt", "--json")
    reported = documented_keys("build")
    assert (
        set(printed_keys(printed(capsys, "build", bundle, *what, "--engine-dir", tmp_path, "--json"), reported))
        == reported
    )


@needs_demo
def test_the_reference_lists_the_json_keys_of_ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    question = ["--audio", DEMO / "question.wav", "--image", DEMO / "picture.png", "--max-new-tokens", 12]
    facts = printed(capsys, "ask", DEMO / "bundle", *question, "-o", tmp_path / "reply.wav", "--json")
    reported = documented_keys("ask")
    assert set(printed_keys(facts, reported)) == reported
    rows = re.search(r"names in `latency_ms`:\n\n\|.*\n\|[-|]+\n((?:\|.*\n)+)", section("ask"))
    assert rows
    stages = {name for row in rows[1].splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert set(facts["latency_ms"]) == stages


def test_the_reference_lists_the_json_keys_of_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    golden = ROOT / "tests" / "golden" / "tiny-a"
    if not golden.is_dir():
        pytest.skip("the recorded arrays are not here")
    printed(capsys, "export", golden / "checkpoint", "-o", tmp_path / "bundle", "--json")
    reported = documented_keys("verify")
    facts = printed(capsys, "verify", tmp_path / "bundle", "--golden", golden, "--half-precision", "--json")
    assert set(printed_keys(facts, reported)) == reported


def test_the_reference_lists_the_json_keys_of_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "how-to" / "estimate-a-board.md").read_text("utf-8")
    (described,) = blocks(page, "json")
    device = json.loads(described)
    device["devices"]["my-board"]["measured"].append(
        {"model": "qwen3-8b-int4-awq", "what": "decode_tokens_per_s", "value": 12, "source": "for this test"}
    )
    file = tmp_path / "devices.json"
    file.write_text(json.dumps(device))
    words = ["--model", "half", "--precision", "int4", "--board-file", file, "--board", "my-board"]
    reported = documented_keys("estimate")
    assert set(printed_keys(printed(capsys, "estimate", *words, "--json"), reported)) == reported


def test_the_reference_lists_the_fields_of_events_and_errors() -> None:
    import dataclasses

    from vita_edge.engines import errors
    from vita_edge.runtime import Reply, SessionOptions, SpeechPiece, StateDecided, TextPiece, Turn, TurnDone

    page = (ROOT / "docs" / "reference" / "events.md").read_text("utf-8")
    for kind in (SessionOptions, Reply, SpeechPiece, StateDecided, TextPiece, Turn, TurnDone):
        part = re.search(rf"^## {kind.__name__}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        assert part, kind.__name__
        reported = {
            name for cell in re.findall(r"^\| (`.*?) \|", part[1], re.MULTILINE) for name in re.findall(r"\w+", cell)
        }
        properties = {name for name, value in vars(kind).items() if isinstance(value, property)}
        assert reported == {field.name for field in dataclasses.fields(kind)} | properties, kind.__name__
    text = (ROOT / "docs" / "reference" / "errors.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (\d) \|$", text, re.MULTILINE))
    family = {name: str(getattr(errors, name).exit_code) for name in errors.__all__ if name != "VitaEdgeError"}
    assert rows == family


def test_the_table_of_turn_taking_is_the_one_that_is_run() -> None:
    from vita_edge.runtime.turns.turn_table import TABLE

    rows = [
        f"| {', '.join(row.states)} | {row.cue.__name__} | {row.when.__doc__} "
        f"| {'; '.join(str(deed.__doc__) for deed in row.does) or '–'} | {row.then} |"
        for row in TABLE
    ]
    page = (ROOT / "docs" / "reference" / "turn-taking.md").read_text("utf-8")
    assert (
        page.split("| in state | hears | when | does | then |\n|---|---|---|---|---|\n")[1].strip().splitlines() == rows
    )


def test_the_reference_lists_the_happenings_of_a_talk_with_their_fields() -> None:
    import dataclasses

    from vita_edge.runtime.events import session_events as events

    page = (ROOT / "docs" / "reference" / "events.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (`.*?`) \|", page[page.index("## Happenings") :], re.MULTILINE)
    reported = {name: re.findall(r"\w+", fields) for name, fields in rows}
    kinds = {name: getattr(events, name) for name in events.__all__}
    there = {name: kind for name, kind in kinds.items() if dataclasses.is_dataclass(kind)}
    assert reported == {name: [field.name for field in dataclasses.fields(kind)] for name, kind in there.items()}


def test_the_reference_lists_the_json_keys_of_bench() -> None:
    from support.bench_results import bench_result, turns
    from vita_edge.cli.output.bench_text import comparison_facts

    run = bench_result(turns(3), turns(3, on=False))
    reported = documented_keys("bench")
    assert set(printed_keys(run.to_json(), reported)) == reported
    table = section("bench").split("| JSON key of a comparison |")[1]
    reported = {
        key for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for key in re.findall(r"`([^`]+)`", row)
    }
    compared = comparison_facts(run, bench_result(turns(3), turns(3, on=False), threads=1))
    assert set(printed_keys(compared, reported)) | {"changes.NAME"} == reported
