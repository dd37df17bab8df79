"""What builds engines, and for which GPU."""

from __future__ import annotations

from dataclasses import dataclass

from vita_edge.engines.errors import EngineUnavailable, Misuse

from ..device import Gpu, find_device
from ..library import FULL, RTX, Library, find_library

__all__ = ["BuildTarget", "find_place"]


@dataclass(frozen=True)
class BuildTarget:
    """What builds, and for what."""

    library: Library
    sm: str
    device: Gpu | None
    """The GPU of this machine, if there is one; engines need not be for it."""

    @property
    def compiles_ahead(self) -> bool:
        """Engines are compiled for a compute capability, not timed on the GPU."""
        return self.library.rtx

    def __str__(self) -> str:
        gpu = self.device.name if self.device and not self.compiles_ahead else f"GPUs of {self.sm}"
        return f"{self.library} for {gpu}"


def find_place(target: str = "auto") -> BuildTarget:
    """Library and GPU to build with.

    Args:
        target: ``auto`` is the GPU of this machine; ``sm86`` and the like a compute capability.

    Raises:
        EngineUnavailable: no library, or no GPU where one is needed.
        Misuse: this library cannot build for that GPU.
    """
    if target == "auto":
        library = find_library()
        try:
            device = find_device()
        except EngineUnavailable as error:
            ahead = f" For another machine, name its GPU: --sm {', '.join(library.targets)}." if library.rtx else ""
            raise EngineUnavailable(error.what, why=error.why, fix=error.fix + ahead) from error
        _check_target(library, device.sm, device)
        return BuildTarget(library, device.sm, device)
    sm = target.lower().replace("sm_", "sm").replace(".", "")
    here = _device_or_none()
    try:
        library = find_library(FULL if here and here.sm == sm else RTX)
    except EngineUnavailable:
        library = find_library()
    _check_target(library, sm, here)
    return BuildTarget(library, sm, here)


def _check_target(library: Library, sm: str, here: Gpu | None) -> None:
    if library.rtx and sm not in library.targets:
        raise Misuse(
            f"{library} cannot build for {sm}.",
            why=f"It builds for {', '.join(library.targets)}.",
            fix="Build on the device itself with full TensorRT, which JetPack brings for Jetsons.",
        )
    if not library.rtx and (here is None or here.sm != sm):
        raise Misuse(
            f"{library} cannot build for {sm} here.",
            why=f"It times kernels on the GPU that will run them, and this machine has {here or 'none'}.",
            fix="Build on the device itself, with --sm auto.",
        )


def _device_or_none() -> Gpu | None:
    try:
        return find_device()
    except EngineUnavailable:
        return None
