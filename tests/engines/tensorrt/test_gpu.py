"""On an NVIDIA GPU: every stage against the recordings, on both engines. Skipped, with the reason, where none is.

python -m pytest -m gpu tests/engines/tensorrt/test_gpu.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from support.open_graph import open_graph
from vita_edge.cli import main
from vita_edge.engines.backends import Backend, open_backend
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import VitaEdgeError
from vita_edge.engines.session import GraphSession, KvCache
from vita_edge.engines.tensorrt.device import find_device
from vita_edge.engines.tensorrt.library import find_library
from vita_edge.export.bundle import export_bundle
from vita_edge.runtime import Assistant, SessionOptions, Turn
from vita_edge.runtime.audio_io.sound_files import read_sound
from vita_edge.runtime.decoding.top_k_logits import TopKLogits, logits_of, row_of
from vita_edge.runtime.encoders.audio_frontend import AudioFrontEnd
from vita_edge.runtime.encoders.streaming_audio_encoder import ClipEncoder
from vita_edge.verification.parity import verify

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]

Floats = NDArray[np.float32]
CLOSE = {"fp32": 1e-3, "fp16": 2e-2}
"""Of the largest logit: kernels sum in another order, and half precision rounds."""


@pytest.fixture(scope="module", params=["cuda", "tensorrt"])
def backend(request: pytest.FixtureRequest) -> str:
    try:
        find_device()
        if request.param == "cuda":
            from vita_edge.engines.onnxruntime.cuda import check_cuda_provider

            check_cuda_provider()
        else:
            find_library()
    except VitaEdgeError as error:
        pytest.skip(f"{error.what} {error.why}")
    return str(request.param)


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def bundle(
    backend: str, request: pytest.FixtureRequest, golden: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bundle]:
    """Exported for the engine, its engines built in a cache of its own."""
    folder = tmp_path_factory.mktemp(f"{backend}-{request.param}")
    grown = backend == "tensorrt" and find_library().opset < 24
    target = "tensorrt-10.3" if grown else "tensorrt"
    export_bundle(golden / "checkpoint", folder / "bundle", precision=request.param, target=target)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITA_EDGE_ENGINE_DIR", str(folder / "engines"))
        if backend == "tensorrt":
            assert main(["build", str(folder / "bundle"), "--codes", "1000", "--json"]) == 0
        yield Bundle.open(folder / "bundle")


@pytest.fixture
def engines(backend: str, bundle: Bundle) -> Iterator[Backend]:
    with open_backend(bundle, backend) as opened:
        yield opened


@pytest.fixture
def rows(golden: Path) -> Floats:
    with np.load(golden / "data" / "llm.npz") as archive:
        return np.array(archive["text.embeds"][:40])


def append(session: GraphSession, cache: KvCache, rows: Floats) -> Floats:
    return row_of(logits_of(session.infer({"inputs_embeds": rows[None]}, cache)))


def test_every_stage_agrees_with_the_recordings(backend: str, bundle: Bundle, golden: Path) -> None:
    checks = list(verify(bundle, golden, backend=backend))
    assert [(check.name, check.relative, check.detail) for check in checks if not check.passed] == []
    assert sum(not check.skipped for check in checks) > 90


def test_steps_and_rewinds_agree_with_the_processor(engines: Backend, bundle: Bundle, rows: Floats) -> None:
    close = CLOSE[bundle.precision]
    with engines.session("llm") as ours, open_graph(bundle, "llm") as judge:
        for _ in range(2):  # the second cache captures anew
            cache, reference = ours.new_cache(128), judge.new_cache(128)
            for begin, end, back in ((0, 17, 17), (17, 18, 18), (18, 19, 19), (19, 20, 20), (20, 40, 12), (12, 13, 5)):
                got, want = append(ours, cache, rows[begin:end]), append(judge, reference, rows[begin:end])
                assert np.abs(got - want).max() < close * np.abs(want).max()
                cache.rewind(back)
                reference.rewind(back)
            for at in range(5, 12):
                got, want = append(ours, cache, rows[at : at + 1]), append(judge, reference, rows[at : at + 1])
                assert np.abs(got - want).max() < close * np.abs(want).max()


def test_prompts_over_little_and_much_of_a_cache_agree_with_the_processor(
    engines: Backend, bundle: Bundle, rows: Floats
) -> None:
    """Attention goes over what is held, in steps of 256 positions."""
    close = CLOSE[bundle.precision]
    with engines.session("llm") as ours, open_graph(bundle, "llm") as judge:
        cache, reference = ours.new_cache(600), judge.new_cache(600)
        for _ in range(15):
            got, want = append(ours, cache, rows), append(judge, reference, rows)
            assert np.abs(got - want).max() < close * np.abs(want).max()


def test_a_clip_in_pieces_is_the_whole_clip(engines: Backend, bundle: Bundle, golden: Path) -> None:
    clip = read_sound(golden / "data" / "inputs" / "zh_ask.wav").heard_channel[:54400]
    front_end = AudioFrontEnd(bundle.model.audio)
    with engines.session("audio") as session, open_graph(bundle, "audio") as judge:
        want = ClipEncoder(judge, front_end).finish(clip)
        whole, encoder = ClipEncoder(session, front_end).finish(clip), ClipEncoder(session, front_end)
        pieces = [encoder.step(clip[:end]) for end in range(8000, 54000, 8000)]
        got = np.concatenate([*pieces, encoder.finish(clip)])
    assert sum(map(len, pieces)) > len(want) / 2
    for rows in (whole, got):
        assert rows.shape == want.shape
        assert np.abs(rows - want).max() < CLOSE[bundle.precision] * np.abs(want).max()


def test_what_the_decoder_does_most_is_done_on_the_gpu(engines: Backend, rows: Floats) -> None:
    if engines.name == "tensorrt":
        pytest.skip("TensorRT leaves nothing to the processor")
    with engines.session("llm") as session:
        append(session, session.new_cache(64), rows[:5])
    (kinds,) = engines.facts()["operators_on_processor"].values()
    assert not {"Attention", "TensorScatter", "MatMul", "Cast", "Slice"} & set(kinds)


def test_two_caches_do_not_disturb_each_other(engines: Backend, rows: Floats) -> None:
    with engines.session("llm") as session:
        alone = session.new_cache(128)
        want = [append(session, alone, rows[at : at + 1]) for at in range(10)]
        one, other = session.new_cache(128), session.new_cache(64)
        append(session, other, rows[20:33])
        for at in range(10):
            np.testing.assert_array_equal(append(session, one, rows[at : at + 1]), want[at])
            append(session, other, rows[at : at + 1])


def test_steps_are_launched_as_a_graph_and_hand_out_the_best_logits(
    engines: Backend, bundle: Bundle, rows: Floats
) -> None:
    with engines.session("llm") as session:
        cache = session.new_cache(128)
        for at in range(5):
            outputs = session.infer({"inputs_embeds": rows[None, at : at + 1]}, cache)
        best, row = logits_of(outputs), outputs["logits"][0, 0]
        assert isinstance(best, TopKLogits)
        np.testing.assert_array_equal(best.values, row[best.ids])
        assert best.values.max() == row.max()
        in_place = engines.name == "tensorrt" and bundle.target == "tensorrt"
        assert engines.facts().get("steps_without_a_graph", {}) == ({"llm": ""} if in_place else {})


def test_a_turn_ends_with_sound_and_is_the_same_twice(backend: str, bundle: Bundle) -> None:
    replies = []
    for _ in range(2):
        with Assistant(bundle, backend=backend) as assistant:
            talk = assistant.session(SessionOptions(max_new_tokens=12, context_tokens=1024))
            replies.append(talk.ask(Turn(text="What do you see?")))
            kernels = assistant.backend.facts().get("kernels", {})
    assert set(kernels.values()) <= {"of an earlier start"}  # TensorRT-RTX compiles them once
    assert replies[0].token_ids == replies[1].token_ids
    np.testing.assert_array_equal(replies[0].pcm, replies[1].pcm)
    assert len(replies[0].pcm)
