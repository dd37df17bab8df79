"""Commands killed with -9: the target is absent or whole, the next run succeeds, and nothing is left over.

A few moments that matter, of each kind; benchmarks/killed.py tries all of them.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import killed
import pytest

from vita_edge.engines.bundle.format import Bundle

pytestmark = pytest.mark.integration

needs_strace = pytest.mark.skipif(
    not shutil.which("strace") or subprocess.run(["strace", "-qq", "true"], capture_output=True).returncode != 0,
    reason="no process can be traced here (scripts/audio-packages installs strace)",
)


@pytest.fixture
def sources(golden: Path, tiny_bundle: Bundle) -> killed.Sources:
    return killed.Sources(golden / "checkpoint", tiny_bundle.path)


@needs_strace
@pytest.mark.parametrize(("case", "call"), [("export", 2), ("export-force", 2), ("export-force", 4), ("ask-force", 1)])
def test_a_kill_at_a_call_that_gives_names(case: str, call: int, sources: killed.Sources, tmp_path: Path) -> None:
    outcome = killed.trial(killed.CASES[case], sources, tmp_path, killed.kill_at_call(call))
    assert outcome.killed and outcome.is_good, outcome


@pytest.mark.parametrize("case", ["export", "record"])
def test_a_kill_in_the_middle(case: str, sources: killed.Sources, tmp_path: Path) -> None:
    outcome = killed.trial(killed.CASES[case], sources, tmp_path, killed.kill_after(1.5))
    assert outcome.is_good, outcome
