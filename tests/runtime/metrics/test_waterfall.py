"""The waterfall: what it shows, that the page stands alone, and that the picture is one."""

from __future__ import annotations

import io
import re
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from PIL import Image

from support.bench_results import bench_result, turns
from vita_edge.cli.output.bench_text import bench_text
from vita_edge.engines.errors import MissingPackage
from vita_edge.runtime.metrics.colours import COLOURS
from vita_edge.runtime.metrics.latency_breakdown import CAUSES
from vita_edge.runtime.metrics.waterfall import Waterfall, waterfall
from vita_edge.runtime.metrics.waterfall_html import waterfall_html
from vita_edge.runtime.metrics.waterfall_png import waterfall_png

RUN = bench_result(turns(9), turns(9, on=False))


@pytest.fixture
def chart() -> Waterfall:
    drawn = waterfall(RUN)
    assert drawn is not None
    return drawn


def test_rows_are_the_stages_of_the_median_turn_in_the_order_of_the_way(chart: Waterfall) -> None:
    stages = ["audio", "prefill", "decode", "speech decoder", "codec"]
    assert [row.label for row in chart.rows] == ["silence", *stages, "to the speaker", "devices"]
    assert chart.median.startswith("median of 9, speculation on: question-1.wav, 2.0 s of speech")
    assert [mark.label for mark in chart.marks] == ["response started", "endpoint", "first PCM", "first sound", "heard"]


def test_every_bar_is_as_long_as_the_wait_of_its_turn(chart: Waterfall) -> None:
    assert [bar.label for bar in chart.bars] == [
        f"speculation {name}, p{share}" for name in ("on", "off") for share in (50, 95)
    ]
    waits = {on: sorted(turn.report.acoustic_ms for turn in RUN.group(on)) for on in ("on", "off")}  # type: ignore[type-var]
    assert chart.bars[0].parts[-1].end_ms == waits["on"][4]
    assert chart.bars[3].parts[-1].end_ms == waits["off"][8]
    assert [sorted(strip.waits_ms) for strip in chart.strips] == [waits["on"], waits["off"]]


def test_times_count_from_the_true_end_of_the_question(chart: Waterfall) -> None:
    started = chart.marks[0]
    assert (started.label, started.at_ms) == ("response started", 168.0)  # 160 after it was noticed, 8 too late
    assert chart.rows[0].stretches[0].begin_ms == 0


def test_the_headline_names_the_largest_saving(chart: Waterfall) -> None:
    assert re.fullmatch(r"Largest saving left: writing the first clause, up to \d+ of [\d,]+ ms", chart.headline)


def test_without_a_sound_there_is_no_waterfall() -> None:
    silent = [replace(turn, report=replace(turn.report, server_ms=None)) for turn in turns(3)]
    assert waterfall(bench_result(silent)) is None


def test_every_cause_has_a_colour_of_its_own() -> None:
    assert set(COLOURS) == set(CAUSES)
    assert len(set(COLOURS.values())) == len(COLOURS)
    rgb = {cause: [int(colour[i : i + 2], 16) for i in (1, 3, 5)] for cause, colour in COLOURS.items()}
    apart = {(a, b): sum(abs(x - y) for x, y in zip(rgb[a], rgb[b])) for a in rgb for b in rgb if a < b}
    assert min(apart.values()) > 70, min(apart, key=lambda pair: apart[pair])


def test_bars_and_both_tables_show_the_same_numbers(chart: Waterfall) -> None:
    page = waterfall_html(chart, RUN)
    (row,) = re.findall(r"<tr><td>acoustic clock, ms</td>(.*?)</tr>", page)
    on_page = re.findall(r"<td>(.*?)</td>", row)
    lines = (line for line in bench_text(RUN).splitlines() if line.startswith("acoustic clock"))
    (line,) = (line for line in lines if "pairs" not in line)
    assert line.split()[3:] == on_page
    totals = re.findall(r'<text class="total"[^>]*>([\d,]+) ms</text>', page)[:4]
    assert totals == [on_page[i] for i in (0, 1, 3, 4)]
    assert page.count('<th colspan="3">') == 2


def test_every_colour_of_a_chart_is_in_its_legend(chart: Waterfall) -> None:
    page = waterfall_html(chart, RUN)
    for part in page.split("<h2>")[1:3]:
        fills = set(re.findall(r'fill="(#\w+)"', part))
        assert fills <= set(re.findall(r"background:(#\w+)", part))


def test_the_page_is_whole_and_takes_nothing_from_elsewhere(chart: Waterfall) -> None:
    page = waterfall_html(chart, RUN)
    assert not re.search(r"<script|src=|href=|url\(|@import|https?://", page)
    assert "prefers-color-scheme: dark" in page
    drawings = [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]
    assert [drawing.get("class") for drawing in drawings] == ["wide", "narrow"] * 2
    assert [drawing.get("viewBox", "").split()[2] for drawing in drawings] == ["1000", "560"] * 2
    rects = list(drawings[2].iter("rect"))
    assert len(rects) == sum(len(bar.parts) for bar in chart.bars)
    ends = max(float(rect.get("x", 0)) + float(rect.get("width", 0)) for rect in rects)
    assert ends <= 1000
    assert len(list(drawings[2].iter("circle"))) == 18
    narrow = [float(rect.get("x", 0)) + float(rect.get("width", 0)) for rect in drawings[3].iter("rect")]
    assert max(narrow) <= 560
    assert chart.headline in page


def test_the_page_shows_names_as_they_are_written() -> None:
    odd = [replace(turn, question="<b>&.wav") for turn in turns(3)]
    drawn = waterfall(bench_result(odd))
    assert drawn is not None
    assert "&lt;b&gt;&amp;.wav" in waterfall_html(drawn, RUN)


def test_the_picture_is_a_png_that_shows_the_colours_of_the_causes(chart: Waterfall) -> None:
    picture = Image.open(io.BytesIO(waterfall_png(chart))).convert("RGB")
    assert picture.width > 1200 and picture.height > 700
    there = {f"#{r:02x}{g:02x}{b:02x}" for _, (r, g, b) in picture.getcolors(1 << 24) or []}  # type: ignore[misc]
    assert {COLOURS[cause] for cause in chart.causes} <= there


def test_without_matplotlib_it_is_said_what_to_install(chart: Waterfall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackage, match=r"\[bench\]"):
        waterfall_png(chart)
