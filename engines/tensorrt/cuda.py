"""The CUDA runtime, as far as a session needs it: the only module that calls cuda-python.

Addresses and streams are plain integers, so that nothing above depends on a version of the bindings. Every refusal
becomes an error that says what was asked for.
"""

from __future__ import annotations

import ctypes
import importlib
from contextlib import suppress
from types import ModuleType
from typing import Any

import numpy as np

from vita_edge.engines.errors import EngineUnavailable, InferenceFailed, MissingPackage, VitaEdgeError
from vita_edge.engines.install import install_fix
from vita_edge.engines.tensors import Array

__all__ = ["Cuda", "runtime_module"]

MODULES = ("cuda.bindings.runtime", "cuda.cudart")
"""Where the bindings are: since 12.6.1, and before."""
NO_DEVICE = {
    "cudaErrorInsufficientDriver": "There is no NVIDIA driver, or it is older than the CUDA of cuda-python: "
    "JetPack 6 wants cuda-python 12.6.",
    "cudaErrorNoDevice": "There is no NVIDIA GPU, or it is hidden (CUDA_VISIBLE_DEVICES).",
    "cudaErrorInitializationError": "The NVIDIA driver does not start.",
    "cudaErrorSystemDriverMismatch": "The NVIDIA driver and its libraries are of different versions.",
    "cudaErrorStubLibrary": "libcuda is a stub: no NVIDIA driver is installed.",
}


def runtime_module() -> ModuleType:
    """The bindings of the CUDA runtime.

    Raises:
        MissingPackage: cuda-python is not installed.
    """
    for name in MODULES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise MissingPackage(
        "TensorRT needs the package cuda-python.",
        why="It is not installed: memory of the GPU is taken and copied through it.",
        fix=install_fix("tensorrt"),
    )


class Cuda:
    """One GPU's memory, streams and graphs.

    Raises:
        MissingPackage: cuda-python is not installed.
        EngineUnavailable: there is no driver or no GPU.
    """

    _synchronize: Any = None
    """``cuStreamSynchronize`` of the driver, where it is found."""

    def __init__(self) -> None:
        self._runtime = runtime_module()
        # The bindings before 12.9 keep Python's lock while they wait, and sound and microphone would stand still for as
        # long as the GPU reads a prompt. ctypes gives it up.
        with suppress(OSError, AttributeError):
            self._synchronize = ctypes.CDLL("libcuda.so.1").cuStreamSynchronize
            self._synchronize.argtypes = [ctypes.c_void_p]
        if self._call("cudaGetDeviceCount") < 1:
            raise _unavailable("cudaErrorNoDevice")
        kinds = self._runtime.cudaMemcpyKind
        self._up, self._down = kinds.cudaMemcpyHostToDevice, kinds.cudaMemcpyDeviceToHost
        self._across = kinds.cudaMemcpyDeviceToDevice

    def enter_thread(self) -> None:
        """Make the GPU that of the calling thread, for libraries that ask which it is before they use it."""
        self._call("cudaSetDevice", 0)

    # --- memory

    def allocate(self, nbytes: int) -> int:
        """Address of so much memory of the GPU; at least one byte is taken."""
        return int(self._call("cudaMalloc", max(nbytes, 1), asked=f"{nbytes:,} bytes of the GPU's memory"))

    def free(self, address: int) -> None:
        self._give_back("cudaFree", address)

    def allocate_pinned(self, nbytes: int) -> int:
        """Address of so much memory of the host that does not move, which copies and graphs can use at any time."""
        return int(self._call("cudaMallocHost", max(nbytes, 1), asked=f"{nbytes:,} bytes of pinned memory"))

    def free_pinned(self, address: int) -> None:
        self._give_back("cudaFreeHost", address)

    def free_bytes(self) -> tuple[int, int]:
        """Free and all bytes of the GPU's memory."""
        free, total = self._call("cudaMemGetInfo")
        return int(free), int(total)

    # --- what a stream does, one after the other

    def clear(self, address: int, nbytes: int, stream: int) -> None:
        self._call("cudaMemsetAsync", address, 0, nbytes, stream)

    def upload(self, address: int, source: int, nbytes: int, stream: int) -> None:
        """Host to GPU."""
        self._call("cudaMemcpyAsync", address, source, nbytes, self._up, stream)

    def download(self, target: int, address: int, nbytes: int, stream: int) -> None:
        """GPU to host; there when the stream was waited for."""
        self._call("cudaMemcpyAsync", target, address, nbytes, self._down, stream)

    def copy_rows(
        self, target: int, pitch: int, source: int, source_pitch: int, width: int, rows: int, stream: int
    ) -> None:
        """GPU to GPU: ``rows`` pieces of ``width`` bytes, that begin every ``pitch`` bytes."""
        if width and rows:
            self._call("cudaMemcpy2DAsync", target, pitch, source, source_pitch, width, rows, self._across, stream)

    def new_stream(self) -> int:
        """A stream that does not wait for the default one."""
        return int(self._call("cudaStreamCreateWithFlags", self._runtime.cudaStreamNonBlocking))

    def wait(self, stream: int) -> None:
        if self._synchronize is None or self._synchronize(stream):
            self._call("cudaStreamSynchronize", stream)  # which says in words what is wrong

    def destroy_stream(self, stream: int) -> None:
        self._give_back("cudaStreamDestroy", stream)

    # --- graphs: what a stream was told once, told again in one call

    def begin_capture(self, stream: int) -> None:
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal  # the other thread goes on
        self._call("cudaStreamBeginCapture", stream, mode)

    def end_capture(self, stream: int) -> Any:
        """What was captured, ready to be launched."""
        graph = self._call("cudaStreamEndCapture", stream)
        try:
            return self._call("cudaGraphInstantiate", graph, 0)
        finally:
            self._call("cudaGraphDestroy", graph)

    def abandon_capture(self, stream: int) -> None:
        """After a call that cannot be captured: the stream takes work again."""
        with suppress(VitaEdgeError):
            self._call("cudaGraphDestroy", self._call("cudaStreamEndCapture", stream))
        with suppress(VitaEdgeError):
            self._call("cudaGetLastError")  # what was refused is told elsewhere; it is read, so that it is over

    def launch(self, graph: Any, stream: int) -> None:
        self._call("cudaGraphLaunch", graph, stream)

    def destroy_graph(self, graph: Any) -> None:
        self._give_back("cudaGraphExecDestroy", graph)

    def _give_back(self, function: str, what: Any) -> None:
        """After an illegal access CUDA refuses everything: what is told is that, and not that memory was not freed."""
        with suppress(VitaEdgeError):
            self._call(function, what)

    def _call(self, function: str, *arguments: Any, asked: str = "") -> Any:
        try:
            error, *values = getattr(self._runtime, function)(*arguments)
        except RuntimeError as missing:  # bindings of 12.6, where the loader does not find libcuda
            raise _unavailable("cudaErrorInsufficientDriver") from missing
        if int(error):
            raise self._refused(function, error, asked)
        return values[0] if len(values) == 1 else tuple(values)

    def _refused(self, function: str, error: Any, asked: str) -> Exception:
        name = getattr(error, "name", str(error))
        if name in NO_DEVICE:
            return _unavailable(name)
        try:
            _, text = self._runtime.cudaGetErrorString(error)
            reported = text.decode() if isinstance(text, bytes) else str(text)
        except RuntimeError:
            reported = name
        if name == "cudaErrorMemoryAllocation":
            return InferenceFailed(
                f"There is no room for {asked}." if asked else "The GPU is out of memory.",
                why=f"{function}: {reported}.",
                fix="Close what else uses the GPU, take a smaller --context, or a bundle of a narrower precision.",
            )
        return InferenceFailed(
            f"The GPU refused {asked or function}.",
            why=f"{name}: {reported}.",
            fix="Look at `dmesg` and `nvidia-smi` (on a Jetson: `tegrastats`); start again, and report it if it stays.",
        )


def pinned_array(address: int, dtype: str, shape: tuple[int, ...], *, owner: object) -> Array:
    """Memory of the host as an array, and as views of it; all of them keep ``owner``, who gives the memory back."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw: Any = (ctypes.c_uint8 * size).from_address(address)
    raw.owner = owner
    return np.ndarray(shape, np.dtype(dtype), memoryview(raw))


def _unavailable(name: str) -> EngineUnavailable:
    return EngineUnavailable(
        "There is no GPU to run on.",
        why=f"{NO_DEVICE[name]} ({name})",
        fix="Run on a machine with an NVIDIA GPU and its driver, or leave --backend out to run on the CPU.",
    )
