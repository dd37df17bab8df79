"""scripts/gpu-check replaces its own reports, when asked, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "gpu-check"


def refused(folder: Path, *more: str) -> str:
    """The reason; the script ends before any check runs."""
    work = folder.parent / "work"
    command = [sys.executable, SCRIPT, "-o", folder, "--work", work, *more]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2, done.stdout + done.stderr
    assert not work.exists()
    return done.stderr


@pytest.mark.parametrize("name", ["thesis.txt", "report.md/note", "12-report", ".hidden"])
@pytest.mark.parametrize("more", [(), ("--force",)])
def test_a_folder_with_anything_else_in_it_is_never_touched(name: str, more: tuple[str, ...], tmp_path: Path) -> None:
    mine = tmp_path / "keep" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("years of work")
    (tmp_path / "keep" / "report.json").write_text("{}")
    assert "none of a report" in refused(tmp_path / "keep", *more)
    assert mine.read_text() == "years of work"
    assert (tmp_path / "keep" / "report.json").exists()


def test_an_earlier_report_is_kept_unless_asked(tmp_path: Path) -> None:
    report = tmp_path / "report" / "report.md"
    report.parent.mkdir()
    report.write_text("the last one")
    assert "--force" in refused(tmp_path / "report")
    assert report.read_text() == "the last one"


def test_an_archive_of_that_name_is_kept_unless_asked(tmp_path: Path) -> None:
    (tmp_path / "report.zip").write_bytes(b"mine")
    assert "report.zip exists" in refused(tmp_path / "report")


def test_a_file_of_that_name_is_kept(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("mine")
    assert "is no folder" in refused(tmp_path / "report", "--force")
