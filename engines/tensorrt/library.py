"""Which TensorRT is installed, and how its two families differ: the one place that knows.

``tensorrt`` is the full library (JetPack 6 has 10.3, JetPack 7 has 10.13 to 11.4): it times kernels on the GPU that it
builds for. ``tensorrt_rtx`` is the library for desktop GPUs: its engines are compiled for a compute capability,
without a GPU if need be, and finished when they are opened. Since 11 types are those of the graph in both; before,
that has to be asked for.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from mmap import mmap
from typing import Any

from vita_edge.engines.errors import EngineUnavailable, Misuse

__all__ = ["FULL", "RTX", "Library", "find_libraries", "find_library"]

FULL, RTX = "tensorrt", "tensorrt_rtx"
_INSTALL = (
    "On a Jetson, install JetPack's python3-libnvinfer, and make the environment with --system-site-packages, else it "
    "is not seen. On a desktop GPU: pip install tensorrt-rtx 'cuda-python>=13', or NVIDIA's tensorrt package."
)


_OBJECTIONS = {
    "VERSION_MISMATCH": "it was built by another version",
    "UNSUPPORTED_CC": "it was built for another GPU",
    "OLD_CUDA_DRIVER": "the NVIDIA driver is too old for it",
    "OLD_CUDA_RUNTIME": "the CUDA runtime is too old for it",
    "INSUFFICIENT_GPU_MEMORY": "the GPU has too little memory for it",
    "MALFORMED_ENGINE": "it is no engine",
    "CUDA_ERROR": "the NVIDIA driver is not installed as it should be",
}


@dataclass(frozen=True)
class Library:
    """One of the two libraries, imported."""

    trt: Any
    """The module."""
    name: str
    version: str

    @property
    def rtx(self) -> bool:
        return self.name == RTX

    @property
    def release(self) -> tuple[int, ...]:
        """The version as numbers."""
        return tuple(int(part) for part in re.findall(r"\d+", self.version))

    def __str__(self) -> str:
        return f"{'TensorRT-RTX' if self.rtx else 'TensorRT'} {self.version}"

    @property
    def opset(self) -> int:
        """The newest ONNX operators that it reads as the exporter writes them (docs/decisions/0018)."""
        return 24 if self.rtx or self.release >= (10, 15) else 20

    @property
    def targets(self) -> tuple[str, ...]:
        """GPUs that can be built for without one: ``sm86``, ...; empty where kernels have to be timed."""
        if not self.rtx:
            return ()
        return tuple(n.lower() for n in self.trt.ComputeCapability.__members__ if re.fullmatch(r"SM\d+", n))

    @property
    def keeps_timings(self) -> bool:
        """Timings of kernels can be kept for the next build (on RTX the calls do nothing)."""
        return not self.rtx

    @property
    def strips(self) -> bool:
        """Engines can be built without their weights, which are put in when they are opened."""
        return hasattr(self.trt.BuilderFlag, "STRIP_PLAN")

    @property
    def captures_on_request(self) -> bool:
        """Steps of an engine can be captured as a CUDA graph only if it was built to take all its memory from
        outside."""
        return self.rtx and hasattr(self.trt.BuilderFlag, "REQUIRE_USER_ALLOCATION")

    def runtime(self, logger: Any) -> Any:
        """What opens engines.

        Raises:
            EngineUnavailable: CUDA does not start.
        """
        return self._started("Runtime", logger)

    def builder(self, logger: Any) -> Any:
        """What builds engines.

        Raises:
            EngineUnavailable: CUDA does not start.
        """
        return self._started("Builder", logger)

    def _started(self, kind: str, logger: Any) -> Any:
        try:
            made = getattr(self.trt, kind)(logger)
        except TypeError:  # the bindings' way to say that nothing was made
            made = None
        if made is None:
            raise EngineUnavailable(
                f"{self} does not start.",
                why=f"{getattr(logger, 'last_error', '') or 'It has given no reason'}.",
                fix="Check the NVIDIA driver, and that it is new enough for this version.",
            )
        return made

    def network(self, builder: Any) -> Any:
        """An empty network whose types are those of the graph."""
        flags = self.trt.NetworkDefinitionCreationFlag.__members__
        bits = 0
        for name in ("EXPLICIT_BATCH", "STRONGLY_TYPED"):  # always so in later versions, which drop the flag
            if name in flags:
                bits |= 1 << int(flags[name])
        return builder.create_network(bits)

    def objection(self, engine_file: bytes | memoryview | mmap) -> str:
        """Why the library itself would refuse an engine on the GPU of this machine, in words; empty when it would not,
        or cannot tell. Only the head of the engine is read, and nothing is deserialised."""
        runtime = self.runtime(self.trt.Logger(self.trt.Logger.INTERNAL_ERROR)) if self.rtx else None
        if runtime is None or not hasattr(runtime, "get_engine_validity"):
            return ""
        validity, bits = runtime.get_engine_validity(bytes(engine_file[: runtime.engine_header_size]))
        if validity != self.trt.EngineValidity.INVALID:
            return ""
        known = self.trt.EngineInvalidityDiagnostics.__members__
        reasons = [words for name, words in _OBJECTIONS.items() if name in known and int(known[name]) & bits]
        return ", and ".join(reasons) or "the library does not say why"

    def set_target(self, config: Any, sm: str) -> None:
        """Compile for the compute capability ``sm`` (``sm86``) instead of timing on a GPU.

        Raises:
            Misuse: the library cannot build for it.
        """
        if not self.targets:
            raise Misuse(
                f"{self} cannot build for another GPU than the one in this machine.",
                why="It times kernels on the GPU that will run them.",
                fix="Build on the device itself, with --sm auto.",
            )
        if sm not in self.targets:
            raise Misuse(
                f"{self} cannot build for {sm}.",
                why=f"It builds for {', '.join(self.targets)}.",
                fix="Build on the device itself with full TensorRT, or name one of these.",
            )
        config.num_compute_capabilities = 1
        config.set_compute_capability(self.trt.ComputeCapability.__members__[sm.upper()], 0)


def find_library(name: str | None = None) -> Library:
    """Import TensorRT: full TensorRT where both are installed.

    Args:
        name: ``tensorrt`` or ``tensorrt_rtx``, to have none but this one.

    Raises:
        EngineUnavailable: none is installed, or it cannot be loaded; says why.
    """
    return _found(*(name,) if name else (FULL, RTX))[0]


def find_libraries() -> list[Library]:
    """All that are installed, full TensorRT first.

    Raises:
        EngineUnavailable: there is none.
    """
    return _found(FULL, RTX)


def _found(*names: str) -> list[Library]:
    found, problems = [], []
    for name in names:
        try:
            trt = importlib.import_module(name)
            found.append(Library(trt, name, str(trt.__version__)))
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != name:
                problems.append(f"{name} is installed, but its part {error.name} is not")
        except (ImportError, OSError, RuntimeError, AttributeError) as error:  # a stub, or shared libraries that lack
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            problems.append(f"{name} is installed, but cannot be loaded: {first}")
    if found:
        return found
    requested = names[0] if len(names) == 1 else "TensorRT"
    absent = f"There is no package {' or '.join(names)}."
    raise EngineUnavailable(
        f"{requested} cannot be used here." if problems else f"{requested} is not installed.",
        why="; ".join(problems) + "." if problems else absent,
        fix=_INSTALL,
    )
