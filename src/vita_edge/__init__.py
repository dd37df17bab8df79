"""vita-edge: VITA-1.5 on the device that talks.

The Python interface is in :mod:`vita_edge.runtime`; this package is only the face of the folders behind it.
"""

import os
import sys

__version__ = "0.1.0"

# Nothing leaves the device. From 1.30 on ONNX Runtime writes a device id and looks up a telemetry host unless it finds
# this before it is imported; disable_telemetry_events() comes too late. Children inherit it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# tokenizers brings huggingface_hub along, which nothing here imports: should another package do so, it stays offline.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

TELEMETRY_MAY_BE_ON = "onnxruntime" in sys.modules
"""ONNX Runtime was imported before vita_edge, which then could not switch its telemetry off: set
``ORT_DISABLE_TELEMETRY=1`` in the environment, or import vita_edge first."""

if TELEMETRY_MAY_BE_ON and hasattr(sys.modules["onnxruntime"], "disable_telemetry_events"):
    sys.modules["onnxruntime"].disable_telemetry_events()  # all that is left to do; it does not stop the look-ups
