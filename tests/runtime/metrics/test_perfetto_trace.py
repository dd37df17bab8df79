"""The trace of a talk: JSON that Perfetto reads, in which all that begins also ends, and nothing cuts into anything."""

from __future__ import annotations

import errno
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from support.events import answered, talk
from vita_edge.engines.bundle import atomic_file
from vita_edge.engines.errors import OutputFailed
from vita_edge.runtime.events.session_events import SessionEvent, TurnEnded
from vita_edge.runtime.metrics import perfetto_trace as trace_module
from vita_edge.runtime.metrics.perfetto_trace import Trace


def written(events: Iterable[SessionEvent], folder: Path) -> list[dict[str, Any]]:
    trace = Trace()
    for event in events:
        trace(event)
    trace.write(folder / "trace.json")
    events: list[dict[str, Any]] = json.loads((folder / "trace.json").read_text("utf-8"))["traceEvents"]
    return events


def tracks(events: list[dict[str, Any]]) -> dict[int, str]:
    return {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}


def test_slices_of_a_track_follow_or_enclose_each_other(tmp_path: Path) -> None:
    slices: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for event in written(talk(), tmp_path):
        if event["ph"] == "X":
            slices[event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    assert len(slices) == 8  # state, you, speaker, five stages
    for of_track in slices.values():
        for (_, first_end), (begin, end) in pairwise(sorted(of_track, key=lambda piece: (piece[0], -piece[1]))):
            assert begin >= first_end or end <= first_end


def test_turns_and_arrows_are_balanced(tmp_path: Path) -> None:
    events = written(talk(), tmp_path)
    for begins, ends, count in (("b", "e", 6), ("s", "f", 4)):
        ids = [Counter(event["id"] for event in events if event["ph"] == phase) for phase in (begins, ends)]
        assert ids[0] == ids[1] and sum(ids[0].values()) == count
    names = {event["name"] for event in events if event["ph"] == "b"}
    assert {"turn 2: resumed", "turn 4: noise", "turn 5: answered"} <= names


def test_times_are_those_of_what_happened_in_microseconds(tmp_path: Path) -> None:
    events = written(answered(1, 10.0), tmp_path)
    names = tracks(events)
    (reply,) = (event for event in events if event["ph"] == "X" and names[event["tid"]] == "speaker")
    assert (reply["ts"], reply["dur"], reply["name"]) == (2_700_000, 1_300_000, "reply 1")
    (speech,) = (event for event in events if event["ph"] == "X" and names[event["tid"]] == "you")
    assert (speech["ts"], speech["dur"]) == (0, 2_000_000)
    arrow = {event["ph"]: event["ts"] for event in events if event["ph"] in "sf"}
    assert speech["ts"] <= arrow["s"] < speech["ts"] + speech["dur"]  # it has to lie in a slice
    assert arrow["f"] == reply["ts"]
    assert min(event["ts"] for event in events if "ts" in event) == 0


def test_a_talk_that_was_cut_off_is_whole_all_the_same(tmp_path: Path) -> None:
    events = [event for event in answered(1, 10.0) if not isinstance(event, TurnEnded)]
    events = written(events, tmp_path)
    assert [event["name"] for event in events if event["ph"] in "be"] == ["turn 1: not ended"] * 2


def test_the_trace_of_nothing_is_empty(tmp_path: Path) -> None:
    assert {event["ph"] for event in written([], tmp_path)} == {"M"}


def test_memory_is_bounded_and_the_newest_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_module, "KEPT", 200)
    monkeypatch.setattr(trace_module, "KEPT_LEVELS", 5)
    long_talk = [event for i in range(20) for event in talk(100.0 + 40 * i)]
    events = written(long_talk, tmp_path)
    assert sum(event["ph"] == "C" for event in events) == 10
    assert len(events) < 300
    begins, ends = (sum(event["ph"] == phase for event in events) for phase in "be")
    assert begins == ends > 3
    assert any("dry" in event["name"] for event in events)
    assert max(event.get("ts", 0) for event in events) - min(event["ts"] for event in events if "ts" in event) < 60e6


def test_a_full_disk_leaves_the_trace_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(answered(1, 10.0), tmp_path)
    before = (tmp_path / "trace.json").read_bytes()

    def full(path: Path, content: bytes, mode: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic_file, "_write_synced", full)
    with pytest.raises(OutputFailed, match="No space left"):
        written(talk(), tmp_path)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [before]
