"""The log of a talk: a line a turn, whatever happens to the process or the disk."""

from __future__ import annotations

import errno
import json
import os
from datetime import datetime, timezone
from pathlib import Path

import pytest

from support.events import CODEC, talk
from vita_edge.engines.errors import BadInput, OutputFailed
from vita_edge.runtime.metrics.turn_log import TurnLog, read_turn_log
from vita_edge.runtime.metrics.turn_metrics import TurnReports
from vita_edge.runtime.metrics.turn_report import TurnReport

NOON = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)


@pytest.fixture
def reports() -> list[TurnReport]:
    made: list[TurnReport] = []
    observer = TurnReports(CODEC, made.append)
    for event in talk():
        observer(event)
    return made


def write(path: Path, reports: list[TurnReport]) -> list[OutputFailed]:
    complaints: list[OutputFailed] = []
    with TurnLog(path, complaints.append, now=lambda: NOON) as turn_log:
        for report in reports:
            turn_log(report)
    return complaints


def test_reports_come_back_as_they_were(tmp_path: Path, reports: list[TurnReport]) -> None:
    assert write(tmp_path / "talk.jsonl", reports) == []
    assert list(read_turn_log(tmp_path / "talk.jsonl")) == reports
    lines = (tmp_path / "talk.jsonl").read_text("utf-8").splitlines()
    assert {json.loads(line)["time"] for line in lines} == {"2026-11-24T12:00:00.000+00:00"}


def test_a_second_talk_is_appended(tmp_path: Path, reports: list[TurnReport]) -> None:
    write(tmp_path / "talk.jsonl", reports[:1])
    write(tmp_path / "talk.jsonl", reports[1:])
    assert list(read_turn_log(tmp_path / "talk.jsonl")) == reports


@pytest.mark.parametrize("left", [1, 40, -1])
def test_a_line_that_was_cut_off_costs_itself_and_nothing_else(
    tmp_path: Path, reports: list[TurnReport], left: int
) -> None:
    path = tmp_path / "talk.jsonl"
    write(path, reports[:2])
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:-1][:left])
    write(path, reports[2:])
    assert list(read_turn_log(path)) == [reports[0], *reports[2:]]


def test_a_full_disk_is_told_once_and_the_journal_goes_on(
    tmp_path: Path, reports: list[TurnReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, writes, real = tmp_path / "talk.jsonl", 0, os.write

    def nearly_full(file: int, content: bytes) -> int:
        """The first line is taken; of the second half, of the third nothing; then there is room again."""
        nonlocal writes
        writes += 1
        if writes == 2:
            return real(file, content[:50])
        if writes in (3, 4):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(file, content)

    monkeypatch.setattr(os, "write", nearly_full)
    complaints = write(path, reports)
    assert [str(complaint).splitlines()[:2] for complaint in complaints] == [
        [f"Cannot write {path}.", "No space left on device."]
    ]
    assert list(read_turn_log(path)) == [reports[0], reports[3]]


def test_a_place_that_cannot_be_written_is_told_before_the_talk(tmp_path: Path) -> None:
    with pytest.raises(OutputFailed, match="Create the folder first"):
        TurnLog(tmp_path / "none" / "talk.jsonl", print)


def test_what_is_no_journal_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    with pytest.raises(BadInput, match="Cannot read the turn log"):
        list(read_turn_log(path))
    for content in ("[1]\n", '{"turn": 1}\n'):
        path.write_text(content)
        with pytest.raises(BadInput, match=r"Line 1 of .* is no turn"):
            list(read_turn_log(path))
