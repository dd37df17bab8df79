"""Pages of a mapped file can be let go of, and come back with what they held."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import pytest

from support.memory import resident
from vita_edge.engines.onnxruntime.mapped_pages import forget_pages

SIZE = 8 << 20

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path.resolve() / "with a space.bin"
    path.write_bytes(bytes(range(256)) * (SIZE // 256))
    return path


def test_pages_that_were_read_no_longer_count_and_still_hold_what_they_held(file: Path) -> None:
    with (
        file.open("rb") as opened,
        mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE) as mapped,
    ):
        assert sum(mapped[::4096]) == 0
        assert resident(file) > SIZE // 2
        assert forget_pages(file) == 1
        assert resident(file) < SIZE // 8
        assert mapped[SIZE - 256 :] == bytes(range(256))


def test_a_mapping_that_was_written_to_keeps_what_was_written(file: Path) -> None:
    both = mmap.PROT_READ | mmap.PROT_WRITE
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=both, flags=mmap.MAP_PRIVATE) as mapped:
        mapped[5] = 99
        assert forget_pages(file) == 0
        assert mapped[5] == 99


def test_a_file_that_is_not_mapped_or_not_there_is_no_matter(file: Path, tmp_path: Path) -> None:
    assert forget_pages(file) == 0
    assert forget_pages(tmp_path / "missing") == 0
