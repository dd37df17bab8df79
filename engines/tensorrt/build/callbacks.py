"""What a builder of TensorRT calls back: a logger, a progress monitor and a stream, of whichever library it is.

Their base classes are the library's own, so the classes are made when it is known.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from ..library import Library
from .engine_writer import EngineFileWriter
from .progress import Phases

__all__ = ["Tell", "build_into", "new_logger", "new_monitor"]

Tell = Callable[[dict[str, Any]], None]
"""Told ``phase``, ``step``, ``steps`` and ``fraction``."""
_TELL_EVERY_S = 0.1
_NO_DRIVER = "CUDA driver version is insufficient"
"""Of no account where engines are compiled for another machine."""


def build_into(writer: EngineFileWriter, library: Library, builder: Any, network: Any, config: Any) -> bool:
    """Build, and write the engine as it is put together where the library can: one copy less in memory."""
    if not hasattr(builder, "build_serialized_network_to_stream"):
        engine_file = builder.build_serialized_network(network, config)
        if engine_file is not None:
            writer.write(memoryview(engine_file))
        return engine_file is not None

    writer_of_library: Any = library.trt.IStreamWriter

    class Stream(writer_of_library):  # type: ignore[misc]
        """Hands on what TensorRT has written."""

        def __init__(self) -> None:
            super().__init__()

        def write(self, piece: Any) -> int:
            return writer.write(piece)

    stream = Stream()
    return bool(builder.build_serialized_network_to_stream(network, config, stream))


def new_logger(library: Library, *, without_driver: bool) -> Any:
    """A logger with ``last_error``, ``weights_bytes`` and ``activation_bytes``, a number for each profile.

    Args:
        without_driver: engines are compiled for another machine, so that complaints about the driver do not count.
    """

    logger_of_library: Any = library.trt.ILogger
    kinds = logger_of_library.Severity

    class Log(logger_of_library):  # type: ignore[misc]
        """Keeps what is asked for later; errors and warnings go to standard error, which is shown with --debug."""

        def __init__(self) -> None:
            super().__init__()
            self.last_error = "it has given no reason"
            self.weights_bytes: int | None = None
            self.activation_bytes: list[int] = []

        def log(self, severity: Any, message: str) -> None:
            severe = severity in (kinds.INTERNAL_ERROR, kinds.ERROR)
            if severe or severity == kinds.WARNING:
                print(message, file=sys.stderr)
            if severe and not (without_driver and _NO_DRIVER in message):
                self.last_error = " ".join(message.split())[:400].rstrip(".")
            if found := re.search(r"Total (Activation|Weights) Memory: (\d+) bytes", message):
                if found[1] == "Weights":
                    self.weights_bytes = int(found[2])
                else:
                    self.activation_bytes.append(int(found[2]))

    return Log()


def new_monitor(library: Library, report: Tell, stopped: threading.Event) -> Any:
    """A progress monitor that tells what it hears, and ends the build at its next step once ``stopped`` is set."""

    monitor_of_library: Any = library.trt.IProgressMonitor

    class Monitor(monitor_of_library):  # type: ignore[misc]
        """Tells how far the builder is, and stops it."""

        def __init__(self) -> None:
            super().__init__()
            self._phases = Phases()
            self._reported = 0.0

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self._phases.start(name, parent, steps)
            self._report()

        def step_complete(self, name: str, step: int) -> bool:
            self._phases.step(name, step)
            self._report()
            return not stopped.is_set()

        def phase_finish(self, name: str) -> None:
            self._phases.finish(name)

        def _report(self) -> None:
            now = time.monotonic()
            if now - self._reported >= _TELL_EVERY_S:
                self._reported = now
                phase, step, steps = self._phases.current
                report({"phase": phase, "step": step, "steps": steps, "fraction": self._phases.fraction})

    return Monitor()
