"""The error family. Every error says what happened, why, and what to do.

VitaEdgeError
├── Misuse              the command or the call was wrong                    exit 2
├── BadInput            a sound, picture, video or text cannot be used       exit 1
├── BadCheckpoint       the folder to export is not a whole VITA-1.5 release exit 1
├── BadBundle           the bundle is damaged, incomplete or too new         exit 1
├── ContextOverflow     the conversation does not fit into the KV cache      exit 1
├── InferenceFailed     the backend gave up while a graph ran                exit 1
├── DeviceFailed        a microphone, speaker or camera cannot be used       exit 1
├── EngineUnavailable   the backend that was asked for cannot run here       exit 1
├── MissingPackage      an optional library is not installed                 exit 1
└── OutputFailed        a result could not be written                        exit 1
"""

from __future__ import annotations

import errno

from .printable import printable

__all__ = [
    "BadBundle",
    "BadCheckpoint",
    "BadInput",
    "ContextOverflow",
    "DeviceFailed",
    "EngineUnavailable",
    "InferenceFailed",
    "MissingPackage",
    "Misuse",
    "OutputFailed",
    "VitaEdgeError",
]


class VitaEdgeError(Exception):
    """An error that a user can act on: ``what`` happened, ``why``, and how to ``fix`` it; printable, whatever names it
    quotes."""

    exit_code = 1

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(printable(what))
        self.what, self.why, self.fix = printable(what), printable(why), printable(fix)

    def __str__(self) -> str:
        return "\n".join(part for part in (self.what, self.why, self.fix) if part)


class Misuse(VitaEdgeError):
    """The command line or a call asked for something that does not exist or does not fit together."""

    exit_code = 2


class BadInput(VitaEdgeError):
    """A sound, picture, video or text that cannot be used."""


class BadCheckpoint(VitaEdgeError):
    """A checkpoint folder that is not a whole VITA-1.5 release, or has options this runtime refuses."""


class BadBundle(VitaEdgeError):
    """A bundle that is damaged, incomplete, or written by a newer version."""


class ContextOverflow(VitaEdgeError):
    """The conversation does not fit into the context of the model or the capacity of the KV cache."""


class InferenceFailed(VitaEdgeError):
    """The backend gave up while a graph ran; most often memory ran out."""


class DeviceFailed(VitaEdgeError):
    """A microphone, a speaker or a camera is not there, cannot be told from another, or refuses."""


class EngineUnavailable(VitaEdgeError):
    """The backend that was asked for cannot run here: its library, driver, GPU or plan is missing or does not fit.

    Where another backend would do, this is the error to fall back from.
    """


class MissingPackage(VitaEdgeError):
    """An optional library is needed and not installed."""


class OutputFailed(VitaEdgeError):
    """A result could not be written: no space, no permission, no such folder."""

    @classmethod
    def from_os_error(cls, target: object, error: OSError) -> OutputFailed:
        """Name the usual reasons for a failed write to ``target`` in plain words."""
        fixes = {
            errno.ENOSPC: "Free some space, or write to another disk.",
            errno.EDQUOT: "Free some of your quota, or write to another disk.",
            errno.EACCES: "Write to a folder that you own, or change its permissions.",
            errno.EPERM: "Write to a folder that you own, or change its permissions.",
            errno.EROFS: "The disk is mounted read-only; write elsewhere.",
            errno.EFBIG: "The disk holds no file this large (FAT32: 4 GiB): use exFAT or ext4, or write elsewhere.",
            errno.ENOENT: "Create the folder first, or correct the path.",
            errno.ENOTDIR: "A part of the path is a file; correct the path.",
            errno.EISDIR: "The path is a folder; name a file in it.",
        }
        reason = error.strerror or type(error).__name__
        fix = fixes.get(error.errno or 0, "Choose another place to write to.")
        return cls(f"Cannot write {target}.", why=f"{reason}.", fix=fix)
