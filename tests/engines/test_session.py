"""A session on the CPU: one call is like another, and the KV cache remembers exactly what it was given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from support.memory import resident
from support.open_graph import open_graph
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import ContextOverflow
from vita_edge.engines.onnxruntime.cpu import OnnxCpuSession
from vita_edge.engines.session import GraphSession, KvCache
from vita_edge.export.bundle import export_bundle
from vita_edge.export.graphs.graph_builder import GraphBuilder, table
from vita_edge.export.weights.formats import Blocks
from vita_edge.runtime import Assistant
from vita_edge.runtime.decoding.decode_loop import decode_tokens
from vita_edge.runtime.decoding.language_model import LanguageModel
from vita_edge.runtime.encoders.streaming_audio_encoder import piece_feeds

Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def llm(tiny_bundle: Bundle) -> Iterator[GraphSession]:
    with open_graph(tiny_bundle, "llm") as session:
        yield session


@pytest.fixture(scope="module")
def rows(golden: Path) -> Floats:
    """A recorded prompt: float32 [positions, hidden]."""
    with np.load(golden / "data" / "llm.npz") as archive:
        return np.array(archive["text.embeds"][:40])


def append(session: GraphSession, cache: KvCache, rows: Floats) -> Floats:
    return session.infer({"inputs_embeds": rows[None]}, cache)["logits"][0, 0].copy()


def close(got: Floats, want: Floats) -> bool:
    """Equal but for the order of sums."""
    return bool(np.abs(got - want).max() < 1e-5 * np.abs(want).max())


# --- the cache


@pytest.fixture(scope="module")
def whole(llm: GraphSession, rows: Floats) -> list[Floats]:
    """Logits behind every position, each from one prefill of all rows up to it."""
    return [append(llm, llm.new_cache(64), rows[: n + 1]) for n in range(len(rows))]


@pytest.mark.parametrize("parts", [(1, 39), (39, 1), (7, 7, 26), (20, 1, 1, 18)])
def test_a_prefill_in_parts_equals_one(
    parts: tuple[int, ...], llm: GraphSession, rows: Floats, whole: list[Floats]
) -> None:
    cache, start = llm.new_cache(64), 0
    for part in parts:
        logits = append(llm, cache, rows[start : start + part])
        start += part
        assert cache.length_tokens == start
        assert close(logits, whole[start - 1])


def test_step_by_step_equals_the_whole(llm: GraphSession, rows: Floats, whole: list[Floats]) -> None:
    cache = llm.new_cache(64)
    for row, want in zip(rows, whole):
        assert close(append(llm, cache, row[None]), want)


def test_what_was_rewound_has_never_been(llm: GraphSession, rows: Floats) -> None:
    cache, fresh = llm.new_cache(64), llm.new_cache(64)
    append(llm, cache, rows[:10])
    append(llm, cache, rows[20:40])
    cache.rewind(10)
    assert cache.length_tokens == 10
    append(llm, fresh, rows[:10])
    for at in range(10, 16):
        np.testing.assert_array_equal(append(llm, cache, rows[at : at + 1]), append(llm, fresh, rows[at : at + 1]))
    np.testing.assert_array_equal(append(llm, cache, rows[16:40]), append(llm, fresh, rows[16:40]))


def test_a_cache_that_was_emptied_is_as_new(llm: GraphSession, rows: Floats, whole: list[Floats]) -> None:
    cache = llm.new_cache(40)
    append(llm, cache, rows[::-1].copy())
    cache.rewind(0)
    assert close(append(llm, cache, rows), whole[-1])


@pytest.mark.parametrize("length", [-1, 6, 100])
def test_a_cache_cannot_be_rewound_to_what_it_does_not_hold(length: int, llm: GraphSession, rows: Floats) -> None:
    cache = llm.new_cache(64)
    append(llm, cache, rows[:5])
    with pytest.raises(ValueError, match=f"5 tokens to {length}"):
        cache.rewind(length)
    assert cache.length_tokens == 5


@pytest.mark.parametrize("too_many", [1, 4])
def test_an_overflow_leaves_the_cache_as_it_was(
    too_many: int, llm: GraphSession, rows: Floats, whole: list[Floats]
) -> None:
    cache = llm.new_cache(11)
    append(llm, cache, rows[: 12 - too_many])
    with pytest.raises(ContextOverflow, match=f"{too_many} more tokens do not fit") as raised:
        append(llm, cache, rows[-too_many:])
    assert raised.value.fix
    assert cache.length_tokens == 12 - too_many
    cache.rewind(8)
    assert close(append(llm, cache, rows[8:11]), whole[10])


def test_a_cache_can_be_filled_to_its_last_position(llm: GraphSession, rows: Floats, whole: list[Floats]) -> None:
    cache = llm.new_cache(40)
    append(llm, cache, rows[:39])
    assert close(append(llm, cache, rows[39:]), whole[39])
    assert cache.length_tokens == cache.capacity_tokens == 40


def test_caches_over_one_session_do_not_disturb_each_other(
    llm: GraphSession, rows: Floats, whole: list[Floats]
) -> None:
    one, other = llm.new_cache(64), llm.new_cache(48)
    append(llm, one, rows[:20])
    append(llm, other, rows[39:])
    for at in range(20, 30):
        held = llm.infer({"inputs_embeds": rows[None, at : at + 1]}, one)["logits"][0, 0]
        append(llm, other, rows[at - 1 : at])
        assert close(held, whole[at])  # a step of the other cache does not touch the result of this one
    assert (one.length_tokens, other.length_tokens) == (30, 11)


def test_a_result_is_overwritten_by_the_next_call_over_its_cache(llm: GraphSession, rows: Floats) -> None:
    cache = llm.new_cache(64)
    first = llm.infer({"inputs_embeds": rows[None, :1]}, cache)["logits"]
    retained = first.copy()
    second = llm.infer({"inputs_embeds": rows[None, 1:2]}, cache)["logits"]
    assert second is first, "the decode loop allocates nothing"
    assert not np.array_equal(retained, first)


def test_a_feed_may_be_changed_after_the_call(llm: GraphSession, rows: Floats, whole: list[Floats]) -> None:
    cache, row = llm.new_cache(64), np.zeros((1, 1, 128), np.float32)
    for at in range(5):
        row[0, 0] = rows[at]
        logits = llm.infer({"inputs_embeds": row}, cache)["logits"][0, 0]
        row[:] = np.nan
        assert close(logits, whole[at])


def test_rows_need_not_lie_together_in_memory(llm: GraphSession, rows: Floats, whole: list[Floats]) -> None:
    scattered = np.asfortranarray(rows)[None]
    assert not scattered.flags.c_contiguous
    assert close(llm.infer({"inputs_embeds": scattered}, llm.new_cache(64))["logits"][0, 0], whole[-1])
    cache = llm.new_cache(64)
    one = np.repeat(rows[:1], 2, axis=1)[None, :, ::2]
    assert not one.flags.c_contiguous
    assert close(llm.infer({"inputs_embeds": one}, cache)["logits"][0, 0], whole[0])


def test_sessions_with_the_same_layers_take_turns_on_a_cache(
    llm: GraphSession, tiny_bundle: Bundle, rows: Floats, whole: list[Floats]
) -> None:
    with open_graph(tiny_bundle, "llm", threads=1) as other:
        cache = other.new_cache(64)
        append(llm, cache, rows[:10])
        for at in range(10, 20):
            assert close(append(other if at % 2 else llm, cache, rows[at : at + 1]), whole[at])
        assert close(append(other, cache, rows[20:]), whole[-1])
    cache.rewind(39)
    assert close(append(llm, cache, rows[39:]), whole[-1])  # a closed session leaves the cache to others


def test_a_cache_of_other_layers_or_none_at_all_is_refused(
    llm: GraphSession, tiny_bundle: Bundle, rows: Floats
) -> None:
    with open_graph(tiny_bundle, "speech_decoder") as other, pytest.raises(ValueError, match="different layers"):
        append(llm, other.new_cache(64), rows)
    with pytest.raises(ValueError, match="needs a cache"):
        llm.infer({"inputs_embeds": rows[None]})


def test_a_cache_tells_its_size_and_needs_room_for_one(llm: GraphSession) -> None:
    cache = llm.new_cache(100)
    assert (cache.capacity_tokens, cache.length_tokens) == (100, 0)
    assert cache.nbytes == 2 * 3 * 2 * 100 * 16 * 4  # key and value, layers, heads, positions, width, float32
    with pytest.raises(ValueError, match="0 tokens"):
        llm.new_cache(0)


def test_a_prefix_can_be_put_into_a_cache(tiny_bundle: Bundle, rows: Floats) -> None:
    """The speech decoder's prefix comes from a graph of its own."""
    vectors = rows[:3].reshape(1, -1, 32)
    with open_graph(tiny_bundle, "speech_prefill") as prefill, open_graph(tiny_bundle, "speech_decoder") as decoder:
        prefix = dict(prefill.infer({"text_embeds": vectors}))
        cache = decoder.new_cache(64)
        code = np.full((1, 1), 7, np.int64)
        cache.fill(prefix)
        assert cache.length_tokens == vectors.shape[1] + 1
        first = decoder.infer({"code": code}, cache)["logits"].copy()
        decoder.infer({"code": code}, cache)
        cache.fill(prefix)
        np.testing.assert_array_equal(decoder.infer({"code": code}, cache)["logits"], first)

        half = {name: array[:, :, :6] for name, array in prefix.items()}
        cache.fill(half)
        assert cache.length_tokens == 6
        assert not np.array_equal(decoder.infer({"code": code}, cache)["logits"], first)

        before = cache.length_tokens
        with pytest.raises(ContextOverflow):
            decoder.new_cache(8).fill(prefix)
        with pytest.raises(ValueError, match="a prefix for"):
            cache.fill({name: array for name, array in prefix.items() if name.endswith("key")})
        assert cache.length_tokens == before


# --- the language model over it


def test_a_language_model_reads_in_chunks_and_steps_by_token(assistant: Assistant, rows: Floats) -> None:
    model, other = assistant.language_model(64), assistant.language_model(64)
    want = model.prefill(rows).copy()
    assert close(other.prefill(rows, chunk=7).copy(), want)
    assert model.position == other.position == 40
    after = model.step(5).copy()
    assert close(other.prefill(assistant.embeddings.rows([5])).copy(), after)
    model.rewind(40)
    assert close(model.step(5).copy(), after)


def test_a_prompt_that_does_not_fit_is_refused_before_any_of_it_is_read(assistant: Assistant, rows: Floats) -> None:
    model = assistant.language_model(30)
    model.prefill(rows[:5])
    with pytest.raises(ContextOverflow, match="40 tokens do not fit into the 25"):
        model.prefill(rows, chunk=8)
    assert model.position == 5
    with pytest.raises(ValueError, match="nothing to prefill"):
        model.prefill(rows[:0])
    with pytest.raises(ContextOverflow, match="more than the model has"):
        assistant.language_model(assistant.bundle.model.llm.context_tokens + 1)


def test_the_token_that_was_yielded_last_is_not_in_the_cache_yet(assistant: Assistant, rows: Floats) -> None:
    model = assistant.language_model(64)
    tokens = decode_tokens(model.prefill(rows), lambda logits: int(logits.argmax()), model.step, 3)
    for produced in range(3):
        next(tokens)
        assert model.position == 40 + produced
    assert next(tokens, None) is None
    assert model.position == 42


def test_two_language_models_over_one_session_talk_past_each_other(assistant: Assistant, rows: Floats) -> None:
    def greedy(logits: Floats) -> int:
        return int(logits.argmax())

    def alone(part: Floats) -> list[int]:
        model: LanguageModel = assistant.language_model(64)
        return list(decode_tokens(model.prefill(part).copy(), greedy, model.step, 8))

    one, other = assistant.language_model(64), assistant.language_model(64)
    talks = [
        decode_tokens(model.prefill(part), greedy, model.step, 8) for model, part in ((one, rows), (other, rows[:9]))
    ]
    assert list(zip(*talks)) == list(zip(alone(rows), alone(rows[:9])))


# --- sessions without a cache


def test_results_without_a_cache_belong_to_the_caller(tiny_bundle: Bundle) -> None:
    with open_graph(tiny_bundle, "codec") as codec:
        first = codec.infer({"codes": np.array([[1, 2, 3]])})["waveform"]
        retained = first.copy()
        codec.infer({"codes": np.array([[4, 5, 6]])})
        np.testing.assert_array_equal(first, retained)


def test_tiles_together_are_as_tiles_alone(tiny_bundle: Bundle) -> None:
    tiles = np.random.default_rng(0).standard_normal((3, 3, 112, 112)).astype(np.float32)
    with open_graph(tiny_bundle, "vision") as vision:
        together = vision.infer({"pixel_values": tiles})["image_embeds"]
        for tile, want in zip(tiles, together):
            assert close(vision.infer({"pixel_values": tile[None]})["image_embeds"][0], want)


def test_the_number_of_threads_does_not_change_the_result(tiny_bundle: Bundle, rows: Floats) -> None:
    with open_graph(tiny_bundle, "llm", threads=1) as single, open_graph(tiny_bundle, "llm", threads=2) as double:
        assert close(append(single, single.new_cache(64), rows), append(double, double.new_cache(64), rows))


@pytest.mark.parametrize(
    ("feeds", "reported"),
    [
        ({}, "missing codes"),
        ({"code": np.zeros((1, 3), np.int64)}, "missing codes; unknown code"),
        ({"codes": np.zeros((1, 3), np.int32)}, "codes is int32, expected int64"),
        ({"codes": np.zeros(3, np.int64)}, r"codes has shape \[3\], expected \[1, frames\]"),
        ({"codes": np.zeros((2, 3), np.int64)}, r"codes has shape \[2, 3\]"),
        ({"codes": np.zeros((1, 3), np.int64), "voice": np.zeros(1)}, "unknown voice"),
    ],
)
def test_feeds_that_do_not_fit_are_refused_by_name(
    feeds: dict[str, NDArray[np.generic]], reported: str, tiny_bundle: Bundle
) -> None:
    with open_graph(tiny_bundle, "codec") as codec, pytest.raises(ValueError, match=reported) as raised:
        codec.infer(feeds)
    assert "It takes codes: int64 [1, frames]" in str(raised.value)


def test_a_refused_feed_leaves_the_cache_as_it_was(llm: GraphSession, rows: Floats, whole: list[Floats]) -> None:
    cache = llm.new_cache(64)
    append(llm, cache, rows[:39])
    for wrong in (rows[None, 39:].astype(np.float64), rows[39:], rows[None, 39:, :-1]):
        with pytest.raises(ValueError, match="inputs_embeds"):
            llm.infer({"inputs_embeds": wrong}, cache)
    assert cache.length_tokens == 39
    assert close(append(llm, cache, rows[39:]), whole[39])


def test_a_closed_session_cannot_be_used(tiny_bundle: Bundle) -> None:
    with open_graph(tiny_bundle, "codec") as codec:
        pass
    with pytest.raises(ValueError, match="codec is closed"):
        codec.infer({"codes": np.zeros((1, 3), np.int64)})
    codec.close()  # a second time does no harm


def test_the_memory_of_a_large_call_is_given_back(tiny_bundle: Bundle) -> None:
    """Else every session would keep what its largest call took."""
    with open_graph(tiny_bundle, "codec") as codec:
        codec.infer({"codes": np.zeros((1, 20), np.int64)})
        before = own_memory()
        codec.infer({"codes": np.zeros((1, 2000), np.int64)})
        assert own_memory() - before < 48 << 20  # while it ran it took three times that


def own_memory() -> int:
    """Bytes that this process has written to and keeps."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


def test_a_cache_takes_memory_as_it_is_written_and_not_before(tiny_bundle: Bundle) -> None:
    """Also when the allocator has memory at hand that was used before."""
    used = [np.ones(30 << 18, np.float32) for _ in range(4)]  # teaches it to keep blocks of that size
    del used
    with open_graph(tiny_bundle, "speech_decoder") as decoder:
        before = own_memory()
        cache = decoder.new_cache(100_000)
        assert cache.nbytes > 64 << 20
        decoder.infer({"code": np.zeros((1, 1), np.int64)}, cache)
        assert own_memory() - before < 8 << 20


# --- weights as they lie on the disk, or rearranged


def test_int8_weights_give_the_same_result_rearranged_or_as_they_lie(
    golden: Path, tmp_path: Path, rows: Floats
) -> None:
    export_bundle(golden / "checkpoint", tmp_path / "b", precision="int4")
    bundle = Bundle.open(tmp_path / "b")
    cached = []
    for rearrange in (True, False):
        with open_graph(bundle, "llm_prefill", rearrange=rearrange) as prefill, open_graph(bundle, "llm") as llm:
            cache = llm.new_cache(64)
            prefill.infer({"inputs_embeds": rows[None, :39]}, cache)
            cached.append(append(llm, cache, rows[39:]))
    assert close(*cached)


def test_weights_that_were_rearranged_do_not_stay_resident_as_well(tmp_path: Path) -> None:
    """One copy of the weights is enough; the mapped one comes back from the disk when it is asked for."""
    weight = np.random.default_rng(0).standard_normal((512, 8192)).astype(np.float32)
    g = GraphBuilder("one", Blocks(4, 32))
    g.output(g.linear(g.input("x", "float32", [1, "n", 8192]), table(weight), None, "w"), "y", "float32", [1, "n", 512])
    _, file = g.save(tmp_path)
    x, sums = np.ones((1, 1, 8192), np.float32), []
    for rearrange in (True, False):
        with OnnxCpuSession(tmp_path / "one.onnx", rearrange=rearrange) as session:
            sums.append(session.infer({"x": x})["y"])
            if rearrange:
                assert resident(file) < file.stat().st_size // 4
    assert np.allclose(*sums, rtol=0.05, atol=1)


# --- looking inside


def test_taps_hand_out_inner_tensors_and_change_nothing_else(tiny_bundle: Bundle) -> None:
    codes = {"codes": np.array([[3, 1, 4, 1, 5]])}
    taps = tiny_bundle.components["codec"].taps
    assert {"quant", "conv_pre", "global"} <= set(taps)
    with open_graph(tiny_bundle, "codec") as plain, open_graph(tiny_bundle, "codec", taps=taps) as tapped:
        assert set(plain.outputs) == {"waveform"}
        assert set(tapped.outputs) == {"waveform", *taps}
        got = tapped.infer(codes)
        assert close(got["waveform"], plain.infer(codes)["waveform"])
        assert got["quant"].shape == (1, 512, 5)


@pytest.mark.parametrize("component", ["vision", "audio", "speech_prefill", "codec"])
def test_every_tap_that_a_bundle_names_is_there(component: str, tiny_bundle: Bundle) -> None:
    taps = tiny_bundle.components[component].taps
    assert taps
    with open_graph(tiny_bundle, component, taps=taps) as session:
        assert set(taps) < set(session.outputs)


def test_an_override_replaces_a_constant_of_the_graph(tiny_bundle: Bundle, golden: Path) -> None:
    with np.load(golden / "data" / "audio.npz") as archive:
        fbank = archive["en_look.fbank"]
        full = archive["en_look.adapter_full"]
    with (
        open_graph(tiny_bundle, "audio") as audio,
        open_graph(tiny_bundle, "audio", overrides={"chunk_size": 0}) as unmasked,
    ):
        feeds = piece_feeds(audio, fbank)
        chunked, whole = audio.infer(feeds)["audio_embeds"], unmasked.infer(feeds)["audio_embeds"]
    assert close(whole[0], full)
    assert not close(chunked[0], full)
