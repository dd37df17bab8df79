"""The latency of a turn, in lines for people: shown by `vita-edge chat --latency` and by `vita-edge bench`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vita_edge.runtime.metrics.turn_report import TurnReport

__all__ = ["clocks", "latency_lines"]


def clocks(report: TurnReport) -> str:
    """The three clocks on one line; a dash for one that was not read."""
    named = (("acoustic", report.acoustic_ms), ("server", report.server_ms), ("engine", report.engine_ms))
    return "   ".join(f"{name} {'–' if ms is None else f'{ms:,.0f} ms'}" for name, ms in named)


def latency_lines(report: TurnReport) -> list[str]:
    """Clocks, what was waited for, how fast the stages were, and what else there was to tell."""
    from vita_edge.runtime.metrics.latency_breakdown import CAUSES, wait_sums

    waited = [f"{CAUSES[cause].short} {ms:,.0f}" for cause, ms in wait_sums(report).items()]
    lines = [
        f"turn {report.turn:<6} {clocks(report)}",
        f"  waited    {' · '.join(waited)}" if waited else "  waited    for a sound that did not come",
        f"  speed     {' · '.join(_speeds(report))}",
    ]
    if remarks := list(_remarks(report)):
        lines.append(f"  also      {' · '.join(remarks)}")
    return lines


def _speeds(report: TurnReport) -> Iterator[str]:
    yield f"{report.positions_after_speech} tokens prefilled after speech"
    for name, rate, unit in (
        ("prefill", report.prefill_rate, "/s"),
        ("decode", report.decode_rate, "/s"),
        ("speech", report.speech_decoder_rtf, " of real time"),
        ("codec", report.codec_rtf, " of real time"),
    ):
        if rate is not None:
            yield f"{name} {rate:,.{0 if rate >= 100 else 1 if rate >= 10 else 2}f}{unit}"


def _remarks(report: TurnReport) -> Iterator[str]:
    from vita_edge.runtime.metrics.latency_breakdown import was_held_back

    if attempts := sum(report.forgotten.values()):
        yield f"{attempts} begun in vain ({report.wasted_ms:,.0f} ms of work)"
    if was_held_back(report):
        yield "held back until " + (
            "the text was complete" if report.buffer_s is None else f"{report.buffer_s:.1f} s were there"
        )
    if report.dry_s:
        yield f"ran dry for {report.dry_s:.2f} s"
    if report.load:
        yield from report.load.reasons()
    if cut := report.interruption:
        yield (
            f"interrupted: silent after {cut.silent_ms:.0f} ms, {cut.tokens_heard} of {cut.tokens_written} tokens heard"
        )
