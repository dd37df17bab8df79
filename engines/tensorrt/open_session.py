"""From an engine on the disk to a session: the library is asked once it is known that it can answer."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from vita_edge.engines.errors import EngineUnavailable

from ..bundle.format import Bundle
from .build.refit import put_weights_in
from .context import Engine
from .device_memory import Lane
from .kernel_cache import KernelCache
from .library import find_library
from .open_engine import open_engine
from .session import TensorRtSession

__all__ = ["open_session"]


def open_session(
    bundle: Bundle, component: str, lane: Lane, engine_dir: Path | None = None, *, graphs: bool = True
) -> TensorRtSession:
    """The engine of a component, opened on the GPU.

    Args:
        lane: where it runs.
        engines: folder of engines; None is that of the user.
        graphs: launch single-token steps as CUDA graphs.

    Raises:
        EngineUnavailable: there is no engine, or it does not fit this GPU and this library.
    """
    engine_file = open_engine(
        bundle, component, cache=engine_dir
    )  # the device first, then the library, then every byte of the engine
    library = find_library(engine_file.library)
    logger = _logger_of(library.trt)
    runtime = library.runtime(logger)
    engine = runtime.deserialize_cuda_engine(engine_file.data())
    if engine is None:
        raise EngineUnavailable(
            f"{library} does not open the engine of {component}.",
            why=logger.reported() or "It did not say why.",
            fix=f"Build it again: vita-edge build {bundle.path}",
        )
    if engine_file.key.stripped:
        put_weights_in(library, engine, logger, engine_file, bundle)
    return TensorRtSession(
        Engine(
            component,
            library.trt,
            engine,
            logger.reported,
            kernels=KernelCache(engine_file.kernels) if library.rtx else None,
            keep=(runtime, logger),
        ),
        engine_file.inputs,
        engine_file.outputs,
        engine_file.profiles,
        engine_file.capacity[1] if engine_file.capacity else None,
        lane,
        graphs=graphs,
    )


@cache
def _logger_of(trt: ModuleType) -> Any:
    """A logger of that library, which keeps what it was told last of what matters until somebody asks for it.

    One for all engines, and never given back: the library itself goes on telling the first that it was given.
    """
    severe = (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR)

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.last_error = ""

        def log(self, severity: Any, message: str) -> None:
            if severity in severe:
                self.last_error = (message.strip().splitlines() or [""])[0]

        def reported(self) -> str:
            """Once: the next failure, perhaps of another engine, has reasons of its own."""
            reported, self.last_error = self.last_error, ""
            return reported

    return Logger()
