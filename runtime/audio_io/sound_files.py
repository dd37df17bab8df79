"""Sound files as they come: whatever libsndfile reads, headers with wrong lengths, and the rest through FFmpeg."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from vita_edge.engines.errors import BadInput

from .sound import MAX_CHANNELS, Sound
from .wav_header import with_length_repaired

__all__ = ["read_sound"]

MAX_SAMPLES = 1 << 28
"""Samples of all channels that are read at most (1 GiB of floats)."""
BLOCK_FRAMES = 1 << 16
FFMPEG_TIMEOUT_S = 120
READ = "WAV, FLAC, MP3, Ogg, Opus, AIFF, AU and CAF are read"
_MAGIC = {
    "MPEG-4 audio (m4a)": (4, b"ftyp"),
    "WebM or Matroska": (0, b"\x1a\x45\xdf\xa3"),
    "Windows Media": (0, b"\x30\x26\xb2\x75"),
    "AC-3": (0, b"\x0b\x77"),
    "AMR": (0, b"#!AMR"),
    "AAC": (0, b"\xff\xf1"),
    "AAC ": (0, b"\xff\xf9"),
    "FLV": (0, b"FLV\x01"),
    "AVI": (8, b"AVI "),
    "Monkey's Audio": (0, b"MAC "),
    "WavPack": (0, b"wvpk"),
}


def read_sound(source: str | Path | bytes | BinaryIO) -> Sound:
    """Read a sound of any bit depth, rate and number of channels.

    WAV, FLAC, MP3, Ogg, Opus, AIFF, AU, CAF and others are read by libsndfile; m4a, aac, webm and others where the
    ``ffmpeg`` program is on the PATH. Integers are divided by their full scale (16 bit: 32768). Of a file that was cut
    short, or whose header gives a wrong length, the samples that are there are used.

    Args:
        source: a path, the bytes of a file, or an open binary file.

    Returns:
        the sound, samples float32 [channels, n], n > 0.

    Raises:
        BadInput: there is no such file, it is not a sound, it is damaged, or it holds no samples.
    """
    if isinstance(source, bytes):
        return _read(io.BytesIO(source), "The sound", None)
    if not isinstance(source, (str, Path)):
        return _read(source, str(getattr(source, "name", "The sound")), None)
    try:
        with Path(source).open("rb", buffering=0) as file:
            return _read(file if file.seekable() else io.BytesIO(file.readall()), str(source), Path(source))
    except OSError as error:
        why = f"{error.strerror or error}."
        raise BadInput(f"Cannot read the sound {source}.", why=why, fix="Check the path.") from error


def _read(file: BinaryIO, name: str, path: Path | None) -> Sound:
    begin = file.tell() if file.seekable() else 0
    try:
        samples, rate = _decode(_with_right_length(file), name)
    except (soundfile.SoundFileError, TypeError, ValueError, EOFError) as error:
        # TypeError: soundfile takes an open file called .raw for headerless samples and asks for their rate
        if file.seekable():
            file.seek(begin)
        samples, rate = _through_ffmpeg(file, name, path, error)
    if samples.size == 0:
        raise BadInput(f"{name} holds no samples.", why="The file is empty or was cut short.", fix="Record it again.")
    return Sound(np.ascontiguousarray(samples.T), rate)


def _with_right_length(file: BinaryIO) -> BinaryIO | int:
    """The file, or its bytes with the length in the header put right."""
    if (repaired := with_length_repaired(file)) is not None:
        return io.BytesIO(repaired)
    # a descriptor spares libsndfile the way back through Python for each block
    return file.fileno() if isinstance(file, io.FileIO) else file


def _decode(file: BinaryIO | int, name: str) -> tuple[NDArray[np.float32], int]:
    """float32 [n, channels], read block by block, since not every encoding can be searched; and its rate."""
    with soundfile.SoundFile(file, closefd=False) as sound:
        if sound.channels > MAX_CHANNELS:
            why = f"It has {sound.channels} channels; at most {MAX_CHANNELS} are read."
            raise BadInput(f"{name} cannot be read.", why=why, fix="Extract the channel with the voice.")
        maximum = MAX_SAMPLES // sound.channels
        if sound.frames > maximum and sound.seekable():
            raise _too_long(name, sound.frames * sound.channels)
        blocks, count = [np.zeros((0, sound.channels), np.float32)], 0
        while len(block := sound.read(BLOCK_FRAMES, dtype="float32", always_2d=True)):
            blocks.append(block)
            count += len(block)
            if count > maximum:
                raise _too_long(name, count * sound.channels)
        return np.concatenate(blocks), int(sound.samplerate)


def _too_long(name: str, samples: int) -> BadInput:
    why = f"It has {samples:,} samples; at most {MAX_SAMPLES:,} are read."
    return BadInput(f"{name} is too long to be read.", why=why, fix="Cut it into shorter clips.")


def _through_ffmpeg(file: BinaryIO, name: str, path: Path | None, error: Exception) -> tuple[NDArray[np.float32], int]:
    """Decode what libsndfile does not know, where FFmpeg is there and may know it.

    Raises:
        BadInput: it is not, or it does not.
    """
    begin = file.read(16)
    kind = next((kind.strip() for kind, (at, magic) in _MAGIC.items() if begin[at:].startswith(magic)), None)
    ffmpeg = shutil.which("ffmpeg")
    convert = f"ffmpeg -i {path.name if path else 'FILE'} sound.wav"
    if kind is None or not ffmpeg:
        why = str(getattr(error, "error_string", error)) if kind is None else f"It is {kind}, which needs FFmpeg."
        fix = f"Convert it with `{convert}`" + (", or install ffmpeg." if kind else f" if it is a sound; {READ}.")
        raise BadInput(f"{name} is not a sound that can be read.", why=why, fix=fix) from error
    with tempfile.TemporaryDirectory() as folder:
        source, wav = path.resolve() if path else Path(folder, "sound"), Path(folder, "sound.wav")
        if not path:
            source.write_bytes(begin + file.read())
        # local files only, whatever a playlist in the file says
        command = [ffmpeg, "-nostdin", "-v", "error", "-protocol_whitelist", "file", "-i", f"file:{source}", "-vn"]
        command += ["-c:a", "pcm_f32le", "-fs", str(4 * MAX_SAMPLES), "-f", "wav", str(wav)]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=FFMPEG_TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired) as failure:
            raise BadInput(
                f"{name} is not a sound that can be read.", why=f"{failure}.", fix=f"Try `{convert}`."
            ) from failure
        if done.returncode or not wav.exists():
            lines = os.fsdecode(done.stderr).replace(f"file:{source}", name).strip().splitlines() or ["no reason given"]
            raise BadInput(
                f"{name} is not a sound that can be read.",
                why=f"It is {kind}, and FFmpeg says: {lines[-1]}.",
                fix="Record or convert it again.",
            )
        return _decode(io.BytesIO(wav.read_bytes()), name)
