"""The turn detector that somebody asks for by a word or a path."""

from __future__ import annotations

from pathlib import Path

from vita_edge.engines.errors import MissingPackage

from .detector import TurnDetector
from .own_detector import CombinedDetector, OwnDetector
from .smart_turn import SmartTurn, installed_model

__all__ = ["WORDS", "turn_detector"]

WORDS = ("auto", "smart-turn", "prosody", "combined")


def turn_detector(asked: str) -> TurnDetector:
    """The turn detector that is asked for.

    Args:
        asked: ``smart-turn``: that of an installed pipecat-ai; ``prosody``: the runtime's own; ``combined``: both;
            ``auto``: both where pipecat-ai is installed, else prosody; or the path of Smart Turn's model, to combine.

    Raises:
        MissingPackage: pipecat-ai is not installed.
        BadInput: the file cannot be read, or is another one.
    """
    model = installed_model() if asked in WORDS else Path(asked)
    if asked == "prosody" or (asked == "auto" and model is None):
        return OwnDetector()
    if model is None:
        raise MissingPackage(
            "The turn detector Smart Turn is not here.",
            why="Its model is found in the package pipecat-ai, which is not installed.",
            fix="pip install pipecat-ai; or give the path of smart-turn-v3.2-cpu.onnx: --turn-detector PATH.",
        )
    smart_turn = SmartTurn(model)
    return smart_turn if asked == "smart-turn" else CombinedDetector(smart_turn)
