"""The torch-free runtime: hear, see, think, speak."""

from vita_edge.engines.errors import (
    BadBundle,
    BadCheckpoint,
    BadInput,
    ContextOverflow,
    InferenceFailed,
    MissingPackage,
    Misuse,
    OutputFailed,
    VitaEdgeError,
)

from .assistant import Assistant, demo_folder
from .conversation import Conversation
from .events import Event, Reply, SpeechPiece, State, StateDecided, TextPiece, TurnDone
from .sound import Sound, read_sound, write_wav
from .turn import Options, Turn
from .video import live_positions, read_frames, sample_positions
from .vision_frontend import read_image

__all__ = [
    "Assistant",
    "BadBundle",
    "BadCheckpoint",
    "BadInput",
    "ContextOverflow",
    "Conversation",
    "Event",
    "InferenceFailed",
    "MissingPackage",
    "Misuse",
    "Options",
    "OutputFailed",
    "Reply",
    "Sound",
    "SpeechPiece",
    "State",
    "StateDecided",
    "TextPiece",
    "Turn",
    "TurnDone",
    "VitaEdgeError",
    "demo_folder",
    "live_positions",
    "read_frames",
    "read_image",
    "read_sound",
    "sample_positions",
    "write_wav",
]
