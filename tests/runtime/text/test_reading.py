"""Written text as it is read aloud: the table is the specification."""

from __future__ import annotations

import pytest

from support.spoken_cases import SpokenCase, heard, spoken_cases
from vita_edge.runtime.text.spoken.reading import read_aloud

CASES, BEYOND = spoken_cases("cases"), spoken_cases("beyond")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.written)
def test_it_is_read_as_the_table_says(case: SpokenCase) -> None:
    assert heard(read_aloud(case.written, case.language)) == heard(case.spoken)


def test_the_table_has_every_kind_of_text() -> None:
    count = {kind: sum(case.kind == kind for case in CASES) for kind in ("en", "zh", "mixed")}
    assert count["en"] >= 250 and count["zh"] >= 80 and count["mixed"] >= 30
    assert len({case.written for case in CASES}) == len(CASES)


def test_the_rules_carry_beyond_the_table() -> None:
    right = sum(heard(read_aloud(case.written, case.language)) == heard(case.spoken) for case in BEYOND)
    assert right >= 0.85 * len(BEYOND)


@pytest.mark.parametrize(
    "plain", ["hello there.", "it is a red circle, is it not?", "你好，很高兴见到你。", "what's up"]
)
def test_plain_sentences_stay_as_they_are(plain: str) -> None:
    assert read_aloud(plain) == plain


def test_what_has_no_letter_and_no_digit_is_not_read() -> None:
    assert [read_aloud(text) for text in ("😀👍", "...", "?!", "。。。", "🇩🇪", "---", "", " \n", "☞", "**")] == [
        ""
    ] * 10


def test_a_number_alone_is_read_in_the_language_of_the_talk() -> None:
    assert read_aloud("42", "en") == "forty two"
    assert read_aloud("42", "zh") == "四十二"


def test_a_mark_begins_an_item_only_where_a_line_begins() -> None:
    assert read_aloud("- seven", line_start=True) == "seven"
    assert heard(read_aloud("1. seven", line_start=True)) == "one seven"
    assert read_aloud("-7", line_start=True) == "minus seven"
