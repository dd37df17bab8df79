"""On a full disk every command ends in its own words and leaves nothing half-written.

The quick ones, with nothing and with a little left; benchmarks/full_disk.py runs all of them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import full_disk
import pytest

pytestmark = [
    pytest.mark.skipif(full_disk.missing() is not None, reason=str(full_disk.missing())),
    pytest.mark.integration,
]


@pytest.mark.parametrize("case", ["ask", "export", "bench"])
def test_a_full_disk_is_told_and_nothing_is_left_behind(case: str, golden: Path) -> None:
    command = [sys.executable, full_disk.__file__, golden / "checkpoint", "--cases", case, "--left", 0, 4096]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok ") == 2
