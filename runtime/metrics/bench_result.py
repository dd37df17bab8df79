"""The result of a rehearsal: questions that were asked in real time, how each was answered, and under which conditions.

It is what `vita-edge bench` prints, writes and compares.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vita_edge.engines.errors import BadInput
from vita_edge.engines.reading.file_kind import FileKind
from vita_edge.engines.reading.json_file import read_json
from vita_edge.engines.reading.table import as_table
from vita_edge.engines.reading.typed import build_record

from .latency_breakdown import largest_saving
from .statistics import Summary, nearest_rank, summary
from .turn_report import TurnReport

__all__ = ["MEASURES", "BenchResult", "BenchTurn", "Measure", "cannot_be", "summaries", "turn_at"]

FORMAT = 2
READS = (1, 2)
BENCH = FileKind(BadInput, "the bench result", fix="Give a file that `vita-edge bench -o` has written.")


@dataclass(frozen=True)
class Measure:
    """A number that every turn has."""

    label: str
    unit: str
    better: Literal["less", "more"]
    of: Callable[[TurnReport], float | None]
    made_of: Literal["work", "waiting", "neither"] = "work"
    """What it lasts for: work, which a busy machine makes slower; work and a fixed silence; or neither of them."""


def _endpoint_ms(report: TurnReport) -> float | None:
    """From the user's true last sample where that is known, as the waits count."""
    return None if report.endpoint_ms is None else report.endpoint_ms + (report.late_ms or 0.0)


def _own_cpu_s(report: TurnReport) -> float | None:
    return report.load.own_cpu_s if report.load else None


def _taken_percent(report: TurnReport) -> float | None:
    return 100 * report.load.taken_share if report.load else None


MEASURES: dict[str, Measure] = {
    "acoustic_ms": Measure("acoustic clock", "ms", "less", lambda report: report.acoustic_ms, "waiting"),
    "server_ms": Measure("server clock", "ms", "less", lambda report: report.server_ms, "waiting"),
    "engine_ms": Measure("engine clock", "ms", "less", lambda report: report.engine_ms),
    "endpoint_ms": Measure("silence until the endpoint", "ms", "less", _endpoint_ms, "waiting"),
    "late_ms": Measure("end-of-speech detection delay", "ms", "less", lambda report: report.late_ms, "neither"),
    "positions_after_speech": Measure(
        "prefilled after speech", "tokens", "less", lambda report: report.positions_after_speech
    ),
    "prefill_rate": Measure("prefill", "tokens/s", "more", lambda report: report.prefill_rate),
    "decode_rate": Measure("decode", "tokens/s", "more", lambda report: report.decode_rate),
    "speech_decoder_rtf": Measure("speech decoder", "of real time", "less", lambda report: report.speech_decoder_rtf),
    "codec_rtf": Measure("codec", "of real time", "less", lambda report: report.codec_rtf),
    "dry_s": Measure("playback underrun", "s", "less", lambda report: report.dry_s),
    "wasted_ms": Measure("discarded work", "ms", "less", lambda report: report.wasted_ms),
    "own_cpu_s": Measure("own processor time", "s", "less", _own_cpu_s),
    "taken_share": Measure("cores taken by others", "%", "less", _taken_percent, "neither"),
}


@dataclass(frozen=True)
class BenchTurn:
    """A question and how it was answered."""

    question: str
    speculation: bool
    """Whether answers could be begun before the endpoint."""
    history_tokens: int
    """Positions of the KV cache before the question."""
    report: TurnReport
    variant: str = ""
    """Of the talk that answered it, where variants of something else than speculation were compared."""

    @property
    def group(self) -> str:
        """Turns of one group are summed up together: ``on`` and ``off`` are those of speculation."""
        return self.variant or ("on" if self.speculation else "off")


@dataclass(frozen=True)
class BenchResult:
    """A whole run."""

    time: str
    """When it began, ISO 8601."""
    bundle: Mapping[str, Any]
    machine: Mapping[str, Any]
    settings: Mapping[str, Any]
    memory_peak_bytes: int | None
    left_out: Mapping[str, Mapping[str, int]]
    """Why → question → how often it gave no turn to count."""
    turns: tuple[BenchTurn, ...]
    doubts: Mapping[str, str] = field(default_factory=dict)
    """Question → why the end of its speech may be marked wrongly."""
    asked: int | None = None
    """Turns that were to be asked; more than there are when the run was interrupted or some were left out."""
    interrupted: bool = False

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the variants, in the order in which they were asked."""
        return tuple(dict.fromkeys(turn.group for turn in self.turns))

    def group(self, name: str) -> tuple[BenchTurn, ...]:
        return tuple(turn for turn in self.turns if turn.group == name)

    def to_json(self) -> dict[str, Any]:
        """All of it, with the summaries that follow from it."""
        groups = {name: self.group(name) for name in self.groups}
        facts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "turns"}
        summed = {
            name: {measure: dataclasses.asdict(numbers) for measure, numbers in summaries(turns).items()}
            for name, turns in groups.items()
        }
        savings = {name: _saving(turns) for name, turns in groups.items()}
        impossible = [i for i, turn in enumerate(self.turns) if cannot_be(turn.report)]
        turns = [
            {**{key: value for key, value in vars(turn).items() if key != "report"}, **turn.report.to_json()}
            for turn in self.turns
        ]
        results = {"summary": summed, "largest_saving": savings, "cannot_be": impossible, "turns": turns}
        return {"format": FORMAT, **facts, **results}

    @classmethod
    def read(cls, path: str | Path) -> BenchResult:
        """Read what `vita-edge bench -o` wrote.

        Raises:
            BadInput: it cannot be read, or is something else.
        """
        data = read_json(Path(path), BENCH)
        found = as_table(Path(path), data, BENCH)
        if found.integer("format") not in READS:
            raise found.refusal("format", f"This version reads {' and '.join(map(str, READS))}.")
        turns = [{**row.values} for row in found.rows("turns")]
        if data["format"] == 1:
            data, turns = _upgraded(data, found.section("left_out").values, turns)
        try:
            nested = [_nested(turn) for turn in turns]
            return build_record(cls, {**data, "turns": nested}, "the result")
        except ValueError as error:
            raise BENCH.refusal(path, f"{error}.") from error


def summaries(turns: Sequence[BenchTurn]) -> dict[str, Summary]:
    """Measure → its numbers over ``turns``; what nobody measured is left out."""
    found = {
        name: summary(map(measure.of, (turn.report for turn in turns)), measure.better)
        for name, measure in MEASURES.items()
    }
    return {name: numbers for name, numbers in found.items() if numbers}


def cannot_be(report: TurnReport) -> bool:
    """The answer was heard sooner than the silence that it waited for: the end of the speech is marked too late."""
    heard_ms, endpoint_ms = report.acoustic_ms, report.endpoint_ms
    return heard_ms is not None and endpoint_ms is not None and heard_ms < endpoint_ms


def turn_at(turns: Sequence[BenchTurn], share: float) -> BenchTurn | None:
    """The turn that a ``share`` of the heard turns are no slower than, by nearest rank: 0.5 is the median turn."""
    heard = [turn for turn in turns if turn.report.server_ms is not None]
    if not heard:
        return None
    ordered = sorted(heard, key=lambda turn: turn.report.acoustic_ms or turn.report.server_ms or 0.0)
    return ordered[nearest_rank(len(ordered), share)]


def _saving(turns: Sequence[BenchTurn]) -> dict[str, Any] | None:
    median = turn_at(turns, 0.5)
    saving = largest_saving(median.report) if median else None
    return dataclasses.asdict(saving) if saving else None


def _upgraded(
    data: Mapping[str, Any], left_out: Mapping[str, Any], turns: list[dict[str, Any]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A result of format 1 and its turns as those of format 2."""
    counted = {why: {"": count} for why, count in left_out.items()}
    later = {"left_out": counted, "doubts": {}, "asked": None, "interrupted": False}
    return {**data, **later}, [{**turn, "variant": ""} for turn in turns]


def _nested(turn: Mapping[str, Any]) -> dict[str, Any]:
    """A turn as it is written, its report beside its own fields, with the report apart."""
    own = {field.name for field in dataclasses.fields(BenchTurn)} - {"report"}
    report = {name: value for name, value in turn.items() if name not in own}
    return {**{name: turn[name] for name in own if name in turn}, "report": report}
