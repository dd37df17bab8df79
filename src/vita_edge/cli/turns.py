"""What is asked: from the command line, from standard input, or from a file of turns."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vita_edge.engines.errors import BadInput, Misuse
from vita_edge.engines.reading.file_kind import FileKind, beside, read_text
from vita_edge.engines.reading.json_file import parse_json

if TYPE_CHECKING:
    from vita_edge.runtime import Turn

__all__ = ["read_turn", "read_turn_file", "turn_specs"]

TURNS = FileKind(
    BadInput,
    "the turns",
    fix='Write a JSON list such as [{"text": "Hello"}, {"audio": "question.wav", "image": ["photo.png"]}].',
)


def turn_specs(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    given = {name: getattr(arguments, name) for name in ("text", "audio", "image", "video")}
    if arguments.turns is None:
        if not any(value.strip() if isinstance(value, str) else value for value in given.values()):
            raise Misuse(
                "Nothing is asked.", why="A question has a text, a sound or a picture.", fix="Give --text or --audio."
            )
        return [{**given, "text": _read_stdin() if arguments.text == "-" else arguments.text}]
    if any(given.values()):
        raise Misuse("--turns stands alone.", why="The file says what is asked.", fix="Leave --text, --audio … out.")
    return list(read_turn_file(arguments.turns))


def _read_stdin() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise BadInput("The text cannot be read.", why=f"{error}.", fix=f"Give it as {error.encoding}.") from error


def read_turn_file(path: Path) -> Iterator[dict[str, Any]]:
    """Turns of a file, a JSON list or one object a line; paths in it count from its folder."""
    content = read_text(path, TURNS)
    try:
        turns = (
            parse_json(content)
            if content.lstrip().startswith("[")
            else [parse_json(line) for line in content.splitlines() if line.strip()]
        )
    except ValueError as error:
        raise TURNS.refusal(path, f"They are not valid JSON: {error}.") from error
    if not turns:
        raise TURNS.refusal(path, "There is nothing to ask.")
    for i, turn in enumerate(turns, 1):
        try:
            yield _turn_spec(turn, path)
        except (TypeError, ValueError) as error:
            raise TURNS.refusal(path, f"Turn {i}: {error}.") from error


def _turn_spec(turn: Any, file: Path) -> dict[str, Any]:
    if not isinstance(turn, dict):
        raise TypeError("It is not an object")
    if unknown := sorted(set(turn) - {"text", "audio", "image", "video"}):
        raise ValueError(f"It has {', '.join(unknown)}; known are text, audio, image and video")
    for name in ("text", "video"):
        if not isinstance(turn.get(name) or "", str):
            raise TypeError(f"Its {name} is not text in quotes")
    if not any(turn.values()):
        raise ValueError("It asks nothing")
    video = turn.get("video")
    return {
        "text": turn.get("text") or "",
        "audio": [beside(file, name, TURNS) for name in _listed(turn, "audio")],
        "image": [beside(file, name, TURNS) for name in _listed(turn, "image")],
        "video": beside(file, video, TURNS) if video else None,
    }


def _listed(turn: dict[str, Any], name: str) -> list[str]:
    value = turn.get(name) or []
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(entry, str) for entry in listed):
        raise TypeError(f"Its {name} is neither a path nor a list of paths")
    return listed


def read_turn(spec: dict[str, Any], style: str) -> Turn:
    from vita_edge.runtime import Turn, live_positions, read_frames, read_image, read_sound, sample_positions

    def choose(frame_count: int, fps: float) -> list[int]:
        return live_positions(frame_count) if style == "live" else sample_positions(frame_count, fps)

    return Turn(
        text=spec["text"],
        sounds=[read_sound(path) for path in spec["audio"]],
        images=[read_image(path) for path in spec["image"]],
        frames=read_frames(spec["video"], choose)[0] if spec["video"] else (),
    )
