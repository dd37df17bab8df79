"""From a reply that is being written to the clauses that are read aloud."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable

import pytest

from support.spoken_cases import SpokenCase, heard, spoken_cases
from vita_edge.runtime.text.clause_cutter import FIRST, MAX_SPOKEN, Clause, ClauseCutter
from vita_edge.runtime.text.clause_ends import weight

CASES = spoken_cases("cases")
SIGNS = "abXYZ  .,:;!?-/\\*_`#$€%°0123456789()[]<>|~^=+&@'\"\n你好是的了和，。！？、：；…—😀é한🇩🇪½²π√\u200d\x00"
LONG = "the circle is orange and the square is blue " * 40
CHINESE = (
    "机器学习是人工智能的一个分支它通过算法让计算机从数据中学习规律并且能够在没有明确编程的情况下做出预测和决策" * 4
)
ENDLESS = ["a" * 3000, "7" * 800, "好" * 600, "https://a.bc/" + "x-" * 400, "，" * 50, "[" + "word " * 300]


def cut(pieces: Iterable[str]) -> list[Clause]:
    cutter = ClauseCutter()
    return [clause for piece in pieces for clause in cutter.step(piece)] + list(cutter.flush())


def texts(reply: str) -> list[str]:
    return [clause.text for clause in cut([reply])]


def in_pieces(reply: str, rng: random.Random) -> list[str]:
    edges = sorted(rng.randrange(len(reply) + 1) for _ in range(rng.randrange(20)))
    return [reply[a:b] for a, b in zip([0, *edges], [*edges, len(reply)])]


def any_text(rng: random.Random) -> str:
    """Signs at random, lines of the table one after the other, or such lines with a few signs changed."""
    if rng.random() < 0.4:
        return "".join(rng.choice(SIGNS) for _ in range(rng.randrange(200)))
    joined = list(rng.choice([" ", "", "\n"]).join(rng.choice(CASES).written for _ in range(rng.randrange(1, 5))))
    for _ in range(rng.choice([0, 5]) if joined else 0):
        joined[rng.randrange(len(joined))] = rng.choice(SIGNS)
    return "".join(joined)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.written)
def test_cutting_a_text_does_not_change_how_it_is_read(case: SpokenCase) -> None:
    cutter = ClauseCutter()
    begin = list(cutter.step("好。" if case.language == "zh" else "Well! "))
    clauses = [*begin, *cutter.step(case.written), *cutter.flush()]
    if case.written[:1] not in "#>|-*1`![~" or not case.written:  # these mean something only where a line begins
        assert heard(" ".join(clause.text for clause in clauses[1:])) == heard(case.spoken)


@pytest.mark.parametrize("seed", range(4))
def test_the_clauses_of_any_text_do_not_depend_on_how_it_arrives(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(60):
        reply = any_text(rng)
        whole = cut([reply])
        assert cut(in_pieces(reply, rng)) == whole
        assert cut(reply) == whole


def test_every_clause_of_any_text_can_be_said_and_is_soon_over() -> None:
    rng = random.Random(7)
    for reply in [*(any_text(rng) for _ in range(200)), LONG, CHINESE, *ENDLESS]:
        for clause in cut([reply]):
            assert re.search(r"[^\W_]", clause.text) and clause.text == clause.text.lower()
            assert not re.search("[0-9]", clause.text)
            assert weight(clause.text) <= MAX_SPOKEN + 2


def test_what_was_written_adds_up_to_the_reply_as_far_as_it_was_spoken() -> None:
    rng = random.Random(8)
    for reply in [*(any_text(rng) for _ in range(200)), LONG, CHINESE, *ENDLESS]:
        written = "".join(clause.written for clause in cut([reply]))
        assert reply.startswith(written)
        assert not re.search(r"[A-Za-z0-9一-龥]", re.sub(r"</?\w+>|```\w*", "", reply[len(written) :])) or "](" in reply


def test_no_letter_of_plain_text_is_lost() -> None:
    rng = random.Random(9)
    words = ["Yes", "no", "red circle,", "and", "Dr.", "blue.", "But!", "where?", "state-of-the-art", "你好，世界。"]
    words += ["(so)", "“well”", "it's;", "that:", "—", "…"]
    for _ in range(200):
        reply = " ".join(rng.choice(words) for _ in range(rng.randrange(1, 60)))
        letters = re.sub(r"[^a-z一-龥]", "", "".join(texts(reply)))
        assert letters == re.sub(r"[^a-z一-龥]", "", reply.lower().replace("dr.", "doctor"))


def test_numbers_abbreviations_and_addresses_are_not_cut() -> None:
    assert texts("Pi is 3.14159 and it costs $5.99.") == [
        "pi is three point one four one five nine and it costs five dollars and ninety nine cents."
    ]
    assert texts("Dr. Smith lives in the U.S.A. now.") == ["doctor smith lives in the u s a now."]
    assert texts("It costs 1,299.50 euros.") == ["it costs one thousand two hundred ninety nine point five zero euros."]
    assert len(texts("Mail a.b@c.org, please.")) == 2


def test_a_clause_comes_as_soon_as_it_is_known_to_be_whole() -> None:
    cutter = ClauseCutter()
    assert list(cutter.step("☞Yes")) == []
    assert list(cutter.step(",")) == [Clause("yes。", "☞Yes,", True, 20, 0.1, True, 10)]
    assert list(cutter.step(" No.")) == []  # 4 characters: spoken with the next
    assert list(cutter.step(" Go!")) == [Clause(" no. go!", " No. Go!", False, 40, 0.015, False, 10)]
    assert list(cutter.step(" It is 3.")) == []  # 3.14?
    assert [clause.text for clause in cutter.step(" x")] == [" it is three."]
    assert [clause.text for clause in cutter.flush()] == [" x"]


def test_a_reply_without_marks_is_heard_after_some_words() -> None:
    first, *later = cut([LONG])
    assert heard(LONG).startswith(heard(first.text)) and first.text.endswith("。")
    assert FIRST.soft <= weight(first.written) <= FIRST.hard + 10
    assert first.first and not any(clause.first for clause in later)
    chinese, *_ = cut([CHINESE])
    assert weight(chinese.written) < 110


def test_a_first_clause_is_cut_before_a_word_that_opens_a_phrase() -> None:
    assert texts("The red circle you see on the left stands beside a blue square of the same size.") == [
        "the red circle you see on the left stands。",
        " beside a blue square of the same size.",
    ]


def test_neither_amounts_nor_brackets_are_cut_in_two() -> None:
    reply = "The distance between both of these towns 25 kilometers (about sixteen miles as the crow flies) by road"
    assert [clause.written for clause in cut([reply])] == [reply[:94], reply[94:]]


def test_what_nobody_can_say_is_no_clause() -> None:
    assert cut(["☞"]) == cut(["😀👍"]) == cut(["..."]) == cut(["?!"]) == cut(["，" * 50]) == []
    assert texts("Sure! 😀👍 Great 🇩🇪") == ["sure!", " great"]


def test_a_finished_or_reset_cutter_begins_a_new_reply() -> None:
    cutter = ClauseCutter()
    once = [*cutter.step("Hi. 1. You"), *cutter.flush()]
    assert [*cutter.step("Hi. 1. You"), *cutter.flush()] == once
    list(cutter.step("forget me 你好"))
    cutter.reset()
    assert [*cutter.step("Hi. 1. You"), *cutter.flush()] == once
