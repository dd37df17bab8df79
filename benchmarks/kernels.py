"""What TensorRT-RTX makes of a graph, without a GPU: it compiles for named GPUs, and its log lists the kernels.

The list is read from the builder's verbose log (``profiling_verbosity`` DETAILED); reading it from the plan would need
a GPU. TensorRT-RTX compiles by one compiler only; the full library may choose other kernels.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

Profile = Mapping[str, tuple[int, int, int]]
"""Axis → least, usual and largest length."""


NARROW_FIRST = ("Int4", "Int8", "Half", "Float")


class Refused(RuntimeError):
    """The parser or the compiler does not take the graph; says which node and why."""


@dataclass(frozen=True)
class Tensor:
    """A tensor that a kernel reads or writes."""

    name: str
    dtype: str
    """As TensorRT calls it: Float, Half, Int8, Int4, Int32, Int64, Bool"""
    shape: tuple[int, ...]
    """−1 where it varies."""


@dataclass(frozen=True)
class Kernel:
    """One step of a plan."""

    name: str
    kind: str
    """kgen (written by the compiler), gemm, runtime_fusion, correlation, …"""
    profile: int
    inputs: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    nodes: tuple[str, ...]
    """Of the graph, that it computes."""

    @property
    def attends(self) -> bool:
        """It is a fused attention: scores are never written to memory."""
        return "_mha_" in self.name

    @property
    def matrices(self) -> tuple[Tensor, ...]:
        """Constant matrices that it reads."""
        return tuple(c for c in self.constants if sum(n > 1 for n in c.shape) > 1)

    @property
    def widens(self) -> bool:
        """It writes a constant matrix out in a wider type, to be read again by a product."""
        narrow = any(c.dtype in ("Int4", "Int8") for c in self.matrices)
        return narrow and not self.inputs


@dataclass(frozen=True)
class Compiled:
    """A compiled graph."""

    kernels: tuple[Kernel, ...]
    outputs: frozenset[str]
    plan_bytes: int
    weight_bytes: int
    """Of one GPU; weights that two profiles share count once."""
    activation_bytes: tuple[int, ...]
    """Scratch memory, for each profile."""
    seconds: float

    def of(self, profile: int) -> tuple[Kernel, ...]:
        return tuple(kernel for kernel in self.kernels if kernel.profile == profile)

    def reading(self, dtype: str, profile: int = 0) -> tuple[Kernel, ...]:
        """Kernels that read a constant matrix of ``dtype`` and none that is narrower: scales do not count."""
        narrower = NARROW_FIRST[: NARROW_FIRST.index(dtype)]
        return tuple(
            kernel
            for kernel in self.of(profile)
            if kernel.inputs
            and dtype in (types := {matrix.dtype for matrix in kernel.matrices})
            and not types.intersection(narrower)
        )

    def in_float32(self, profile: int = 0) -> tuple[Kernel, ...]:
        """Kernels that write float32 to memory, other than the outputs of the graph."""
        return tuple(
            k
            for k in self.of(profile)
            if any(
                t.dtype == "Float"
                and math.prod(map(abs, t.shape)) > 1
                and t.name.split(" [profile")[0] not in self.outputs
                for t in k.outputs
            )
        )


def compile_graph(
    graph: Path | str,
    profiles: Sequence[Profile] = ({},),
    *,
    devices: Sequence[str] = ("sm86",),
    fixed: Mapping[str, int] | None = None,
) -> Compiled:
    """Compile an ONNX file for ``devices`` (sm75, sm80, sm86, sm89, sm120, sm121); several share one plan.

    Args:
        profiles: for each, the lengths of every axis that varies.
        fixed: axes that get one length before the graph is parsed: the capacity of a KV cache.

    Raises:
        Refused: with the library's words.
        ImportError: there is no tensorrt_rtx.
    """
    import tensorrt_rtx as trt

    log = _log(trt)
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    model = onnx.load(str(graph), load_external_data=False)
    _fix(model, fixed or {})
    axes = {value.name: _axes(value) for value in model.graph.input}
    if not parser.parse(model.SerializeToString(), str(graph)):
        raise Refused("; ".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.num_compute_capabilities = len(devices)
    for i, device in enumerate(devices):
        config.set_compute_capability(getattr(trt.ComputeCapability, device.upper()), i)
    for lengths in profiles:
        config.add_optimization_profile(_profile(builder, axes, lengths))
    started = time.perf_counter()
    plan = builder.build_serialized_network(network, config)
    seconds = time.perf_counter() - started
    if plan is None:
        raise Refused("; ".join(log.errors) or "no reason given")
    texts = [text for text in log.texts if text.startswith("Layers:")]
    return Compiled(
        kernels=_kernels(texts[0].splitlines() if texts else []),
        outputs=frozenset(value.name for value in model.graph.output),
        plan_bytes=plan.nbytes,
        weight_bytes=_totals(log.texts, "Weights")[0],
        activation_bytes=_totals(log.texts, "Activation")[: len(profiles)],
        seconds=seconds,
    )


def _log(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.texts: list[str] = []
            self.errors: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(text)
            elif text.startswith(("Layers:", "Total ")):
                self.texts.append(text)

    return Log()


def _fix(model: onnx.ModelProto, lengths: Mapping[str, int]) -> None:
    for value in (*model.graph.input, *model.graph.output):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param in lengths:
                axis.dim_value = lengths[axis.dim_param]


def _axes(value: onnx.ValueInfoProto) -> list[int | str]:
    return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]


def _profile(builder: Any, axes: Mapping[str, list[int | str]], lengths: Profile) -> Any:
    profile = builder.create_optimization_profile()
    for name, shape in axes.items():
        if any(isinstance(axis, str) for axis in shape):
            profile.set_shape(name, *([lengths[n][i] if isinstance(n, str) else n for n in shape] for i in range(3)))
    return profile


def _totals(texts: Sequence[str], what: str) -> tuple[int, ...]:
    return tuple(int(m[1]) for text in texts if (m := re.fullmatch(rf"Total {what} Memory: (\d+) bytes", text)))


def _kernels(lines: Sequence[str]) -> tuple[Kernel, ...]:
    """A kernel's name ends in the number of its part of the plan; parts of profiles but the first name them."""
    profiles: dict[str, int] = {}
    for line in lines:
        part, named = re.match(r"Name: .*?_myl(\d+)_\d+, LayerType", line), re.search(r" \[profile (\d+)\]", line)
        if part and named:
            profiles[part[1]] = int(named[1])
    return tuple(kernel for line in lines if (kernel := _kernel(line, profiles)))


def _kernel(line: str, profiles: Mapping[str, int]) -> Kernel | None:
    found = re.match(
        r"Name: (?P<name>.+?), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*)\], Constants: \[(?P<constants>.*)\], "
        r"Outputs: \[(?P<outputs>.*)\], TacticName",
        line,
    )
    if found is None or found["kind"] in ("signal", "wait", "shape_call", "copy"):
        return None
    part = re.search(r"_myl(\d+)_\d+$", found["name"])
    return Kernel(
        name=found["name"],
        kind=found["kind"],
        profile=profiles.get(part[1], 0) if part else 0,
        inputs=_tensors(found["inputs"]),
        constants=_tensors(found["constants"]),
        outputs=_tensors(found["outputs"]),
        nodes=tuple(re.findall(r"\[ONNX Layer: (.*?)\]", line)),
    )


def _tensors(text: str) -> tuple[Tensor, ...]:
    found = re.finditer(r"\{ Name: (.*?), Dimensions: \[([^\]]*)\].*?Datatype: (\w+)", text)
    return tuple(Tensor(m[1], m[3], tuple(int(n) for n in m[2].split(",") if n)) for m in found)
