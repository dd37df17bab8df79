"""The torch-free runtime: hear, see, think, speak."""

from .assistant import Assistant
from .conversation import Conversation, Options, Turn
from .events import Event, Reply, SpeechPiece, State, StateDecided, TextPiece, TurnDone
from .sound import Sound, read_sound, write_wav
from .video import live_positions, read_frames, sample_positions
from .vision_frontend import read_image

__all__ = [
    "Assistant",
    "Conversation",
    "Event",
    "Options",
    "Reply",
    "Sound",
    "SpeechPiece",
    "State",
    "StateDecided",
    "TextPiece",
    "Turn",
    "TurnDone",
    "live_positions",
    "read_frames",
    "read_image",
    "read_sound",
    "sample_positions",
    "write_wav",
]
