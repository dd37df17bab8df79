"""Which engines a bundle needs on a GPU: a key for each, and what it will cost to build."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vita_edge.engines.errors import Misuse

from ...bundle.format import Bundle
from ...onnx_file.graph_inputs import GraphInterface, graph_interface
from ..engine_key import EngineKey
from ..library import Library
from .build_cost import Size
from .build_target import BuildTarget
from .profiles import EngineLimits, component_profiles, fixed_lengths

__all__ = ["BuildJob", "build_jobs", "check_bundle"]


@dataclass(frozen=True)
class BuildJob:
    """An engine that is to be there in the end."""

    component: str
    graph: Path
    interface: GraphInterface
    key: EngineKey
    size: Size


def build_jobs(
    bundle: Bundle,
    place: BuildTarget,
    limits: EngineLimits,
    *,
    components: Iterable[str] = (),
    stripped: bool = False,
) -> list[BuildJob]:
    """The engines of a bundle, the cheapest first: what is finished when somebody loses patience is more.

    Args:
        components: names; none means all.

    Raises:
        Misuse: a name that the bundle does not have, or a bundle for another backend.
        EngineUnavailable: a graph has an axis of which no length is known.
    """
    check_bundle(bundle)
    _check_library(bundle, place.library)
    if stripped and place.device is None:
        raise Misuse(
            "Engines cannot be built without their weights here.",
            why="TensorRT needs a GPU and its driver for engines whose weights are put in later.",
            fix="Build on the device itself, or leave --stripped out.",
        )
    names = list(dict.fromkeys(components)) or list(bundle.components)
    if unknown := [name for name in names if name not in bundle.components]:
        raise Misuse(
            f"There is no component {unknown[0]}.",
            why=f"The bundle has {', '.join(bundle.components)}.",
            fix="Name one of these.",
        )
    requested = [_requested(bundle, place, limits, name, stripped) for name in names]
    return sorted(requested, key=lambda engine_file: engine_file.size.seconds)


def check_bundle(bundle: Bundle, precision: str | None = None) -> None:
    """Refuse a bundle that no TensorRT can read.

    Args:
        precision: that the user expects it to have.

    Raises:
        Misuse: it was exported for another backend, or in another precision.
    """
    if bundle.target == "onnxruntime":
        raise Misuse(
            f"{bundle.path} cannot be built for TensorRT.",
            why="It was exported for ONNX Runtime, whose operators for attention and few bits TensorRT does not have.",
            fix="Export the checkpoint again with --target tensorrt (tensorrt-10.3 for JetPack 6).",
        )
    if precision is not None and precision != bundle.precision:
        raise Misuse(
            f"{bundle.path} is {bundle.precision}, not {precision}.",
            why="Precision is decided when a bundle is exported; an engine is built in the types of its graphs.",
            fix=f"Export the checkpoint again with --precision {precision}, or leave --precision out.",
        )


def _check_library(bundle: Bundle, library: Library) -> None:
    if bundle.target == "tensorrt" and library.opset < 24:
        raise Misuse(
            f"{bundle.path} cannot be built by {library}.",
            why="It was exported for TensorRT 10.15 and later, whose operators for the KV cache it uses.",
            fix="Export the checkpoint again with --target tensorrt-10.3.",
        )


def _requested(bundle: Bundle, place: BuildTarget, limits: EngineLimits, name: str, stripped: bool) -> BuildJob:
    part = bundle.components[name]
    interface = graph_interface(part.graph)
    fixed = fixed_lengths(name, bundle.model, limits)
    fixed = {axis: n for axis, n in fixed.items() if any(axis in spec.axes for spec in interface.inputs.values())}
    key = EngineKey.of(
        bundle,
        name,
        place.library,
        sm=place.sm,
        gpu=place.device.name if place.device else "",
        profiles=component_profiles(name, interface.inputs, bundle.model, limits),
        fixed=fixed,
        stripped=stripped,
    )
    size = Size(
        graph_bytes=part.graph.stat().st_size,
        weights_bytes=sum(file.stat().st_size for file in part.weights),
        profiles=len(key.profiles),
        stripped=stripped,
    )
    return BuildJob(name, part.graph, interface, key, size)
