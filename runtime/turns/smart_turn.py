"""Smart Turn v3.2 (Daily, BSD-2-Clause): whether a turn is complete, from its last eight seconds.

The model is a file of 8.7 MB that the package ``pipecat-ai`` carries. It is found there or given by a path, checked by
its sha256, and never downloaded.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.errors import BadInput

from .log_mel import log_mel

__all__ = ["SmartTurn", "installed_model"]

SHA256 = "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f"
PLACE = "audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx"
HEARD = 8 * 16_000
"""Samples of a turn: its last eight seconds, with zeros before a shorter one."""
FIX = "Give the smart-turn-v3.2-cpu.onnx that pipecat-ai 1.14 carries, or leave the detector out."


def installed_model() -> Path | None:
    """The model in an installed ``pipecat-ai``; None when it is not installed. Nothing of it is imported."""
    spec = find_spec("pipecat")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    found = (Path(folder) / PLACE for folder in folders)
    return next((path for path in found if path.is_file()), None)


class SmartTurn:
    """A :class:`~.detector.TurnDetector`; a call takes about 75 ms of one core."""

    name = "Smart Turn v3.2"

    def __init__(self, model: Path, *, threads: int = 1) -> None:
        """
        Raises:
            BadInput: the file cannot be read, or is another one.
        """
        import onnxruntime

        try:
            content = model.read_bytes()
        except OSError as error:
            why = f"{error.strerror or error}."
            raise BadInput(f"Cannot read the turn detector {model}.", why=why, fix=FIX) from error
        found = hashlib.sha256(content).hexdigest()
        if found != SHA256:
            why = f"Its sha256 is {found[:12]}…; that of Smart Turn v3.2 is {SHA256[:12]}…."
            raise BadInput(f"{model} is not the turn detector.", why=why, fix=FIX)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            self.probability(np.zeros(HEARD, np.float32))  # the first call is slow
        except Exception as error:  # whatever this version of the library cannot do
            why = str(error).splitlines()[0]
            raise BadInput(f"The turn detector {model} cannot be run.", why=why, fix=FIX) from error

    def probability(self, turn: NDArray[np.float32]) -> float:
        """That the turn in float32 [n] at 16 kHz is complete; see :class:`~.detector.TurnDetector`."""
        turn = turn[-HEARD:]
        heard = np.concatenate([np.zeros(HEARD - turn.size, np.float32), turn])
        (result,) = self._session.run(None, {"input_features": log_mel(heard)[None]})
        return float(np.ravel(result)[0])
