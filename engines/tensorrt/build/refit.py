"""Put the weights of a bundle into an engine that was built without them.

Such an engine has kernels only; graph and weights of the bundle are read once more when it is opened. That saves the
disk a second copy of the weights, and costs the time to read and arrange them.
"""

from __future__ import annotations

from typing import Any

from vita_edge.engines.errors import EngineUnavailable

from ...bundle.format import Bundle
from ...onnx_file.graph_inputs import fixed_axes
from ..engine_file import EngineFile
from ..library import Library

__all__ = ["put_weights_in"]


def put_weights_in(library: Library, engine: Any, logger: Any, engine_file: EngineFile, bundle: Bundle) -> None:
    """Give ``engine``, just deserialised from the stripped ``engine``, the weights of its component.

    Raises:
        EngineUnavailable: some do not fit, or are missing; says which.
    """
    graph = bundle.components[engine_file.key.component].graph
    refitter = library.trt.Refitter(engine, logger)
    parser = library.trt.OnnxParserRefitter(refitter, logger)
    model = fixed_axes(graph.read_bytes(), engine_file.key.fixed)
    taken = parser.refit_from_bytes(model, str(graph)) and refitter.refit_cuda_engine()
    if taken:
        return
    problems = [" ".join(str(parser.get_error(i).desc()).split()) for i in range(parser.num_errors)]
    problems += [f"{name} is missing" for name in refitter.get_missing_weights()]
    raise EngineUnavailable(
        f"The engine of {engine_file.key.component} does not take the weights of the bundle.",
        why="; ".join(problems[:3] or ["the library has given no reason"]) + ".",
        fix=f"Build it again with its weights: vita-edge build {bundle.path} --component {engine_file.key.component}",
    )
