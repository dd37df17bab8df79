"""Codes to sound, streamed: the exact stream equals the whole, the reference's has its cuts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from support.toy_codec import TINY_A, ToyCodec
from vita_edge.engines.bundle.facts import CodecFacts
from vita_edge.export.receptive_field import receptive_field
from vita_edge.runtime.speech.codec_stream import ExactCodecStream, ReferenceCodecStream, find_cut

DATA = Path(__file__).parents[4] / "shared" / "golden" / "tiny-a" / "data"
golden = pytest.mark.skipif(not DATA.is_dir(), reason="the golden data are not here")

SMALL = ((2, 3), (4, 5), (3, 5), ((1, 3), (1, 2)), "1")
KINDS = {"first": (20, 0.1), "rest": (40, 0.015)}


def facts_of(shape: tuple) -> CodecFacts:
    left, right = receptive_field(*shape)
    return CodecFacts(24000, int(np.prod(shape[0])), left, right, streams=1)


def run(stage, items) -> list[np.ndarray]:
    return [segment for item in items for segment in stage.step(item)] + list(stage.flush())


def joined(segments: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.float32), *segments])


@pytest.fixture(scope="module")
def small() -> ToyCodec:
    return ToyCodec(*SMALL, rng=np.random.default_rng(1))


@pytest.mark.parametrize("chunks", [(1,), (3, 8), (20, 5), (7, 40), (2, 2, 5, 9)])
@pytest.mark.parametrize("count", [0, 1, 2, 6, 7, 13, 29, 30, 90])
def test_the_exact_stream_equals_the_whole(small, chunks, count):
    codes = np.random.default_rng(count).integers(0, 1024, count).tolist()
    segments = run(ExactCodecStream(small, facts_of(SMALL), *chunks), codes)
    whole = small(np.array([codes])) if codes else np.zeros(0)
    assert joined(segments).shape == whole.shape
    np.testing.assert_allclose(joined(segments), whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("side", ["left_context", "right_context"])
def test_one_code_of_context_less_is_not_exact(small, side):
    facts = facts_of(SMALL)
    short = CodecFacts(**{**facts.__dict__, side: getattr(facts, side) - 1})
    linear = ToyCodec(*SMALL)  # all weights one: the outermost influence is seen, not rounded away
    linear.table = np.random.default_rng(0).normal(size=1024)

    def decode(codes):
        return linear.generate(linear.table[codes[0]])

    codes = np.random.default_rng(3).integers(0, 1024, 60).tolist()
    whole = decode(np.array([codes]))
    scale = np.abs(whole).max()
    assert np.abs(joined(run(ExactCodecStream(decode, facts, 5, 5), codes)) - whole).max() < 1e-9 * scale
    assert np.abs(joined(run(ExactCodecStream(decode, short, 5, 5), codes)) - whole).max() > 1e-9 * scale


def test_the_first_sound_comes_with_the_first_chunks_right_context(small):
    facts = facts_of(SMALL)
    stream = ExactCodecStream(small, facts, 4, 9)
    sizes = [
        [len(s) // facts.samples_per_code for s in stream.step(code)] for code in range(4 + facts.right_context + 9)
    ]
    assert sizes.index([4]) == 4 + facts.right_context - 1
    assert sizes[-1] == [9] and sum(map(len, sizes)) == 2


def test_windows_stay_small_and_results_outlive_the_decoders_buffer(small):
    facts = facts_of(SMALL)
    lengths, buffer = [], np.zeros(10_000, np.float32)

    def decode(codes):
        lengths.append(codes.shape[1])
        wave = small(codes)
        buffer[: len(wave)] = wave
        return buffer[: len(wave)]

    codes = np.random.default_rng(5).integers(0, 1024, 100).tolist()
    segments = run(ExactCodecStream(decode, facts, 4, 8), codes)
    assert max(lengths) <= facts.left_context + 8 + facts.right_context
    np.testing.assert_allclose(joined(segments), small(np.array([codes])), rtol=0, atol=1e-6)


def test_a_stream_begins_again_after_finish_and_reset(small):
    codes = list(range(40))
    for stream in (
        ExactCodecStream(small, facts_of(SMALL), 4, 8),
        ReferenceCodecStream(ToyCodec(*TINY_A, rng=np.random.default_rng(0)), facts_of(TINY_A), 20, 0.1),
    ):
        once = joined(run(stream, codes))
        assert np.array_equal(joined(run(stream, codes)), once)
        for code in codes:
            list(stream.step(code))
        stream.reset()
        assert np.array_equal(joined(run(stream, codes)), once)
        stream.reset()
        assert list(stream.flush()) == []


def test_chunks_without_codes_or_too_short_to_search_are_refused(small):
    with pytest.raises(ValueError, match="at least one code"):
        ExactCodecStream(small, facts_of(SMALL), 0, 4)
    with pytest.raises(ValueError, match="2401"):
        ReferenceCodecStream(small, facts_of(SMALL), 20, 0.1)


@pytest.mark.parametrize("threshold", [0.0, 0.05, 10.0])
@pytest.mark.parametrize("count", [1, 29, 30, 50, 93])
def test_the_references_stream_joined_equals_the_whole_when_ten_codes_are_enough(threshold, count):
    codec, facts = ToyCodec(*TINY_A, rng=np.random.default_rng(2)), facts_of(TINY_A)
    codes = np.random.default_rng(count).integers(0, 1024, count).tolist()
    stream = ReferenceCodecStream(codec, facts, 20, threshold)
    segments = run(stream, codes)
    np.testing.assert_allclose(joined(segments), codec(np.array([codes])), rtol=0, atol=1e-6)
    assert len(stream.cuts) == max(count - 10, 0) // 20
    assert len(segments) == 1 + sum(cut.emitted for cut in stream.cuts)
    if threshold == 0.0:
        assert len(segments) == 1


@golden
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sentence", ["s0", "s1", "s2"])
def test_the_references_stream_has_the_golden_segments_and_cuts(sentence, kind):
    manifest = json.loads((DATA / "manifest.json").read_text(encoding="utf-8"))["arrays"]
    lens_name = f"{sentence}.{kind}_lens"
    stable = next(a for a in manifest if a["name"] == lens_name)["stable_under_5e-7_noise"]
    with np.load(DATA / "tts.npz") as tts:
        wave, one_pass = tts[f"{sentence}.{kind}_wave"], tts[f"{sentence}.wave"]
        lens, rows = tts[lens_name], tts[f"{sentence}.{kind}_cuts"]
    by_code = wave.reshape(-1, 600)  # a codec whose code i is the golden sound at i
    stream = ReferenceCodecStream(lambda codes: by_code[codes[0]].reshape(-1), facts_of(TINY_A), *KINDS[kind])
    segments = run(stream, range(len(by_code)))
    assert np.array_equal(joined(segments), wave)
    np.testing.assert_allclose(wave, one_pass, rtol=0, atol=1e-5)
    for cut, (emitted, first, stop, at, millionths) in zip(stream.cuts, rows.tolist(), strict=True):
        assert (cut.emitted, cut.first, cut.stop) == (emitted, first, stop)
        assert abs(1e6 * cut.quietest - millionths) <= 1
        assert cut.cut == at or (not stable and first <= cut.cut < stop)  # the lengths below say which one was spoken
    assert [len(s) for s in segments] == lens.tolist()


def test_the_cut_is_the_quietest_sample_of_a_stretch_that_counts_its_start_twice():
    wave = np.full(12000, 0.5, np.float32)
    wave[7000:9500] = 0.01
    wave[9450] = -0.001  # the last sample of the quietest window, 7050 .. 9450
    wave[11000] = 0.0  # outside that window, inside the stretch
    cut = find_cut(wave, 0.1)
    searched_from = 12000 // 2 - 1200
    stop = 7050 + 2401 + (7050 - searched_from)
    assert (cut.emitted, cut.first, cut.stop, cut.cut) == (True, 7050, stop, 11_000)
    assert cut.quietest == pytest.approx((2400 * 0.01 + 0.001) / 2401)
    loud = find_cut(wave, 0.005)
    assert (loud.emitted, loud.cut, loud.first) == (False, -1, cut.first)
