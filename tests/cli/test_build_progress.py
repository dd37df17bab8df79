"""Phases within phases add up to a fraction that never goes back, and sizes to an estimate that learns."""

from __future__ import annotations

import pytest

from vita_edge.cli.output.build_text import duration, progress_text
from vita_edge.engines.tensorrt.build.build import Progress
from vita_edge.engines.tensorrt.build.build_cost import BuildPace, Size
from vita_edge.engines.tensorrt.build.progress import Phases


def test_steps_of_a_phase_count_within_the_step_of_its_parent() -> None:
    phases = Phases()
    phases.start("build", None, 4)
    phases.step("build", 0)
    assert phases.fraction == 1 / 4
    phases.start("time", "build", 10)
    phases.step("time", 4)
    assert phases.fraction == pytest.approx(1 / 4 + 1 / 4 * 5 / 10)
    assert phases.current == ("time", 5, 10)
    phases.start("kernel", "time", 2)
    phases.step("kernel", 0)
    assert phases.fraction == pytest.approx(1 / 4 + 1 / 4 * 5.5 / 10)
    phases.finish("kernel")
    phases.step("time", 9)
    phases.finish("time")
    assert phases.fraction == 2 / 4
    phases.step("build", 1)
    assert phases.fraction == 2 / 4
    phases.finish("build")
    assert phases.fraction == 1
    assert phases.current == ("", 0, 0)


def test_a_phase_that_nobody_has_opened_or_that_has_no_steps_does_no_harm() -> None:
    phases = Phases()
    phases.step("unknown", 3)
    phases.finish("unknown")
    phases.start("empty", "unknown", 0)
    phases.finish("empty")
    assert phases.fraction == 0


def test_the_estimate_grows_with_weights_graph_and_profiles() -> None:
    size = Size(graph_bytes=100_000, weights_bytes=1_000_000_000, profiles=1)
    assert size.seconds == pytest.approx(0.6 + 6 + 18)
    twice = Size(100_000, 1_000_000_000, 2)
    assert twice.seconds == pytest.approx(2 * size.seconds)
    assert twice.memory_bytes == size.memory_bytes == (600 << 20) + 2_200_000_000  # profiles share their weights
    assert twice.engine_bytes == size.engine_bytes
    assert Size(100_000, 1_000_000_000, 2, stripped=True).engine_bytes < 100 << 20


def test_the_pace_is_that_of_what_was_seen() -> None:
    pace = BuildPace()
    assert pace.seconds(10) == 10
    pace.saw(10, 30)
    pace.saw(10, 10)
    assert pace.seconds(5) == 10


def test_what_is_left_shrinks_with_time_and_is_never_nothing() -> None:
    assert BuildPace.left(expected_s=100, elapsed_s=30, fraction=0.0) == 70
    assert BuildPace.left(expected_s=100, elapsed_s=150, fraction=0.75) == pytest.approx(50)
    assert BuildPace.left(expected_s=100, elapsed_s=150, fraction=1.0) == pytest.approx(15)
    assert BuildPace.left(expected_s=100, elapsed_s=150, fraction=0.0) == pytest.approx(15)


def test_the_line_says_what_is_done_and_what_is_left() -> None:
    progress = Progress("vision", "Timing graph nodes", 12, 63, elapsed_s=70, left_s=120, all_left_s=570)
    assert progress_text(progress, 2, 6) == (
        "[2/6] vision: Timing graph nodes 12/63, 1:10 min so far, about 2:00 min left, 9:30 min in all"
    )
    last = Progress("llm", "", 0, 0, elapsed_s=1, left_s=4000, all_left_s=4000)
    assert progress_text(last, 6, 6) == "[6/6] llm: starting, 1 s so far, about 1:06:40 h left"
    assert duration(59.6) == "1:00 min"
