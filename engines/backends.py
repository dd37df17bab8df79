"""The engines that can run a bundle, and which bundle each of them takes.

``cpu``       ONNX Runtime's CPU provider: every target. Graphs for GPUs run, slowly, so that they can be judged.
``cuda``      ONNX Runtime's CUDA provider: target ``tensorrt``.
``tensorrt``  engines that `vita-edge build` has made: targets ``tensorrt`` and ``tensorrt-10.3``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .bundle.format import Bundle
from .errors import Misuse
from .onnxruntime.cpu import OnnxCpuSession
from .session import Session

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


@dataclass(frozen=True)
class _Wish:
    """How a graph is to be opened; see :class:`~vita_edge.engines.onnxruntime.cpu.OnnxCpuSession`."""

    rearrange: bool
    taps: tuple[str, ...]
    overrides: Mapping[str, int] | None


class Backend(ABC):
    """Opens the graphs of one bundle, and has what they share."""

    name: str
    """As results are labelled: ``onnxruntime-cpu``, ``onnxruntime-cuda``, ``tensorrt``."""
    taps: bool = True
    """Inner tensors can be handed out."""

    def session(
        self,
        component: str,
        *,
        rearrange: bool = True,
        taps: Iterable[str] = (),
        overrides: Mapping[str, int] | None = None,
    ) -> Session:
        """Open a graph; see :class:`~vita_edge.engines.onnxruntime.cpu.OnnxCpuSession` for the options.

        Raises:
            BadBundle: it cannot be read.
            EngineUnavailable: there is no engine of it.
        """
        return self._open(component, _Wish(rearrange, tuple(taps), overrides))

    @abstractmethod
    def _open(self, component: str, wish: _Wish) -> Session: ...

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
        return _Cuda(bundle, threads)
    if backend == "tensorrt":
        return _TensorRt(bundle, engine_dir)
    return _Cpu(bundle, threads)


class _Cpu(Backend):
    name = "onnxruntime-cpu"

    def __init__(self, bundle: Bundle, threads: int) -> None:
        self._bundle, self._threads = bundle, threads

    def _open(self, component: str, wish: _Wish) -> Session:
        graph = self._bundle.components[component].graph
        return OnnxCpuSession(
            graph, threads=self._threads, rearrange=wish.rearrange, taps=wish.taps, overrides=wish.overrides
        )


class _Cuda(Backend):
    name = "onnxruntime-cuda"

    def __init__(self, bundle: Bundle, threads: int) -> None:
        from .onnxruntime.cuda import check_cuda_provider

        check_cuda_provider()
        self._bundle, self._threads = bundle, threads
        self._on_processor: dict[str, tuple[str, ...]] = {}

    def _open(self, component: str, wish: _Wish) -> Session:
        from .onnxruntime.cuda import OnnxCudaSession

        graph = self._bundle.components[component].graph
        session = OnnxCudaSession(graph, threads=self._threads, taps=wish.taps, overrides=wish.overrides)
        self._on_processor[component] = session.on_processor
        return session

    def facts(self) -> dict[str, Any]:
        return {"operators_on_processor": {name: list(kinds) for name, kinds in self._on_processor.items()}}


class _TensorRt(Backend):
    """Engines on one GPU: a stream and one block of activations for each thread of a talk."""

    name = "tensorrt"
    taps = False

    def __init__(self, bundle: Bundle, engine_dir: Path | None) -> None:
        from .tensorrt.buffer_layout import LANES
        from .tensorrt.cuda import Cuda
        from .tensorrt.device import find_device
        from .tensorrt.device_memory import Lane

        self._device = find_device()
        self._bundle, self._engine_dir, self._cuda = bundle, engine_dir, Cuda()
        self._stack = ExitStack()
        self._lanes: dict[str, Lane] = {}
        self._sessions: dict[str, TensorRtSession] = {}
        for name in LANES:
            self._lanes[name] = Lane(self._cuda, name)
            self._stack.callback(self._lanes[name].close)

    def _open(self, component: str, wish: _Wish) -> Session:
        from .tensorrt.buffer_layout import lane_of
        from .tensorrt.open_session import open_session

        if wish.taps or wish.overrides:
            raise ValueError("an engine has no inner tensors to hand out or to replace")
        session = open_session(self._bundle, component, self._lanes[lane_of(component)], self._engine_dir)
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
