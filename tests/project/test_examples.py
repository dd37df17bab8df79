"""The examples run as they stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from vita_edge.runtime import read_sound

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_own_audio_and_frames_need_no_device_and_forty_lines(tmp_path: Path) -> None:
    example = EXAMPLES / "own_audio.py"
    lines = [line for line in example.read_text("utf-8").splitlines() if line.strip()]
    assert len(lines) <= 50
    reported = subprocess.run(
        [sys.executable, str(example)], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=True
    )
    assert reported.stdout.strip()
    assert read_sound(tmp_path / "own_audio.wav").heard_channel.any()
