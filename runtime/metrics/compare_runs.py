"""Two rehearsals side by side: what changed by more than chance, what did not, and what else was different."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .bench_result import MEASURES, BenchResult, BenchTurn
from .machine_load import BUSY_SHARE
from .statistics import Difference, difference

__all__ = ["Change", "Verdict", "changes", "different_conditions", "taken_shares"]

LEVEL = 0.05
"""Chance that anything at all is called a change when nothing is, over all measures together (Holm's method)."""

Verdict = Literal["better", "worse", "no change beyond noise", "too few turns to tell", "too busy to tell"]


@dataclass(frozen=True)
class Change:
    """One measure in two series of turns."""

    measure: str
    before: float
    """Median."""
    after: float
    difference: Difference
    verdict: Verdict


def changes(before: Sequence[BenchTurn], after: Sequence[BenchTurn], *, interleaved: bool = False) -> list[Change]:
    """Compare every measure that both series have; turn by turn where they asked the same questions in the same order.

    Turns that were ``interleaved`` in one run met the same load; between two runs, what a busy machine may have done is
    not called a change. Turns that have no value (nothing was heard, nobody listened) are left out, of pairs both.
    """
    paired = [turn.question for turn in before] == [turn.question for turn in after]
    found: dict[str, tuple[float, float, Difference]] = {}
    for name, measure in MEASURES.items():
        a, b = ([measure.of(turn.report) for turn in turns] for turns in (before, after))
        if paired:
            both = [(x, y) for x, y in zip(a, b) if x is not None and y is not None]
            first, second = [x for x, _ in both], [y for _, y in both]
        else:
            first, second = [x for x in a if x is not None], [y for y in b if y is not None]
        if first and second:
            found[name] = _median(first), _median(second), difference(first, second, paired=paired)
    verdicts = _verdicts({name: entry[2] for name, entry in found.items()})
    spread_ms = _spread_of_work_ms(before, after)
    if not interleaved and spread_ms is not None and max(taken_shares(before, after)) > BUSY_SHARE:
        verdicts = {name: _in_a_crowd(name, found[name][2], verdict, spread_ms) for name, verdict in verdicts.items()}
    return [Change(name, *entry, verdicts[name]) for name, entry in found.items()]


def taken_shares(*runs: Sequence[BenchTurn]) -> list[float]:
    """Of each run: the share of all cores that others had during its turns, 0 to 1; 0 where nobody sampled it."""
    loads = ([turn.report.load.taken_share for turn in run if turn.report.load] for run in runs)
    return [sum(shares) / len(shares) if shares else 0.0 for shares in loads]


def different_conditions(before: BenchResult, after: BenchResult) -> list[tuple[str, Any, Any]]:
    """(name, before, after) of bundle, machine and settings that are not the same in both."""
    a, b = (
        dict(_flat({"bundle": run.bundle, "machine": run.machine, "settings": run.settings})) for run in (before, after)
    )
    names = list(dict.fromkeys([*a, *b]))
    return [(name, a.get(name), b.get(name)) for name in names if a.get(name) != b.get(name)]


def _flat(facts: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _spread_of_work_ms(*runs: Sequence[BenchTurn]) -> float | None:
    """How far apart the slowest and the fastest engine clocks of a run are: what the load does to the same work."""
    clocks = [[turn.report.engine_ms for turn in run if turn.report.engine_ms is not None] for run in runs]
    return max((max(ms) - min(ms) for ms in clocks if ms), default=None)


def _in_a_crowd(name: str, of: Difference, verdict: Verdict, spread_ms: float) -> Verdict:
    """What may still be said when others had a part of the cores.

    Work is slowed by them in ways that no count of cores tells. A clock that is mostly a silence has changed when it
    moved by more than the same work was scattered.
    """
    made_of = MEASURES[name].made_of
    if verdict not in ("better", "worse") or made_of == "neither":
        return verdict
    if made_of == "waiting" and min(abs(of.low), abs(of.high)) > spread_ms:
        return verdict
    return "too busy to tell"


def _verdicts(found: Mapping[str, Difference]) -> dict[str, Verdict]:
    """The least likely first: each is held to the level, divided by the measures that are still to be judged."""
    open_names = sorted(found, key=lambda name: found[name].chance)
    judged: dict[str, Verdict] = {}
    changed = tellable = True
    for i, name in enumerate(open_names):
        one, level = found[name], LEVEL / (len(open_names) - i)
        changed = changed and one.chance <= level
        tellable = tellable and one.min_chance <= level  # a step that nothing could pass ends all judging
        if changed and one.median:
            less = one.median < 0
            judged[name] = "better" if less == (MEASURES[name].better == "less") else "worse"
        elif not tellable and one.median:
            judged[name] = "too few turns to tell"
        else:
            judged[name] = "no change beyond noise"
    return judged
