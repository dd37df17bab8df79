"""A graph on ONNX Runtime's CUDA provider: weights, KV cache and logits stay on the GPU."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from pathlib import Path

import onnxruntime as ort

from ..errors import EngineUnavailable
from ..session import GPU_ROWS
from .memory import DeviceMemory
from .options import session_options
from .session import OnnxSession

__all__ = ["OnnxCudaSession", "check_cuda_provider"]

PROVIDER = "CUDAExecutionProvider"
OPTIONS = {
    "arena_extend_strategy": "kSameAsRequested",  # doubling would take memory that nobody asked for
    "cudnn_conv_algo_search": "HEURISTIC",  # else every new length of a clip is timed with every algorithm
    "do_copy_in_default_stream": "1",
    "use_tf32": "0",  # precision is what the graph says
}


def check_cuda_provider() -> None:
    """Refuse where ONNX Runtime cannot run on a GPU, before anything large is read.

    Raises:
        EngineUnavailable: the installed package is the one for CPUs, or the provider does not start.
    """
    preload_libraries()
    if PROVIDER not in ort.get_available_providers():
        raise EngineUnavailable(
            "ONNX Runtime cannot run on a GPU here.",
            why=f"The installed package has {', '.join(ort.get_available_providers())}, and not the CUDA provider.",
            fix="pip uninstall onnxruntime && pip install onnxruntime-gpu: two packages of one import name, of which "
            "only one may be there. On a Jetson, take the onnxruntime-gpu of its JetPack.",
        )
    try:
        DeviceMemory("cuda").zeros((1,), "float32")
    except Exception as error:
        raise EngineUnavailable(
            "ONNX Runtime's CUDA provider does not start.",
            why=str(error).strip().splitlines()[0],
            fix="Install the NVIDIA driver, and CUDA and cuDNN of the versions that this onnxruntime-gpu was made for "
            "(pip install 'onnxruntime-gpu[cuda,cudnn]' brings them).",
        ) from error


class OnnxCudaSession(OnnxSession):
    """A graph opened on the GPU. Feeds are small and copied there; outputs are copied back when they are looked at.

    Args:
        path: the ONNX file of a bundle for TensorRT: operators that the CUDA provider knows, caches that it can keep.
        taps, overrides: as on the CPU.
        device: ``cpu`` runs the same code on the CPU provider, over memory that is bound as that of a device is.

    Raises:
        BadBundle: the file or its weights cannot be read as a graph, or the GPU has no room for them.
        EngineUnavailable: the provider was not taken.
    """

    rows_at_once = GPU_ROWS

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 0,
        taps: Iterable[str] = (),
        overrides: Mapping[str, int] | None = None,
        device: str = "cuda",
    ) -> None:
        if device == "cuda":
            check_cuda_provider()
        options = session_options(path, threads=threads, rearrange=True)
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        providers: list[str | tuple[str, dict[str, str]]] = ["CPUExecutionProvider"]
        if device == "cuda":
            providers.insert(0, (PROVIDER, OPTIONS))
        super().__init__(
            path, options, providers, DeviceMemory(device), _give_back(device), taps=taps, overrides=overrides
        )
        if device == "cuda" and self._session is not None and PROVIDER not in self._session.get_providers():
            self.close()  # the library would go on, on the CPU, with a warning
            raise EngineUnavailable(
                f"ONNX Runtime did not take the CUDA provider for {path.name}.",
                why="It fell back to the CPU without saying why.",
                fix="Set ORT_LOG_LEVEL, or take --backend cpu.",
            )

    @property
    def on_processor(self) -> tuple[str, ...]:
        """Operators that run on the processor, their inputs and outputs being copied; none where it cannot be told."""
        ask = getattr(self._session, "get_provider_graph_assignment_info", None)
        parts = ask() if ask else []
        return tuple(sorted({node.op_type for part in parts if part.ep_name != PROVIDER for node in part.get_nodes()}))


def preload_libraries() -> None:
    """Load CUDA and cuDNN where they came as Python packages; what the system has is found without.

    To be called before the provider is used for anything: else it is looked for without them, and not found.
    """
    preload = getattr(ort, "preload_dlls", None)
    if preload is not None:
        with redirect_stdout(sys.stderr):  # where a library is missing it prints so
            preload()


def _give_back(device: str) -> ort.RunOptions:
    """For a call of many rows. Memory of a GPU stays with the session: to give it back stops all that runs there."""
    options = ort.RunOptions()
    if device == "cpu":
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options
