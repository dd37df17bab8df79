"""The engines that can run a bundle, and which bundle each of them takes.

``cpu``       ONNX Runtime's CPU provider: every target. Graphs for GPUs run, slowly, so that they can be judged.
``cuda``      ONNX Runtime's CUDA provider: target ``tensorrt``.
``tensorrt``  engines that `vita-edge build` has made: targets ``tensorrt`` and ``tensorrt-10.3``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .bundle.component_spec import COMPONENT_SPECS, STREAMS
from .bundle.format import Bundle
from .errors import Misuse
from .onnxruntime.cpu import OnnxCpuSession
from .onnxruntime.version import check_version
from .session import GraphSession

if TYPE_CHECKING:
    from .tensorrt.device_memory import Lane
    from .tensorrt.session import TensorRtSession

__all__ = ["BACKENDS", "Backend", "open_backend"]

BACKENDS: Mapping[str, tuple[str, ...]] = {
    "cpu": ("onnxruntime", "tensorrt", "tensorrt-10.3"),
    "cuda": ("tensorrt",),
    "tensorrt": ("tensorrt", "tensorrt-10.3"),
}
"""Backend → targets of bundles that it runs."""


class Backend(ABC):
    """Opens the graphs of one bundle, and has what they share."""

    name: str
    """As results are labelled: ``onnxruntime-cpu``, ``onnxruntime-cuda``, ``tensorrt``."""
    taps: bool = True
    """Inner tensors can be handed out."""

    @abstractmethod
    def session(
        self,
        component: str,
        *,
        rearrange: bool = True,
        taps: Iterable[str] = (),
        overrides: Mapping[str, int] | None = None,
    ) -> GraphSession:
        """Open a graph; see :class:`~vita_edge.engines.onnxruntime.cpu.OnnxCpuSession` for the options.

        Raises:
            BadBundle: it cannot be read.
            EngineUnavailable: there is no engine of it.
        """
        ...

    def facts(self) -> dict[str, Any]:
        """What a measurement should say about the engine, beside its name."""
        return {}

    def close(self) -> None:
        """Give back what the graphs share."""
        return

    def __enter__(self) -> Backend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_backend(bundle: Bundle, backend: str = "cpu", *, threads: int = 0, engine_dir: Path | None = None) -> Backend:
    """The engine of that name for ``bundle``; what does not fit is refused before anything large is read.

    Args:
        threads: of the CPU; 0 takes one per core.
        engines: folder of the engines of TensorRT; None is that of the user.

    Raises:
        Misuse: there is no such backend, or it does not run bundles of this target.
        EngineUnavailable, MissingPackage: it cannot run here.
    """
    if backend not in BACKENDS:
        raise Misuse(f"There is no backend {backend}.", why=f"Known: {', '.join(BACKENDS)}.", fix="Choose one of them.")
    if bundle.target not in BACKENDS[backend]:
        raise Misuse(
            f"The backend {backend} does not run the bundle {bundle.path}.",
            why=f"It was exported for {bundle.target}; {backend} runs {' and '.join(BACKENDS[backend])}.",
            fix=f"Export the checkpoint for it: vita-edge export CHECKPOINT -o BUNDLE --target {BACKENDS[backend][0]}; "
            "or leave --backend out.",
        )
    if backend == "cuda":
        return _CudaBackend(bundle, threads)
    if backend == "tensorrt":
        return _TensorRtBackend(bundle, engine_dir)
    return _CpuBackend(bundle, threads)


class _CpuBackend(Backend):
    name = "onnxruntime-cpu"

    def __init__(self, bundle: Bundle, threads: int) -> None:
        check_version(bundle.path, bundle.target, bundle.onnxruntime)
        self._bundle, self._threads = bundle, threads

    def session(
        self,
        component: str,
        *,
        rearrange: bool = True,
        taps: Iterable[str] = (),
        overrides: Mapping[str, int] | None = None,
    ) -> GraphSession:
        graph = self._bundle.components[component].graph
        return OnnxCpuSession(graph, threads=self._threads, rearrange=rearrange, taps=taps, overrides=overrides)


class _CudaBackend(Backend):
    name = "onnxruntime-cuda"

    def __init__(self, bundle: Bundle, threads: int) -> None:
        from .onnxruntime.cuda import check_cuda_provider

        check_version(bundle.path, bundle.target, bundle.onnxruntime)
        check_cuda_provider()
        self._bundle, self._threads = bundle, threads
        self._on_processor: dict[str, tuple[str, ...]] = {}

    def session(
        self,
        component: str,
        *,
        rearrange: bool = True,
        taps: Iterable[str] = (),
        overrides: Mapping[str, int] | None = None,
    ) -> GraphSession:
        from .onnxruntime.cuda import OnnxCudaSession

        graph = self._bundle.components[component].graph
        session = OnnxCudaSession(graph, threads=self._threads, taps=taps, overrides=overrides)
        self._on_processor[component] = session.on_processor
        return session

    def facts(self) -> dict[str, Any]:
        return {"operators_on_processor": {name: list(kinds) for name, kinds in self._on_processor.items()}}


class _TensorRtBackend(Backend):
    """Engines on one GPU: a stream and one block of activations for each thread of a talk."""

    name = "tensorrt"
    taps = False

    def __init__(self, bundle: Bundle, engine_dir: Path | None) -> None:
        from .tensorrt.cuda import Cuda
        from .tensorrt.device import find_device
        from .tensorrt.device_memory import Lane

        self._device = find_device()
        self._bundle, self._engine_dir, self._cuda = bundle, engine_dir, Cuda()
        self._stack = ExitStack()
        self._lanes: dict[str, Lane] = {}
        self._sessions: dict[str, TensorRtSession] = {}
        for name in STREAMS:
            self._lanes[name] = Lane(self._cuda, name)
            self._stack.callback(self._lanes[name].close)

    def session(
        self,
        component: str,
        *,
        rearrange: bool = True,
        taps: Iterable[str] = (),
        overrides: Mapping[str, int] | None = None,
    ) -> GraphSession:
        from .tensorrt.open_session import open_session

        if tuple(taps) or overrides:
            raise ValueError("an engine has no inner tensors to hand out or to replace")
        lane = self._lanes[COMPONENT_SPECS[component].stream]
        session = open_session(self._bundle, component, lane, self._engine_dir)
        self._sessions[component] = session
        return session

    def facts(self) -> dict[str, Any]:
        free, total = self._cuda.free_bytes()
        return {
            "device": str(self._device),
            "activation_bytes": {name: lane.activation_bytes for name, lane in self._lanes.items()},
            "device_memory_bytes": {"used": total - free, "total": total},
            "kernels": {n: str(s.kernels) for n, s in self._sessions.items() if s.kernels and s.kernels.used},
            "steps_without_a_graph": {
                n: s.without_graph for n, s in self._sessions.items() if s.without_graph is not None
            },
        }

    def close(self) -> None:
        self._stack.close()
