"""From a bundle to a plan that may be given to TensorRT on this device, or to the reason why there is none."""

from __future__ import annotations

from pathlib import Path

from vita_edge.engines.errors import EngineUnavailable

from ..bundle.format import Bundle
from .device import Device, find_device
from .engine_cache import PlanCache
from .engine_file import BadPlan, Plan
from .engine_key import PlanKey, differences
from .library import Library, find_libraries

__all__ = ["open_plan"]


def open_plan(
    bundle: Bundle,
    component: str,
    *,
    max_context: int | None = None,
    cache: Path | None = None,
    library: Library | None = None,
    device: Device | None = None,
) -> Plan:
    """The plan of ``component`` for this device. Its length and sha256 are compared before this returns.

    Args:
        max_context: positions that the KV cache has to have room for; the smallest plan with as many is taken. Without
            it, the plan that was built last is.
        cache: folder of plans; default: that of the user.
        library: default: whichever is installed here and has a plan.
        device: default: the GPU of this machine. Of another one, the library is not asked what it thinks of the plan.

    Raises:
        EngineUnavailable: no driver, no GPU, no library, no plan, or none that fits and is whole; says which, and which
            command builds one.
    """
    really_here = device is None
    device = device or find_device()
    plans = PlanCache(cache)
    problems: list[str] = []
    for candidate in [library] if library else find_libraries():
        wanted = PlanKey.of(bundle, component, candidate, sm=device.sm, gpu=device.name)
        for plan in _fitting(plans, wanted, max_context, problems):
            try:
                plan.check()
                if really_here and (objection := candidate.objection(plan.data())):
                    raise BadPlan(f"{candidate} refuses {plan.path}: {objection}")
                return plan
            except BadPlan as error:
                problems.insert(0, str(error))
    raise _explained(bundle, component, plans, device, problems, max_context)


def _fitting(plans: PlanCache, wanted: PlanKey, max_context: int | None, problems: list[str]) -> list[Plan]:
    """Plans that may be opened, the best first; of the others, ``problems`` is told why not."""
    found, unreadable = plans.plans(wanted.component)
    problems += [problem for problem in unreadable if problem not in problems]
    fitting = []
    for plan in found:
        reasons = differences(wanted, plan.key)
        if max_context and plan.capacity and plan.capacity[1] < max_context:
            reasons.append(f"its KV cache has room for {plan.capacity[1]:,} positions, not {max_context:,}")
        if reasons:
            problems.append(f"{plan.folder.name}: {'; '.join(reasons)}")
        else:
            fitting.append(plan)
    if max_context:
        fitting.sort(key=lambda plan: plan.capacity[1] if plan.capacity else 0)
    return fitting


def _explained(
    bundle: Bundle, component: str, plans: PlanCache, device: Device, problems: list[str], max_context: int | None
) -> EngineUnavailable:
    cache = "" if plans.folder == PlanCache().folder else f" --cache {plans.folder}"
    context = f" --max-context {max_context}" if max_context and component == "llm" else ""
    command = f"vita-edge build {bundle.path} --backend tensorrt --component {component}{context}{cache}"
    if not problems:
        what, why = f"No plan of {component} has been built for {device}.", f"There is none in {plans.folder}."
    else:
        what = f"No plan of {component} can be used on {device}."
        why = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "") + "."
    return EngineUnavailable(what, why=why, fix=f"Build it: {command}")
