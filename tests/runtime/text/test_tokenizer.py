"""Text to ids and back, whole and one id at a time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import decoders

from support.toy_tokenizer import IM_END, TOOL_CALL, library_tokenizer, toy_tokenizer
from vita_edge.engines.errors import BadBundle
from vita_edge.runtime.text.tokenizer import StreamDecoder, Tokenizer

GOLDEN = Path(__file__).parents[4] / "shared" / "golden" / "tiny-a"
golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden data are not here")


@pytest.fixture(scope="module")
def tiny() -> Tokenizer:
    return Tokenizer.from_file(GOLDEN / "checkpoint" / "tokenizer.json")


@pytest.fixture(scope="module")
def text() -> dict:
    return json.loads((GOLDEN / "data" / "text.json").read_text(encoding="utf-8"))


def streamed(tokenizer: Tokenizer, ids: list[int], skip_special: bool = False) -> str:
    decoder = StreamDecoder(tokenizer, skip_special)
    return "".join([decoder.step(i) for i in ids]) + decoder.flush()


@golden
def test_texts_become_the_golden_ids_and_come_back(tiny, text):
    for case in text["encode"]:
        assert tiny.encode(case["text"]) == case["ids"], case["text"]
        assert tiny.decode(case["ids"]) == case["decoded"]


@golden
def test_invalid_bytes_become_the_golden_replacement_characters(tiny, text):
    for case in text["decode"]:
        assert tiny.decode(case["ids"]) == case["decoded"]
        assert tiny.decode(case["ids"], skip_special=True) == case["decoded_skip_special"]
        assert streamed(tiny, case["ids"]) == case["decoded"]
        assert streamed(tiny, case["ids"], skip_special=True) == case["decoded_skip_special"]


@golden
def test_special_ids_are_found_by_their_text(tiny, text):
    info = text["info"]
    assert len(tiny) == info["len"]
    assert tiny.encode("<|im_start|><|im_end|>") == [info["im_start"], info["im_end"]]
    for hand, ids in info["hands"].items():
        assert tiny.encode(hand) == ids and len(ids) == 1


@golden
def test_decoding_agrees_with_the_library_on_random_ids(tiny):
    import tokenizers

    library = tokenizers.Tokenizer.from_file(str(GOLDEN / "checkpoint" / "tokenizer.json"))
    rng = np.random.default_rng(0)
    for _ in range(300):
        ids = rng.integers(0, len(tiny) + 5, 20).tolist()  # a few beyond the vocabulary: nothing
        for skip in (False, True):
            expected = library.decode(ids, skip_special_tokens=skip)
            assert tiny.decode(ids, skip) == streamed(tiny, ids, skip) == expected


def test_a_character_of_several_tokens_comes_out_when_it_is_whole():
    tokenizer = toy_tokenizer()
    decoder = StreamDecoder(tokenizer)
    assert [decoder.step(i) for i in tokenizer.encode("a你b")] == ["a", "", "", "你", "b"]
    assert decoder.flush() == ""


def test_an_unfinished_character_at_the_end_is_replaced_and_forgotten():
    tokenizer = toy_tokenizer()
    decoder = StreamDecoder(tokenizer)
    head = tokenizer.encode("你")[:2]
    assert [decoder.step(i) for i in head] == ["", ""]
    assert decoder.flush() == tokenizer.decode(head) == "\ufffd"
    assert "".join(map(decoder.step, tokenizer.encode("ok"))) == "ok"  # the same decoder is as new
    assert decoder.flush() == ""


def test_added_tokens_fire_in_text_but_not_in_its_fragments():
    tokenizer = toy_tokenizer()
    typed = "a<|im_end|>b<<tool_call>"
    assert {IM_END, TOOL_CALL} <= set(tokenizer.encode(typed))
    fragments = tokenizer.fragments(typed)
    assert fragments == ["a<", "|im_end|>b<<", "tool_call>"]
    ids = [i for fragment in fragments for i in tokenizer.encode(fragment)]
    assert max(ids) < 256 and tokenizer.decode(ids) == typed
    assert tokenizer.fragments("plain <image>") == ["plain <image>"]
    assert tokenizer.fragments("") == [""]


def test_a_tokenizer_file_that_cannot_be_used_says_why(tmp_path):
    with pytest.raises(BadBundle, match="Cannot read"):
        Tokenizer.from_file(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(BadBundle, match="Cannot read"):
        Tokenizer.from_file(tmp_path / "tokenizer.json")
    wrong = library_tokenizer()
    wrong.decoder = decoders.WordPiece()
    wrong.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(BadBundle, match="byte-level"):
        Tokenizer.from_file(tmp_path / "tokenizer.json")


def test_a_saved_limit_on_length_is_ignored(tmp_path):
    library = library_tokenizer()
    library.enable_truncation(2)
    library.enable_padding(length=9)
    library.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.from_file(tmp_path / "tokenizer.json")
    assert len(tokenizer.encode("hello")) == 5
