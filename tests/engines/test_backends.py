"""Which engine runs which bundle, and that all of them say the same."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from support.command import run
from support.host_gpu import HostCuda
from support.open_graph import open_graph
from support.tensorrt_sessions import opened
from vita_edge.engines.backends import BACKENDS, open_backend
from vita_edge.engines.bundle.component_spec import COMPONENT_SPECS, STREAMS
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.cache_layout import CONCAT, GROUP_QUERY, SCATTER, cache_layout_of
from vita_edge.engines.errors import ContextOverflow, EngineUnavailable, Misuse, VitaEdgeError
from vita_edge.engines.onnxruntime.cpu import OnnxCpuSession
from vita_edge.engines.onnxruntime.cuda import OnnxCudaSession, check_cuda_provider
from vita_edge.engines.outputs import DeviceOutputs
from vita_edge.engines.session import GraphSession, KvCache
from vita_edge.engines.tensorrt.device_memory import Lane
from vita_edge.export.bundle import export_bundle
from vita_edge.runtime import Assistant
from vita_edge.runtime.audio_io.sound_files import read_sound
from vita_edge.runtime.decoding.top_k_logits import TopKLogits, logits_of, row_of
from vita_edge.runtime.encoders.audio_frontend import AudioFrontEnd
from vita_edge.runtime.encoders.streaming_audio_encoder import ClipEncoder
from vita_edge.verification.parity import verify

Floats = NDArray[np.float32]
TARGETS = ("tensorrt", "tensorrt-10.3")
no_cuda_provider = pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="onnxruntime-gpu is installed"
)


@pytest.fixture(scope="module")
def bundles(golden: Path, tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """Target → the golden checkpoint exported for it."""
    found = {"onnxruntime": tiny_bundle}
    for target in TARGETS:
        folder = tmp_path_factory.mktemp(target) / "bundle"
        export_bundle(golden / "checkpoint", folder, target=target)
        found[target] = Bundle.open(folder)
    return found


@pytest.fixture(scope="module")
def rows(golden: Path) -> Floats:
    with np.load(golden / "data" / "llm.npz") as archive:
        return np.array(archive["text.embeds"][:40])


def append(session: GraphSession, cache: KvCache, rows: Floats) -> Floats:
    return row_of(logits_of(session.infer({"inputs_embeds": rows[None]}, cache)))


def close(got: Floats, want: Floats) -> bool:
    return bool(np.abs(got - want).max() < 1e-5 * np.abs(want).max())


# --- dialects


def test_a_graph_shows_its_dialect_by_its_inputs() -> None:
    assert cache_layout_of(["inputs_embeds", "seqlens_k", "total_sequence_length"]) is GROUP_QUERY
    assert cache_layout_of(["code", "past_length", "seen", "past_key_values.0.key"]) is SCATTER
    assert cache_layout_of(["code", "past_key_values.0.key"]) is CONCAT
    older = cache_layout_of(["code", "past_length", "past_key_values.0.key"])  # it sees all there is
    assert older.in_place and older.inputs == {"past_length"}


def test_lengths_by_hand() -> None:
    for cache_layout, want in (
        (GROUP_QUERY, {"seqlens_k": 11, "total_sequence_length": 12}),
        (SCATTER, {"past_length": 7}),
    ):
        arrays = cache_layout.length_arrays()
        cache_layout.report(arrays, past=7, tokens=5)
        assert {name: int(array[0]) for name, array in arrays.items()} == want


def test_attention_sees_what_is_held_in_steps_and_never_more_than_there_is() -> None:
    assert [SCATTER.sees(tokens, 1000) for tokens in (1, 256, 257, 767, 769, 1000)] == [256, 256, 512, 768, 1000, 1000]
    assert SCATTER.inputs == {"past_length", "seen"} and CONCAT.inputs == set()


@pytest.fixture(params=[*TARGETS, "cuda code"])
def session(request: pytest.FixtureRequest, bundles: dict[str, Bundle]) -> Iterator[GraphSession]:
    """Graphs for GPUs on the CPU: its own session, and the one for CUDA over values of the device cpu."""
    if request.param == "cuda code":
        with OnnxCudaSession(bundles["tensorrt"].components["llm"].graph, device="cpu") as opened:
            yield opened
    else:
        with open_graph(bundles[request.param], "llm") as opened:
            yield opened


@pytest.fixture(scope="module")
def judge(bundles: dict[str, Bundle]) -> Iterator[GraphSession]:
    with open_graph(bundles["onnxruntime"], "llm") as opened:
        yield opened


@pytest.mark.parametrize("parts", [(40,), (1, 39), (39, 1), (20, 1, 1, 18)])
def test_every_dialect_gives_the_logits_of_the_first(
    parts: tuple[int, ...], session: GraphSession, judge: GraphSession, rows: Floats
) -> None:
    cache, reference, start = session.new_cache(64), judge.new_cache(64), 0
    for part in parts:
        got = append(session, cache, rows[start : start + part])
        assert close(got, append(judge, reference, rows[start : start + part]))
        start += part
    assert cache.length_tokens == 40


def test_a_rewind_is_free_in_every_dialect(session: GraphSession, rows: Floats) -> None:
    cache, fresh = session.new_cache(64), session.new_cache(64)
    append(session, cache, rows[:10])
    append(session, cache, rows[20:40])
    cache.rewind(10)
    append(session, fresh, rows[:10])
    for at in range(10, 14):
        np.testing.assert_array_equal(
            append(session, cache, rows[at : at + 1]), append(session, fresh, rows[at : at + 1])
        )
    cache.rewind(12)
    fresh.rewind(12)
    np.testing.assert_array_equal(append(session, cache, rows[12:30]), append(session, fresh, rows[12:30]))


def test_a_full_cache_says_so_in_every_dialect(session: GraphSession, rows: Floats) -> None:
    cache = session.new_cache(11)
    append(session, cache, rows[:10])
    with pytest.raises(ContextOverflow, match="4 more tokens do not fit"):
        append(session, cache, rows[10:14])
    append(session, cache, rows[10:11])
    assert cache.length_tokens == cache.capacity_tokens == 11


def test_the_best_logits_are_those_of_the_row(session: GraphSession, rows: Floats) -> None:
    outputs = session.infer({"inputs_embeds": rows[None]}, session.new_cache(64))
    best, row = logits_of(outputs), outputs["logits"][0, 0]
    assert isinstance(best, TopKLogits)
    assert len(best.ids) == 64
    assert set(best.ids) == set(np.argsort(-row)[:64])
    np.testing.assert_array_equal(best.values, row[best.ids])


def test_outputs_of_a_device_are_read_when_somebody_looks(bundles: dict[str, Bundle], rows: Floats) -> None:
    with OnnxCudaSession(bundles["tensorrt"].components["llm"].graph, device="cpu") as llm:
        outputs = llm.infer({"inputs_embeds": rows[None]}, llm.new_cache(64))
        assert isinstance(outputs, DeviceOutputs)
        assert outputs._read == {}
        logits_of(outputs)
        assert set(outputs._read) == {"top_ids", "top_values"}


def test_a_session_on_a_gpu_tells_what_runs_on_the_processor(bundles: dict[str, Bundle]) -> None:
    """A kernel that CUDA lacks would show as nothing but slowness. Here it is all of them."""
    with OnnxCudaSession(bundles["tensorrt"].components["llm"].graph, device="cpu") as llm:
        if hasattr(llm._session, "get_provider_graph_assignment_info"):
            assert {"Attention", "TensorScatter", "TopK"} <= set(llm.on_processor)
        else:
            assert llm.on_processor == ()


def test_a_prefix_fills_the_cache_of_a_device(bundles: dict[str, Bundle], rows: Floats) -> None:
    parts, code = bundles["tensorrt"].components, np.full((1, 1), 7, np.int64)
    vectors = rows[:3].reshape(1, -1, 32)
    with ExitStack() as stack:
        kinds = {"cpu": OnnxCpuSession, "device": lambda graph: OnnxCudaSession(graph, device="cpu")}
        got = {}
        for name, kind in kinds.items():
            prefill = stack.enter_context(kind(parts["speech_prefill"].graph))  # type: ignore[operator]
            decoder = stack.enter_context(kind(parts["speech_decoder"].graph))  # type: ignore[operator]
            cache = decoder.new_cache(64)
            for length in (12, 8):
                cache.fill(prefill.infer({"text_embeds": vectors[:, :length]}))
                assert cache.length_tokens == length + 1
                got[name, length] = [row_of(logits_of(decoder.infer({"code": code}, cache))) for _ in range(3)]
    for length in (12, 8):
        np.testing.assert_array_equal(got["device", length], got["cpu", length])


def test_half_precision_keeps_its_cache_in_half_precision(golden: Path, tmp_path: Path, rows: Floats) -> None:
    for target in TARGETS:
        export_bundle(golden / "checkpoint", tmp_path / target, precision="fp16", target=target)
        with open_graph(Bundle.open(tmp_path / target), "llm") as llm:
            cache = llm.new_cache(64)
            assert cache.nbytes == 2 * 3 * 2 * 64 * 16 * 2 * (1 if target == "tensorrt" else 2)
            assert np.isfinite(append(llm, cache, rows)).all()


def test_a_cache_of_another_memory_is_refused(bundles: dict[str, Bundle], rows: Floats) -> None:
    graph = bundles["tensorrt"].components["llm"].graph
    with OnnxCudaSession(graph, device="cpu") as device, OnnxCpuSession(graph) as cpu:
        device._memory.device = "cuda"
        cache = cpu.new_cache(64)
        with pytest.raises(ValueError, match="runs on cuda, the cache lies on cpu"):
            append(device, cache, rows)


@pytest.mark.parametrize("target", ["onnxruntime", *TARGETS])
def test_inner_tensors_of_a_decoder_come_beside_its_cache(
    target: str, bundles: dict[str, Bundle], rows: Floats
) -> None:
    """Their shapes are known only when they are there."""
    graph = bundles[target].components["llm"].graph
    tap = "layers.1/attn.mixed" if target == "onnxruntime" else "layers.1/attn.qkv"
    kinds = [OnnxCpuSession(graph, taps=[tap])]
    if target == "tensorrt":
        kinds.append(OnnxCudaSession(graph, taps=[tap], device="cpu"))  # type: ignore[arg-type]
    for session in kinds:
        with session:
            cache = session.new_cache(64)
            for part in (rows[:5], rows[5:6], rows[6:9]):
                outputs = session.infer({"inputs_embeds": part[None]}, cache)
                assert outputs[tap].shape[:2] == (1, len(part))
                assert np.isfinite(outputs[tap]).all()
                assert outputs["logits"].shape == (1, 1, 605)


# --- every stage


class HostBackend:
    """TensorRT's backend over a GPU made of the host's memory, all components on the lanes of a talk."""

    name, taps = "tensorrt", False

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.cuda = bundle, HostCuda()
        self.lanes = {name: Lane(self.cuda, name) for name in STREAMS}  # type: ignore[arg-type]

    def session(self, component: str, **options: Any) -> GraphSession:
        session, engine = opened(
            self.bundle, component, self.cuda, lane=self.lanes[COMPONENT_SPECS[component].stream], maximum=64
        )
        if session.max_tokens:  # the tests of the session have a small one
            capacity = self.bundle.model.llm.context_tokens if component == "llm" else 1200
            session._capacity, session._profiles = capacity, _of_capacity(session, capacity)
            engine.profiles = session._profiles  # type: ignore[assignment]
        return session

    def facts(self) -> dict[str, Any]:
        return {}

    def __enter__(self) -> HostBackend:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def _of_capacity(session: Any, capacity: int) -> Any:
    from vita_edge.engines.tensorrt.build.profiles import Profile, ProfileRange

    def wide(limit: ProfileRange) -> ProfileRange:
        low, _, high = limit.min, limit.opt, limit.max
        grown = (*high[:2], capacity, *high[3:])
        return ProfileRange(low if low[2] == 0 else grown, grown, grown)

    return tuple(
        Profile(p.name, {n: wide(r) if n.startswith("past") else r for n, r in p.ranges.items()})
        for p in session._profiles
    )


@pytest.mark.parametrize("target", TARGETS)
def test_sessions_over_engines_pass_every_stage(
    target: str, golden: Path, bundles: dict[str, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ONNX Runtime where TensorRT would be: all but its kernels is what runs on a GPU."""
    backend = HostBackend(bundles[target])
    monkeypatch.setattr("vita_edge.runtime.session.assistant.open_backend", lambda *_, **__: backend)
    checks = list(verify(bundles[target], golden, backend="tensorrt"))
    assert [check for check in checks if not check.passed] == []
    assert sum(not check.skipped for check in checks) > 130
    assert any("inner tensors" in check.detail for check in checks)
    assert (backend.cuda.launches > 0) == (target == "tensorrt")


@pytest.mark.parametrize("target", TARGETS)
def test_a_clip_in_pieces_over_an_engine_is_the_whole_clip(
    target: str, golden: Path, bundles: dict[str, Bundle]
) -> None:
    clip = read_sound(golden / "data" / "inputs" / "zh_ask.wav").heard_channel[:54400]
    front_end = AudioFrontEnd(bundles[target].model.audio)
    with HostBackend(bundles[target]) as backend, open_graph(bundles["onnxruntime"], "audio") as judge:
        session, want = backend.session("audio"), ClipEncoder(judge, front_end).finish(clip)
        encoder = ClipEncoder(session, front_end)
        pieces = [encoder.step(clip[:end]) for end in range(8000, 54000, 8000)]
        got = np.concatenate([*pieces, encoder.finish(clip)])
    assert sum(map(len, pieces)) > len(want) / 2
    assert got.shape == want.shape and close(got, want)


# --- what does not fit together


def test_an_unknown_backend_is_told_with_the_known_ones(tiny_bundle: Bundle) -> None:
    with pytest.raises(Misuse, match="no backend vulkan") as raised:
        Assistant(tiny_bundle, backend="vulkan")
    assert "cpu, cuda, tensorrt" in raised.value.why


@pytest.mark.parametrize(
    ("target", "backend"), [("onnxruntime", "cuda"), ("onnxruntime", "tensorrt"), ("tensorrt-10.3", "cuda")]
)
def test_a_bundle_of_another_target_is_refused_with_the_command_that_helps(
    target: str, backend: str, bundles: dict[str, Bundle]
) -> None:
    with pytest.raises(Misuse, match=f"{backend} does not run the bundle") as raised:
        open_backend(bundles[target], backend)
    assert f"exported for {target}" in raised.value.why
    assert "--target tensorrt;" in raised.value.fix


def test_every_target_has_a_backend() -> None:
    assert {target for targets in BACKENDS.values() for target in targets} == {"onnxruntime", *TARGETS}


@no_cuda_provider
def test_without_the_package_for_gpus_cuda_is_refused_before_a_graph_is_read(bundles: dict[str, Bundle]) -> None:
    with pytest.raises(EngineUnavailable, match="cannot run on a GPU here") as raised:
        open_backend(bundles["tensorrt"], "cuda")
    assert "not the CUDA provider" in raised.value.why
    assert "pip install onnxruntime-gpu" in raised.value.fix


@no_cuda_provider
@no_cuda_provider
def test_a_session_on_cuda_is_refused_before_the_library_falls_back_to_the_cpu(bundles: dict[str, Bundle]) -> None:
    with pytest.raises(EngineUnavailable, match="cannot run on a GPU here"):
        OnnxCudaSession(bundles["tensorrt"].components["codec"].graph)


def test_libraries_are_loaded_before_the_provider_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that came as Python packages are not found otherwise. What the library prints is no part of our output."""
    happened: list[str] = []

    def preload() -> None:
        print("something is missing")
        happened.append("preload")

    class Memory:
        def __init__(self, device: str) -> None:
            happened.append(device)

        def zeros(self, shape: tuple[int, ...], dtype: str) -> None:
            happened.append("zeros")

    monkeypatch.setattr(ort, "preload_dlls", preload)
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr("vita_edge.engines.onnxruntime.cuda.DeviceMemory", Memory)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        check_cuda_provider()
    assert happened == ["preload", "cuda", "zeros"]
    assert said.getvalue() == ""


def test_a_cache_of_a_device_has_room_in_whole_steps_and_holds_what_was_asked_for(bundles: dict[str, Bundle]) -> None:
    """Masked attention in half precision reads a row of the mask in pieces, which have to be aligned."""
    session = OnnxCudaSession(bundles["tensorrt"].components["llm"].graph, device="cpu")
    with session:
        cache = session.new_cache(13)
        assert {block.shape[2] for block in cache.pasts().values()} == {64}
        rows = np.zeros((1, 13, session.inputs["inputs_embeds"].axes[2]), np.float32)  # type: ignore[arg-type]
        session.infer({"inputs_embeds": rows}, cache)
        assert (cache.length_tokens, cache.capacity_tokens) == (13, 13)
        with pytest.raises(ContextOverflow):
            session.infer({"inputs_embeds": rows[:, :1]}, cache)


def test_no_gpu_is_told_in_three_sentences_and_without_a_traceback(
    bundles: dict[str, Bundle], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        with open_backend(bundles["tensorrt"], "tensorrt"):
            pytest.skip("there is a GPU here")
    except VitaEdgeError as error:
        assert error.what and error.why and error.fix
        asked = run(capsys, "ask", bundles["tensorrt"].path, "--text", "hi", "--backend", "tensorrt")
        asked.assert_explains(error.what)


def test_the_engine_is_named_in_the_facts_of_a_reply(assistant: Assistant) -> None:
    assert assistant.backend.name == "onnxruntime-cpu"
    assert assistant.backend.facts() == {}


def test_engines_for_gpus_are_imported_when_they_are_asked_for() -> None:
    code = (
        "import sys, vita_edge.runtime, vita_edge.engines.backends\n"
        "found = [n for n in sys.modules if n.split('.')[0] in ('cuda', 'tensorrt', 'tensorrt_rtx')]\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
