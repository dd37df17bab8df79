"""Files and folders are written whole or not at all, and a killed run costs nothing that was there."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from vita_edge.engines.bundle import atomic_folder
from vita_edge.engines.bundle.atomic_file import PRIVATE, write_whole
from vita_edge.engines.bundle.atomic_folder import free_place, restore, whole_folder
from vita_edge.engines.errors import Misuse, OutputFailed


def never(_: Path) -> Misuse | None:
    raise AssertionError("nothing is in the way")


def test_a_temporary_file_is_reached_through_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where its name is known beforehand."""
    (tmp_path / "victim.txt").write_text("mine")
    monkeypatch.setattr("secrets.token_hex", lambda _: "0" * 16)
    (tmp_path / f".reply.wav.{'0' * 16}.part").symlink_to(tmp_path / "victim.txt")
    with pytest.raises(OutputFailed):
        write_whole(tmp_path / "reply.wav", b"sound")
    assert (tmp_path / "victim.txt").read_text() == "mine"
    assert not (tmp_path / "reply.wav").exists()


def test_a_file_keeps_its_permissions_and_a_private_one_is_its_owners_alone(tmp_path: Path) -> None:
    write_whole(tmp_path / "reply.wav", b"1", mode=PRIVATE)
    assert stat.S_IMODE((tmp_path / "reply.wav").stat().st_mode) == 0o600
    (tmp_path / "shared").write_bytes(b"0")
    (tmp_path / "shared").chmod(0o640)
    write_whole(tmp_path / "shared", b"1", mode=PRIVATE)
    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o640


KILL = """
import os, sys
from vita_edge.engines.bundle import atomic_file
atomic_file.os.fsync = lambda _: os.kill(os.getpid(), 9)
atomic_file.write_whole(sys.argv[1], b"half")
"""


def test_what_a_killed_writer_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "re[p]ly.wav"
    assert subprocess.run([sys.executable, "-c", KILL, path]).returncode == -9
    assert len(list(tmp_path.iterdir())) == 1
    write_whole(path, b"whole")
    assert list(tmp_path.iterdir()) == [path]


def test_leftovers_are_removed_before_the_free_space_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / ".b.0123abcd.partial"
    left.mkdir()
    usage = atomic_folder.shutil.disk_usage(tmp_path)

    def disk_usage(_: Path) -> object:
        return usage._replace(free=0 if left.exists() else usage.free)

    monkeypatch.setattr(atomic_folder.shutil, "disk_usage", disk_usage)
    with whole_folder(tmp_path / "b", 0, what="bundle") as folder:
        (folder / "file").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_an_empty_folder_of_a_run_that_was_killed_at_once_is_removed_and_a_full_one_of_that_form_stays(
    tmp_path: Path,
) -> None:
    (tmp_path / ".b.0123abcd").mkdir()
    (tmp_path / ".b.89abcdef").mkdir()
    (tmp_path / ".b.89abcdef" / "thesis.txt").touch()
    with whole_folder(tmp_path / "b", 0, what="bundle"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b.89abcdef", "b"]


def replaced(target: Path) -> None:
    with whole_folder(target, 0, what="bundle", replace=True) as folder:
        (folder / "version").write_text("new")


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_folder_is_replaced_in_one_step_or_in_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool
) -> None:
    target = tmp_path / "b"
    target.mkdir()
    (target / "version").write_text("old")
    if not exchanges:
        monkeypatch.setattr(atomic_folder, "_exchange", lambda *_: False)
    replaced(target)
    assert (target / "version").read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_this_system_exchanges_two_folders(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not atomic_folder._exchange(tmp_path / "one", tmp_path / "other"):
        pytest.skip("no renameat2, or a disk that cannot exchange")
    assert (tmp_path / "one" / "other").exists()


BETWEEN = """
import os, pathlib, sys
from vita_edge.engines.bundle import atomic_folder
atomic_folder._exchange = lambda *_: False
take = pathlib.Path.rename
def rename(self, target):
    if self.name.endswith(".partial") and not os.path.lexists(target):
        os.kill(os.getpid(), 9)
    return take(self, target)
pathlib.Path.rename = rename
with atomic_folder.whole_folder(pathlib.Path(sys.argv[1]), 0, what="bundle", replace=True) as folder:
    (folder / "version").write_text("new")
"""


def test_a_kill_between_two_renames_is_found_and_the_folder_restored(tmp_path: Path) -> None:
    target = tmp_path / "b"
    target.mkdir()
    (target / "version").write_text("old")
    assert subprocess.run([sys.executable, "-c", BETWEEN, target]).returncode == -9
    assert not target.exists()
    with pytest.raises(Misuse, match="in the way"):
        free_place(target, lambda _: Misuse("It is in the way.", why="It is there again.", fix="-"))
    assert (target / "version").read_text() == "old"
    replaced(target)
    assert list(tmp_path.iterdir()) == [target]


def test_nothing_is_restored_while_somebody_writes(tmp_path: Path) -> None:
    target = tmp_path / "b"
    with whole_folder(target, 0, what="bundle"):
        (tmp_path / ".b.old").mkdir()
        assert not restore(target)
    assert target.exists()


def test_restoring_replaces_nothing(tmp_path: Path) -> None:
    for name in ("b", ".b.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert not restore(tmp_path / "b")
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["b"]
