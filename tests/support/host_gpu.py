"""A GPU made of the host's memory: the calls of CUDA and of TensorRT that a session makes, with real numbers behind.

Addresses are addresses of arrays, a stream does at once what it is told, a captured graph is the list of what it was
told, and an engine is run by ONNX Runtime over the very addresses that were bound. It shows that buffers, profiles,
lengths and graphs are put together right. It shows nothing about TensorRT itself.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort

from vita_edge.engines.errors import InferenceFailed
from vita_edge.engines.tensorrt.build.profiles import Profile
from vita_edge.engines.tensors import TensorSpec

TRT = SimpleNamespace(
    TensorLocation=SimpleNamespace(HOST="host", DEVICE="device"),
    ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="user"),
)
RTX = SimpleNamespace(**vars(TRT), DynamicShapesKernelSpecializationStrategy=SimpleNamespace(EAGER="eager"))
"""TensorRT-RTX: it compiles kernels for a shape while it runs, in the background if it is not told otherwise."""
DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(bool)": "bool",
}
GARBAGE = 0xFF
"""What fresh memory is full of: NaN in every floating type."""


class HostCuda:
    """The methods of ``engines.tensorrt.cuda.Cuda``."""

    def __init__(self, room: int = 1 << 40) -> None:
        self.taken: dict[int, Any] = {}
        self.room = room
        self.launches = self.uploads = self.downloads = self.captures = 0
        self.uploaded_bytes = self.downloaded_bytes = 0
        self.refuse_capture = self.refuse_begin = False
        self._recording: list[Callable[[], None]] | None = None

    def enter_thread(self) -> None:
        pass

    def allocate(self, nbytes: int) -> int:
        if nbytes > self.room:
            raise InferenceFailed(f"There is no room for {nbytes:,} bytes of the GPU's memory.")
        raw = (ctypes.c_uint8 * max(nbytes, 1))()
        ctypes.memset(raw, GARBAGE, max(nbytes, 1))
        self.taken[ctypes.addressof(raw)] = raw
        return ctypes.addressof(raw)

    def free(self, address: int) -> None:
        if self.capturing:
            raise InferenceFailed("The GPU refused cudaFree.", why="cudaErrorStreamCaptureUnsupported")
        raw = self.taken.pop(address)
        ctypes.memset(raw, GARBAGE, ctypes.sizeof(raw))

    allocate_pinned, free_pinned = allocate, free

    def clear(self, address: int, nbytes: int, stream: int) -> None:
        self.do(lambda: ctypes.memset(address, 0, nbytes))

    def upload(self, address: int, source: int, nbytes: int, stream: int) -> None:
        self.do(lambda: self._up(address, source, nbytes))

    def download(self, target: int, address: int, nbytes: int, stream: int) -> None:
        self.do(lambda: self._down(target, address, nbytes))

    def copy_rows(
        self, target: int, pitch: int, source: int, source_pitch: int, width: int, rows: int, stream: int
    ) -> None:
        for row in range(rows):
            ctypes.memmove(target + row * pitch, source + row * source_pitch, width)

    def new_stream(self) -> int:
        return 7

    def wait(self, stream: int) -> None:
        if self._recording is not None:
            raise InferenceFailed("A stream that is captured cannot be waited for.")

    def destroy_stream(self, stream: int) -> None:
        pass

    def begin_capture(self, stream: int) -> None:
        if self.refuse_begin:
            raise InferenceFailed("The GPU refused cudaStreamBeginCapture.", why="cudaErrorIllegalState")
        self._recording = []

    def end_capture(self, stream: int) -> Any:
        recorded, self._recording = self._recording, None
        self.captures += 1
        return recorded

    def abandon_capture(self, stream: int) -> None:
        self._recording = None

    def launch(self, graph: Any, stream: int) -> None:
        self.launches += 1
        for command in graph:
            command()

    def destroy_graph(self, graph: Any) -> None:
        graph.clear()

    @property
    def capturing(self) -> bool:
        return self._recording is not None

    def do(self, command: Callable[[], Any]) -> None:
        if self._recording is None:
            command()
        elif self.refuse_capture:
            raise InferenceFailed("The GPU refused cudaMemcpyAsync.", why="cudaErrorStreamCaptureUnsupported")
        else:
            self._recording.append(command)

    def _up(self, address: int, source: int, nbytes: int) -> None:
        self.uploads += 1
        self.uploaded_bytes += nbytes
        ctypes.memmove(address, source, nbytes)

    def _down(self, target: int, address: int, nbytes: int) -> None:
        self.downloads += 1
        self.downloaded_bytes += nbytes
        ctypes.memmove(target, address, nbytes)


class HostEngine:
    """``ICudaEngine`` of a graph, run by ONNX Runtime."""

    def __init__(
        self,
        graph: Path,
        cuda: HostCuda,
        profiles: Sequence[Profile] = (),
        *,
        on_host: Sequence[str] = (),
        aliases: dict[str, str] | None = None,
        activations: Sequence[int] = (1000,),
        gpu: str = "RTX 1",
    ) -> None:
        self.session = ort.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
        self.cuda, self.profiles = cuda, profiles
        self.inputs = {node.name: _spec(node) for node in self.session.get_inputs()}
        self.outputs = {node.name: _spec(node) for node in self.session.get_outputs()}
        self.on_host, self.aliases, self.activations = on_host, aliases, activations
        self.gpu = gpu
        self.contexts: list[HostContext] = []

    def get_device_memory_size_for_profile_v2(self, profile: int) -> int:
        return self.activations[profile % len(self.activations)]

    def get_tensor_location(self, name: str) -> str:
        return TRT.TensorLocation.HOST if name in self.on_host else TRT.TensorLocation.DEVICE

    def get_aliased_input_tensor(self, name: str) -> str | None:
        return None if self.aliases is None else self.aliases.get(name)

    def create_runtime_config(self) -> HostRuntimeConfig:
        return HostRuntimeConfig(compiles_for=self.gpu)

    def create_execution_context(self, requested: str | HostRuntimeConfig) -> HostContext:
        config = requested if isinstance(requested, HostRuntimeConfig) else HostRuntimeConfig(requested)
        assert config.strategy == "user"
        self.contexts.append(HostContext(self, config.dynamic_shapes_kernel_specialization_strategy, config.cache))
        return self.contexts[-1]


class HostRuntimeConfig:
    """``IRuntimeConfig`` of TensorRT-RTX."""

    def __init__(self, strategy: str = "static", compiles_for: str = "") -> None:
        self.strategy, self._gpu = strategy, compiles_for
        self.dynamic_shapes_kernel_specialization_strategy = "lazy"
        self.cache: HostKernels | None = None

    def set_execution_context_allocation_strategy(self, strategy: str) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> HostKernels:
        return HostKernels(self._gpu)

    def set_runtime_cache(self, cache: HostKernels) -> bool:
        self.cache = cache
        return True


class HostKernels:
    """``IRuntimeCache``: one line for each kernel, behind the GPU that they are for."""

    def __init__(self, gpu: str) -> None:
        self.gpu = gpu
        self.kernels: list[str] = []
        self.compiled = 0

    def need(self, kernel: str) -> None:
        if kernel not in self.kernels:
            self.kernels.append(kernel)
            self.compiled += 1

    def serialize(self) -> bytes:
        return "\n".join([self.gpu, *self.kernels]).encode()

    def deserialize(self, blob: bytes) -> bool:
        gpu, *kernels = blob.decode().splitlines()
        if gpu != self.gpu:
            return False
        self.kernels = kernels
        return True


class HostContext:
    """``IExecutionContext``: refuses what TensorRT would refuse."""

    def __init__(self, engine: HostEngine, kernels: str, cache: HostKernels | None) -> None:
        self.engine, self.kernels, self.cache = engine, kernels, cache
        self.profile: int | None = None
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.memory: tuple[int, int] | None = None
        self.ran_with: tuple[int, int] | None = None
        self.calls = 0

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self.profile = profile
        return True

    def set_device_memory(self, address: int, nbytes: int) -> None:
        self.memory = (address, nbytes)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert self.profile is not None
        limits = self.engine.profiles[self.profile].ranges.get(name) if self.engine.profiles else None
        if limits and not all(low <= n <= high for low, n, high in zip(limits.min, shape, limits.max)):
            return False
        axes = self.engine.inputs[name].axes  # a scalar stays a scalar, and what is fixed stays as it is
        if len(shape) != len(axes) or any(isinstance(axis, int) and axis != n for axis, n in zip(axes, shape)):
            return False
        self.shapes[name] = shape
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address
        self.addresses[name] = address
        return name in self.engine.inputs or name in self.engine.outputs

    def infer_shapes(self) -> list[str]:
        return [name for name in self.engine.inputs if name not in self.shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """By running the graph on zeros: slow, and right."""
        axes = self.engine.outputs[name].axes
        if all(isinstance(axis, int) for axis in axes):
            return tuple(int(axis) for axis in axes)
        feeds = {n: np.zeros(self.shapes[n], spec.dtype) for n, spec in self.engine.inputs.items()}
        return tuple(self.engine.session.run([name], feeds)[0].shape)

    def execute_async_v3(self, stream: int) -> bool:
        held = self.memory
        if held is None or held[1] < self.engine.get_device_memory_size_for_profile_v2(self.profile):
            return False
        addresses, shapes = dict(self.addresses), dict(self.shapes)
        if self.engine.cuda.capturing:
            assert self.ran_with == held, "a capture before the first call with these activations"
        self.ran_with = held
        if self.cache is not None:
            self.cache.need(f"{self.kernels} kernels of profile {self.profile}")
        self.engine.cuda.do(lambda: self._run(addresses, shapes, held[0]))
        return True

    def _run(self, addresses: dict[str, int], shapes: dict[str, tuple[int, ...]], activations: int) -> None:
        self.calls += 1
        assert activations in self.engine.cuda.taken, "activations that were given back"
        binding = self.engine.session.io_binding()
        for name, spec in self.engine.inputs.items():
            dtype = np.dtype(spec.dtype)
            binding.bind_input(name, "cpu", 0, dtype.type, list(shapes[name]), addresses[name])
        found = {name: self._output_shape(name, shapes) for name in self.engine.outputs}
        for name, spec in self.engine.outputs.items():
            binding.bind_output(name, "cpu", 0, np.dtype(spec.dtype).type, list(found[name]), addresses[name])
        self.engine.session.run_with_iobinding(binding)

    def _output_shape(self, name: str, shapes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
        axes = self.engine.outputs[name].axes
        if not name.startswith("present.") or not any(isinstance(axis, str) for axis in axes):
            return self.get_tensor_shape(name)
        past = shapes.get("past_key_values." + name[len("present.") :])
        if past is None:
            return self.get_tensor_shape(name)
        new = 0 if "past_length" in shapes else next(s[1] for n, s in shapes.items() if n in ("inputs_embeds", "code"))
        return (*past[:2], past[2] + new, past[3])


def _spec(node: ort.NodeArg) -> TensorSpec:
    return TensorSpec(node.name, DTYPES[node.type], tuple(node.shape))
