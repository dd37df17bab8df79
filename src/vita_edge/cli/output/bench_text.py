"""What `vita-edge bench` says: the figures of a run, and what separates two of them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from vita_edge.runtime.metrics.bench_result import MEASURES, BenchResult, BenchTurn, summaries, turn_at
from vita_edge.runtime.metrics.compare_runs import changes, different_conditions
from vita_edge.runtime.metrics.latency_breakdown import CAUSES, largest_saving, wait_parts
from vita_edge.runtime.metrics.waterfall import GROUPS, conditions

from .latency import latency_lines
from .show import mib, table

__all__ = ["bench_text", "comparison_facts", "comparison_text"]

AGAINST = {"acoustic_ms": "acoustic ms", "engine_ms": "engine ms", "positions_after_speech": "prefilled after speech"}
FEW = 20
"""Turns below which no turn is beyond the p95."""


def bench_text(run: BenchResult) -> str:
    """Conditions, figures with their n, the median turn, and the largest saving left."""
    groups = [(on, turns) for on in (True, False) if (turns := run.group(on))]
    lines = [*(line for line in conditions(run) if line), *_asked(run), "", _figures(groups)]
    if min(len(turns) for _, turns in groups) < FEW:
        lines.append(f"(of fewer than {FEW} turns, the p95 is little more than the largest)")
    lines += _against(groups, history=bool(run.settings["history"]))
    if run.memory_peak_bytes:
        lines.append(f"\nmemory     {mib(run.memory_peak_bytes)} resident at most")
    for on, turns in groups:
        median = turn_at(turns, 0.5)
        saving = largest_saving(median.report) if median else None
        if median is None or saving is None:
            continue
        whole = wait_parts(median.report)[-1].end_ms
        lines += ["", f"median turn, {GROUPS[on]}: {median.question}", *latency_lines(median.report)]
        lines.append(
            f"largest saving left: {CAUSES[saving.cause].label}, up to {saving.saves_ms:,.0f} of {whole:,.0f} ms\n"
            f"  {saving.remedy}"
        )
    if len(groups) == 2:
        facts = _changes(groups[1][1], groups[0][1])
        lines += [
            "",
            "speculation off → on",
            _change_table([fact for fact in facts if fact["measure"].endswith("_ms")]),
        ]
    return "\n".join(lines)


def comparison_facts(before: BenchResult, after: BenchResult) -> dict[str, Any]:
    """What `--compare --json` prints."""
    found = {}
    for on, name in ((True, "on"), (False, "off")):
        a, b = before.group(on), after.group(on)
        if a and b:
            found[name] = _changes(a, b)
    return {
        "conditions": [{"name": name, "before": a, "after": b} for name, a, b in different_conditions(before, after)],
        "changes": found,
    }


def comparison_text(facts: dict[str, Any], names: tuple[str, ...]) -> str:
    """The same for people."""
    lines = [f"before     {names[0]}", f"after      {names[1]}"]
    for one in facts["conditions"]:
        lines.append(f"not the same: {one['name']}, {one['before']} → {one['after']}")
    for group, found in facts["changes"].items():
        pairing = "turn by turn" if found[0]["paired"] else "as two samples"
        lines += ["", f"speculation {group}, compared {pairing}", _change_table(found), *_sentences(found)]
    return "\n".join(lines)


def _asked(run: BenchResult) -> Iterator[str]:
    counts = Counter(turn.speculation for turn in run.turns)
    told = ", ".join(f"{_count(counts[on], 'turn')} with {GROUPS[on]}" for on in (True, False) if counts[on])
    questions = _count(len(run.settings["questions"]), "question")
    held = "one conversation" if run.settings["history"] else "a fresh conversation for each turn"
    yield f"{told}; {questions}, {held}, in a simulated room"
    if run.left_out:
        yield "left out: " + ", ".join(f"{count} {why}" for why, count in run.left_out.items())


def _figures(groups: Sequence[tuple[bool, Sequence[BenchTurn]]]) -> str:
    head = ["", ""]
    for on, _ in groups:
        head += [f"{'on' if on else 'off'}: p50" if len(groups) > 1 else "p50", "p95", "n"]
    rows = [tuple(head)]
    summed = [summaries(turns) for _, turns in groups]
    for name, measure in MEASURES.items():
        if not any(name in numbers for numbers in summed):
            continue
        cells = [measure.label, measure.unit]
        for numbers in summed:
            one = numbers.get(name)
            cells += [_number(one.p50), _number(one.p95), f"{one.n}"] if one else ["", "", "0"]
        rows.append(tuple(cells))
    return table(rows, left=2)


def _against(groups: Sequence[tuple[bool, Sequence[BenchTurn]]], *, history: bool) -> list[str]:
    """The wait against the length of the question, or against what was said before it; nothing if all are alike."""
    rows = []
    for on, turns in groups:
        parts = _thirds(turns) if history else _by_question(turns)
        for part in parts if len(parts) > 1 else ():
            numbers, before = summaries(part), [turn.history_tokens for turn in part]
            speech_s = part[0].report.speech_s
            what = f"{min(before):,} to {max(before):,}" if history else f"{part[0].question}, {speech_s:.1f} s"
            cells = [_number(numbers[name].p50) if name in numbers else "" for name in AGAINST]
            rows.append((GROUPS[on], what, *cells, f"{len(part)}"))
    if not rows:
        return []
    what = "positions of the history" if history else "question"
    return ["", table([("p50 of each", what, *AGAINST.values(), "n"), *rows], left=2)]


def _by_question(turns: Sequence[BenchTurn]) -> list[Sequence[BenchTurn]]:
    """Turns of one question each, the shortest first."""
    names = dict.fromkeys(turn.question for turn in sorted(turns, key=lambda turn: turn.report.speech_s))
    return [[turn for turn in turns if turn.question == name] for name in names]


def _thirds(turns: Sequence[BenchTurn]) -> list[Sequence[BenchTurn]]:
    """The first, the middle and the last third of a conversation."""
    third = len(turns) // 3
    return [turns[:third], turns[third : len(turns) - third], turns[len(turns) - third :]] if third else [turns]


def _changes(before: Sequence[BenchTurn], after: Sequence[BenchTurn]) -> list[dict[str, Any]]:
    facts = []
    for change in changes(before, after):
        of = change.difference
        facts.append(
            {
                "measure": change.measure,
                "before": change.before,
                "after": change.after,
                **{name: value for name, value in dataclasses.asdict(of).items() if name != "min_chance"},
                "n": list(of.n),
                "verdict": change.verdict,
            }
        )
    return facts


def _change_table(found: Sequence[dict[str, Any]]) -> str:
    rows = [("", "", "before", "after", "change", "95 % between", "n", "")]
    for fact in found:
        measure, (n, m) = MEASURES[fact["measure"]], fact["n"]
        count = _count(n, "pair") if fact["paired"] else f"{n}, {m}"
        between = f"{_signed(fact['low'])} … {_signed(fact['high'])}" if fact["low"] != fact["high"] else ""
        change = _signed(fact["median"]) if fact["median"] else "0"
        row = (measure.label, measure.unit, _number(fact["before"]), _number(fact["after"]), change, between, count)
        rows.append((*row, fact["verdict"]))
    width = max(len(row[-1]) for row in rows)
    return table([(*row[:-1], row[-1].ljust(width)) for row in rows], left=2)


def _sentences(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What changed, in words."""
    for verdict in ("worse", "better"):
        named = [f"{MEASURES[fact['measure']].label} by {_share(fact)}" for fact in found if fact["verdict"] == verdict]
        if named:
            yield f"{verdict}: {', '.join(named)}"
    if not any(fact["verdict"] in ("worse", "better") for fact in found):
        few = any(fact["verdict"] == "too few turns to tell" for fact in found)
        yield "too few turns to tell" if few else "no change beyond noise"


def _share(fact: dict[str, Any]) -> str:
    if not fact["before"]:
        return _signed(fact["median"])
    return f"{_signed(round(100 * fact['median'] / fact['before']))} %"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def _number(value: float) -> str:
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else '−' if value < 0 else ''}{_number(abs(value))}"
