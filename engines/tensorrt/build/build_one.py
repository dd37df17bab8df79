"""Build one engine, in a process of its own; :mod:`.child` starts it.

A compiler that takes tens of gigabytes gives them back when its process ends; a crash in it, or an end for want of
memory, leaves the engines that are finished; and Ctrl-C can stop it at any time. The job is read as one line of JSON
from standard input, and given up when standard input ends: its parent has gone. What happens is told as lines of JSON
on standard output.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vita_edge.engines.errors import BadBundle, EngineUnavailable, OutputFailed, VitaEdgeError
from vita_edge.engines.memory import peak_memory
from vita_edge.engines.onnx_file.external_data import check_external_data

from ...bundle.atomic_file import write_whole
from ...onnx_file.graph_inputs import fixed_axes
from ..library import Library, find_library
from .callbacks import Tell, build_into, new_logger, new_monitor
from .engine_writer import EngineFileWriter
from .profiles import Profile

__all__ = ["Job", "main"]


@dataclass(frozen=True)
class Job:
    """What is to be built, and how."""

    component: str
    graph: Path
    engine_file: Path
    """Where the engine is written."""
    library: str
    target: str
    """Compute capability to compile for; empty for the GPU of this machine."""
    precision: str
    profiles: tuple[Profile, ...]
    fixed: dict[str, int]
    stripped: bool = False
    workspace_bytes: int = 0
    """Scratch memory that a kernel may take; 0 leaves it to the library."""
    timings: Path | None = None
    """Timings of kernels from earlier builds, and for later ones."""

    def to_json(self) -> dict[str, Any]:
        data = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        data |= {"graph": str(self.graph), "engine_file": str(self.engine_file), "timings": str(self.timings or "")}
        data["profiles"] = [profile.to_json() for profile in self.profiles]
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Job:
        given = dict(data)
        given |= {"graph": Path(data["graph"]), "engine_file": Path(data["engine_file"])}
        given["timings"] = Path(data["timings"]) if data["timings"] else None
        given["profiles"] = tuple(Profile.from_json(profile) for profile in data["profiles"])
        return cls(**given)


def main() -> int:
    """Run the job on standard input; returns 0 built, 1 failed, 130 stopped."""
    reported = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is not taken for an answer

    def report(what: dict[str, Any]) -> None:
        print(json.dumps(what), file=reported, flush=True)

    stopped = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: os._exit(130) if stopped.is_set() else stopped.set())
    line = sys.stdin.readline()
    if not line:  # stopped before it could say what it wants
        return 1
    job = Job.from_json(json.loads(line))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    outcome: list[int] = []
    # In a thread of its own, so that this one hears the signal while the compiler is at work.
    worker = threading.Thread(target=lambda: outcome.append(_run(job, report, stopped)), daemon=True)
    worker.start()
    while worker.is_alive():
        worker.join(0.2)
    return outcome[0] if outcome else 1


def _end_with_parent() -> None:
    if not sys.stdin.read(1):
        os._exit(1)


def _run(job: Job, report: Tell, stopped: threading.Event) -> int:
    try:
        report({"done": _build(job, report, stopped)})
        return 0
    except _BuildStopped:
        return 130
    except VitaEdgeError as error:
        report({"failed": [error.what, error.why, error.fix]})
    except MemoryError:
        report({"failed": [f"There is not enough memory to build {job.component}.", "An allocation failed.", ""]})
    except Exception as error:  # of the bindings: RuntimeError, TypeError
        traceback.print_exc()
        reported = " ".join(str(error).split()) or type(error).__name__
        report(
            {"failed": [f"{job.library} failed while it built {job.component}.", f"{reported}.", _what_to_do(reported)]}
        )
    return 1


class _BuildStopped(Exception):
    """The user has pressed Ctrl-C."""


def _build(job: Job, report: Tell, stopped: threading.Event) -> dict[str, Any]:
    began = time.monotonic()
    library = find_library(job.library)
    log = new_logger(library, without_driver=bool(job.target))
    builder = library.builder(log)
    network = library.network(builder)
    _parse(job, library, network, log)
    config = builder.create_builder_config()
    _configure(job, library, builder, config)
    cache = _with_timings(job, library, config)
    monitor = new_monitor(library, report, stopped)
    config.progress_monitor = monitor
    report({"phase": "building", "step": 0, "steps": 0, "fraction": 0.0})
    try:
        with EngineFileWriter(job.engine_file) as writer:
            built = build_into(writer, library, builder, network, config)
    except OSError as error:
        raise OutputFailed.from_os_error(job.engine_file, error) from error
    if cache is not None:
        _keep_timings(job, config)
    if stopped.is_set():
        raise _BuildStopped
    if writer.error is not None:
        raise OutputFailed.from_os_error(job.engine_file, writer.error) from writer.error
    if not built:
        raise EngineUnavailable(
            f"{library} cannot build {job.component}.", why=f"{log.last_error}.", fix=_what_to_do(log.last_error)
        )
    return {
        "bytes": writer.bytes,
        "sha256": writer.sha256,
        "seconds": time.monotonic() - began,
        "peak_memory_bytes": peak_memory(),
        "weights_bytes": log.weights_bytes,
        "activation_bytes": log.activation_bytes[: max(len(job.profiles), 1)],
    }


def _parse(job: Job, library: Library, network: Any, log: Any) -> None:
    """Read the graph, its cache axes fixed; weights are found beside it."""
    check_external_data(job.graph)
    parser = library.trt.OnnxParser(network, log)
    try:
        model = fixed_axes(job.graph.read_bytes(), job.fixed)
    except (OSError, ValueError, IndexError) as error:
        raise BadBundle(f"{job.graph} cannot be read.", why=f"{error}.", fix="Export the bundle again.") from error
    if parser.parse(model, str(job.graph)):
        _let_attention_fall_apart(library, network)
        return
    reasons = [_reason(parser.get_error(i)) for i in range(parser.num_errors)] or [log.last_error]
    raise EngineUnavailable(
        f"{library} cannot read the graph of {job.component}.",
        why="; ".join(reasons[:3]) + ".",
        fix="Export the checkpoint again with --target tensorrt (or tensorrt-10.3 for JetPack 6).",
    )


def _let_attention_fall_apart(library: Library, network: Any) -> None:
    """Attention for whose shape there is no kernel is built from products, instead of being refused."""
    kind = getattr(library.trt, "IAttentionInputLayer", None)
    if kind is None:  # before 10.14 there is no such layer
        return
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        if layer.type == library.trt.LayerType.ATTENTION_INPUT:
            with suppress(AttributeError, TypeError):  # then attention that has no kernel is refused, in words
                layer.__class__ = kind  # the binding hands out the base class, which knows nothing of attention
                layer.attention.decomposable = True


def _reason(error: Any) -> str:
    text = " ".join(str(error.desc()).split())
    name, kind = (getattr(error, part, str)() for part in ("node_name", "node_operator"))
    return (f"{kind} {name}: " if name or kind else "") + text[:300]


def _configure(job: Job, library: Library, builder: Any, config: Any) -> None:
    trt = library.trt
    if job.target:
        library.set_target(config, job.target)
    if job.workspace_bytes:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, job.workspace_bytes)
    if job.precision == "fp32":  # is what a bundle of that precision is for
        config.clear_flag(trt.BuilderFlag.TF32)
    if job.stripped:
        config.set_flag(trt.BuilderFlag.STRIP_PLAN)
    if library.captures_on_request:
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    for profile in job.profiles:
        requested = builder.create_optimization_profile()
        for name, shapes in profile.ranges.items():
            requested.set_shape(name, shapes.min, shapes.opt, shapes.max)
        config.add_optimization_profile(requested)


def _with_timings(job: Job, library: Library, config: Any) -> Any:
    """Give the builder what earlier builds have timed; TensorRT refuses timings of another version or GPU itself."""
    if job.timings is None or not library.keeps_timings:
        return None
    try:
        earlier = job.timings.read_bytes()
    except OSError:
        earlier = b""
    cache = config.create_timing_cache(earlier)
    if cache is None or not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _keep_timings(job: Job, config: Any) -> None:
    timings = config.get_timing_cache().serialize()
    if job.timings is not None and timings is not None:
        write_whole(job.timings, memoryview(timings))


def _what_to_do(reason: str) -> str:
    if "memory" in reason.lower() or "alloc" in reason.lower():
        return "Free some memory, or give a smaller --context or --memory."
    return "Run again with --debug to see all that the library says."


if __name__ == "__main__":
    sys.exit(main())
