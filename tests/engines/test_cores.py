"""Threads are never more than the cores that may be used: those of the process, or of its container's quota."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from vita_edge.engines import cores
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.cores import thread_count, usable_cores
from vita_edge.engines.onnxruntime.options import session_options


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sixteen cores, in no container yet."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    monkeypatch.setattr(cores, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(cores, "MEMBERSHIP", tmp_path / "membership")
    return tmp_path / "cgroup"


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_without_a_container_every_core_of_the_process_counts(groups: Path) -> None:
    assert usable_cores() == 16


@pytest.mark.parametrize(
    ("quota", "usable"), [("max 100000", 16), ("200000 100000", 2), ("150000 100000", 2), ("1000 100000", 1), ("", 16)]
)
def test_a_quota_of_the_container_counts(groups: Path, quota: str, usable: int) -> None:
    write(cores.MEMBERSHIP, "0::/a/b\n")
    write(groups / "a" / "b" / "cpu.max", quota)
    assert usable_cores() == usable


def test_the_smallest_quota_of_all_groups_above_counts(groups: Path) -> None:
    write(cores.MEMBERSHIP, "0::/a/b\n")
    write(groups / "a" / "cpu.max", "300000 100000")
    write(groups / "a" / "b" / "cpu.max", "max 100000")
    assert usable_cores() == 3


def test_control_groups_of_the_first_kind_count(groups: Path) -> None:
    write(cores.MEMBERSHIP, "5:memory:/x\n1:cpu,cpuacct:/x\n")
    write(groups / "cpu" / "x" / "cpu.cfs_quota_us", "400000\n")
    write(groups / "cpu" / "x" / "cpu.cfs_period_us", "100000\n")
    assert usable_cores() == 4
    write(groups / "cpu" / "x" / "cpu.cfs_quota_us", "-1\n")
    assert usable_cores() == 16


def test_a_thousand_threads_are_as_many_as_there_are_cores(groups: Path, tiny_bundle: Bundle) -> None:
    assert [thread_count(n) for n in (0, 1, 5, 16, 1000)] == [16, 1, 5, 16, 16]
    graph = tiny_bundle.components["codec"].graph
    assert session_options(graph, threads=1000, rearrange=False).intra_op_num_threads == 16


def test_nothing_else_chooses_a_number_of_threads() -> None:
    root = Path(__file__).resolve().parents[2]
    strange = []
    for folder in ("engines", "runtime", "calibration", "estimate", "export", "verification", "src/vita_edge/cli"):
        for file in (root / folder).rglob("*.py"):
            text = file.read_text("utf-8")
            if file.name != "cores.py" and re.search(r"sched_getaffinity|cpu_count", text):
                strange.append(file)
            if "ort.SessionOptions()" in text and "intra_op_num_threads = thread_count(" not in text:
                strange.append(file)
    assert strange == []
