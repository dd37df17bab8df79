"""Stop strings: however the text is cut, the same text comes out, and never a part of a stop string."""

from __future__ import annotations

import random

import pytest

from vita_edge.runtime.text.stop_strings import StopStrings


def text_of(stop: list[str], pieces: list[str]) -> tuple[str, str | None]:
    watch = StopStrings(stop)
    text = "".join([*map(watch.step, pieces), watch.flush()])
    return text, watch.found


@pytest.mark.parametrize(
    ("stop", "text", "expected", "found"),
    [
        ([], "hello", "hello", None),
        (["END"], "hello END of it", "hello ", "END"),
        (["END"], "hello EN", "hello EN", None),
        (["aab"], "aaab", "a", "aab"),
        (["abcd", "bc"], "xabcd", "xa", "bc"),
        (["bc", "abc"], "xabc", "x", "abc"),
        (["\n\n", "User:"], "one\ntwo\n\nUser:", "one\ntwo", "\n\n"),
        (["。"], "好。不", "好", "。"),
        (["x"], "x", "", "x"),
    ],
)
def test_text_ends_before_the_first_stop_string(stop: list[str], text: str, expected: str, found: str | None) -> None:
    assert text_of(stop, [text]) == text_of(stop, list(text)) == (expected, found)


def test_any_cut_into_pieces_gives_the_same_text() -> None:
    draw = random.Random(0)
    ended = 0
    for _ in range(2000):
        stop = ["".join(draw.choices("ab", k=draw.randint(1, 5))) for _ in range(draw.randint(1, 3))]
        text = "".join(draw.choices("abc", k=draw.randint(0, 14)))
        cuts = sorted(draw.choices(range(len(text) + 1), k=4))
        pieces = [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)])]
        ends = min((text.index(s) + len(s) for s in stop if s in text), default=None)
        whole = text
        if ends is not None:
            ended += 1
            whole = text[: min(ends - len(s) for s in stop if text[:ends].endswith(s))]
        assert text_of(stop, pieces)[0] == whole
    assert ended > 500


def test_only_what_may_become_a_stop_string_is_held_back() -> None:
    watch = StopStrings(["END"])
    assert [watch.step(piece) for piece in ("good E", "N", "T", "EN")] == ["good ", "", "ENT", ""]
    assert watch.flush() == "EN"


def test_a_reset_one_is_as_new() -> None:
    watch = StopStrings(["END"])
    watch.step("it ENDs")
    watch.reset()
    assert (watch.step("so E"), watch.found, watch.flush()) == ("so ", None, "E")
