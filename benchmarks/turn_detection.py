"""How well turns are ended, on the reporting half of a labelled set or on recordings of your own:

    python benchmarks/turn_detection.py FOLDER [--json]

For each detector and policy: how many complete turns are released within 250 ms of the true end of speech, the wait
at p50 and p95, and how many pauses inside a turn were taken for its end. Those are *withdrawn* when the user goes on
before or within 500 ms of the first sound, and *lost* otherwise, or when nothing is ever withdrawn. The voice detector,
the times at which the detectors are asked and the silences are those of the live talk; computing is not counted.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from turn_points import Point, points_of

from vita_edge.runtime.metrics.statistics import nearest_rank
from vita_edge.runtime.turns.endpoint_policy import EAGERNESS, WITHDRAW_MS, EndpointPolicy
from vita_edge.runtime.turns.own_detector import OwnDetector, both
from vita_edge.runtime.turns.smart_turn import SmartTurn, installed_model

STEP_S = 0.032
FIRST_S = 0.192
"""The first step in which a turn can end: the one behind that in which an answer is begun."""
SOON_MS = 250.0
SOUND_S, BARGE_IN_S = 0.06, 0.2
"""From the endpoint to the first sound, about, on the demo bundle; and the voice that takes the word."""
Judge = Callable[[Point], float | None]


@dataclass(frozen=True)
class Score:
    """One detector under one policy."""

    detector: str
    policy: str
    complete: int
    soon: float
    """Share of complete turns that are released within 250 ms of the true end."""
    wait_p50_ms: float
    wait_p95_ms: float
    pauses: int
    cut: float
    """Share of pauses inside turns that end the turn."""
    withdrawn: float
    """Share of the pauses whose answer is withdrawn, where answers may be."""
    audible_ms: float
    """How long a withdrawn answer is heard, on average."""
    cut_by_pause: dict[str, float]
    """``cut`` by the true length of the pause."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    model = installed_model()
    smart = SmartTurn(model) if model else None
    points = points_of(arguments.folder, smart)
    scores = [score(points, *way) for way in ways(smart is not None)]
    if arguments.json:
        print(json.dumps([asdict(one) for one in scores], indent=1))
        return
    print(f"{len(points)} silences of {len({point.speaker for point in points})} speakers")
    head = (
        f"{'detector':<22} {'policy':<8} {'soon':>6} {'p50':>6} {'p95':>6} {'cut':>6} {'withdrawn':>9} {'audible':>8}"
    )
    print(f"{head}   cut by length of the pause")
    for one in scores:
        by = "  ".join(f"{name} {share:.0%}" for name, share in one.cut_by_pause.items())
        print(
            f"{one.detector:<22} {one.policy:<8} {one.soon:>6.1%} {one.wait_p50_ms:>6.0f} {one.wait_p95_ms:>6.0f} "
            f"{one.cut:>6.1%} {one.withdrawn:>9.1%} {one.audible_ms:>5.0f} ms   {by}"
        )


def ways(smart: bool) -> list[tuple[str, str, Judge, EndpointPolicy | int]]:
    """(detector, policy, what it says, when it ends a turn)"""
    found: list[tuple[str, str, Judge, EndpointPolicy | int]] = [
        ("none", f"{ms} ms", lambda point: None, ms) for ms in (200, 300, 500, 700)
    ]
    judges: list[tuple[str, Judge]] = []
    if smart:
        judges.append(("Smart Turn v3.2", lambda point: point.smart_turn))
    own = OwnDetector()
    judges.append(("prosody", lambda point: own.of_features(point.features)))
    if smart:
        judges.append(
            ("prosody + Smart Turn", lambda point: both(own.of_features(point.features), point.smart_turn or 0.0))
        )
    for name, judge in judges:
        found += [(name, eagerness, judge, policy) for eagerness, policy in EAGERNESS.items()]
    return found


def score(points: Sequence[Point], detector: str, name: str, judge: Judge, policy: EndpointPolicy | int) -> Score:
    complete = [point for point in points if point.complete]
    pauses = [point for point in points if not point.complete and point.kind != "inside"]
    waits = sorted(1000 * (ends_s(point, judge(point), policy) - point.true_end_s) for point in complete)
    cut = [point for point in pauses if is_cut(point, judge(point), policy)]
    heard_ms = [1000 * audible_s(point, judge(point), policy) for point in cut]
    withdrawn = [ms for ms in heard_ms if ms <= WITHDRAW_MS + 1000 * BARGE_IN_S]
    lengths = (0.2, 0.35, 0.5, 0.7, 1.0)
    by = {}
    for length in lengths:
        of = [point for point in pauses if nearest(point.resumes_s - point.true_end_s, lengths) == length]
        if of:
            by[f"{length:g} s"] = float(np.mean([is_cut(point, judge(point), policy) for point in of]))
    return Score(
        detector=detector,
        policy=name,
        complete=len(complete),
        soon=float(np.mean([wait <= SOON_MS for wait in waits])),
        wait_p50_ms=waits[nearest_rank(len(waits), 0.5)],
        wait_p95_ms=waits[nearest_rank(len(waits), 0.95)],
        pauses=len(pauses),
        cut=len(cut) / max(len(pauses), 1),
        withdrawn=len(withdrawn) / max(len(pauses), 1),
        audible_ms=float(np.mean(np.maximum(withdrawn, 0))) if withdrawn else 0.0,
        cut_by_pause=by,
    )


def ends_s(point: Point, reported: float | None, policy: EndpointPolicy | int) -> float:
    """When the turn is ended, if nobody goes on: at the end of the step in which the silence is long enough."""
    requested_s = (policy if isinstance(policy, int) else policy.silence_ms(reported or 0.0)) / 1000
    steps = np.ceil(max(requested_s, FIRST_S) / STEP_S - 1e-9)
    return point.voice_end_s + float(steps) * STEP_S


def is_cut(point: Point, reported: float | None, policy: EndpointPolicy | int) -> bool:
    return ends_s(point, reported, policy) <= point.resumes_s


def audible_s(point: Point, reported: float | None, policy: EndpointPolicy | int) -> float:
    """How long the answer would be heard until the user has the word again."""
    return point.resumes_s + BARGE_IN_S - ends_s(point, reported, policy) - SOUND_S


def nearest(value: float, choices: Sequence[float]) -> float:
    return min(choices, key=lambda choice: abs(choice - value))


if __name__ == "__main__":
    main()
