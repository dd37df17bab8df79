"""The embedded default: a graph on ONNX Runtime's CPU provider. It runs the graphs of every target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from ..session import CPU_ROWS
from .mapped_pages import forget_pages
from .memory import HostMemory
from .options import give_back, session_options
from .session import OnnxSession

__all__ = ["OnnxCpuSession"]


class OnnxCpuSession(OnnxSession):
    """A graph opened on the CPU.

    Args:
        path: the ONNX file; its weights lie beside it and are memory-mapped.
        threads: worker threads; 0 takes one per core.
        rearrange: copy the weights into the order of the kernels, which takes a while and as much memory again while
            it lasts. Else they are used as they are mapped: opened in a moment, but slower, 4-bit ones beyond use.
        taps: names of inner tensors to hand out as further outputs (for comparisons; costs fusions).
        overrides: inner integer constants to replace by name (for comparisons).

    Raises:
        BadBundle: the file or its weights cannot be read as a graph.
    """

    rows_at_once = CPU_ROWS

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 0,
        rearrange: bool = True,
        taps: Iterable[str] = (),
        overrides: Mapping[str, int] | None = None,
    ) -> None:
        options = session_options(path, threads=threads, rearrange=rearrange)
        super().__init__(
            path, options, ["CPUExecutionProvider"], HostMemory(), give_back(), taps=taps, overrides=overrides
        )
        if rearrange:  # what was copied is not read again; a copy too many would count as memory of this process
            forget_pages(path.with_suffix(".bin"))
