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

from .audio_io.device_protocols import AudioInput, AudioOutput
from .audio_io.echo_canceller import EchoCanceller, Headphones
from .audio_io.sound import Sound, write_wav
from .audio_io.sound_files import read_sound
from .decoding.sampling_options import SamplingOptions
from .encoders.camera import Camera, FrameSource
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
from .events.session_events import (
    ClauseHeard,
    FirstSound,
    Happening,
    Interrupted,
    TalkStateChanged,
    Trouble,
    TurnBegan,
    TurnEnded,
    TurnForgotten,
)
from .live.live_options import LiveOptions
from .live.live_session import LiveSession
from .live.own_devices import NewestFrame, PacedOutput, PushInput
from .session.aio import EventStream, result, stream
from .session.assistant import Assistant, demo_folder
from .session.options import SessionOptions
from .session.response import Response
from .session.session import Session
from .session.turn import Turn
from .turns.turn_events import TurnTimes

__all__ = [
    "Assistant",
    "AudioInput",
    "AudioOutput",
    "BadBundle",
    "BadCheckpoint",
    "BadInput",
    "Camera",
    "ClauseHeard",
    "ContextOverflow",
    "DeviceFailed",
    "EchoCanceller",
    "EngineUnavailable",
    "Event",
    "EventStream",
    "FinishReason",
    "FirstSound",
    "FrameSource",
    "Happening",
    "Headphones",
    "InferenceFailed",
    "Interrupted",
    "LiveOptions",
    "LiveSession",
    "MissingPackage",
    "Misuse",
    "NewestFrame",
    "OutputFailed",
    "PacedOutput",
    "PushInput",
    "Reply",
    "Response",
    "SamplingOptions",
    "Session",
    "SessionOptions",
    "Sound",
    "SpeechPiece",
    "State",
    "StateDecided",
    "TalkStateChanged",
    "TextPiece",
    "Trouble",
    "Turn",
    "TurnBegan",
    "TurnDone",
    "TurnEnded",
    "TurnForgotten",
    "TurnTimes",
    "VitaEdgeError",
    "demo_folder",
    "live_positions",
    "read_frames",
    "read_image",
    "read_sound",
    "result",
    "sample_positions",
    "stream",
    "write_wav",
]
