"""Large pages: asked for where the kernel waits to be asked, and nowhere else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vita_edge import cli
from vita_edge.cli.huge_pages import KERNEL, VARIABLE, tunables_for_huge_pages

ASK = "glibc.malloc.hugetlb=1"
PROGRAM = f"""
import os
from vita_edge.cli.huge_pages import begin_again_with_huge_pages

begin_again_with_huge_pages()
print(os.getpid(), os.environ.get({VARIABLE!r}))
"""


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    file = tmp_path / "enabled"
    file.write_text("always [madvise] never\n")
    return file


def test_they_are_asked_for_beside_what_the_user_tells_glibc(kernel: Path) -> None:
    assert tunables_for_huge_pages({}, kernel) == ASK
    assert tunables_for_huge_pages({VARIABLE: "glibc.rtld.nns=4"}, kernel) == f"glibc.rtld.nns=4:{ASK}"


def test_who_has_chosen_is_left_alone_and_so_is_a_process_that_was_begun_again(kernel: Path) -> None:
    assert tunables_for_huge_pages({VARIABLE: "glibc.malloc.hugetlb=0"}, kernel) is None
    assert tunables_for_huge_pages({VARIABLE: ASK}, kernel) is None


def test_a_kernel_that_gives_them_to_all_or_to_none_is_not_asked(kernel: Path, tmp_path: Path) -> None:
    for mode in ("[always] madvise never\n", "always madvise [never]\n"):
        kernel.write_text(mode)
        assert tunables_for_huge_pages({}, kernel) is None
    assert tunables_for_huge_pages({}, tmp_path / "missing") is None


def test_the_process_begins_again_once_and_keeps_its_number() -> None:
    bare = {name: value for name, value in os.environ.items() if name != VARIABLE}
    with subprocess.Popen([sys.executable, "-c", PROGRAM], env=bare, stdout=subprocess.PIPE, text=True) as process:
        out, _ = process.communicate(timeout=60)
    assert out == f"{process.pid} {tunables_for_huge_pages(bare, KERNEL)}\n"


@pytest.mark.parametrize(
    ("process", "argv", "begins"),
    [
        (["vita-edge", "ask", "--help"], None, True),
        (["vita-edge", "export", "--help"], None, False),
        (["vita-edge"], ["ask", "--help"], False),  # called by another program, which is not ours to begin again
    ],
)
def test_only_a_command_that_holds_a_model_begins_again(
    process: list[str], argv: list[str] | None, begins: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[bool] = []
    monkeypatch.setattr(sys, "argv", process)
    monkeypatch.setattr(cli, "begin_again_with_huge_pages", lambda: started.append(True))
    with pytest.raises(SystemExit):
        cli.main(argv)
    assert started == [True] * begins
