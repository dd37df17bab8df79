"""From a bundle to an engine that may be given to TensorRT on this device, or to the reason why there is none."""

from __future__ import annotations

from pathlib import Path

from vita_edge.engines.bundle.component_spec import LLM
from vita_edge.engines.errors import EngineUnavailable

from ..bundle.format import Bundle
from .device import Gpu, find_device
from .engine_cache import EngineCache
from .engine_file import BadEngine, EngineFile
from .engine_key import EngineKey, differences
from .library import Library, find_libraries

__all__ = ["open_engine"]


def open_engine(
    bundle: Bundle,
    component: str,
    *,
    max_context: int | None = None,
    cache: Path | None = None,
    library: Library | None = None,
    device: Gpu | None = None,
) -> EngineFile:
    """The engine of ``component`` for this device. Its length and sha256 are compared before this returns.

    Args:
        max_context: positions that the KV cache has to have room for; the smallest engine with as many is taken.
            Without it, the engine that was built last is.
        cache: folder of engines; default: that of the user.
        library: default: whichever is installed here and has an engine.
        device: default: the GPU of this machine. Of another one, the library is not asked what it thinks of the engine.

    Raises:
        EngineUnavailable: no driver, no GPU, no library, no engine, or none that fits and is whole; says which, and
            which command builds one.
    """
    really_here = device is None
    device = device or find_device()
    engines = EngineCache(cache)
    problems: list[str] = []
    for candidate in [library] if library else find_libraries():
        requested = EngineKey.of(bundle, component, candidate, sm=device.sm, gpu=device.name)
        for engine_file in _fitting(engines, requested, max_context, problems):
            try:
                engine_file.check()
                if really_here and (objection := candidate.objection(engine_file.data())):
                    raise BadEngine(f"{candidate} refuses {engine_file.path}: {objection}")
                return engine_file
            except BadEngine as error:
                problems.insert(0, str(error))
    raise _explained(bundle, component, engines, device, problems, max_context)


def _fitting(
    engines: EngineCache, requested: EngineKey, max_context: int | None, problems: list[str]
) -> list[EngineFile]:
    """Engines that may be opened, the best first; of the others, ``problems`` is told why not."""
    found, unreadable = engines.engines(requested.component)
    problems += [problem for problem in unreadable if problem not in problems]
    fitting = []
    for engine_file in found:
        reasons = differences(requested, engine_file.key)
        if max_context and engine_file.capacity and engine_file.capacity[1] < max_context:
            reasons.append(f"its KV cache has room for {engine_file.capacity[1]:,} positions, not {max_context:,}")
        if reasons:
            problems.append(f"{engine_file.folder.name}: {'; '.join(reasons)}")
        else:
            fitting.append(engine_file)
    if max_context:
        fitting.sort(key=lambda engine_file: engine_file.capacity[1] if engine_file.capacity else 0)
    return fitting


def _explained(
    bundle: Bundle, component: str, engines: EngineCache, device: Gpu, problems: list[str], max_context: int | None
) -> EngineUnavailable:
    cache = "" if engines.folder == EngineCache().folder else f" --engine-dir {engines.folder}"
    context = f" --context {max_context}" if max_context and component == LLM.name else ""
    command = f"vita-edge build {bundle.path} --backend tensorrt --component {component}{context}{cache}"
    if not problems:
        what, why = f"No engine of {component} has been built for {device}.", f"There is none in {engines.folder}."
    else:
        what = f"No engine of {component} can be used on {device}."
        why = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "") + "."
    return EngineUnavailable(what, why=why, fix=f"Build it: {command}")
