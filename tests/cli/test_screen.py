"""What a talk looks like: on a terminal of any width, and in plain lines."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterable

import pytest
from rich.cells import cell_len
from rich.console import Console

from support.events import CODEC, answered, barge_in, dry_run, noise, resumed, talk
from vita_edge.cli.output.plain_lines import PlainLines
from vita_edge.cli.output.rich_screen import Screen
from vita_edge.cli.output.screen import TalkView, open_view
from vita_edge.runtime.events.session_events import (
    BufferChosen,
    ClauseHeard,
    DeviceChanged,
    Level,
    SessionEvent,
    TalkStateChanged,
    Trouble,
    TurnEnded,
)
from vita_edge.runtime.metrics.turn_metrics import TurnReports


def show(view: TalkView, events: Iterable[SessionEvent]) -> None:
    reports = TurnReports(CODEC, view.report)
    for event in events:
        view(event)
        reports(event)
        view.draw()


def plain(events: Iterable[SessionEvent], *, latency: bool = False) -> list[str]:
    out = io.StringIO()
    with PlainLines(latency=latency, out=out) as view:
        show(view, events)
    return out.getvalue().splitlines()


def terminal(width: int, *, encoding: str = "utf-8") -> tuple[Console, io.TextIOWrapper]:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace", write_through=True)
    console = Console(
        file=out, force_terminal=True, width=width, height=24, highlight=False, _environ={"TERM": "xterm"}
    )
    return console, out


def written(out: io.TextIOWrapper) -> str:
    buffer = out.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode(out.encoding)


def shown(events: Iterable[SessionEvent], width: int = 80, **options: str) -> tuple[list[str], str]:
    """What stands on the screen when all has happened, and everything that was written to the terminal."""
    console, out = terminal(width, **options)
    screen = Screen(latency=False, console=console)
    with screen:
        show(screen, events)
        assert screen._drawn is not None
        lines = screen._drawn[0].plain.splitlines()
    return lines, written(out)


# --- plain lines


def test_plain_lines_say_who_spoke_and_what_was_heard() -> None:
    assert plain(answered(1, 10.0)) == [
        "listening",
        "you   (2.0 s of speech)",
        "vita  It is a quarter past nine.",
        "vita  The tea is ready.",
    ]


def test_a_resumed_sentence_is_one_and_noise_is_none() -> None:
    assert plain([*resumed(1, 10.0), *noise(3, 20.0)])[1:] == [
        "you   (4.0 s of speech)",
        "vita  It is a quarter past nine.",
        "vita  The tea is ready.",
    ]


def test_what_was_cut_off_ends_in_dots() -> None:
    assert plain(barge_in(1, 10.0))[1:] == [
        "you   (2.0 s of speech)",
        "vita  It is a quarter past nine.",
        "vita  …",
    ]


def test_troubles_are_told_once_each() -> None:
    notes = [line for line in plain([*dry_run(1, 10.0), *dry_run(2, 20.0)]) if line.startswith("note")]
    assert notes == [
        "note  replies wait until 0.5 s of sound are there: speech takes 1.4 seconds of work a second",
        "note  the microphone is gone; waiting for it to come back",
        "note  the microphone is back",
        "note  the reply had gaps, 200 ms in all: the machine was too slow",
        "note  the microphone is gone; waiting for it to come back",
        "note  the microphone is back",
        "note  the reply had gaps, 200 ms in all: the machine was too slow",
    ]


def test_lost_blocks_are_told_ever_more_seldom() -> None:
    changes = [DeviceChanged(float(i), "speaker", False, i) for i in range(9)]
    assert plain(changes) == [
        f"note  the speaker ran dry {times} so far: the machine was too slow"
        for times in ("once", "2 times", "4 times", "8 times")
    ]


def test_an_answer_that_failed_says_what_to_do() -> None:
    (line,) = plain([Trouble(1.0, "It broke.", "It was old.", "Mend it.")])
    assert line == "note  an answer could not be made. It broke. It was old. Mend it."


def test_a_buffer_that_cannot_be_known_yet_is_told_in_words() -> None:
    (line,) = plain([BufferChosen(1, float("inf"), "slow")])
    assert line == "note  replies wait until their text is complete: slow"


def test_a_reply_that_was_not_spoken_is_printed_whole() -> None:
    silent = [event for event in answered(1, 10.0) if not isinstance(event, ClauseHeard)]
    assert plain(silent)[1:] == ["you   (2.0 s of speech)", "vita  It is a quarter past nine. The tea is ready."]


def test_latency_lines_of_a_turn_are_these() -> None:
    lines = plain(resumed(1, 10.0), latency=True)
    assert lines[-4:] == [
        "turn 2      acoustic –   server 700 ms   engine 520 ms",
        "  waited    pause 160 · audio 40 · prefill 120 · decode 240 · speech 100 · codec 20 · speaker 20",
        "  speed     38 tokens prefilled after speech · prefill 317/s · decode 25.0/s · speech 0.31 of real time · "
        "codec 0.06 of real time",
        "  also      1 begun in vain (300 ms of work)",
    ]
    assert "interrupted: silent after 18 ms, 6 of 10 tokens heard" in plain(barge_in(1, 10.0), latency=True)[-1]
    assert plain(dry_run(1, 10.0), latency=True)[-1] == "  also      ran dry for 0.20 s"


# --- the screen


def test_the_screen_shows_level_state_caption_and_the_last_wait() -> None:
    events = [*answered(1, 10.0), Level(15.0, -24.0, 0.9), TalkStateChanged(15.0, "hearing")]
    lines, all_written = shown([*events, ClauseHeard(2, 15.0, "Good morning.")])
    assert lines[0] == "─" * 80
    assert lines[1].startswith("● hearing you     ██████████████▍") and lines[1].endswith("-24 dB")
    assert lines[2] == "vita  Good morning."
    assert lines[3].startswith("last  700 ms ███") and lines[3].count("█") == 60
    assert lines[4].startswith("      ■ pause 160  ■ audio 40  ■ prefill 120")
    assert "you   " in all_written and "(2.0 s of speech)" in all_written


def test_a_device_that_is_gone_stays_on_the_screen_until_it_is_back() -> None:
    gone, back = DeviceChanged(1.0, "camera", True, 0), DeviceChanged(2.0, "camera", False, 0)
    assert shown([gone])[0][-1] == "⚠ camera lost, waiting for it"
    assert len(shown([gone, back])[0]) == 2


@pytest.mark.parametrize("width", [1, 8, 20, 33, 44, 80, 200])
def test_no_line_is_longer_than_the_terminal_is_wide(width: int) -> None:
    chinese = ClauseHeard(9, 60.0, "今天天气很好，我们去公园散步吧，顺便买一些茶叶和水果。" * 4)
    lines, _ = shown([*talk(), chinese], width)
    assert len(lines) >= 4
    assert max(map(cell_len, lines)) <= width


def test_a_long_caption_shows_its_newest_lines() -> None:
    words = " ".join(f"word{i}" for i in range(60))
    lines, _ = shown([ClauseHeard(1, 1.0, words)], 40)
    assert len(lines) == 4
    assert lines[-1].endswith("word59")


def test_what_was_said_is_broken_between_words_and_kept_whole() -> None:
    text = "今天天气很好，" * 6 + " and a few words after it"
    _, all_written = shown([TurnEnded(1, 1.0, "text", text, "stop")], 40)
    lines = [line.strip("\r") for line in re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", all_written).splitlines()]
    first = next(i for i, line in enumerate(lines) if line.startswith("vita"))
    said = [line[6:] for line in lines[first : first + 4]]
    assert f"{''.join(said[:3])} {said[3]}" == text
    assert max(map(cell_len, lines)) <= 40


def test_a_terminal_that_knows_only_ascii_gets_ascii() -> None:
    lines, _ = shown([*answered(1, 10.0), Level(15.0, -24.0, 0.9)], encoding="ascii")
    assert all(line.isascii() for line in lines)
    assert "####" in lines[1] and "pppp" in lines[2]


def test_the_terminal_is_left_as_it_was_found() -> None:
    _, all_written = shown(talk())
    assert all_written.count("\x1b[?25l") == all_written.count("\x1b[?25h") == 1  # the cursor is back
    console, out = terminal(80)
    with pytest.raises(RuntimeError), Screen(latency=False, console=console):
        raise RuntimeError
    assert written(out).endswith("\x1b[?25h") or written(out).count("\x1b[?25h") == 1


def test_nothing_is_drawn_again_while_nothing_changes() -> None:
    console, out = terminal(80)
    with Screen(latency=False, console=console) as screen:
        screen(Level(1.0, -30.0, 0.1))
        screen.draw()
        size = len(written(out))
        for i in range(50):
            screen(Level(1.0 + i / 10, -30.0, 0.1))
            screen.draw()
        assert len(written(out)) == size


def test_a_terminal_that_takes_no_output_holds_nobody_up_and_fills_no_memory() -> None:
    console, _ = terminal(80)
    screen = Screen(latency=False, console=console)
    for i in range(20_000):  # nobody draws
        screen(Level(i / 10, -30.0, 0.1))
    assert len(screen._posted) < 5_000


def test_plain_lines_where_there_is_no_terminal_or_no_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(open_view(latency=False), PlainLines)  # pytest holds standard output
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(open_view(latency=False), Screen)
    assert isinstance(open_view(latency=False, plain=True), PlainLines)
    monkeypatch.setitem(sys.modules, "vita_edge.cli.output.rich_screen", None)
    assert isinstance(open_view(latency=False), PlainLines)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(open_view(latency=False), PlainLines)
