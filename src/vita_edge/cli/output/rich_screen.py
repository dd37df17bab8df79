"""The screen of a live talk, drawn with rich: what was said scrolls up, and a few lines below show what is going on."""

from __future__ import annotations

import sys
from collections import deque
from contextlib import ExitStack
from textwrap import wrap
from types import TracebackType

from rich.cells import cell_len, chop_cells
from rich.console import Console
from rich.live import Live
from rich.style import Style
from rich.text import Text

from vita_edge.runtime.events.session_events import SessionEvent
from vita_edge.runtime.metrics.colours import COLOURS
from vita_edge.runtime.metrics.latency_breakdown import CAUSES, wait_sums
from vita_edge.runtime.metrics.turn_report import TurnReport

from .latency import latency_lines
from .quiet_terminal import quiet_terminal
from .safe_streams import bare
from .talk_so_far import Said, TalkSoFar

__all__ = ["Screen"]

WAITING = 4_096
"""Happenings that may wait to be drawn, when the terminal takes no output; older ones are dropped."""
QUIETEST_DBFS = -60.0
CLIPPING_DBFS = -3.0
METER_CELLS = 24
EIGHTHS = " ▏▎▍▌▋▊▉█"
STATES = {
    "listening": ("cyan", "listening"),
    "hearing": ("bold green", "hearing you"),
    "pausing": ("green", "hearing you …"),
    "thinking": ("bold magenta", "thinking"),
    "speaking": ("bold blue", "speaking"),
    "ducking": ("blue", "speaking softly"),
    "interrupted": ("bold yellow", "interrupted"),
}
SPEAKERS = {"you": "bold green", "vita": "bold blue", "note": "yellow"}


class Screen:
    """Draws with rich. Restores the terminal when it is left.

    Args:
        latency: show the latency of each turn where it was said, and not only of the last one.
    """

    def __init__(self, *, latency: bool, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, file=bare(sys.stdout))
        self._latency = latency
        self._posted: deque[SessionEvent | TurnReport] = deque(maxlen=WAITING)
        self._talk = TalkSoFar()
        self._last: TurnReport | None = None
        self._drawn: tuple[Text, int] | None = None
        self._terminal = ExitStack()
        self._live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stderr=False)

    def __enter__(self) -> Screen:
        self._terminal.enter_context(quiet_terminal())
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._print_settled()
        finally:
            self._live.stop()
            self._terminal.close()

    def __call__(self, event: SessionEvent) -> None:
        self._posted.append(event)

    def report(self, report: TurnReport) -> None:
        self._posted.append(report)

    def draw(self) -> None:
        """Print what is settled, and redraw the lines below it if they have changed."""
        self._print_settled()
        width = self._console.width
        panel = _panel(self._talk, self._last, width, plain=self._console.options.ascii_only)
        if self._drawn != (panel, width):
            self._drawn = (panel, width)
            self._live.update(panel, refresh=True)

    def _print_settled(self) -> None:
        while self._posted:
            posted = self._posted.popleft()
            if isinstance(posted, TurnReport):
                self._last = posted
                if self._latency:
                    for line in latency_lines(posted):
                        folded = wrap(line, max(self._console.width, 30), subsequent_indent=" " * 12)
                        self._console.print("\n".join(folded), style="dim", markup=False)
            else:
                for said in self._talk.take(posted):
                    self._console.print(_said(said, self._console.width))


def _said(said: Said, width: int) -> Text:
    """``who  text``, with the text in a column of its own."""
    room = max(width - 6, 8)
    lines = [line for paragraph in said.text.splitlines() or [""] for line in _wrapped(paragraph, room)]
    text = Text(no_wrap=True)
    for i, line in enumerate(lines):
        text.append("\n" if i else "")
        text.append(f"{said.who if not i else '':<6}", SPEAKERS[said.who])
        text.append(line, "" if said.who == "vita" else "dim")
    return text


def _wrapped(text: str, room: int) -> list[str]:
    """Lines of at most ``room`` cells; broken at spaces, and within what has none, such as Chinese."""
    lines = [""]
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if cell_len(joined) <= room:
            lines[-1] = joined
            continue
        head, *rest = chop_cells(word, room)
        lines[-1:] = [lines[-1], head, *rest] if lines[-1] else [head, *rest]
    return lines


def _panel(talk: TalkSoFar, last: TurnReport | None, width: int, *, plain: bool) -> Text:
    """The lines below what was said, none longer than ``width``."""
    lines = [Text(("-" if plain else "─") * width, "bright_black"), _state(talk, width, plain=plain)]
    caption = " ".join(talk.clauses)
    if caption:
        room = max(width - 6, 8)
        tail = _wrapped(caption, room)[-2:]
        lines += [Text.assemble((f"{'vita' if not i else '':<6}", "bold blue"), line) for i, line in enumerate(tail)]
    lines += [Text(f"{'! ' if plain else '⚠ '}{trouble}", "bold yellow") for trouble in talk.trouble.values()]
    if last is not None:
        lines += _last_turn(last, width, plain=plain)
    for line in lines:
        line.rstrip()
        line.truncate(width, overflow="ellipsis")
    return Text("\n", no_wrap=True, end="").join(lines)


def _state(talk: TalkSoFar, width: int, *, plain: bool) -> Text:
    style, words = STATES[talk.state]
    text = Text.assemble(("* " if plain else "● ", style), (f"{words:<16}", style))
    cells = min(METER_CELLS, width - 26)
    if cells < 2:
        return text
    share = min(max(1 - talk.dbfs / QUIETEST_DBFS, 0.0), 1.0)
    eighths = round(share * cells * 8)
    bar = "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
    if plain:
        bar = "#" * (eighths // 8)
    colour = "red" if talk.dbfs > CLIPPING_DBFS else "green" if talk.voice >= 0.5 else "bright_black"
    text.append(f"{bar:<{cells}}", Style.parse(f"{colour} on grey15" if not plain else colour))
    text.append(f" {talk.dbfs:4.0f} dB" if talk.dbfs > QUIETEST_DBFS else "   quiet", "bright_black")
    return text


def _last_turn(report: TurnReport, width: int, *, plain: bool) -> list[Text]:
    """The wait as a bar of its parts, and what they are."""
    total_ms = report.server_ms
    if not total_ms:
        return []
    sums = wait_sums(report)
    head = f"last  {total_ms:,.0f} ms "
    cells = min(width - len(head), 60)
    bar, legend = Text(head, "bright_black"), [Text(" " * 6)]
    begin_ms = 0.0
    for cause, ms in sums.items():
        begin, end = (round(edge / total_ms * cells) for edge in (begin_ms, begin_ms + ms))
        begin_ms += ms
        short = CAUSES[cause].short
        bar.append((short[0] if plain else "█") * (end - begin), COLOURS[cause])
        entry = Text.assemble(("" if plain else "■ ", COLOURS[cause]), (f"{short} {ms:,.0f}  ", "bright_black"))
        if legend[-1].cell_len + entry.cell_len - 2 > width and legend[-1].cell_len > 6:
            legend.append(Text(" " * 6))
        legend[-1].append_text(entry)
    return [bar, *legend]
