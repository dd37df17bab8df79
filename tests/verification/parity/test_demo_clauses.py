"""The sentences that the published demos speak, reproduced for parity."""

from __future__ import annotations

import json
import random
from itertools import groupby
from pathlib import Path

import pytest

from vita_edge.runtime.text.clause_cutter import Clause
from vita_edge.runtime.text.prompt import FIRST_SENTENCE_MARK
from vita_edge.verification.parity.demo_clauses import DemoClauseCutter, basic_split, speakable

GOLDEN = Path(__file__).parents[4] / "shared" / "golden"
golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden data are not here")

REPLIES = [
    "☞ Hello there. How are you today? I am fine, thanks! And a tail",
    "☞你好，很高兴见到你。今天天气不错！我们去散步吧",
    "No punctuation at all",
    "...",
    "☜ a, ☞ b☟. <unk>!\n\n、x<|im_end|>",
    "☞\nHi. 3.14*2=6.28, sin(x)^2",
    "",
]


@pytest.fixture(scope="module")
def common() -> dict:
    return json.loads((GOLDEN / "common" / "common.json").read_text(encoding="utf-8"))


def cut(pieces, speak_tail: bool = True) -> list[Clause]:
    cutter = DemoClauseCutter(speak_tail)
    return [clause for piece in pieces for clause in cutter.step(piece)] + list(cutter.flush())


@golden
def test_formulas_are_reworded_and_split_as_the_reference_does(common):
    for case in common["text_shaping"]:
        assert speakable(case["text"]) == case["spoken"]
        assert basic_split(case["text"]) == case["split"]


@golden
def test_replies_are_cut_into_the_golden_sentences(common):
    for case in common["sentence_cutting"]:
        clauses = cut([case["reply"]], speak_tail=False)
        assert [
            {"text": c.text, "chunk": c.chunk, "padding": c.padding, "threshold": c.threshold} for c in clauses
        ] == case["sentences"]
        assert [c.first for c in clauses] == [c.trim for c in clauses] == [i == 0 for i in range(len(clauses))]
        handed_over = "".join(case["pieces"]).replace(FIRST_SENTENCE_MARK, "")
        assert "".join(c.written for c in clauses).replace("☞", "").startswith(handed_over)


@golden
def test_whole_golden_replies_are_cut_into_the_sentences_that_were_spoken():
    replies = json.loads((GOLDEN / "tiny-a" / "data" / "e2e.json").read_text(encoding="utf-8"))
    for name in ("image_audio", "live1", "live2"):
        spoken = [sentence for sentence, _ in groupby(replies[name]["sentence_of_each_pcm_piece"])]
        assert [c.text for c in cut([replies[name]["text"]], speak_tail=False)] == spoken


@pytest.mark.parametrize("speak_tail", [True, False])
@pytest.mark.parametrize("reply", REPLIES)
def test_the_sentences_do_not_depend_on_how_the_reply_arrives(reply, speak_tail):
    whole = cut([reply], speak_tail=speak_tail)
    assert cut(reply, speak_tail=speak_tail) == whole
    rng = random.Random(reply)
    for _ in range(50):
        edges = sorted(rng.randrange(len(reply) + 1) for _ in range(rng.randrange(8)))
        pieces = [reply[a:b] for a, b in zip([0, *edges], [*edges, len(reply)])]
        assert cut(pieces, speak_tail=speak_tail) == whole


def test_a_sentence_comes_as_soon_as_it_is_whole():
    cutter = DemoClauseCutter(speak_tail=True)
    assert [c.text for c in cutter.step("☞Yes")] == []
    assert list(cutter.step(",")) == [Clause("yes。", "☞Yes,", True, 20, 0.1, True, 10)]
    assert [c.text for c in cutter.step(" No.")] == []  # 4 characters: spoken with the next
    assert list(cutter.step(" Go!x")) == [Clause(" no. go!", " No. Go!", False, 40, 0.015, False, 10)]
    assert [c.text for c in cutter.flush()] == ["x"]


def test_the_tail_is_spoken_unless_the_demos_loss_is_asked_for():
    assert [c.text for c in cut(["Hello. Good bye"])] == ["hello.", " good bye"]
    assert [c.text for c in cut(["Hello. Good bye"], speak_tail=False)] == ["hello."]
    assert [c.text for c in cut(["Hello. No. Good bye"], speak_tail=False)] == ["hello.", " no."]
    assert cut(["Hello"])[0].first
    assert cut(["Hello"], speak_tail=False) == []


def test_what_was_written_adds_up_to_the_reply():
    for reply in REPLIES:
        assert "".join(c.written for c in cut([reply])) == reply


def test_a_finished_or_reset_cutter_begins_a_new_reply():
    cutter = DemoClauseCutter(speak_tail=True)
    once = [*cutter.step("Hi. You"), *cutter.flush()]
    assert [*cutter.step("Hi. You"), *cutter.flush()] == once
    list(cutter.step("forget me"))
    cutter.reset()
    assert [*cutter.step("Hi. You"), *cutter.flush()] == once


def test_blank_sentences_are_skipped():
    assert cut(["☞"]) == []
    assert [c.text for c in cut(["Hi!\n\n\n\n\n\nYou."])] == ["hi!", "\nyou."]


def test_function_names_are_replaced_inside_words_as_the_demos_do():
    assert speakable("using a second log") == "u sine g a  secant ond  logarithm "
