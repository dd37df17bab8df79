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

from .audio_io.sound import Sound, read_sound, write_wav
from .encoders.video import live_positions, read_frames, sample_positions
from .encoders.vision_frontend import read_image
from .events.reply_events import Event, Reply, SpeechPiece, State, StateDecided, TextPiece, TurnDone
from .session.assistant import Assistant, demo_folder
from .session.conversation import Conversation
from .session.turn import Options, Turn

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
