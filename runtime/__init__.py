"""The torch-free runtime: it hears, sees, answers and speaks, without PyTorch. Public names."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from .audio_io.device_protocols import AudioInput, AudioOutput
    from .audio_io.echo_canceller import EchoCanceller, Headphones
    from .encoders.camera import Camera, FrameSource
    from .events.session_events import (
        ClauseHeard,
        FirstSound,
        Interrupted,
        SessionEvent,
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
    "SessionEvent",
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

_LATER = {
    name: module
    for module, names in {
        ".audio_io.device_protocols": ("AudioInput", "AudioOutput"),
        ".audio_io.echo_canceller": ("EchoCanceller", "Headphones"),
        ".encoders.camera": ("Camera", "FrameSource"),
        ".events.session_events": (
            "ClauseHeard",
            "FirstSound",
            "SessionEvent",
            "Interrupted",
            "TalkStateChanged",
            "Trouble",
            "TurnBegan",
            "TurnEnded",
            "TurnForgotten",
        ),
        ".live.live_options": ("LiveOptions",),
        ".live.live_session": ("LiveSession",),
        ".live.own_devices": ("NewestFrame", "PacedOutput", "PushInput"),
        ".session.aio": ("EventStream", "result", "stream"),
        ".turns.turn_events": ("TurnTimes",),
    }.items()
    for name in names
}
"""Where names of live sessions and of asyncio come from: imported when they are used first, since `ask` needs none."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name], __name__), name)
