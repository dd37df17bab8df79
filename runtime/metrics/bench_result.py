"""The result of a rehearsal: questions that were asked in real time, how each was answered, and under which conditions.

It is what `vita-edge bench` prints, writes and compares.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vita_edge.engines.errors import BadInput

from .latency_breakdown import largest_saving
from .statistics import Summary, summary
from .turn_report import TurnReport

__all__ = ["MEASURES", "BenchResult", "BenchTurn", "Measure", "summaries", "turn_at"]

FORMAT = 1


@dataclass(frozen=True)
class Measure:
    """A number that every turn has."""

    label: str
    unit: str
    better: Literal["less", "more"]
    of: Callable[[TurnReport], float | None]


MEASURES: dict[str, Measure] = {
    "acoustic_ms": Measure("acoustic clock", "ms", "less", lambda report: report.acoustic_ms),
    "server_ms": Measure("server clock", "ms", "less", lambda report: report.server_ms),
    "engine_ms": Measure("engine clock", "ms", "less", lambda report: report.engine_ms),
    "endpoint_ms": Measure("endpoint", "ms", "less", lambda report: report.endpoint_ms),
    "late_ms": Measure("end of speech, seen late", "ms", "less", lambda report: report.late_ms),
    "positions_after_speech": Measure(
        "prefilled after speech", "positions", "less", lambda report: report.positions_after_speech
    ),
    "prefill_rate": Measure("prefill", "positions/s", "more", lambda report: report.prefill_rate),
    "decode_rate": Measure("decode", "tokens/s", "more", lambda report: report.decode_rate),
    "speech_decoder_rtf": Measure("speech decoder", "of real time", "less", lambda report: report.speech_decoder_rtf),
    "codec_rtf": Measure("codec", "of real time", "less", lambda report: report.codec_rtf),
    "dry_s": Measure("speaker ran dry", "s", "less", lambda report: report.dry_s),
    "wasted_ms": Measure("work in vain", "ms", "less", lambda report: report.wasted_ms),
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


@dataclass(frozen=True)
class BenchResult:
    """A whole run."""

    time: str
    """When it began, ISO 8601."""
    bundle: Mapping[str, Any]
    machine: Mapping[str, Any]
    settings: Mapping[str, Any]
    memory_peak_bytes: int | None
    left_out: Mapping[str, int]
    """Why → questions that gave no turn to count."""
    turns: tuple[BenchTurn, ...]

    def group(self, speculation: bool) -> tuple[BenchTurn, ...]:
        return tuple(turn for turn in self.turns if turn.speculation == speculation)

    def to_json(self) -> dict[str, Any]:
        """All of it, with the summaries that follow from it."""
        groups = {name: self.group(on) for name, on in (("on", True), ("off", False))}
        facts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "turns"}
        summed = {
            name: {measure: dataclasses.asdict(numbers) for measure, numbers in summaries(turns).items()}
            for name, turns in groups.items()
            if turns
        }
        savings = {name: _saving(turns) for name, turns in groups.items() if turns}
        turns = [
            {**{key: value for key, value in vars(turn).items() if key != "report"}, **turn.report.to_json()}
            for turn in self.turns
        ]
        return {"format": FORMAT, **facts, "summary": summed, "largest_saving": savings, "turns": turns}

    @classmethod
    def read(cls, path: str | Path) -> BenchResult:
        """Read what `vita-edge bench -o` wrote.

        Raises:
            BadInput: it cannot be read, or is something else.
        """
        fix = "Give a file that `vita-edge bench -o` has written."
        try:
            data = json.loads(Path(path).read_text("utf-8"))
        except OSError as error:
            raise BadInput(f"Cannot read {path}.", why=f"{error.strerror}.", fix="Check the path.") from error
        except ValueError as error:
            raise BadInput(f"{path} is not JSON.", why=f"{error}.", fix=fix) from error
        try:
            if data["format"] != FORMAT:
                raise ValueError(f"Its format is {data['format']}; this version reads {FORMAT}.")
            known = {field.name: data[field.name] for field in dataclasses.fields(cls)}
            return cls(**{**known, "turns": tuple(map(_turn, data["turns"]))})
        except (KeyError, TypeError, ValueError) as error:
            why = f"It has no {error}." if isinstance(error, KeyError) else str(error)
            raise BadInput(f"{path} is not the result of a bench.", why=why, fix=fix) from error


def summaries(turns: Sequence[BenchTurn]) -> dict[str, Summary]:
    """Measure → its numbers over ``turns``; what nobody measured is left out."""
    found = {name: summary(map(measure.of, (turn.report for turn in turns))) for name, measure in MEASURES.items()}
    return {name: numbers for name, numbers in found.items() if numbers}


def turn_at(turns: Sequence[BenchTurn], share: float) -> BenchTurn | None:
    """The turn that a ``share`` of the heard turns are no slower than: 0.5 is the median turn."""
    heard = [turn for turn in turns if turn.report.server_ms is not None]
    if not heard:
        return None
    ordered = sorted(heard, key=lambda turn: turn.report.acoustic_ms or turn.report.server_ms or 0.0)
    return ordered[round(share * (len(ordered) - 1))]


def _saving(turns: Sequence[BenchTurn]) -> dict[str, Any] | None:
    median = turn_at(turns, 0.5)
    saving = largest_saving(median.report) if median else None
    return dataclasses.asdict(saving) if saving else None


def _turn(data: Mapping[str, Any]) -> BenchTurn:
    own = {field.name: data[field.name] for field in dataclasses.fields(BenchTurn) if field.name != "report"}
    report = TurnReport.from_json({name: value for name, value in data.items() if name not in own})
    return BenchTurn(**own, report=report)
