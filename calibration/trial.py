"""Try ways to quantise the layers that read one tensor, and measure what each does to their outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from vita_edge.engines.cores import thread_count

from .component_graph import ComponentGraph
from .layers import Group, Layer
from .ranges import Observed, Range, candidates, quantised
from .weight_scales import channel_int8, dequantised

__all__ = ["Measured", "best_trial", "columns_of", "layer_snr_db", "multiplier", "snr_db", "with_rounded_outputs"]

Floats = NDArray[np.float32]

COLUMNS = 16384
"""Outputs of a matrix that are tried at once: the head of a large vocabulary would be gigabytes."""
ALPHAS = (0.25, 0.5, 0.75)
"""How much of an outlier moves from activation to weight: amax(x)^alpha / amax(w)^(1 - alpha), as in SmoothQuant."""
WORTH_DB = 0.25
"""What smoothing must gain, not to change a norm for nothing."""


@dataclass(frozen=True)
class Measured:
    """The best way that was found for a group."""

    range: Range
    alpha: float | None
    factor: Floats | None
    """What activations are divided by and weights multiplied with, channel by channel."""
    snr_db: tuple[float, ...]
    """Of every layer of the group."""
    minmax_db: tuple[float, ...] | None
    """Of every layer, with everything in range and nothing smoothed."""


def best_trial(graph: ComponentGraph, group: Group, seen: Observed, method: str, *, smoothing: bool) -> Measured:
    """Try every range of ``method``, with and without smoothing, on what was ``seen``.

    Best is the largest mean signal to noise, in dB, over the layers of the group.
    """
    best: Measured | None = None
    minmax: tuple[float, ...] | None = None
    alphas: tuple[float | None, ...] = (
        (None, *ALPHAS) if smoothing and group.norm and seen.channels is not None else (None,)
    )
    for alpha in alphas:
        factor = None if alpha is None else smoothing_factor(graph, group, seen, alpha)
        tried = seen if factor is None else seen.divided(factor)
        ranges = list(candidates(tried, method))
        for each, levels in zip(ranges, _levels(graph, group, seen, tried, factor, ranges)):
            if alpha is None and each.method == "minmax":
                minmax = levels
            gain = WORTH_DB if best is not None and alpha is not None and best.alpha is None else 0.0
            if best is None or _mean(levels) > _mean(best.snr_db) + gain:
                best = Measured(each, alpha, factor, levels, None)
    assert best is not None
    return Measured(best.range, best.alpha, best.factor, best.snr_db, minmax)


def with_rounded_outputs(
    graph: ComponentGraph, group: Group, seen: Observed, found: Measured, ends: Sequence[Range | None]
) -> Measured:
    """``found``, and of convolutions whose output is rounded, too, what is left after that.

    Args:
        ends: of every layer of the group, the range of its output; None where it is not rounded.
    """
    plain = Range("minmax", seen.amax)

    def left(k: int, x: Range, before: float) -> float:
        y = ends[k]
        return before if y is None else _integer_snr_db(graph, group.layers[k], seen, x, y)

    levels = tuple(left(k, found.range, level) for k, level in enumerate(found.snr_db))
    minmax = found.minmax_db and tuple(left(k, plain, level) for k, level in enumerate(found.minmax_db))
    return replace(found, snr_db=levels, minmax_db=minmax)


def _integer_snr_db(graph: ComponentGraph, layer: Layer, seen: Observed, x: Range, y: Range) -> float:
    """Of a convolution whose input, weight and output are rounded; the bias is no part of the signal."""
    multiply, node, signal, noise = multiplier(graph, layer), graph.nodes[layer.node], 0.0, 0.0
    bias = np.float32(0)
    if len(node.input) > 2 and node.input[2] in graph.initializers:
        bias = graph.array(node.input[2]).astype(np.float32)[:, None]
    ((_, weight),) = columns_of(graph, layer)
    rounded = dequantised(*channel_int8(weight, layer.axis, seen.dtype), layer.axis)
    for each in seen.inputs():
        exact, got = multiply(each, weight), multiply(quantised(each, x.limit, seen.dtype), rounded)
        shape = got.shape
        flat = got.reshape(*shape[:2], -1) + bias
        got = (quantised(flat, y.limit, seen.dtype) - bias).reshape(shape)
        signal += _energy(exact)
        noise += _energy(exact - got)
    return snr_db(signal, noise)


def smoothing_factor(graph: ComponentGraph, group: Group, seen: Observed, alpha: float) -> Floats:
    """amax(x)^alpha / amax(w)^(1 - alpha) for every channel; 1 where nothing was seen. Its geometric mean is 1."""
    assert seen.channels is not None
    weights = np.zeros_like(seen.channels)
    for layer in group.layers:
        for _, columns in columns_of(graph, layer):
            weights = np.maximum(weights, np.abs(columns).max(axis=1))
    usable = (seen.channels > 0) & (weights > 0)
    logs = alpha * np.log(seen.channels, where=usable, out=np.zeros_like(weights))
    logs -= (1 - alpha) * np.log(weights, where=usable, out=np.zeros_like(weights))
    logs[usable] -= logs[usable].mean() if usable.any() else 0
    logs[~usable] = 0
    return np.exp(logs).astype(np.float32)


def columns_of(graph: ComponentGraph, layer: Layer) -> Iterator[tuple[slice, Floats]]:
    """The weight in float32, so many outputs at a time; a kernel of a convolution as a whole."""
    weight = layer.values(graph)
    if layer.kind != "MatMul":
        yield slice(None), weight.astype(np.float32)
        return
    for start in range(0, weight.shape[1], COLUMNS):
        part = slice(start, start + COLUMNS)
        yield part, weight[:, part].astype(np.float32)


def multiplier(graph: ComponentGraph, layer: Layer) -> Callable[[Floats, Floats], Floats]:
    """What the layer does with an input and a weight, without its bias."""
    if layer.kind == "MatMul":
        return lambda x, w: x @ w
    node = graph.nodes[layer.node]
    bare = onnx.NodeProto()
    bare.CopyFrom(node)
    del bare.input[:], bare.output[:]
    bare.input.extend(["x", "w"])
    bare.output.append("y")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "w", "y")]
    model = helper.make_model(
        helper.make_graph([bare], "layer", values[:2], values[2:]),
        opset_imports=graph.model.opset_import,
        ir_version=graph.model.ir_version,
    )
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = thread_count()
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda x, w: session.run(None, {"x": x, "w": w})[0]


def snr_db(signal: float, noise: float) -> float:
    """Signal to noise; 200 dB stands for no noise, and -200 for what is no number."""
    if not np.isfinite(noise) or not np.isfinite(signal):
        return -200.0
    if noise <= 0 or signal <= 0:
        return 200.0 if noise <= 0 else -200.0
    return float(np.clip(10 * np.log10(signal / noise), -200, 200))


def layer_snr_db(
    graph: ComponentGraph, layer: Layer, inputs: list[Floats], approximate: Callable[[slice, Floats], Floats]
) -> float:
    """Of the layer's output when only its weight is another: ``approximate`` gets some columns of it."""
    multiply, signal, noise = multiplier(graph, layer), 0.0, 0.0
    for part, weight in columns_of(graph, layer):
        other = approximate(part, weight)
        for x in inputs:
            exact = multiply(x, weight)
            signal += _energy(exact)
            noise += _energy(exact - multiply(x, other))
    return snr_db(signal, noise)


def _levels(
    graph: ComponentGraph, group: Group, seen: Observed, tried: Observed, factor: Floats | None, ranges: list[Range]
) -> list[tuple[float, ...]]:
    """For every range, signal to noise of every layer of the group."""
    noise = np.zeros((len(ranges), len(group.layers)))
    signal = np.zeros(len(group.layers))
    exact_inputs, inputs = seen.inputs(), tried.inputs()
    for k, layer in enumerate(group.layers):
        multiply = multiplier(graph, layer)
        for _, weight in columns_of(graph, layer):
            scaled = weight if factor is None else weight * factor[:, None]
            rounded = dequantised(*channel_int8(scaled, layer.axis, seen.dtype), layer.axis)
            for exact_input, x in zip(exact_inputs, inputs):
                exact = multiply(exact_input, weight)
                signal[k] += _energy(exact)
                for r, each in enumerate(ranges):
                    noise[r, k] += _energy(exact - multiply(quantised(x, each.limit, seen.dtype), rounded))
    return [tuple(snr_db(s, n) for s, n in zip(signal, row)) for row in noise]


def _energy(array: Floats) -> float:
    return float(np.square(array, dtype=np.float64).sum())


def _mean(levels: tuple[float, ...]) -> float:
    return sum(levels) / len(levels)
