"""A waterfall as a picture, drawn by matplotlib where it is installed (the extra ``bench``)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from vita_edge.engines.errors import MissingPackage
from vita_edge.engines.install import install_fix

from .colours import COLOURS
from .latency_breakdown import CAUSES
from .numbers import number
from .turn_report import Stretch
from .waterfall import Waterfall

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["check_matplotlib", "waterfall_png"]

INK, SOFT, LINE = "#1f2933", "#7b8794", "#e4e7eb"
BAR = 0.62
ROW_INCHES, WIDTH_INCHES = 0.32, 11.0
LETTERS = 200
"""Of 7 points that fit the width."""
LABEL_SHARE = 0.14
"""Of the width of the axis that a label of a mark takes, about."""


def check_matplotlib() -> None:
    """Say before the measurement, not after it, that there will be no picture.

    Raises:
        MissingPackage: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingPackage(
            "A picture needs the package matplotlib.",
            why="It is not installed; a page (FILE.html) needs nothing.",
            fix=install_fix("bench"),
        ) from error


def waterfall_png(chart: Waterfall) -> bytes:
    """The picture as the bytes of a PNG file.

    Raises:
        MissingPackage: matplotlib is not installed.
    """
    check_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    upper, lower = len(chart.rows) + 1.0, len(chart.bars) + len(chart.strips) + 0.0
    height = ROW_INCHES * (upper + lower) + 4.0
    figure = Figure(figsize=(WIDTH_INCHES, height), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 1, height_ratios=[upper, lower])
    figure.subplots_adjust(left=0.16, right=0.93, top=1 - 1.45 / height, bottom=1.55 / height, hspace=1.3 / height * 2)
    _turn(axes[0], chart)
    _bars(axes[1], chart)
    for text, down, size, weight, colour in (
        ("From the user's last sample to the first sound", 0.32, 15, "bold", INK),
        (f"{chart.headline}. {chart.remedy}", 0.60, 9.5, "normal", INK),
        (chart.median, 0.84, 9.5, "normal", SOFT),
    ):
        figure.text(0.02, 1 - down / height, text, fontsize=size, fontweight=weight, color=colour)
    shown = dict.fromkeys([*chart.row_causes, *chart.causes])
    handles = [Patch(color=COLOURS[cause], label=CAUSES[cause].label) for cause in shown]
    figure.legend(
        handles=handles,
        loc="lower center",
        bbox_to_anchor=(0.5, 0.52 / height),
        ncol=min(len(handles), 4),
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
        handlelength=1,
    )
    for i, line in enumerate(reversed([line for line in chart.conditions if line])):
        footer = figure.text(0.02, (0.09 + 0.14 * i) / height, line, fontsize=7, color=SOFT)
        footer.set_fontsize(min(7.0, 7.0 * LETTERS / max(len(line), 1)))
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def _turn(axes: Axes, chart: Waterfall) -> None:
    _prepare(axes, [row.label for row in chart.rows], chart.turn_end_ms * 1.02)
    for y, row in enumerate(chart.rows):
        for part in row.stretches:
            _draw(axes, part, y)
        total = sum(part.ms for part in row.stretches)
        _note(axes, row.stretches[-1].end_ms, y, total, weight="normal")
    room_ms, levels = LABEL_SHARE * chart.turn_end_ms, list[int]()
    for i, mark in enumerate(chart.marks):
        before = range(i)
        crossed = [levels[j] + 1 for j in before if chart.marks[j].at_ms > mark.at_ms - room_ms]
        levels.append(max(crossed, default=0))
        top = -0.75 - 0.62 * levels[-1]
        axes.plot(
            [mark.at_ms] * 2, [top - 0.3, len(chart.rows) - 0.5], color=SOFT, lw=0.8, ls=(0, (3, 3)), clip_on=False
        )
        axes.text(
            mark.at_ms - 0.004 * chart.turn_end_ms,
            top,
            f"{mark.label} {number(mark.at_ms)}",
            ha="right",
            fontsize=8.5,
            color=INK,
        )


def _bars(axes: Axes, chart: Waterfall) -> None:
    labels = [bar.label for bar in chart.bars] + [strip.label for strip in chart.strips]
    _prepare(axes, labels, chart.max_utterance_ms * 1.02)
    axes.set_title("What was waited for", loc="left", fontsize=9.5, color=INK)
    axes.set_xlabel("milliseconds after the user's last sample", fontsize=8.5, color=SOFT)
    for y, bar in enumerate(chart.bars):
        for part in bar.parts:
            _draw(axes, part, y)
        _note(axes, bar.parts[-1].end_ms, y, bar.parts[-1].end_ms, weight="bold")
    for y, strip in enumerate(chart.strips, len(chart.bars)):
        axes.scatter(strip.waits_ms, [y] * len(strip.waits_ms), s=26, color=INK, alpha=0.35, lw=0)


def _prepare(axes: Axes, labels: list[str], end_ms: float) -> None:
    from matplotlib.ticker import StrMethodFormatter

    axes.set_xlim(0, end_ms)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_yticks(range(len(labels)), labels, fontsize=9, color=INK)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.tick_params(axis="both", length=0, labelsize=9, labelcolor=INK)
    axes.grid(axis="x", color=LINE, lw=0.8)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw(axes: Axes, part: Stretch, y: float) -> None:
    axes.barh(y, part.ms, BAR, part.begin_ms, color=COLOURS[part.name], edgecolor="white", lw=0.4)


def _note(axes: Axes, end_ms: float, y: float, ms: float, weight: str) -> None:
    colour = INK if weight == "bold" else SOFT
    note = axes.annotate(
        f"{number(ms)} ms",
        (end_ms, y),
        (5, 0),
        textcoords="offset points",
        va="center",
        fontsize=8.5,
        color=colour,
        weight=weight,
    )
    note.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})  # readable where a line passes
