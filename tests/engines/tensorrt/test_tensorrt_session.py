"""The session over engines: everything around TensorRT, with ONNX Runtime in its place and NaN in fresh memory."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.host_gpu import GARBAGE, HostCuda
from support.open_graph import open_graph
from support.tensorrt_sessions import CAPACITY, opened
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import ContextOverflow, EngineUnavailable, InferenceFailed
from vita_edge.engines.session import GraphSession, KvCache
from vita_edge.engines.tensorrt.build.profiles import Profile, ProfileRange
from vita_edge.engines.tensorrt.device_memory import DeviceBlock, Lane
from vita_edge.engines.tensorrt.kernel_cache import KernelCache
from vita_edge.engines.tensors import Array
from vita_edge.export.bundle import export_bundle
from vita_edge.runtime.decoding.top_k_logits import TopKLogits, logits_of, row_of

Floats = NDArray[np.float32]


@pytest.fixture(scope="module", params=["tensorrt", "tensorrt-10.3"])
def bundle(request: pytest.FixtureRequest, golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp(request.param) / "bundle"
    export_bundle(golden / "checkpoint", folder, target=request.param)
    return Bundle.open(folder)


@pytest.fixture
def cuda() -> HostCuda:
    return HostCuda()


@pytest.fixture(scope="module")
def rows(golden: Path) -> Floats:
    with np.load(golden / "data" / "llm.npz") as archive:
        return np.array(archive["text.embeds"][:40])


@pytest.fixture(scope="module")
def cpu(bundle: Bundle) -> Iterator[GraphSession]:
    with open_graph(bundle, "llm") as session:
        yield session


def logits(session: GraphSession, cache: KvCache, rows: Floats) -> Floats:
    return row_of(logits_of(session.infer({"inputs_embeds": rows[None]}, cache)))


def close(got: Floats, want: Floats) -> bool:
    return bool(np.abs(got - want).max() < 1e-5 * np.abs(want).max())


@pytest.mark.parametrize("parts", [(40,), (1, 39), (16, 1, 1, 22), (1,) * 40])
def test_an_engine_over_its_cache_gives_the_numbers_of_the_graph(
    parts: Sequence[int], bundle: Bundle, cuda: HostCuda, rows: Floats, cpu: GraphSession
) -> None:
    """Prompts longer than a profile are read in pieces; single positions go another way."""
    session, _ = opened(bundle, "llm", cuda)
    cache, reference, start = session.new_cache(CAPACITY), cpu.new_cache(CAPACITY), 0
    for part in parts:
        got = logits(session, cache, rows[start : start + part])
        assert close(got, logits(cpu, reference, rows[start : start + part]))
        start += part
        assert cache.length_tokens == start


def test_what_was_rewound_has_never_been(bundle: Bundle, cuda: HostCuda, rows: Floats, cpu: GraphSession) -> None:
    session, _ = opened(bundle, "llm", cuda)
    cache, reference = session.new_cache(CAPACITY), cpu.new_cache(CAPACITY)
    logits(session, cache, rows[:10])
    logits(session, cache, rows[20:33])
    cache.rewind(10)
    logits(cpu, reference, rows[:10])
    for at in range(10, 14):
        assert close(logits(session, cache, rows[at : at + 1]), logits(cpu, reference, rows[at : at + 1]))
    cache.rewind(12)
    assert close(logits(session, cache, rows[12:30]), logits(cpu, cpu_at(cpu, rows[:12]), rows[12:30]))
    cache.rewind(0)
    assert close(logits(session, cache, rows), logits(cpu, cpu.new_cache(CAPACITY), rows))


def cpu_at(cpu: GraphSession, rows: Floats) -> KvCache:
    cache = cpu.new_cache(CAPACITY)
    logits(cpu, cache, rows)
    return cache


def test_steps_in_place_are_captured_once_and_then_launched(
    bundle: Bundle, cuda: HostCuda, rows: Floats, cpu: GraphSession
) -> None:
    session, _ = opened(bundle, "llm", cuda)
    cache, reference = session.new_cache(CAPACITY), cpu.new_cache(CAPACITY)
    for at in range(12):
        assert close(logits(session, cache, rows[at : at + 1]), logits(cpu, reference, rows[at : at + 1]))
    if bundle.target == "tensorrt":
        assert (cuda.captures, cuda.launches) == (1, 11)
        assert session.without_graph == ""
    else:  # a cache that grows has other shapes at every step
        assert (cuda.captures, cuda.launches) == (0, 0)


def test_every_cache_has_a_graph_of_its_own(bundle: Bundle, cuda: HostCuda, rows: Floats, cpu: GraphSession) -> None:
    """A graph holds the addresses of a cache."""
    session, _ = opened(bundle, "llm", cuda)
    ours = [session.new_cache(CAPACITY) for _ in range(2)]
    theirs = [cpu.new_cache(CAPACITY) for _ in range(2)]
    logits(session, ours[1], rows[30:35])
    logits(cpu, theirs[1], rows[30:35])
    for at in range(8):
        for one, other in zip(ours, theirs):
            assert close(logits(session, one, rows[at : at + 1]), logits(cpu, other, rows[at : at + 1]))
    if bundle.target == "tensorrt":
        assert (cuda.captures, cuda.launches) == (2, 14)


def test_a_step_copies_one_row_up_and_the_best_logits_down(bundle: Bundle, cuda: HostCuda, rows: Floats) -> None:
    """Not 152,000 floats. (The tiny model's logits are small enough to come along, so they are counted in.)"""
    session, _ = opened(bundle, "llm", cuda)
    cache = session.new_cache(CAPACITY)
    for at in range(3):
        session.infer({"inputs_embeds": rows[None, at : at + 1]}, cache)
    before = cuda.uploads, cuda.downloads, cuda.uploaded_bytes
    chosen = logits_of(session.infer({"inputs_embeds": rows[None, 3:4]}, cache))
    assert isinstance(chosen, TopKLogits)
    uploads, downloads, up = cuda.uploads - before[0], cuda.downloads - before[1], cuda.uploaded_bytes - before[2]
    assert uploads == 1
    assert up <= 2 * 256 + rows[0].nbytes
    assert downloads == (1 if bundle.target == "tensorrt" else 2)  # a growing cache's outputs are read one by one


def test_large_outputs_stay_on_the_device_until_they_are_looked_at(
    bundle: Bundle, cuda: HostCuda, rows: Floats, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bundle.target != "tensorrt":
        pytest.skip("this is about steps with fixed addresses")
    monkeypatch.setattr("vita_edge.engines.tensorrt.step.SMALL_BYTES", 1024)
    session, _ = opened(bundle, "llm", cuda)
    cache = session.new_cache(CAPACITY)
    for at in range(3):
        outputs = session.infer({"inputs_embeds": rows[None, at : at + 1]}, cache)
    before = cuda.downloaded_bytes
    outputs = session.infer({"inputs_embeds": rows[None, 3:4]}, cache)
    assert int(outputs["top_ids"][0, 0, 0]) == int(outputs["logits"].argmax())
    assert cuda.downloaded_bytes - before == 64 * 4 + 64 * 8 + 605 * 4


def test_kernels_of_captured_steps_are_not_replaced_later(
    bundle: Bundle, cuda: HostCuda, rows: Floats, tmp_path: Path
) -> None:
    """TensorRT-RTX specialises kernels in the background: for prompts of any length, but not for a step."""
    session, engine = opened(bundle, "llm", cuda, kernels=KernelCache(tmp_path / "kernels.bin"))
    cache = session.new_cache(CAPACITY)
    for part in (rows[:9], rows[9:10], rows[10:11]):
        session.infer({"inputs_embeds": part[None]}, cache)
    kinds = [context.kernels for context in engine.contexts]
    assert kinds == (["lazy", "eager"] if bundle.target == "tensorrt" else ["lazy", "lazy"])


def talk(bundle: Bundle, cuda: HostCuda, rows: Floats, kernels: KernelCache, **options: Any) -> int:
    """A start, a prompt and some tokens, switched off without a word; returns how many kernels were compiled."""
    session, engine = opened(bundle, "llm", cuda, kernels=kernels, **options)
    cache = session.new_cache(CAPACITY)
    for part in (rows[:9], rows[9:10], rows[10:11]):
        session.infer({"inputs_embeds": part[None]}, cache)
    (shared,) = {id(context.cache): context.cache for context in engine.contexts}.values()
    assert shared is not None
    return shared.compiled


def test_kernels_are_compiled_once(bundle: Bundle, cuda: HostCuda, rows: Floats, tmp_path: Path) -> None:
    file = tmp_path / "kernels.bin"
    first, second = KernelCache(file), KernelCache(file)
    assert talk(bundle, cuda, rows, first) == 2
    assert not first.found
    retained = file.stat().st_mtime_ns
    assert talk(bundle, cuda, rows, second) == 0
    assert second.found
    assert (first.problem, second.problem) == ("", "")
    assert file.stat().st_mtime_ns == retained  # nothing new, nothing written


def test_kernels_compiled_in_the_background_are_kept_at_the_end(
    bundle: Bundle, cuda: HostCuda, rows: Floats, tmp_path: Path
) -> None:
    file = tmp_path / "kernels.bin"
    with opened(bundle, "llm", cuda, kernels=KernelCache(file))[0] as session:
        session.infer({"inputs_embeds": rows[None, :9]}, session.new_cache(CAPACITY))
        before = file.stat().st_size
        cache = session._contexts[1]._context.cache  # of the library's context
        cache.need("a kernel for prompts of 9 positions")
    assert file.stat().st_size > before


@pytest.mark.parametrize(
    ("spoil", "said"), [("gpu", "of another GPU, driver or version"), ("bytes", "is damaged"), ("length", "is damaged")]
)
def test_kernels_that_cannot_be_used_are_compiled_again_and_replaced(
    spoil: str, said: str, bundle: Bundle, cuda: HostCuda, rows: Floats, tmp_path: Path
) -> None:
    file = tmp_path / "kernels.bin"
    talk(bundle, cuda, rows, KernelCache(file), gpu="RTX 2" if spoil == "gpu" else "RTX 1")
    whole = file.read_bytes()
    if spoil != "gpu":
        file.write_bytes(whole[:-1] + b"?" if spoil == "bytes" else whole[:20])
    kernels = KernelCache(file)
    session, _ = opened(bundle, "llm", cuda, kernels=kernels)
    session._engine.context(0, session._lane)
    assert not kernels.found
    assert said in kernels.problem
    assert talk(bundle, cuda, rows, KernelCache(file)) == 2
    again = KernelCache(file)
    assert talk(bundle, cuda, rows, again) == 0
    assert again.found


def test_where_kernels_cannot_be_written_the_talk_goes_on(
    bundle: Bundle, cuda: HostCuda, rows: Floats, tmp_path: Path
) -> None:
    kernels = KernelCache(tmp_path / "no such folder" / "kernels.bin")
    assert talk(bundle, cuda, rows, kernels) == 2
    assert "no such folder" in kernels.problem


@pytest.mark.parametrize("refused", ["cudaErrorStreamCaptureUnsupported", "cudaErrorIllegalState"])
def test_a_capture_that_is_refused_leaves_steps_as_they_were(
    refused: str, bundle: Bundle, cuda: HostCuda, rows: Floats, cpu: GraphSession
) -> None:
    cuda.refuse_capture = refused == "cudaErrorStreamCaptureUnsupported"
    cuda.refuse_begin = not cuda.refuse_capture
    session, _ = opened(bundle, "llm", cuda)
    cache, reference = session.new_cache(CAPACITY), cpu.new_cache(CAPACITY)
    for at in range(6):
        assert close(logits(session, cache, rows[at : at + 1]), logits(cpu, reference, rows[at : at + 1]))
    del cache  # whoever measures asks when the talk is over
    gc.collect()
    if bundle.target == "tensorrt":
        assert refused in str(session.without_graph)
    assert cuda.launches == 0


def test_garbage_is_not_given_back_in_the_middle_of_a_capture(
    bundle: Bundle, cuda: HostCuda, rows: Floats, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = cuda.begin_capture
    dropped: list[weakref.ref[DeviceBlock]] = []

    def begin_with_garbage(stream: int) -> None:
        block = DeviceBlock(cuda, 64)  # type: ignore[arg-type]
        dropped.append(weakref.ref(block))
        ring: list[Any] = [block]
        ring.append(ring)
        begin(stream)

    monkeypatch.setattr(cuda, "begin_capture", begin_with_garbage)
    session, _ = opened(bundle, "llm", cuda)
    cache, often = session.new_cache(CAPACITY), gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        for at in range(4):
            session.infer({"inputs_embeds": rows[None, at : at + 1]}, cache)
    finally:
        gc.set_threshold(*often)
    gc.collect()
    assert gc.isenabled()
    assert not session.without_graph
    assert [block() for block in dropped] == ([None] if bundle.target == "tensorrt" else [])


def test_a_length_that_decides_about_shapes_is_read_on_the_host_and_not_captured(
    bundle: Bundle, cuda: HostCuda, rows: Floats, cpu: GraphSession
) -> None:
    if bundle.target != "tensorrt":
        pytest.skip("it has no length as an input")
    session, _ = opened(bundle, "llm", cuda, on_host=["past_length"])
    cache, reference = session.new_cache(CAPACITY), cpu.new_cache(CAPACITY)
    assert close(logits(session, cache, rows[:9]), logits(cpu, reference, rows[:9]))
    for at in range(9, 14):
        assert close(logits(session, cache, rows[at : at + 1]), logits(cpu, reference, rows[at : at + 1]))
    assert "past_length decides about shapes" in str(session.without_graph)
    assert cuda.captures == 0


def test_whoever_comes_to_need_more_activations_moves_them_and_graphs_follow(
    bundle: Bundle, cuda: HostCuda, rows: Floats, cpu: GraphSession
) -> None:
    lane = Lane(cuda, "language")  # type: ignore[arg-type]
    session, _ = opened(bundle, "llm", cuda, lane=lane)
    cache, reference = session.new_cache(CAPACITY), cpu.new_cache(CAPACITY)
    for at in range(4):
        logits(session, cache, rows[at : at + 1])
        logits(cpu, reference, rows[at : at + 1])
    other, _ = opened(bundle, "vision", cuda, lane=lane, activations=[5000])
    assert lane.activation_bytes < 5000  # what is never run takes nothing
    other.infer({"pixel_values": np.zeros((1, 3, 112, 112), np.float32)})
    assert lane.activation_bytes == 5000
    for at in range(4, 8):  # the host's engine refuses activations that were given back
        assert close(logits(session, cache, rows[at : at + 1]), logits(cpu, reference, rows[at : at + 1]))


def test_a_profile_takes_room_when_it_is_first_used_and_steps_are_captured_anew(
    bundle: Bundle, cuda: HostCuda, rows: Floats, cpu: GraphSession
) -> None:
    lane = Lane(cuda, "language")  # type: ignore[arg-type]
    session, _ = opened(bundle, "llm", cuda, lane=lane, activations=[500, 5000])  # of a step, of a prompt
    cache, reference = session.new_cache(CAPACITY), cpu.new_cache(CAPACITY)

    def same(start: int, stop: int) -> bool:
        return close(logits(session, cache, rows[start:stop]), logits(cpu, reference, rows[start:stop]))

    assert lane.activation_bytes == 0
    assert all(same(at, at + 1) for at in range(4))
    assert lane.activation_bytes == 500
    captured = cuda.captures
    assert same(4, 12)
    assert lane.activation_bytes == 5000
    assert all(same(at, at + 1) for at in range(12, 16))
    assert cuda.captures == (captured + 1 if captured else 0)


def test_where_there_is_no_room_for_one_the_others_go_on(
    bundle: Bundle, cuda: HostCuda, rows: Floats, cpu: GraphSession
) -> None:
    lane = Lane(cuda, "language")  # type: ignore[arg-type]
    session, _ = opened(bundle, "llm", cuda, lane=lane)
    vision, _ = opened(bundle, "vision", cuda, lane=lane, activations=[1 << 30])
    cache, reference = session.new_cache(CAPACITY), cpu.new_cache(CAPACITY)
    pixels = np.zeros((1, 3, 112, 112), np.float32)
    cuda.room = 1 << 20
    for at in range(8):
        if at == 4:
            with pytest.raises(InferenceFailed, match="no room for 1,073,741,824 bytes"):
                vision.infer({"pixel_values": pixels})
        assert close(logits(session, cache, rows[at : at + 1]), logits(cpu, reference, rows[at : at + 1]))
    cuda.room = 1 << 31
    assert vision.infer({"pixel_values": pixels})["image_embeds"].any()


def test_a_prefix_goes_into_the_cache_without_leaving_the_device(bundle: Bundle, cuda: HostCuda, rows: Floats) -> None:
    vectors = rows[:3].reshape(1, -1, 32)
    code = np.full((1, 1), 7, np.int64)
    lane = Lane(cuda, "speech")  # type: ignore[arg-type]
    prefill, _ = opened(bundle, "speech_prefill", cuda, lane=lane)
    decoder, _ = opened(bundle, "speech_decoder", cuda, lane=lane)
    cache = decoder.new_cache(CAPACITY)
    with open_graph(bundle, "speech_prefill") as slow, open_graph(bundle, "speech_decoder") as judge:
        reference = judge.new_cache(CAPACITY)
        for length in (12, 8):  # again, into a cache that was used
            prefix = prefill.infer({"text_embeds": vectors[:, :length]})
            before = cuda.downloads
            cache.fill(prefix)
            assert cuda.downloads == before
            reference.fill(dict(slow.infer({"text_embeds": vectors[:, :length]})))
            assert cache.length_tokens == reference.length_tokens == length + 1
            for _ in range(3):
                want = row_of(logits_of(judge.infer({"code": code}, reference)))
                assert close(row_of(logits_of(decoder.infer({"code": code}, cache))), want)
        brought = decoder.new_cache(CAPACITY)  # and one that comes from elsewhere
        brought.fill(dict(slow.infer({"text_embeds": vectors})))
        reference.fill(dict(slow.infer({"text_embeds": vectors})))
        want = row_of(logits_of(judge.infer({"code": code}, reference)))
        assert close(row_of(logits_of(decoder.infer({"code": code}, brought))), want)


def test_a_cache_tells_what_it_cannot_hold(bundle: Bundle, cuda: HostCuda, rows: Floats) -> None:
    session, _ = opened(bundle, "llm", cuda)
    assert session.max_tokens == CAPACITY
    with pytest.raises(ContextOverflow, match="49 tokens is more than the engine has"):
        session.new_cache(CAPACITY + 1)
    cache = session.new_cache(30)  # fewer than the engine's tensors have
    logits(session, cache, rows[:30])
    with pytest.raises(ContextOverflow, match="1 more tokens do not fit"):
        logits(session, cache, rows[30:31])
    with pytest.raises(ValueError, match="cannot rewind"):
        cache.rewind(31)
    with pytest.raises(ValueError, match="a prefix for"):
        cache.fill({})
    shapes = {f"present.{layer}.{part}": (1, 2, 5, 32) for layer in range(3) for part in ("key", "value")}
    heads = next(iter(cache.pasts().values())).shape[1]
    for wrong in (np.zeros((1, heads + 1, 5, 32), np.float32), np.zeros((1, heads, 5, 32), np.float64)):
        with pytest.raises(ValueError, match=r"of the prefix is .*, expected float32"):
            cache.fill(dict.fromkeys(shapes, wrong))
    assert cache.length_tokens == 30
    with pytest.raises(ValueError, match="needs a cache"):
        session.infer({"inputs_embeds": rows[None]})


def test_fresh_memory_is_cleared_where_a_mask_alone_would_not_do(cuda: HostCuda) -> None:
    """Zero times NaN is NaN: what a GPU hands out may hold anything."""
    assert np.isnan(np.frombuffer(bytes([GARBAGE] * 4), np.float32)[0])
    assert np.isnan(np.frombuffer(bytes([GARBAGE] * 2), np.float16)[0])
    address = cuda.allocate(8)
    assert bytes(cuda.taken[address]) == bytes([GARBAGE] * 8)


def test_no_room_is_told(bundle: Bundle, rows: Floats) -> None:
    session, _ = opened(bundle, "llm", HostCuda(room=2000))
    with pytest.raises(InferenceFailed, match="no room"):
        session.new_cache(CAPACITY)


def test_memory_that_was_given_back_for_more_is_not_used_when_there_is_no_more(bundle: Bundle, cuda: HostCuda) -> None:
    session, _ = opened(bundle, "codec", cuda)

    def wave(codes: int) -> Array:
        return session.infer({"codes": np.zeros((1, codes), np.int64)})["waveform"]

    want = wave(4)
    cuda.room = 4000  # bytes in one piece; its activations are taken
    with pytest.raises(InferenceFailed, match="no room"):
        wave(16)
    cuda.room = 1 << 40
    np.testing.assert_array_equal(wave(4), want)  # the host's GPU ends where freed memory is written to


def test_an_input_beyond_the_engine_is_told_with_its_limits(bundle: Bundle, cuda: HostCuda) -> None:
    session, _ = opened(bundle, "codec", cuda)
    session._profiles = (Profile("whole", {"codes": ProfileRange((1, 1), (1, 8), (1, 16))}),)
    wave = session.infer({"codes": np.zeros((1, 4), np.int64)})["waveform"]
    with open_graph(bundle, "codec") as judge:
        np.testing.assert_array_equal(wave, judge.infer({"codes": np.zeros((1, 4), np.int64)})["waveform"])
    with pytest.raises(InferenceFailed, match="was not built for this input") as raised:
        session.infer({"codes": np.zeros((1, 17), np.int64)})
    assert "codes [1, 17]; the engine takes codes [1, 1..16]" in raised.value.why
    assert "vita-edge build" in raised.value.fix


def test_an_engine_that_writes_its_cache_elsewhere_is_refused(bundle: Bundle, cuda: HostCuda) -> None:
    if bundle.target != "tensorrt":
        pytest.skip("its cache is not written in place")
    with pytest.raises(EngineUnavailable, match=r"writes present\.0\.key into the memory of past_key_values\.0\.value"):
        opened(bundle, "llm", cuda, aliases={"present.0.key": "past_key_values.0.value"})
    names = [f"{i}.{part}" for i in range(3) for part in ("key", "value")]
    opened(bundle, "llm", cuda, aliases={f"present.{n}": f"past_key_values.{n}" for n in names})
    opened(bundle, "llm", cuda, aliases={f"present.{n}": "" for n in names})  # no alias, in other words


def test_what_the_library_refuses_is_told_with_its_words(bundle: Bundle, cuda: HostCuda, rows: Floats) -> None:
    session, engine = opened(bundle, "vision", cuda)
    session.infer({"pixel_values": np.zeros((1, 3, 112, 112), np.float32)})
    engine.activations = [1 << 20]  # more than was asked for
    with pytest.raises(InferenceFailed, match="engine of vision failed while it ran") as raised:
        session.infer({"pixel_values": np.zeros((1, 3, 112, 112), np.float32)})
    assert raised.value.why == "the library says no"


def test_all_memory_is_given_back(bundle: Bundle, cuda: HostCuda, rows: Floats) -> None:
    lane = Lane(cuda, "language")  # type: ignore[arg-type]
    session, _ = opened(bundle, "llm", cuda, lane=lane)
    cache = session.new_cache(CAPACITY)
    for part in (rows[:9], rows[9:10], rows[10:11], rows[11:12]):
        session.infer({"inputs_embeds": part[None]}, cache)
    assert cuda.taken
    session.close()
    session.close()  # a second time does no harm
    with pytest.raises(ValueError, match="closed"):
        session.infer({"inputs_embeds": rows[None]}, cache)
    del cache
    lane.close()
    assert cuda.taken == {}


def test_what_was_handed_out_outlives_its_cache(
    bundle: Bundle, cuda: HostCuda, rows: Floats, cpu: GraphSession
) -> None:
    session, _ = opened(bundle, "llm", cuda)
    outputs = session.infer({"inputs_embeds": rows[None, :1]}, session.new_cache(CAPACITY))
    want = cpu.infer({"inputs_embeds": rows[None, :1]}, cpu.new_cache(CAPACITY))
    got = {name: outputs[name] for name in outputs}
    del outputs
    gc.collect()
    for name, array in got.items():  # memory that was given back is gone, or holds something else
        np.testing.assert_allclose(array, want[name], rtol=1e-4, atol=1e-4)


def test_a_cache_that_is_forgotten_gives_its_memory_and_its_graph_back(
    bundle: Bundle, cuda: HostCuda, rows: Floats
) -> None:
    session, _ = opened(bundle, "llm", cuda)
    first = session.new_cache(CAPACITY)
    for at in range(3):
        session.infer({"inputs_embeds": rows[None, at : at + 1]}, first)
    taken = len(cuda.taken)
    for _ in range(3):
        cache = session.new_cache(CAPACITY)
        for at in range(3):
            session.infer({"inputs_embeds": rows[None, at : at + 1]}, cache)
        del cache
    assert len(cuda.taken) == taken
