"""One product of a graph, in every format that a matrix can be kept in, and how far each may be off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from vita_edge.engines.onnxruntime.cpu import OnnxCpuSession
from vita_edge.export.graphs.graph_builder import GraphBuilder
from vita_edge.export.lowerings.tensorrt import TensorRt
from vita_edge.export.weights.formats import Blocks, Float16, Float32, Int8Rows, LinearFormat
from vita_edge.export.weights.weight import computed
from vita_edge.export.weights.weight_only import Int4Blocks, Int8Columns, Int8Rescaled, Plain

Floats = NDArray[np.float32]

FORMATS: dict[str, tuple[LinearFormat, float]] = {
    "fp32": (Float32(), 1e-6),
    "fp16": (Float16(), 1e-3),
    "int8": (Int8Rows(), 0.02),
    "8 bits": (Blocks(8, 64), 0.02),
    "4 bits": (Blocks(4, 32), 0.12),
}
"""For ONNX Runtime."""
TENSORRT_FORMATS: dict[str, tuple[LinearFormat, float]] = {
    "as it is": (Plain(), 1e-3),
    "int8, a scale for every output": (Int8Columns(), 0.01),
    "int8, one scale and the rest behind": (Int8Rescaled(), 0.01),
    "int4": (Int4Blocks(32), 0.12),
}


def product(folder: Path, form: LinearFormat, weight: NDArray[Any], x: Floats) -> Floats:
    """x [n, in] · weight [out, in]ᵀ through a graph written in ``form``, in the dialect that it is for."""
    folder.mkdir(exist_ok=True)
    rows, width = weight.shape
    for_tensorrt = form in [known for known, _ in TENSORRT_FORMATS.values()]
    g = GraphBuilder("one", form, lowering=TensorRt() if for_tensorrt else None)
    x_in = g.inner(g.input("x", "float32", [1, "n", width]))
    g.result(g.linear(x_in, computed(weight.shape, lambda: weight), None, "w"), "y", [1, "n", rows])
    g.save(folder)
    if for_tensorrt:  # standard operators throughout
        onnx.checker.check_model(str(folder / "one.onnx"), full_check=True)
    with OnnxCpuSession(folder / "one.onnx") as session:
        return np.array(session.infer({"x": x[None]})["y"][0])
