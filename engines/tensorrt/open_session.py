"""From a plan on the disk to a session: the library is asked once it is known that it can answer."""

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
from .open_engine import open_plan
from .session import TensorRtSession

__all__ = ["open_session"]


def open_session(
    bundle: Bundle, component: str, lane: Lane, plans: Path | None = None, *, graphs: bool = True
) -> TensorRtSession:
    """The plan of a component, opened on the GPU.

    Args:
        lane: where it runs.
        plans: folder of plans; None is that of the user.
        graphs: launch single-token steps as CUDA graphs.

    Raises:
        EngineUnavailable: there is no plan, or it does not fit this GPU and this library.
    """
    plan = open_plan(bundle, component, cache=plans)  # the device first, then the library, then every byte of the plan
    library = find_library(plan.library)
    logger = _logger_of(library.trt)
    runtime = library.runtime(logger)
    engine = runtime.deserialize_cuda_engine(plan.data())
    if engine is None:
        raise EngineUnavailable(
            f"{library} does not open the plan of {component}.",
            why=logger.told() or "It did not say why.",
            fix=f"Build it again: vita-edge build {bundle.path}",
        )
    if plan.key.stripped:
        put_weights_in(library, engine, logger, plan, bundle)
    return TensorRtSession(
        Engine(
            component,
            library.trt,
            engine,
            logger.told,
            kernels=KernelCache(plan.kernels) if library.rtx else None,
            keep=(runtime, logger),
        ),
        plan.inputs,
        plan.outputs,
        plan.profiles,
        plan.capacity[1] if plan.capacity else None,
        lane,
        graphs=graphs,
    )


@cache
def _logger_of(trt: ModuleType) -> Any:
    """A logger of that library, which keeps what it was told last of what matters until somebody asks for it.

    One for all plans, and never given back: the library itself goes on telling the first that it was given.
    """
    severe = (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR)

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.last_error = ""

        def log(self, severity: Any, message: str) -> None:
            if severity in severe:
                self.last_error = (message.strip().splitlines() or [""])[0]

        def told(self) -> str:
            """Once: the next failure, perhaps of another plan, has reasons of its own."""
            told, self.last_error = self.last_error, ""
            return told

    return Logger()
