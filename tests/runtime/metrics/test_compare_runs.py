"""What a bench wrote, read again, and two of them compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from support.bench_results import bench_result, turns
from vita_edge.engines.errors import BadInput
from vita_edge.runtime.metrics.bench_result import BenchResult, BenchTurn, summaries, turn_at
from vita_edge.runtime.metrics.compare_runs import changes, different_conditions
from vita_edge.runtime.metrics.machine_load import MachineLoad


def verdicts(before: object, after: object) -> dict[str, str]:
    return {change.measure: change.verdict for change in changes(before, after)}  # type: ignore[arg-type]


def test_what_was_written_is_read_as_it_was(tmp_path: Path) -> None:
    run = bench_result(turns(6), turns(6, on=False))
    (tmp_path / "run.json").write_text(json.dumps(run.to_json()))
    assert BenchResult.read(tmp_path / "run.json") == run


def test_a_result_of_the_first_format_is_read(tmp_path: Path) -> None:
    run = bench_result(turns(6))
    written = run.to_json()
    for turn in written["turns"]:
        del turn["variant"], turn["load"]
    for name in ("doubts", "asked", "interrupted"):
        del written[name]
    old = {**written, "format": 1, "left_out": {"not answered": 2}}
    (tmp_path / "old.json").write_text(json.dumps(old))
    read = BenchResult.read(tmp_path / "old.json")
    assert read.turns == run.turns and read.left_out == {"not answered": {"": 2}}


def test_summaries_and_savings_are_written_by_group() -> None:
    written = bench_result(turns(6), turns(4, on=False)).to_json()
    assert {name: group["acoustic_ms"]["n"] for name, group in written["summary"].items()} == {"on": 6, "off": 4}
    assert written["largest_saving"]["off"]["cause"] == "endpoint"
    assert "off" not in bench_result(turns(6)).to_json()["summary"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("no", "not valid JSON"),
        ("[]", "has to be a table"),
        ("{}", "no format"),
        ('{"format": 9}', "format is 9"),
        ('{"format": 2}', "no turns"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(content)
    with pytest.raises(BadInput, match=why):
        BenchResult.read(path)
    with pytest.raises(BadInput, match="Cannot read"):
        BenchResult.read(tmp_path / "none.json")


def test_the_turn_in_the_middle_is_a_turn_that_was_held() -> None:
    held = turns(9, scatter=0.1)
    clocks = sorted(turn.report.acoustic_ms or 0.0 for turn in held)
    median, slowest = turn_at(held, 0.5), turn_at(held, 1.0)
    assert median in held and slowest in held
    assert median.report.acoustic_ms == clocks[4] and slowest.report.acoustic_ms == clocks[-1]
    assert summaries(held)["acoustic_ms"].p50 == pytest.approx(clocks[4])


def test_a_slowdown_is_found_and_what_did_not_change_is_left_alone() -> None:
    found = verdicts(turns(30), turns(30, slower=1.65, seed=1))
    assert found["acoustic_ms"] == found["engine_ms"] == found["decode_rate"] == "worse"
    assert found["positions_after_speech"] == found["dry_s"] == found["endpoint_ms"] == "no change beyond noise"
    back = verdicts(turns(30, slower=1.65, seed=1), turns(30))
    assert back["acoustic_ms"] == back["prefill_rate"] == back["codec_rtf"] == "better"


def test_noise_alone_changes_nothing() -> None:
    for seed in range(5):
        found = verdicts(turns(30, seed=seed), turns(30, seed=50 + seed))
        assert set(found.values()) == {"no change beyond noise"}


def test_pairs_are_made_of_the_same_questions_only() -> None:
    same = changes(turns(30), turns(30, seed=1))
    assert all(change.difference.paired for change in same)
    shorter = changes(turns(30), turns(27, seed=1))
    assert not any(change.difference.paired for change in shorter)
    assert {change.difference.n for change in shorter} == {(30, 27)}


def busy(run: list[BenchTurn], share: float) -> list[BenchTurn]:
    load = MachineLoad(0.4, share, 0.0, None, None, None, None, None, None)
    return [replace(turn, report=replace(turn.report, load=load)) for turn in run]


def test_on_a_busy_machine_slower_work_is_not_called_worse() -> None:
    quiet, slow = turns(30, scatter=0.3), turns(30, slower=3.4, scatter=0.3, seed=1)
    assert verdicts(busy(quiet, 0.01), busy(slow, 0.01))["engine_ms"] == "worse"
    found = verdicts(busy(quiet, 0.01), busy(slow, 0.6))
    assert {found[name] for name in ("acoustic_ms", "server_ms", "engine_ms", "codec_rtf")} == {"too busy to tell"}
    reported = {
        change.measure: change.verdict for change in changes(busy(quiet, 0.6), busy(slow, 0.6), interleaved=True)
    }
    assert reported["engine_ms"] == "worse"


def test_on_a_busy_machine_a_shorter_silence_is_still_better() -> None:
    before = busy(turns(30, scatter=0), 0.5)
    after = [
        replace(turn, report=replace(turn.report, acoustic_ms=(turn.report.acoustic_ms or 0) - 1500)) for turn in before
    ]
    assert verdicts(before, after)["acoustic_ms"] == "better"


def test_three_turns_are_too_few_to_tell() -> None:
    found = verdicts(turns(3), turns(3, slower=3.0))
    assert found["acoustic_ms"] == "too few turns to tell"
    assert found["positions_after_speech"] == "no change beyond noise"


def test_other_conditions_are_named() -> None:
    assert different_conditions(bench_result(turns(2)), bench_result(turns(2), threads=1)) == [
        ("settings.threads", 2, 1)
    ]
    assert different_conditions(bench_result(turns(2)), bench_result(turns(4))) == []
