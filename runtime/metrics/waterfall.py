"""What a waterfall shows, before it is drawn: the median turn stage by stage, and waits of turns cut into parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .bench_result import BenchResult, BenchTurn, turn_at
from .latency_breakdown import CAUSES, largest_saving, wait_parts
from .turn_report import Stretch, TurnReport

__all__ = ["Bar", "Strip", "Waterfall", "WaterfallMark", "WaterfallRow", "conditions", "waterfall"]

STAGES = ("vision", "audio", "prefill", "decode", "speech_decoder", "codec")
GROUPS = {"on": "speculation on", "off": "speculation off"}
"""Labels of groups of turns; others are called as they are."""


@dataclass(frozen=True)
class WaterfallRow:
    """One line of the median turn: when it worked or was waited for, in milliseconds after the user's last sample."""

    label: str
    stretches: tuple[Stretch, ...]
    """Named by what they are coloured after."""


@dataclass(frozen=True)
class WaterfallMark:
    """A moment of the median turn."""

    label: str
    at_ms: float


@dataclass(frozen=True)
class Bar:
    """The wait of one turn in parts that add up to it."""

    label: str
    parts: tuple[Stretch, ...]


@dataclass(frozen=True)
class Strip:
    """How long each turn took."""

    label: str
    waits_ms: tuple[float, ...]


@dataclass(frozen=True)
class Waterfall:
    headline: str
    """The largest saving left."""
    remedy: str
    median: str
    """Which turn the rows show."""
    rows: tuple[WaterfallRow, ...]
    marks: tuple[WaterfallMark, ...]
    bars: tuple[Bar, ...]
    strips: tuple[Strip, ...]
    conditions: tuple[str, ...]

    @property
    def turn_end_ms(self) -> float:
        """End of the wait of the median turn."""
        return max(mark.at_ms for mark in self.marks)

    @property
    def max_utterance_ms(self) -> float:
        return max([bar.parts[-1].end_ms for bar in self.bars] + [ms for strip in self.strips for ms in strip.waits_ms])

    @property
    def causes(self) -> tuple[str, ...]:
        """What occurs in the bars, as listed in CAUSES."""
        return _causes(part for bar in self.bars for part in bar.parts)

    @property
    def row_causes(self) -> tuple[str, ...]:
        """What the rows of the median turn are coloured after."""
        return _causes(part for row in self.rows for part in row.stretches)


def _causes(parts: Iterable[Stretch]) -> tuple[str, ...]:
    there = {part.name for part in parts}
    return tuple(cause for cause in CAUSES if cause in there)


def waterfall(run: BenchResult) -> Waterfall | None:
    """The waterfall of a rehearsal: of its first group of turns; None when nothing was heard."""
    groups = [(GROUPS.get(name, name), heard) for name in run.groups if (heard := _heard(run.group(name)))]
    if not groups:
        return None
    name, turns = groups[0]
    median = turn_at(turns, 0.5)
    assert median is not None
    report = median.report
    saving = largest_saving(report)
    assert saving is not None
    return Waterfall(
        headline=f"Largest saving left: {CAUSES[saving.cause].label}, up to {saving.saves_ms:,.0f} of "
        f"{wait_parts(report)[-1].end_ms:,.0f} ms",
        remedy=saving.remedy,
        median=f"median of {len(turns)}, {name}: {median.question}, {report.speech_s:.1f} s of speech",
        rows=tuple(_rows(report)),
        marks=tuple(_marks(report)),
        bars=tuple(_bar(label, share, of) for label, of in groups for share in (0.5, 0.95)),
        strips=tuple(Strip(f"{label}, n = {len(of)}", _waits(of)) for label, of in groups),
        conditions=conditions(run),
    )


def conditions(run: BenchResult) -> tuple[str, ...]:
    """What the figures hold for, in three short lines."""
    bundle, machine, settings = run.bundle, run.machine, run.settings
    versions = ", ".join(f"{name} {version}" for name, version in machine.get("versions", {}).items() if version)
    speed = [f"{machine[name]}" for name in ("governor", "power_mode") if machine.get(name)]
    clock = f"up to {machine['clock_mhz']:,} MHz" if machine.get("clock_mhz") else ""
    where = machine.get("board") or machine.get("cpu") or "unknown CPU"
    return (
        f"{bundle.get('model')}, {bundle.get('precision')}, {bundle.get('backend')}, {settings.get('threads')} threads",
        ", ".join(filter(None, (where, f"{machine.get('cores')} cores", clock, *speed, machine.get("system")))),
        versions,
    )


def _heard(turns: Sequence[BenchTurn]) -> list[BenchTurn]:
    return [turn for turn in turns if wait_parts(turn.report)]


def _waits(turns: Sequence[BenchTurn]) -> tuple[float, ...]:
    return tuple(wait_parts(turn.report)[-1].end_ms for turn in turns)


def _bar(label: str, share: float, turns: Sequence[BenchTurn]) -> Bar:
    turn = turn_at(turns, share)
    assert turn is not None
    return Bar(f"{label}, p{round(100 * share)}", wait_parts(turn.report))


def _rows(report: TurnReport) -> Iterator[WaterfallRow]:
    late_ms = report.late_ms or 0.0
    started_ms, endpoint_ms = report.started_ms + late_ms, (report.endpoint_ms or report.started_ms) + late_ms
    silence = [Stretch("pause" if report.speculative else "endpoint", 0.0, started_ms)]
    if endpoint_ms > started_ms:
        silence.append(Stretch("endpoint", started_ms, endpoint_ms))
    yield WaterfallRow("silence", tuple(silence))
    for stage in STAGES:
        stretches = tuple(
            Stretch(stage, max(part.begin_ms + late_ms, 0.0), part.end_ms + late_ms)
            for part in report.wait
            if part.name == stage and part.end_ms + late_ms > 0
        )
        if stretches:
            yield WaterfallRow(stage.replace("_", " "), stretches)
    parts = wait_parts(report)
    for cause, label in (("buffer", "start-up buffer"), ("playback", "to the speaker"), ("devices", "devices")):
        if stretches := tuple(part for part in parts if part.name == cause):
            yield WaterfallRow(label, stretches)


def _marks(report: TurnReport) -> list[WaterfallMark]:
    late_ms = report.late_ms or 0.0
    moments = (
        ("response started", report.started_ms),
        ("first PCM", report.first_pcm_ms),
        ("endpoint", report.endpoint_ms),
        ("first sound", report.server_ms),
    )
    marks = [WaterfallMark(label, at_ms + late_ms) for label, at_ms in moments if at_ms is not None]
    if report.acoustic_ms is not None:
        marks.append(WaterfallMark("heard", report.acoustic_ms))
    return sorted(marks, key=lambda mark: mark.at_ms)
