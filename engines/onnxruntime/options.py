"""How ONNX Runtime is told to open and run a graph: threads, rearranged weights, and memory that is given back."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort

from ..cores import thread_count
from ..memory import available_memory

__all__ = ["give_back", "session_options"]

LARGE_BYTES = 256 << 20


def session_options(graph: Path, *, threads: int, rearrange: bool) -> ort.SessionOptions:
    """Options for the graph at ``graph``, whose weights lie beside it.

    Args:
        threads: worker threads; 0 takes one per usable core, and more are never taken.
        rearrange: copy the weights into the order of the kernels now; else int8 ones are used as they are mapped
            (docs/decisions/0012).
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what fails is raised, and told in our words
    options.intra_op_num_threads = thread_count(threads)
    options.inter_op_num_threads = 1
    # A pattern is one block for all activations of a call, taken beside the pieces of the calls before it.
    options.enable_mem_pattern = False
    # The graphs of a talk run one after the other: the threads of the last one must not spin, in wait of more work,
    # while the next one computes. (One pool for all would do too, but forbids every other user of the backend in the
    # process a pool of its own.)
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # Rearranged weights live as long as the session and activations do not: apart, the latter can be given back.
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    if not rearrange:
        options.add_session_config_entry("session.disable_prepacking", "1")
    elif _room_to_hurry(graph):
        options.add_session_config_entry("session.prepack.enable_parallel", "1")
    return options


def give_back() -> ort.RunOptions:
    """For a call of many rows: the memory of its activations goes back to the system at its end.

    Else every session would keep what its largest call took, and the stages of a turn never need it at once.
    """
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _room_to_hurry(graph: Path) -> bool:
    """Whether large weights may be rearranged all at once: half the time, one copy more at the peak."""
    weights = graph.with_suffix(".bin")
    size = weights.stat().st_size if weights.exists() else 0
    free = available_memory()
    return size > LARGE_BYTES and free is not None and 3 * size < free
