"""What `vita-edge bench` says: the figures of a run, and what separates two of them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from vita_edge.runtime.metrics.bench_result import MEASURES, BenchResult, BenchTurn, cannot_be, summaries, turn_at
from vita_edge.runtime.metrics.compare_runs import changes, different_conditions, taken_shares
from vita_edge.runtime.metrics.latency_breakdown import CAUSES, largest_saving, wait_parts
from vita_edge.runtime.metrics.machine_load import BUSY_SHARE
from vita_edge.runtime.metrics.numbers import number, numbers, signed
from vita_edge.runtime.metrics.waterfall import GROUPS, conditions

from .latency import latency_lines
from .show import mib, table

__all__ = ["bench_text", "comparison_facts", "comparison_text"]

AGAINST = {"acoustic_ms": "acoustic ms", "engine_ms": "engine ms", "positions_after_speech": "prefilled after speech"}
FEW = 20
"""Turns below which no turn is beyond the p95."""
SLOW, MAX_SLOW = 1.2, 5
"""Times the median from which a turn is slow, and how many of them are named."""


def bench_text(run: BenchResult) -> str:
    """Conditions, figures with their n, the median turn, and the largest saving left."""
    groups = [(name, run.group(name)) for name in run.groups]
    lines = [*(line for line in conditions(run) if line), *_asked(run), "", _figures(groups)]
    if min(len(turns) for _, turns in groups) < FEW:
        lines.append(f"(of fewer than {FEW} turns, the p95 is the worst)")
    lines += _warnings(run)
    lines += _against(groups, history=bool(run.settings["history"]))
    if run.memory_peak_bytes:
        lines.append(f"\nmemory     {mib(run.memory_peak_bytes)} resident at most")
    for name, turns in groups:
        median = turn_at(turns, 0.5)
        saving = largest_saving(median.report) if median else None
        if median is None or saving is None:
            continue
        whole = wait_parts(median.report)[-1].end_ms
        lines += ["", f"median turn, {_label(name)}: {median.question}", *latency_lines(median.report)]
        lines.append(
            f"largest saving left: {CAUSES[saving.cause].label}, up to {saving.saves_ms:,.0f} of {whole:,.0f} ms\n"
            f"  {saving.remedy}"
        )
    if len(groups) == 2:
        facts = _changes(groups[1][1], groups[0][1], interleaved=True)
        lines += [
            "",
            f"{_label(groups[1][0])} → {groups[0][0] if groups[0][0] in GROUPS else _label(groups[0][0])}",
            _change_table([fact for fact in facts if fact["measure"].endswith("_ms")]),
        ]
    return "\n".join(lines)


def comparison_facts(before: BenchResult, after: BenchResult) -> dict[str, Any]:
    """What `--compare --json` prints."""
    found = {}
    for name in before.groups:
        a, b = before.group(name), after.group(name)
        if b:
            found[name] = _changes(a, b)
    return {
        "conditions": [{"name": name, "before": a, "after": b} for name, a, b in different_conditions(before, after)],
        "taken_shares": taken_shares(before.turns, after.turns),
        "changes": found,
    }


def comparison_text(facts: dict[str, Any], names: tuple[str, ...]) -> str:
    """The same for people."""
    lines = [f"before     {names[0]}", f"after      {names[1]}"]
    for one in facts["conditions"]:
        lines.append(f"not the same: {one['name']}, {one['before']} → {one['after']}")
    if max(facts["taken_shares"]) > BUSY_SHARE:
        a, b = (f"{share:.0%}" for share in facts["taken_shares"])
        lines.append(f"others used the machine: {a} of the cores before, {b} after; work is not compared")
    for group, found in facts["changes"].items():
        pairing = "turn by turn" if found[0]["paired"] else "as two samples"
        lines += ["", f"{_label(group)}, compared {pairing}", _change_table(found), *_sentences(found)]
    return "\n".join(lines)


def _asked(run: BenchResult) -> Iterator[str]:
    reported = ", ".join(f"{_count(len(run.group(name)), 'turn')} with {_label(name)}" for name in run.groups)
    questions = _count(len(run.settings["questions"]), "question")
    held = "one conversation" if run.settings["history"] else "a fresh conversation for each turn"
    where = "through loudspeaker and microphone" if run.settings.get("through_devices") else "in a simulated room"
    yield f"{reported}; {questions}, {held}, {where}"
    if run.interrupted:
        yield f"interrupted: {_count(len(run.turns), 'turn')} of {run.asked} were finished"
    for why, questions_left in run.left_out.items():
        names = ", ".join(
            (f"{name} ({times} times)" if times > 1 else name) if name else f"{times}"
            for name, times in questions_left.items()
        )
        yield f"left out, {why}: {names}"


def _warnings(run: BenchResult) -> list[str]:
    """What should not be believed, and why."""
    lines = []
    if wrong := Counter(turn.question for turn in run.turns if cannot_be(turn.report)):
        named = ", ".join(f"{name} ({_count(times, 'turn')})" for name, times in wrong.items())
        lines.append(
            f"warning: the acoustic clock is below the endpoint, which cannot be: {named}\n"
            "  The end of the speech is marked too late. Write it down beside the recording."
        )
    for question, why in run.doubts.items():
        lines.append(f"warning: the end of speech in {question} is unsure: {why}. Write it down beside the recording.")
    lines += _slow_turns(run)
    return ["", *lines] if lines else []


def _slow_turns(run: BenchResult) -> list[str]:
    """Turns that were slower than usual while the machine had something else to do."""
    lines = []
    for name in run.groups:
        turns, median = run.group(name), turn_at(run.group(name), 0.5)
        usual_ms = (median.report.acoustic_ms or median.report.server_ms) if median else None
        for i, turn in enumerate(turns, 1):
            ms, load = turn.report.acoustic_ms or turn.report.server_ms, turn.report.load
            if ms and usual_ms and ms > SLOW * usual_ms and load and load.busy:
                lines.append(f"slow: turn {i} with {_label(name)}, {number(ms)} ms, while {', '.join(load.reasons())}")
    shown = lines[:MAX_SLOW]
    return shown + ([f"slow: {len(lines) - MAX_SLOW} more turns, likewise"] if len(lines) > MAX_SLOW else [])


def _label(group: str) -> str:
    return GROUPS.get(group, group)


def _figures(groups: Sequence[tuple[str, Sequence[BenchTurn]]]) -> str:
    head = ["", ""]
    for name, _ in groups:
        head += [f"{name}: p50" if len(groups) > 1 else "p50", "p95", "n"]
    rows = [tuple(head)]
    summed = [summaries(turns) for _, turns in groups]
    for name, measure in MEASURES.items():
        there = [one for group in summed if (one := group.get(name))]
        if not there:
            continue
        written = iter(numbers([value for one in there for value in (one.p50, one.p95)]))
        cells = [measure.label, measure.unit]
        for group in summed:
            one = group.get(name)
            cells += [next(written), next(written), f"{one.n}"] if one else ["", "", "0"]
        rows.append(tuple(cells))
    return table(rows, left=2)


def _against(groups: Sequence[tuple[str, Sequence[BenchTurn]]], *, history: bool) -> list[str]:
    """The wait against the length of the question, or against what was said before it; nothing if all are alike."""
    rows = []
    for group, turns in groups:
        parts = _thirds(turns) if history else _by_question(turns)
        for part in parts if len(parts) > 1 else ():
            summed, before = summaries(part), [turn.history_tokens for turn in part]
            speech_s = part[0].report.speech_s
            what = f"{min(before):,} to {max(before):,}" if history else f"{part[0].question}, {speech_s:.1f} s"
            cells = [number(summed[name].p50) if name in summed else "" for name in AGAINST]
            rows.append((_label(group), what, *cells, f"{len(part)}"))
    if not rows:
        return []
    what = "tokens of history" if history else "question"
    return ["", table([("p50 of each", what, *AGAINST.values(), "n"), *rows], left=2)]


def _by_question(turns: Sequence[BenchTurn]) -> list[Sequence[BenchTurn]]:
    """Turns of one question each, the shortest first."""
    names = dict.fromkeys(turn.question for turn in sorted(turns, key=lambda turn: turn.report.speech_s))
    return [[turn for turn in turns if turn.question == name] for name in names]


def _thirds(turns: Sequence[BenchTurn]) -> list[Sequence[BenchTurn]]:
    """The first, the middle and the last third of a conversation."""
    third = len(turns) // 3
    return [turns[:third], turns[third : len(turns) - third], turns[len(turns) - third :]] if third else [turns]


def _changes(
    before: Sequence[BenchTurn], after: Sequence[BenchTurn], *, interleaved: bool = False
) -> list[dict[str, Any]]:
    facts = []
    for change in changes(before, after, interleaved=interleaved):
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
        between = f"{signed(fact['low'])} … {signed(fact['high'])}" if fact["low"] != fact["high"] else ""
        change = signed(fact["median"]) if fact["median"] else "0"
        row = (measure.label, measure.unit, *numbers([fact["before"], fact["after"]]), change, between, count)
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
        unsure = [fact["verdict"] for fact in found if fact["verdict"].startswith("too ")]
        yield unsure[0] if unsure else "no change beyond noise"


def _share(fact: dict[str, Any]) -> str:
    if not fact["before"]:
        return signed(fact["median"])
    return f"{signed(round(100 * fact['median'] / fact['before']))} %"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"
