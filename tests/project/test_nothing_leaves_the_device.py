"""Nothing leaves the device: every command runs without a network, asks for none, and writes only what the table says.

The commands run in a network namespace without any network and under strace, with an empty home.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support import pulse
from support.watched_process import Traced, missing, run_traced

pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
    pytest.mark.timeout(600),
    pytest.mark.integration,
]

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "src" / "vita_edge" / "demo"
TABLE = (ROOT / "docs" / "reference" / "files.md").read_text("utf-8")
NOWHERE = re.compile(r"^/(dev/(null|tty|shm/(pulse-shm-|jack)\S*)|proc/self/\S+)$")
"""Devices, and what the kernel and sound servers share with a process."""


def vita_edge(*words: object) -> list[object]:
    return [sys.executable, "-c", "import sys; from vita_edge.cli import main; sys.exit(main())", *words]


def check(traced: Traced, folder: Path, *outputs: str) -> None:
    """It did not ask for the internet, and wrote below the names of ``outputs`` only."""
    assert traced.internet == ()
    allowed = [folder / name for name in ("calls.txt", *outputs)]
    strange = [
        path
        for path in traced.written
        if not NOWHERE.match(str(path))
        and not any(_belongs(path, output, folder) for output in allowed)
        and not any(output.is_relative_to(path) for output in allowed)  # a folder on the way
    ]
    assert strange == []


def _belongs(path: Path, output: Path, folder: Path) -> bool:
    """``path`` is ``output``, lies in it, or is its temporary form beside it."""
    inside = path.relative_to(folder).parts if path.is_relative_to(folder) else ()
    return path.is_relative_to(output) or (bool(inside) and inside[0].startswith(f".{output.name}."))


COMMANDS = {
    "inspect": (("inspect", DEMO / "bundle", "--check"), ()),
    "demo": (("demo", "-o", "reply.wav"), ("reply.wav",)),
    "ask": (("ask", DEMO / "bundle", "--text", "what is your name", "-o", "reply.wav"), ("reply.wav",)),
    "record": (("record", DEMO / "bundle", "--text", "hello", "-o", "feeds"), ("feeds",)),
    "bench": (("bench", DEMO / "bundle", "--turns", "1", "-o", "bench.json"), ("bench.json",)),
    "estimate": (("estimate", "--model", "full"), ()),
    "practice": (("practice", "checkpoint", "--size", "tiny"), ("checkpoint",)),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_asks_for_no_network_and_writes_what_the_table_says(name: str, tmp_path: Path) -> None:
    words, outputs = COMMANDS[name]
    traced = run_traced(vita_edge(*words), tmp_path)
    assert traced.code == 0, traced.output
    check(traced, tmp_path, *outputs)
    assert f"`{name}`" in TABLE


def test_export_and_calibrate_ask_for_no_network(golden: Path, tmp_path: Path) -> None:
    words = ["export", golden / "checkpoint", "-o", "bundle"]
    traced = run_traced(vita_edge(*words), tmp_path)
    assert traced.code == 0, traced.output
    check(traced, tmp_path, "bundle")
    assert run_traced(vita_edge("record", "bundle", "--text", "hello", "-o", "feeds"), tmp_path).code == 0
    words = ["calibrate", "bundle", "--feeds", "feeds", "-o", "small", "--precision", "int8", "--component", "codec"]
    traced = run_traced(vita_edge(*words), tmp_path)
    assert traced.code == 0, traced.output
    check(traced, tmp_path, "small", "home/.config/matplotlib", "home/.cache/matplotlib")


@pytest.mark.skipif(pulse.missing() is not None, reason=str(pulse.missing()))
def test_a_live_talk_asks_for_no_network(tmp_path: Path) -> None:
    log = tmp_path / "talk.jsonl"

    def ask() -> None:
        pulse.wait_until(lambda: (tmp_path / "calls.txt").exists() and log.exists(), 60)
        time.sleep(2)
        subprocess.run(["paplay", "--device=mic", str(DEMO / "question.wav")], env=room.environment, check=True)
        pulse.wait_until(lambda: log.read_text("utf-8").strip(), 60)

    with pulse.PulseRoom() as room:
        words = ["chat", DEMO / "bundle", "--plain", "--log", log]
        traced = run_traced(vita_edge(*words), tmp_path, environment=room.environment, ready=ask)
    assert traced.code == 0, traced.output
    runtime = [path for path in traced.written if path.is_relative_to(room.environment["XDG_RUNTIME_DIR"])]
    check(Traced(0, "", traced.internet, traced.written - set(runtime)), tmp_path, "talk.jsonl", "home/.config/pulse")


def test_a_process_that_is_held_open_says_nothing_either(tmp_path: Path) -> None:
    """Telemetry of ONNX Runtime 1.30 and later first looks up its host some seconds after the start."""
    code = (
        "import time; from vita_edge.runtime import Assistant\n"
        f"with Assistant({str(DEMO / 'bundle')!r}):\n    time.sleep(12)\n"
    )
    traced = run_traced([sys.executable, "-c", code], tmp_path)
    assert traced.code == 0, traced.output
    check(traced, tmp_path)


def test_the_watch_would_see_a_look_up(tmp_path: Path) -> None:
    code = "import socket\ntry: socket.getaddrinfo('example.invalid', 80)\nexcept OSError: open('seen', 'w')"
    traced = run_traced([sys.executable, "-c", code], tmp_path)
    assert traced.internet
    assert tmp_path / "seen" in traced.written


def test_what_was_imported_before_is_named() -> None:
    code = "import onnxruntime, vita_edge; print(vita_edge.TELEMETRY_MAY_BE_ON)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_no_program_of_ours_imports_onnx_runtime_before_vita_edge() -> None:
    """Tests do it after conftest.py, which imports vita_edge."""
    programs = [
        *ROOT.glob("benchmarks/*.py"),
        *ROOT.glob("examples/**/*.py"),
        *(path for path in (ROOT / "scripts").iterdir() if path.read_bytes().startswith(b"#!/usr/bin/env python")),
    ]
    assert len(programs) > 10
    early = []
    for program in programs:
        imports = re.findall(r"^ *(?:import|from) (onnxruntime|vita_edge)\b", program.read_text("utf-8"), re.MULTILINE)
        if "onnxruntime" in imports and imports[0] != "vita_edge":
            early.append(program)
    assert early == []
