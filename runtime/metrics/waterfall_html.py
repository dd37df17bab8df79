"""A waterfall as one HTML page: drawn in SVG, for light and dark screens, with nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from .bench_result import MEASURES, BenchResult, summaries
from .colours import COLOURS
from .latency_breakdown import CAUSES
from .numbers import number, numbers
from .turn_report import Stretch
from .waterfall import GROUPS, Waterfall, WaterfallMark

__all__ = ["waterfall_html"]

LEFT, RIGHT = 172, 78
WIDE, NARROW = 1000, 560
"""Of a drawing on a screen, and on a phone, which scales it down."""
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
svg { display: block; width: 100%; height: auto; font: 12px system-ui, sans-serif; }
svg.narrow { display: none; font-size: 13px; }
@media (max-width: 40rem) { svg.wide { display: none; } svg.narrow { display: block; } }
svg text { fill: var(--ink); } svg .soft { fill: var(--soft); } svg .behind { fill: var(--paper); }
svg .line { stroke: var(--line); }
svg .total { font-weight: 600; } svg .mark { stroke: var(--soft); stroke-dasharray: 3 3; }
svg .dot { fill: var(--ink); fill-opacity: .35; }
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
    body = [
        "<h1>From the user's last sample to the first sound</h1>",
        *(f'<p class="soft">{escape(line)}</p>' for line in chart.conditions if line),
        f'<div class="saving"><strong>{escape(chart.headline)}</strong><br>{escape(chart.remedy)}</div>',
        f'<h2>What happened</h2><p class="soft">{escape(chart.median)}</p>',
        _legend(chart.row_causes),
        _turn(chart, WIDE),
        _turn(chart, NARROW),
        "<h2>What was waited for</h2>",
        f'<p class="soft">The turns that are the p50 and the p95 of the {unit}; a dot for each turn.</p>',
        _legend(chart.causes),
        _bars(chart, WIDE),
        _bars(chart, NARROW),
        '<h2>Figures</h2><p class="soft">Percentiles are turns that were held (nearest rank); 95 % of the turns are no '
        "worse than the p95.</p>",
        f'<div class="scroll">{_table(run)}</div>',
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>vita-edge bench</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _legend(causes: Sequence[str]) -> str:
    entries = (
        f'<span><i style="background:{COLOURS[cause]}"></i>{escape(CAUSES[cause].label)}</span>' for cause in causes
    )
    return f'<div class="legend">{"".join(entries)}</div>'


class _Axis:
    """Milliseconds to places."""

    def __init__(self, end_ms: float, width: int) -> None:
        self._scale = (width - LEFT - RIGHT) / end_ms
        self._lines = 10 if width == WIDE else 5
        self._end_ms = end_ms

    def __call__(self, ms: float) -> float:
        return round(LEFT + ms * self._scale, 2)

    def grid(self, top: float, bottom: float) -> Iterator[str]:
        step = next(step for step in _steps() if self._end_ms / step <= self._lines)
        for i in range(int(self._end_ms / step) + 1):
            x = self(i * step)
            yield f'<line class="line" x1="{x}" y1="{top}" x2="{x}" y2="{bottom}"/>'
            label = f"{i * step:,}" if i else "0 ms"
            yield f'<text class="soft" x="{x}" y="{bottom + 16}" text-anchor="middle">{label}</text>'

    def rect(self, part: Stretch, y: float, what: str) -> str:
        """At least a hair wide, so that nothing is invisible."""
        x, width = self(part.begin_ms), max(self(part.end_ms) - self(part.begin_ms), 1.0)
        tip = f"{what}: {number(part.ms)} ms, from {number(part.begin_ms)} to {number(part.end_ms)}"
        colour = COLOURS[part.name]
        return (
            f'<rect x="{x}" y="{y}" width="{width:.2f}" height="{BAR}" rx="2" fill="{colour}">'
            f"<title>{escape(tip)}</title></rect>"
        )


def _steps() -> Iterator[int]:
    for power in range(7):
        yield from (10**power, 2 * 10**power, 5 * 10**power)


def _turn(chart: Waterfall, width: int) -> str:
    axis = _Axis(chart.turn_end_ms * 1.02, width)
    levels = _levels(chart.marks, axis)
    top = 22 + 16 * max(levels)
    bottom = top + ROW * len(chart.rows)
    lines = [*axis.grid(top, bottom)]
    for mark, level in zip(chart.marks, levels):
        x, y = axis(mark.at_ms), 12 + 16 * (max(levels) - level)
        lines.append(f'<line class="mark" x1="{x}" y1="{y - 9}" x2="{x}" y2="{bottom}"/>')
        lines.append(f'<text x="{x - 4}" y="{y}" text-anchor="end">{escape(mark.label)} {number(mark.at_ms)}</text>')
    for i, row in enumerate(chart.rows):
        y = top + ROW * i + (ROW - BAR) // 2
        lines.append(f'<text x="{LEFT - 12}" y="{y + 13}" text-anchor="end">{escape(row.label)}</text>')
        lines += (axis.rect(part, y, row.label) for part in row.stretches)
        end, total = row.stretches[-1].end_ms, sum(part.ms for part in row.stretches)
        lines.append(_note(axis(end) + 6, y, f"{number(total)} ms", "soft"))
    return _svg(width, bottom + 24, lines, "Stages of the median turn over time")


def _levels(marks: Sequence[WaterfallMark], axis: _Axis) -> list[int]:
    """How high each label stands, to the left of its line, so that neither a label nor a line crosses it."""
    levels: list[int] = []
    for i, mark in enumerate(marks):
        left = axis(mark.at_ms) - LETTER * (len(mark.label) + 6)
        levels.append(max((levels[j] + 1 for j in range(i) if axis(marks[j].at_ms) > left), default=0))
    return levels


def _note(x: float, y: float, text: str, kind: str) -> str:
    """A label at the end of a bar, on paper of its own: a line of a mark may pass there."""
    width = LETTER * len(text) + 4
    behind = f'<path class="behind" d="M{x - 2:.2f} {y + 2}h{width:.1f}v14h-{width:.1f}z"/>'
    return f'{behind}<text class="{kind}" x="{x}" y="{y + 13}">{escape(text)}</text>'


def _bars(chart: Waterfall, width: int) -> str:
    axis = _Axis(chart.max_utterance_ms * 1.02, width)
    bottom = ROW * (len(chart.bars) + len(chart.strips)) + 8
    lines = list(axis.grid(4, bottom))
    y = 8
    for bar in chart.bars:
        lines.append(f'<text x="{LEFT - 12}" y="{y + 13}" text-anchor="end">{escape(bar.label)}</text>')
        lines += (axis.rect(part, y, CAUSES[part.name].label) for part in bar.parts)
        end = bar.parts[-1].end_ms
        lines.append(_note(axis(end) + 6, y, f"{number(end)} ms", "total"))
        y += ROW
    for strip in chart.strips:
        lines.append(f'<text x="{LEFT - 12}" y="{y + 13}" text-anchor="end">{escape(strip.label)}</text>')
        lines += (
            f'<circle class="dot" cx="{axis(ms)}" cy="{y + 9}" r="5"><title>{number(ms)} ms</title></circle>'
            for ms in strip.waits_ms
        )
        y += ROW
    return _svg(width, bottom + 24, lines, "What was waited for at p50 and p95")


def _svg(width: int, height: float, lines: Sequence[str], what: str) -> str:
    kind = "wide" if width == WIDE else "narrow"
    head = f'<svg class="{kind}" viewBox="0 0 {width} {height:.0f}" role="img" aria-label="{escape(what)}">'
    return head + "".join(lines) + "</svg>"


def _table(run: BenchResult) -> str:
    groups = [(GROUPS.get(name, name), summaries(run.group(name))) for name in run.groups]
    titles = "".join(f'<th colspan="3">{escape(name)}</th>' for name, _ in groups)
    head = "<th>p50</th><th>p95</th><th>n</th>" * len(groups)
    rows = []
    for name, measure in MEASURES.items():
        if not any(name in summed for _, summed in groups):
            continue
        there = [one for _, summed in groups if (one := summed.get(name))]
        written = iter(numbers([value for one in there for value in (one.p50, one.p95)]))
        cells = ""
        for _, summed in groups:
            one = summed.get(name)
            cells += f"<td>{next(written)}</td><td>{next(written)}</td><td>{one.n}</td>" if one else "<td></td>" * 3
        rows.append(f"<tr><td>{escape(measure.label)}, {escape(measure.unit)}</td>{cells}</tr>")
    return f"<table><tr><th></th>{titles}</tr><tr><th></th>{head}</tr>{''.join(rows)}</table>"
