"""The real library, as far as it goes without a GPU: it builds engines and reads headers; nothing is executed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from support.host_gpu import TRT, HostCuda, HostEngine
from support.open_graph import open_graph
from vita_edge.cli import main
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import EngineUnavailable, VitaEdgeError
from vita_edge.engines.onnx_file.graph_inputs import fixed_axes
from vita_edge.engines.tensorrt.context import Context, Engine
from vita_edge.engines.tensorrt.device import Gpu
from vita_edge.engines.tensorrt.device_memory import Lane
from vita_edge.engines.tensorrt.engine_file import EngineFile
from vita_edge.engines.tensorrt.kernel_cache import KernelCache
from vita_edge.engines.tensorrt.library import Library, find_library
from vita_edge.engines.tensorrt.open_engine import open_engine
from vita_edge.engines.tensorrt.open_session import _logger_of, open_session
from vita_edge.engines.tensorrt.session import TensorRtSession
from vita_edge.export.bundle import export_bundle
from vita_edge.runtime.decoding.top_k_logits import logits_of, row_of

pytest.importorskip("tensorrt_rtx")
GPU = Gpu("a GPU", "sm86", "13.0", 1 << 34, False)
ROWS = 24


@pytest.fixture(scope="module")
def bundle(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    export_bundle(golden / "checkpoint", folder, precision="fp16", target="tensorrt")
    return Bundle.open(folder)


@pytest.fixture(scope="module")
def cache(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engines")
    target = ["--sm", GPU.sm, "--engine-dir", str(folder), "--component", "llm"]
    assert main(["build", str(bundle.path), *target, "--context", "64", "--json"]) == 0
    return folder


@pytest.fixture(scope="module")
def engine_file(bundle: Bundle, cache: Path) -> EngineFile:
    return open_engine(bundle, "llm", cache=cache, library=find_library("tensorrt_rtx"), device=GPU)


def test_a_session_takes_an_engine_as_its_header_describes_it(engine_file: EngineFile, bundle: Bundle) -> None:
    """Inputs, profiles and capacity are those of the real engine; ONNX Runtime stands in for running it."""
    cuda = HostCuda()
    engine = HostEngine(bundle.components["llm"].graph, cuda, engine_file.profiles)
    assert engine_file.capacity is not None
    session = TensorRtSession(
        Engine("llm", TRT, engine),
        engine_file.inputs,
        engine_file.outputs,
        engine_file.profiles,
        engine_file.capacity[1],
        Lane(cuda, "language"),  # type: ignore[arg-type]
    )
    assert list(session.inputs) == ["inputs_embeds"]
    assert set(session.outputs) == {"logits", "top_values", "top_ids"}
    assert session.max_tokens == 64
    rows = np.random.default_rng(0).standard_normal((ROWS, bundle.model.llm.hidden_size)).astype(np.float32)
    ours = session.new_cache(64)
    with open_graph(bundle, "llm") as judge:
        theirs = judge.new_cache(64)
        for part in (rows[:20], rows[20:21], rows[21:22], rows[22:]):
            got = row_of(logits_of(session.infer({"inputs_embeds": part[None]}, ours)))
            want = row_of(logits_of(judge.infer({"inputs_embeds": part[None]}, theirs)))
            np.testing.assert_allclose(got, want, atol=2e-3 * np.abs(want).max())
    assert cuda.captures == 1


def test_no_input_of_a_decoder_decides_about_shapes(bundle: Bundle) -> None:
    """Such a one is read on the host, and a step that reads it there cannot be captured as a CUDA graph."""
    library = find_library("tensorrt_rtx")
    trt: Any = library.trt
    for component in ("llm", "speech_decoder"):
        builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
        network = library.network(builder)
        parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
        graph = bundle.components[component].graph
        assert parser.parse(fixed_axes(graph.read_bytes(), {"capacity": 64}), str(graph))
        inputs = [network.get_input(i) for i in range(network.num_inputs)]
        assert "past_length" in [tensor.name for tensor in inputs]
        assert [tensor.name for tensor in inputs if tensor.is_shape_tensor] == []


def test_the_methods_that_a_session_calls_exist_in_the_library() -> None:
    import inspect
    import re

    trt: Any = find_library("tensorrt_rtx").trt
    for kind, source, attribute in (
        (trt.ICudaEngine, inspect.getsource(Engine), "_engine"),
        (trt.IExecutionContext, inspect.getsource(Context), "_context"),
    ):
        called = set(re.findall(rf"self\.{attribute}\.(\w+)", source))
        assert called
        assert [name for name in sorted(called) if not hasattr(kind, name)] == []
    sources = inspect.getsource(Engine) + inspect.getsource(KernelCache)
    set_there = set(re.findall(r"\bconfig\.(\w+)", sources))
    assert len(set_there) == 4
    assert [name for name in sorted(set_there) if not hasattr(trt.IRuntimeConfig, name)] == []
    assert trt.IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy.fset is not None
    called = set(re.findall(r"self\._cache\.(\w+)", sources))
    assert called == {"serialize", "deserialize"}
    assert [name for name in sorted(called) if not hasattr(trt.IRuntimeCache, name)] == []
    assert trt.DynamicShapesKernelSpecializationStrategy.EAGER
    assert trt.ExecutionContextAllocationStrategy.USER_MANAGED
    assert trt.TensorLocation.HOST


def test_a_library_that_does_not_start_is_told_with_its_words() -> None:
    """Its bindings raise TypeError: a factory returned nullptr."""

    def nothing(logger: Any) -> Any:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    library = Library(SimpleNamespace(Runtime=nothing, Builder=nothing), "tensorrt", "10.3.0")
    logger = SimpleNamespace(last_error="CUDA initialization failure with error: 35")
    for start in (library.runtime, library.builder):
        with pytest.raises(EngineUnavailable, match=r"TensorRT 10\.3\.0 does not start") as raised:
            start(logger)
        assert "error: 35" in raised.value.why


def test_one_logger_hears_all_engines() -> None:
    trt: Any = find_library("tensorrt_rtx").trt
    logger = _logger_of(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    assert not trt.OnnxParser(network, logger).parse(b"no graph")
    assert _logger_of(trt) is logger
    assert logger.reported()
    assert logger.reported() == ""


def test_a_damaged_engine_is_refused_before_the_library_sees_it(
    bundle: Bundle, engine_file: EngineFile, cache: Path
) -> None:
    whole = engine_file.path.read_bytes()
    try:
        engine_file.path.write_bytes(b"\0" * len(whole))
        with pytest.raises(EngineUnavailable, match="No engine of llm can be used") as raised:
            open_engine(bundle, "llm", cache=cache, library=find_library("tensorrt_rtx"), device=GPU)
        assert "sha256" in raised.value.why
        assert "vita-edge build" in raised.value.fix
    finally:
        engine_file.path.write_bytes(whole)


def test_without_a_gpu_an_engine_is_not_given_to_the_library(bundle: Bundle) -> None:
    """Some versions end the process when they are asked to."""
    from vita_edge.engines.tensorrt.device import find_device

    try:
        find_device()
        pytest.skip("there is a GPU here")
    except VitaEdgeError:
        pass
    with pytest.raises(EngineUnavailable, match="GPU") as raised:  # none, or nothing to ask one with
        open_session(bundle, "llm", Lane(HostCuda(), "language"))  # type: ignore[arg-type]
    assert raised.value.why and raised.value.fix
