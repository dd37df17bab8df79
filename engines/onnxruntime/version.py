"""Which version of ONNX Runtime a bundle's graphs need: asked before they are opened, so that no file is blamed."""

from __future__ import annotations

import re
import sys

import onnxruntime as ort

from ..errors import EngineUnavailable

__all__ = ["MIN_VERSIONS", "check_version"]

MIN_VERSIONS = {"onnxruntime": "1.23", "tensorrt": "1.25", "tensorrt-10.3": "1.23"}
"""Target of a bundle → the first version whose CPU kernels run its graphs: opset 24 has no others before 1.25."""
LAST_PYTHON_WITHOUT = (3, 10)
"""Wheels for this Python end at 1.23.2."""


def check_version(bundle: object, target: str, needed: str = "", installed: str = ort.__version__) -> None:
    """Refuse to open the graphs of ``bundle`` with a version that cannot run them.

    Args:
        needed: what the bundle itself says; empty takes what is known of its target.

    Raises:
        EngineUnavailable: says what is needed, what is there, and the way out on this Python.
    """
    needed = needed or MIN_VERSIONS.get(target, "0")
    if _numbers(installed) >= _numbers(needed):
        return
    if sys.version_info[:2] <= LAST_PYTHON_WITHOUT:
        fix = "This Python has none: export with --target tensorrt-10.3, which runs here, or use Python 3.11 or later."
    else:
        fix = f"pip install --upgrade 'onnxruntime>={needed}', or export with --target tensorrt-10.3."
    raise EngineUnavailable(
        f"The bundle {bundle} needs ONNX Runtime {needed}, and {installed} is installed.",
        why=f"Its target is {target}, whose operators older versions do not have.",
        fix=fix,
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
