"""Results of a bench that was never held: turns with known clocks and a known scatter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from support.events import CODEC, answered
from vita_edge.runtime.metrics.bench_result import BenchResult, BenchTurn
from vita_edge.runtime.metrics.turn_metrics import TurnReports
from vita_edge.runtime.metrics.turn_report import TurnReport

__all__ = ["bench_result", "turns"]


def turns(n: int, *, slower: float = 1.5, scatter: float = 0.02, seed: int = 0, on: bool = True) -> list[BenchTurn]:
    """``n`` answers to three questions in turn; the longer the question, the slower. Devices take 40 ms."""
    random, reports = np.random.default_rng(seed), list[TurnReport]()
    observer = TurnReports(CODEC, reports.append)
    for i in range(n):
        pace = slower * (1 + 0.3 * (i % 3)) * (1 + scatter * random.standard_normal())
        for event in answered(i + 1, 10.0 * i, speech_s=1.0 + i % 3, speculative=on, slower=float(pace)):
            observer(event)
    heard = [replace(one, acoustic_ms=(one.server_ms or 0.0) + 48.0, late_ms=8.0) for one in reports]
    return [BenchTurn(f"question-{i % 3}.wav", on, 60 + 40 * i, report) for i, report in enumerate(heard)]


def bench_result(*groups: list[BenchTurn], threads: int = 2) -> BenchResult:
    return BenchResult(
        time="2026-11-24T12:00:00+00:00",
        bundle={"path": "BUNDLE", "model": "tiny", "precision": "fp32", "backend": "onnxruntime-cpu"},
        machine={"cpu": "A CPU", "cores": 2, "versions": {"onnxruntime": "1.23.0"}},
        settings={"threads": threads, "questions": ["question-0.wav"], "history": False, "endpoint_ms": 600},
        memory_peak_bytes=300 << 20,
        left_out={},
        turns=tuple(turn for group in groups for turn in group),
    )
