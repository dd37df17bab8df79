"""Recorded questions, and where the speech in each of them ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from vita_edge.engines.errors import BadInput

from ..audio_io.sound import Sound
from ..audio_io.sound_files import read_sound
from ..turns.annotation import Annotation, read_annotation
from ..turns.end_of_speech import UNSURE_DB, end_of_speech

__all__ = ["SOUNDS", "Question", "read_questions"]

SOUNDS = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64")
"""Endings of what is read from a folder."""
UNREADABLE = (".m4a", ".aac", ".wma", ".webm", ".mka", ".mkv", ".mp4", ".mov", ".amr", ".3gp", ".alac", ".ape")
"""Endings of recordings that libsndfile does not read: those are named, not passed over."""


@dataclass(frozen=True)
class Question:
    """A recording of somebody who asks something."""

    name: str
    sound: Sound
    annotation: Annotation = field(default_factory=Annotation)

    @cached_property
    def speech_end_s(self) -> float:
        """Its last sample of speech, from its beginning: as annotated, else as measured, else that of the recording."""
        if self.annotation.speech_end_s is not None:
            return self.annotation.speech_end_s
        found = end_of_speech(self.sound.heard_channel, self.sound.sample_rate_hz)
        return found.at_s if found else self.sound.seconds

    @property
    def doubt(self) -> str | None:
        """Why the end of its speech may be marked wrongly; None when there is no reason."""
        if self.annotation.speech_end_s is not None:
            return None
        found = end_of_speech(self.sound.heard_channel, self.sound.sample_rate_hz)
        if found is None:
            return "nothing stands out of its noise"
        if not found.sure:
            return f"its speech is only {found.above_noise_db:.0f} dB above its noise, {UNSURE_DB:.0f} are needed"
        return None


def read_questions(paths: Sequence[Path]) -> tuple[list[Question], list[str]]:
    """Recordings, and those in folders, by name.

    Returns:
        the questions, and the names of recordings in folders that are of no format that can be read.

    Raises:
        BadInput: there is none, one cannot be read, or holds nothing but silence.
    """
    files: list[Path] = []
    passed_over: list[str] = []
    for path in paths:
        if path.is_dir():
            there = sorted(file for file in path.iterdir() if file.is_file())
            files += [file for file in there if file.suffix.lower() in SOUNDS]
            passed_over += [file.name for file in there if file.suffix.lower() in UNREADABLE]
        else:
            files.append(path)
    if not files:
        found = f" Found {', '.join(passed_over)}, which are of no format that can be read." if passed_over else ""
        raise BadInput(
            f"There are no recordings in {', '.join(map(str, paths))}.",
            why=f"Looked for {', '.join(SOUNDS)}.{found}",
            fix="Give recorded questions. `ffmpeg -i FILE FILE.wav` converts others.",
        )
    return [_read(file) for file in files], passed_over


def _read(file: Path) -> Question:
    question = Question(file.name, read_sound(file), read_annotation(file))
    if not question.sound.heard_channel.any():
        raise BadInput(f"{file.name} is silent.", why="All its samples are 0.", fix="Record it again.")
    end_s = question.annotation.speech_end_s
    if end_s is not None and end_s > question.sound.seconds:
        raise BadInput(
            f"{file.with_suffix('.json').name} does not annotate {file.name}.",
            why=f"Its speech_end_s is {end_s:g}; the recording lasts {question.sound.seconds:.3f} s.",
            fix="Correct it, or remove the file.",
        )
    return question
