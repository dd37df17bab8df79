"""Open one graph of a bundle on the processor, whatever backend it was exported for."""

from __future__ import annotations

from typing import Any

from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.onnxruntime.cpu import OnnxCpuSession

__all__ = ["open_graph"]


def open_graph(bundle: Bundle, component: str, **options: Any) -> OnnxCpuSession:
    """See :class:`OnnxCpuSession` for the options."""
    return OnnxCpuSession(bundle.components[component].graph, **options)
