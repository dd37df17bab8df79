"""vita-edge record BUNDLE -o FEEDS [--folder DIR | a question as of `vita-edge ask`]"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from vita_edge.engines.errors import BadInput, Misuse
from vita_edge.engines.printable import printable, printable_line
from vita_edge.engines.reading.file_kind import FileKind, read_text

from .ask import add_options, add_question, engine_options, hold_turn, options_from
from .output.show import mib, print_json, table
from .turns import read_turn, turn_specs

__all__ = ["add_arguments", "run"]

SOUNDS = (".wav", ".flac", ".ogg", ".mp3")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
QUESTIONS = FileKind(BadInput, "the questions", fix="Save the file as UTF-8, one question a line.")
ABOUT_A_PICTURE = "What is in this picture?"
"""Asked about the pictures of a folder that has no questions."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder that `vita-edge export` has written")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FEEDS", help="folder to write")
    question = add_question(parser)
    question.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help="every sound and every line of every .txt file in it, each in a conversation of its own; its pictures are "
        "shown with them in turn",
    )
    add_options(parser)


def run(arguments: argparse.Namespace) -> int:
    from vita_edge.runtime import Assistant

    options = options_from(arguments, speak=True)
    specs = _folder_specs(arguments) if arguments.folder else turn_specs(arguments)
    turns = [read_turn(spec, arguments.style) for spec in specs]
    with Assistant(arguments.bundle, record=arguments.output, **engine_options(arguments)) as assistant:
        if not arguments.json:
            print(printable(assistant.bundle.notice), file=sys.stderr)
        talk = None
        for number, turn in enumerate(turns, 1):
            if talk is None or arguments.folder:
                talk = assistant.session(options)
            reply = hold_turn(talk, turn, quiet=True)
            if not arguments.json:
                print(f"{number} of {len(turns)}: {printable_line(reply.text.strip()[:60])}", file=sys.stderr)
    recorded = json.loads((arguments.output / "manifest.json").read_text("utf-8"))["components"]
    if arguments.json:
        counts = {
            name: {"seen": part["seen"], "kept": len(part["files"]), "bytes": part["bytes"]}
            for name, part in recorded.items()
        }
        print_json({"feeds": str(arguments.output), "turns": len(turns), "components": counts})
        return 0
    rows = [("component", "seen", "kept", "size")]
    rows += [(name, str(p["seen"]), str(len(p["files"])), mib(p["bytes"])) for name, p in recorded.items()]
    print(table(rows))
    return 0


def _folder_specs(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A turn for every question that lies in the folder."""
    folder: Path = arguments.folder
    if any((arguments.text, arguments.audio, arguments.image, arguments.video, arguments.turns)):
        raise Misuse(
            "--folder stands alone.", why="Its files are what is asked.", fix="Leave --text, --audio, --turns … out."
        )
    try:
        files = sorted(file for file in folder.iterdir() if file.is_file())
    except OSError as error:
        raise BadInput(f"The folder {folder} cannot be read.", why=f"{error}.", fix="Check the path.") from error
    texts = [read_text(file, QUESTIONS) for file in files if file.suffix.lower() == ".txt"]
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    pictures = [file for file in files if file.suffix.lower() in PICTURES]
    questions: list[dict[str, Any]] = [
        *({"text": "", "audio": [file]} for file in files if file.suffix.lower() in SOUNDS),
        *({"text": line, "audio": []} for line in lines),
    ] or [{"text": ABOUT_A_PICTURE, "audio": []} for _ in pictures]
    if not questions:
        raise BadInput(
            f"The folder {folder} asks nothing.",
            why="It has no sounds, no .txt files and no pictures.",
            fix=f"Put sounds ({', '.join(SOUNDS)}), text or pictures into it.",
        )
    for number, question in enumerate(questions):
        question["image"] = [pictures[number % len(pictures)]] if pictures else []
        question["video"] = None
    return questions
