"""Who shares memory with whom, which profile takes a call, and what CUDA's refusals become. No GPU is needed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType, SimpleNamespace

import pytest

from vita_edge.engines.errors import EngineUnavailable, InferenceFailed, MissingPackage
from vita_edge.engines.tensorrt import cuda, device
from vita_edge.engines.tensorrt.buffer_layout import ALIGNMENT, lay_out
from vita_edge.engines.tensorrt.build.profiles import Profile, ProfileRange
from vita_edge.engines.tensorrt.device import Gpu, find_device
from vita_edge.engines.tensorrt.shape_choice import choose_profile, max_positions, pieces, step_profile

STEP = Profile("step", {"inputs_embeds": ProfileRange((1, 1, 8), (1, 1, 8), (1, 1, 8))})
PREFILL = Profile("prefill", {"inputs_embeds": ProfileRange((1, 1, 8), (1, 512, 8), (1, 512, 8))})


def test_tensors_lie_apart_in_a_block_and_each_has_an_address_of_its_own() -> None:
    parts, nbytes = lay_out([("row", "float32", (1, 1, 100)), ("none", "int64", (1, 0)), ("length", "int64", (1,))])
    assert [parts[name].offset for name in ("row", "none", "length")] == [0, 512, 768]
    assert [parts[name].nbytes for name in ("row", "none", "length")] == [400, 0, 8]
    assert nbytes == 1024
    assert all(part.offset % ALIGNMENT == 0 for part in parts.values())


def test_the_profile_that_reaches_least_beyond_a_call_takes_it() -> None:
    assert choose_profile("llm", [PREFILL, STEP], {"inputs_embeds": (1, 1, 8)}) == 1
    assert choose_profile("llm", [STEP, PREFILL], {"inputs_embeds": (1, 2, 8)}) == 1
    assert choose_profile("vision", [], {"pixel_values": (1, 3, 4, 4)}) == 0
    with pytest.raises(InferenceFailed, match="llm was not built for this input") as raised:
        choose_profile("llm", [STEP, PREFILL], {"inputs_embeds": (1, 513, 8)})
    assert "inputs_embeds [1, 1, 8] or inputs_embeds [1, 1..512, 8]" in raised.value.why


def test_steps_have_a_profile_of_exactly_one_position() -> None:
    assert step_profile([PREFILL, STEP], "inputs_embeds") == 1
    assert step_profile([PREFILL], "inputs_embeds") is None
    assert step_profile([STEP], "code") is None
    assert max_positions([STEP, PREFILL], "inputs_embeds") == 512
    assert max_positions([STEP], "inputs_embeds") == 1


def test_a_long_prompt_is_cut_into_pieces_that_an_engine_takes() -> None:
    assert pieces(5, 2) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert pieces(4, 4) == [slice(0, 4)]


# --- CUDA


def skip_with_a_gpu(runtime: ModuleType) -> None:
    with suppress(RuntimeError):  # bindings of 12.6 without a driver
        if not int(runtime.cudaGetDeviceCount()[0]):
            pytest.skip("there is a GPU here")


def test_without_cuda_python_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "MODULES", ("no_such_bindings",))
    with pytest.raises(MissingPackage, match="cuda-python") as raised:
        cuda.Cuda()
    assert "tensorrt" in raised.value.fix


def test_without_a_driver_or_a_gpu_it_is_said_so() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    skip_with_a_gpu(runtime)
    with pytest.raises(EngineUnavailable, match="no GPU to run on") as raised:
        cuda.Cuda()
    assert raised.value.why.startswith("There is no NVIDIA")
    assert "CPU" in raised.value.fix


def test_a_gpu_is_asked_through_bindings_of_any_age(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to 12.6.0 the driver's were called ``cuda.cuda``."""
    attributes = {"MAJOR": 8, "MINOR": 7, "INTEGRATED": 1}
    names = {
        "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR": "MAJOR",
        "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR": "MINOR",
        "CU_DEVICE_ATTRIBUTE_INTEGRATED": "INTEGRATED",
    }
    old = SimpleNamespace(
        cuInit=lambda flags: (0,),
        cuDeviceGetCount=lambda: (0, 1),
        cuDeviceGet=lambda index: (0, index),
        CUdevice_attribute=SimpleNamespace(**names),
        cuDeviceGetAttribute=lambda attribute, gpu: (0, attributes[attribute]),
        cuDriverGetVersion=lambda: (0, 12060),
        cuDeviceGetName=lambda maximum, gpu: (0, b"Orin".ljust(maximum, b"\0")),
        cuDeviceTotalMem=lambda gpu: (0, 8 << 30),
    )
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    monkeypatch.setitem(sys.modules, "cuda.cuda", old)
    assert find_device() == Gpu("Orin", "sm87", "12.6", 8 << 30, True)
    monkeypatch.setitem(sys.modules, "cuda.cuda", None)
    with pytest.raises(EngineUnavailable, match="cannot be asked") as raised:
        find_device()
    assert "cuda-python is not installed" in raised.value.why


def test_the_driver_has_every_name_that_is_asked_for() -> None:
    import inspect
    import re

    driver = pytest.importorskip("cuda.bindings.driver")
    called = set(re.findall(r"driver\.(cu\w+)", inspect.getsource(device)))
    assert len(called) == 8
    assert [name for name in sorted(called) if not hasattr(driver, name)] == []


def test_refusals_of_cuda_say_what_was_asked_for() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    device = cuda.Cuda.__new__(cuda.Cuda)
    device._runtime = runtime
    full = device._refused("cudaMalloc", runtime.cudaError_t.cudaErrorMemoryAllocation, "1,000 bytes of memory")
    assert isinstance(full, InferenceFailed)
    assert full.what == "There is no room for 1,000 bytes of memory."
    assert "--context" in full.fix
    broken = device._refused("cudaStreamSynchronize", runtime.cudaError_t.cudaErrorIllegalAddress, "")
    assert isinstance(broken, InferenceFailed)
    assert "cudaErrorIllegalAddress" in broken.why
    gone = device._refused("cudaMalloc", runtime.cudaError_t.cudaErrorNoDevice, "")
    assert isinstance(gone, EngineUnavailable)


def test_every_call_of_cuda_exists_in_the_bindings() -> None:
    """A name that is spelled wrong would show on a GPU only."""
    import inspect
    import re

    runtime = pytest.importorskip("cuda.bindings.runtime")
    source = inspect.getsource(cuda)
    called = set(re.findall(r'_(?:call|give_back)\(\s*"(cuda\w+)"', source))
    called |= set(re.findall(r"_runtime\.(cuda\w+)", source))
    assert len(called) > 15
    assert [name for name in sorted(called) if not hasattr(runtime, name)] == []
    for name in cuda.NO_DEVICE:
        assert hasattr(runtime.cudaError_t, name)


def test_python_goes_on_while_the_gpu_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the driver by ctypes, which gives up Python's lock; refusals are told by the bindings."""
    waited: list[int] = []

    def synchronize(stream: int) -> int:
        waited.append(stream)
        return 700 if len(waited) > 1 else 0

    class Error(int):
        name = "cudaErrorIllegalAddress"

    runtime = SimpleNamespace(
        cudaGetDeviceCount=lambda: (0, 1),
        cudaMemcpyKind=SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2, cudaMemcpyDeviceToDevice=3),
        cudaStreamSynchronize=lambda stream: (Error(700),),
        cudaGetErrorString=lambda error: (0, b"an illegal memory access was encountered"),
    )
    monkeypatch.setattr(cuda, "runtime_module", lambda: runtime)
    monkeypatch.setattr(cuda.ctypes, "CDLL", lambda name: SimpleNamespace(cuStreamSynchronize=_Function(synchronize)))
    gpu = cuda.Cuda()
    gpu.wait(7)
    with pytest.raises(InferenceFailed, match="refused cudaStreamSynchronize") as raised:
        gpu.wait(8)
    assert waited == [7, 8]
    assert "illegal memory access" in raised.value.why


class _Function:
    """What ctypes hands out: it can be called, and told of its arguments."""

    def __init__(self, call: Callable[[int], int]) -> None:
        self.call = call
        self.argtypes: list[object] = []

    def __call__(self, stream: int) -> int:
        assert self.argtypes
        return self.call(stream)


def test_every_call_is_taken_with_its_arguments_and_refused_for_want_of_a_driver() -> None:
    """The bindings convert addresses, streams and flags before they ask the driver."""
    runtime = pytest.importorskip("cuda.bindings.runtime")
    skip_with_a_gpu(runtime)
    device = cuda.Cuda.__new__(cuda.Cuda)
    device._runtime, kinds = runtime, runtime.cudaMemcpyKind
    device._up, device._down = kinds.cudaMemcpyHostToDevice, kinds.cudaMemcpyDeviceToHost
    device._across = kinds.cudaMemcpyDeviceToDevice
    calls = [
        lambda: device.enter_thread(),
        lambda: device.allocate(1 << 20),
        lambda: device.allocate_pinned(1 << 20),
        lambda: device.free_bytes(),
        lambda: device.clear(1 << 40, 16, 7),
        lambda: device.upload(1 << 40, 1 << 41, 16, 7),
        lambda: device.download(1 << 41, 1 << 40, 16, 7),
        lambda: device.copy_rows(1 << 40, 256, 1 << 41, 128, 64, 4, 7),
        lambda: device.new_stream(),
        lambda: device.wait(7),
        lambda: device.begin_capture(7),
        lambda: device.end_capture(7),
        lambda: device.launch(runtime.cudaGraphExec_t(), 7),
    ]
    for call in calls:
        with pytest.raises(EngineUnavailable, match="no GPU to run on"):
            call()
    device.abandon_capture(7)  # what only tidies up is never the reason for an error
    device.free(1 << 40)
    device.free_pinned(1 << 40)
    device.destroy_stream(7)
    device.destroy_graph(runtime.cudaGraphExec_t())
    device.copy_rows(1 << 40, 0, 1 << 41, 0, 0, 4, 7)  # nothing to copy asks for nothing
