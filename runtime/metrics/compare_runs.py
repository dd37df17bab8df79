"""Two rehearsals side by side: what changed by more than chance, what did not, and what else was different."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .bench_result import MEASURES, BenchResult, BenchTurn
from .statistics import Difference, difference

__all__ = ["Change", "Verdict", "changes", "different_conditions"]

LEVEL = 0.05
"""Chance that anything at all is called a change when nothing is, over all measures together (Holm's method)."""

Verdict = Literal["better", "worse", "no change beyond noise", "too few turns to tell"]


@dataclass(frozen=True)
class Change:
    """One measure in two series of turns."""

    measure: str
    before: float
    """Median."""
    after: float
    difference: Difference
    verdict: Verdict


def changes(before: Sequence[BenchTurn], after: Sequence[BenchTurn]) -> list[Change]:
    """Compare every measure that both series have; turn by turn where they asked the same questions in the same order.

    Turns that have no value (nothing was heard, nobody listened) are left out, of pairs both.
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
    return [Change(name, *entry, verdicts[name]) for name, entry in found.items()]


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
