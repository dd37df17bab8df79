"""The torch-free runtime: it hears, sees, answers and speaks, without PyTorch. Public names."""

from vita_edge.engines.errors import (
    BadBundle,
    BadCheckpoint,
    BadInput,
    ContextOverflow,
    DeviceFailed,
    EngineUnavailable,
    InferenceFailed,
    MissingPackage,
    Misuse,
    OutputFailed,
    VitaEdgeError,
)

from .audio_io.sound import Sound, write_wav
from .audio_io.sound_files import read_sound
from .decoding.sampling_options import SamplingOptions
from .encoders.video import live_positions, read_frames, sample_positions
from .encoders.vision_frontend import read_image
from .events.reply_events import (
    Event,
    FinishReason,
    Reply,
    SpeechPiece,
    State,
    StateDecided,
    TextPiece,
    TurnDone,
)
from .session.assistant import Assistant, demo_folder
from .session.options import SessionOptions
from .session.response import Response
from .session.session import Session
from .session.turn import Turn

__all__ = [
    "Assistant",
    "BadBundle",
    "BadCheckpoint",
    "BadInput",
    "ContextOverflow",
    "DeviceFailed",
    "EngineUnavailable",
    "Event",
    "FinishReason",
    "InferenceFailed",
    "MissingPackage",
    "Misuse",
    "OutputFailed",
    "Reply",
    "Response",
    "SamplingOptions",
    "Session",
    "SessionOptions",
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
