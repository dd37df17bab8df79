"""`vita-edge clean` removes what killed commands left, restores what they moved aside, and touches nothing else."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest

from support.command import run
from vita_edge.engines.bundle.leftovers import clean
from vita_edge.engines.errors import BadInput

Capsys = pytest.CaptureFixture[str]


def fill(folder: Path, name: str, manifest: object = None) -> Path:
    path = folder / name
    path.mkdir()
    (path / "weights.bin").write_bytes(bytes(1000))
    if manifest is not None:
        (path / "manifest.json").write_text(json.dumps(manifest))
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_was_left_is_removed_and_named(tmp_path: Path, capsys: Capsys) -> None:
    fill(tmp_path, ".feeds.0a6bdabe.partial")
    (tmp_path / ".b.4cd65ef4").mkdir()
    (tmp_path / f".reply.wav.{'0' * 16}.part").write_bytes(b"sound")
    fill(tmp_path, "b")
    looked = run(capsys, "clean", tmp_path, "--dry-run")
    assert looked.code == 0 and looked.out.count("found") == 3
    assert len(names(tmp_path)) == 4
    done = run(capsys, "clean", tmp_path, "--json").json["leftovers"]
    assert {Path(left["path"]).name: left["bytes"] for left in done} == {
        ".feeds.0a6bdabe.partial": 1000,
        ".b.4cd65ef4": 0,
        f".reply.wav.{'0' * 16}.part": 5,
    }
    assert names(tmp_path) == {"b"}
    assert run(capsys, "clean", tmp_path).out == "nothing is left over\n"


def test_what_was_moved_aside_gets_its_name_back(tmp_path: Path) -> None:
    fill(tmp_path, ".b.old", {"format": "vita-edge-bundle"})
    fill(tmp_path, ".b.0a6bdabe.partial")
    (found, *_) = clean(tmp_path, look_only=True)
    assert found.done == "found" and names(tmp_path) == {".b.old", ".b.0a6bdabe.partial"}
    assert "restored" in {left.done for left in clean(tmp_path)}
    assert (tmp_path / "b" / "weights.bin").exists()
    clean(tmp_path)
    assert names(tmp_path) == {"b"}


def test_what_is_being_written_stays(tmp_path: Path) -> None:
    folder, file = fill(tmp_path, ".b.0a6bdabe.partial"), tmp_path / f".r.wav.{'0' * 16}.part"
    file.write_bytes(b"sound")
    handles = [os.open(path, os.O_RDONLY) for path in (folder, file)]
    try:
        for handle in handles:
            fcntl.flock(handle, fcntl.LOCK_EX)
        assert clean(tmp_path) == []
    finally:
        for handle in handles:
            os.close(handle)
    assert len(names(tmp_path)) == 2


def test_nobody_elses_files_are_touched(tmp_path: Path) -> None:
    fill(tmp_path, ".thesis.old")
    fill(tmp_path, ".b.4cd65ef4")  # not empty
    fill(tmp_path, "b.0a6bdabe.partial")
    for name in (".mail.part", f"a.{'0' * 16}.part", ".x.0123456789abcdeg.part"):
        (tmp_path / name).write_bytes(b"mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".l.0a6bdabe.partial").symlink_to(tmp_path / "elsewhere")
    before = names(tmp_path)
    assert clean(tmp_path) == []
    assert names(tmp_path) == before


def test_a_folder_that_is_not_there_is_explained(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is no folder"):
        clean(tmp_path / "none")
