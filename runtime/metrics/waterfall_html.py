"""A waterfall as one HTML page: drawn in SVG, for light and dark screens, with nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from .bench_result import MEASURES, BenchResult, summaries
from .colours import COLOURS
from .latency_breakdown import CAUSES
from .turn_report import Stretch
from .waterfall import GROUPS, Mark, Waterfall

__all__ = ["waterfall_html"]

WIDTH, LEFT, RIGHT = 1000, 172, 78
ROW, BAR = 30, 18
LETTER = 6.6
"""Width of a letter of a label, about."""
STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --soft: #616e7c; --line: #e4e7eb; --paper: #ffffff; --card: #f5f7fa; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7eb; --soft: #9aa5b1; --line: #323f4b; --paper: #14181d; --card: #1f262e; }
}
body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 62rem; padding: 0 1rem; }
h1 { font-size: 1.35rem; margin: 0; } h2 { font-size: 1rem; margin: 2rem 0 .25rem; } p { margin: .2rem 0; }
.soft { color: var(--soft); } .scroll { overflow-x: auto; }
svg { display: block; width: 100%; min-width: 40rem; height: auto; font: 12px system-ui, sans-serif; }
svg text { fill: var(--ink); paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }
 svg .soft { fill: var(--soft); } svg .line { stroke: var(--line); }
svg .mark { stroke: var(--soft); stroke-dasharray: 3 3; } svg .dot { fill: var(--ink); fill-opacity: .35; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: .6rem 0; font-size: .85rem; }
.legend i { border-radius: 2px; display: inline-block; height: .7rem; margin-right: .4rem; width: .7rem; }
.saving { background: var(--card); border-left: 4px solid #e8743b; border-radius: 4px; margin: 1rem 0;
  padding: .7rem 1rem; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
td, th { border-bottom: 1px solid var(--line); padding: .25rem .8rem; text-align: right; }
td:first-child, th:first-child { padding-left: 0; text-align: left; }
"""


def waterfall_html(chart: Waterfall, run: BenchResult) -> str:
    """The whole page."""
    unit = "acoustic clock" if any(turn.report.acoustic_ms is not None for turn in run.turns) else "server clock"
    legend = "".join(
        f'<span><i style="background:{COLOURS[cause]}"></i>{escape(CAUSES[cause].label)}</span>'
        for cause in chart.causes
    )
    body = [
        "<h1>From the user's last sample to the first sound</h1>",
        *(f'<p class="soft">{escape(line)}</p>' for line in chart.conditions if line),
        f'<div class="saving"><strong>{escape(chart.headline)}</strong><br>{escape(chart.remedy)}</div>',
        f'<h2>What happened</h2><p class="soft">{escape(chart.median)}</p>',
        f'<div class="scroll">{_turn(chart)}</div>',
        f'<h2>What was waited for</h2><p class="soft">Turns at p50 and p95 of the {unit}; a dot for each turn.</p>',
        f'<div class="legend">{legend}</div>',
        f'<div class="scroll">{_bars(chart)}</div>',
        "<h2>Figures</h2>",
        f'<div class="scroll">{_table(run)}</div>',
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>vita-edge bench</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


class _Axis:
    """Milliseconds to places."""

    def __init__(self, end_ms: float) -> None:
        self._scale = (WIDTH - LEFT - RIGHT) / end_ms
        self._end_ms = end_ms

    def __call__(self, ms: float) -> float:
        return round(LEFT + ms * self._scale, 2)

    def grid(self, top: float, bottom: float) -> Iterator[str]:
        step = next(step for step in _steps() if self._end_ms / step <= 10)
        for i in range(int(self._end_ms / step) + 1):
            x = self(i * step)
            yield f'<line class="line" x1="{x}" y1="{top}" x2="{x}" y2="{bottom}"/>'
            label = f"{i * step:,}" if i else "0 ms"
            yield f'<text class="soft" x="{x}" y="{bottom + 16}" text-anchor="middle">{label}</text>'

    def rect(self, part: Stretch, y: float, what: str) -> str:
        """At least a hair wide, so that nothing is invisible."""
        x, width = self(part.begin_ms), max(self(part.end_ms) - self(part.begin_ms), 1.0)
        tip = f"{what}: {part.ms:,.1f} ms, from {part.begin_ms:,.0f} to {part.end_ms:,.0f}"
        colour = COLOURS[part.name]
        return (
            f'<rect x="{x}" y="{y}" width="{width:.2f}" height="{BAR}" rx="2" fill="{colour}">'
            f"<title>{escape(tip)}</title></rect>"
        )


def _steps() -> Iterator[int]:
    for power in range(7):
        yield from (10**power, 2 * 10**power, 5 * 10**power)


def _turn(chart: Waterfall) -> str:
    axis = _Axis(chart.turn_end_ms * 1.02)
    levels = _levels(chart.marks, axis)
    top = 22 + 16 * max(levels)
    bottom = top + ROW * len(chart.rows)
    lines = [*axis.grid(top, bottom)]
    for mark, level in zip(chart.marks, levels):
        x, y = axis(mark.at_ms), 12 + 16 * (max(levels) - level)
        lines.append(f'<line class="mark" x1="{x}" y1="{y - 9}" x2="{x}" y2="{bottom}"/>')
        lines.append(f'<text x="{x - 4}" y="{y}" text-anchor="end">{escape(mark.label)} {mark.at_ms:,.0f}</text>')
    for i, row in enumerate(chart.rows):
        y = top + ROW * i + (ROW - BAR) // 2
        lines.append(f'<text x="{LEFT - 12}" y="{y + 13}" text-anchor="end">{escape(row.label)}</text>')
        lines += (axis.rect(part, y, row.label) for part in row.stretches)
        end, total = row.stretches[-1].end_ms, sum(part.ms for part in row.stretches)
        lines.append(f'<text class="soft" x="{axis(end) + 6}" y="{y + 13}">{_ms(total)}</text>')
    return _svg(bottom + 24, lines, "Stages of the median turn over time")


def _levels(marks: Sequence[Mark], axis: _Axis) -> list[int]:
    """How high each label stands, to the left of its line, so that neither a label nor a line crosses it."""
    levels: list[int] = []
    for i, mark in enumerate(marks):
        left = axis(mark.at_ms) - LETTER * (len(mark.label) + 6)
        levels.append(max((levels[j] + 1 for j in range(i) if axis(marks[j].at_ms) > left), default=0))
    return levels


def _bars(chart: Waterfall) -> str:
    axis = _Axis(chart.max_utterance_ms * 1.02)
    bottom = ROW * (len(chart.bars) + len(chart.strips)) + 8
    lines = list(axis.grid(4, bottom))
    y = 8
    for bar in chart.bars:
        lines.append(f'<text x="{LEFT - 12}" y="{y + 13}" text-anchor="end">{escape(bar.label)}</text>')
        lines += (axis.rect(part, y, CAUSES[part.name].label) for part in bar.parts)
        end = bar.parts[-1].end_ms
        lines.append(f'<text x="{axis(end) + 6}" y="{y + 13}" font-weight="600">{_ms(end)}</text>')
        y += ROW
    for strip in chart.strips:
        lines.append(f'<text x="{LEFT - 12}" y="{y + 13}" text-anchor="end">{escape(strip.label)}</text>')
        lines += (
            f'<circle class="dot" cx="{axis(ms)}" cy="{y + 9}" r="5"><title>{_ms(ms)}</title></circle>'
            for ms in strip.waits_ms
        )
        y += ROW
    return _svg(bottom + 24, lines, "What was waited for at p50 and p95")


def _svg(height: float, lines: Sequence[str], what: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(what)}">' + "".join(lines) + "</svg>"
    )


def _table(run: BenchResult) -> str:
    groups = [(GROUPS[on], summaries(turns)) for on in (True, False) if (turns := run.group(on))]
    head = "".join(f"<th>{escape(name)}<br>p50</th><th>p95</th><th>n</th>" for name, _ in groups)
    rows = []
    for name, measure in MEASURES.items():
        if not any(name in numbers for _, numbers in groups):
            continue
        cells = ""
        for _, numbers in groups:
            one = numbers.get(name)
            cells += f"<td>{one.p50:,.4g}</td><td>{one.p95:,.4g}</td><td>{one.n}</td>" if one else "<td></td>" * 3
        rows.append(f"<tr><td>{escape(measure.label)}, {escape(measure.unit)}</td>{cells}</tr>")
    return f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>"


def _ms(ms: float) -> str:
    return f"{ms:,.0f} ms" if ms >= 9.95 else f"{ms:.1f} ms"
