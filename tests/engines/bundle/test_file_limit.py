"""A disk that holds no file of 4 GiB is named before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from vita_edge.engines.bundle.file_limit import check_file_sizes, max_file_bytes
from vita_edge.engines.errors import OutputFailed


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    file = tmp_path / "mounts"
    file.write_text(
        "/dev/sda1 / ext4 rw 0 0\n"
        "/dev/sdb1 /media/my\\040stick vfat rw 0 0\n"
        "/dev/sdc1 /media/my\\040stick/inner ext4 rw 0 0\n"
        "broken\n"
    )
    return file


def test_the_innermost_mount_decides(mounts: Path) -> None:
    assert max_file_bytes(Path("/media/my stick/bundles"), mounts) == 2**32 - 1
    assert max_file_bytes(Path("/media/my stick"), mounts) == 2**32 - 1
    assert max_file_bytes(Path("/media/my stick 2/bundles"), mounts) is None
    assert max_file_bytes(Path("/media/my stick/inner/a"), mounts) is None
    assert max_file_bytes(Path("/home"), mounts) is None
    assert max_file_bytes(Path("/home"), Path("/nowhere")) is None


def test_a_file_too_large_for_the_disk_is_named_before_it_is_written(mounts: Path) -> None:
    check_file_sizes(Path("/media/my stick/a"), {"llm.bin": 4 << 30, "codec.bin": 1}, Path("/nowhere"))
    check_file_sizes(Path("/media/my stick/a"), {"llm.bin": (4 << 30) - 1}, mounts)
    with pytest.raises(OutputFailed, match=r"llm\.bin will have 4\.0 GiB.*FAT32") as raised:
        check_file_sizes(Path("/media/my stick/a"), {"llm.bin": 4 << 30, "codec.bin": 1}, mounts)
    assert "exFAT" in raised.value.fix
