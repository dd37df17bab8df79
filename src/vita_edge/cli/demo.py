"""vita-edge demo: the whole way on this machine, with the small model and the recordings that come along."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vita_edge.engines.errors import Misuse, VitaEdgeError

from .ask import add_options, engine_options, hold_turn, options_from, reply_facts, summary
from .output.loudspeaker import Play, find_loudspeaker
from .output.output_file import WAV, add_force, check_output, free_name
from .output.show import print_json

if TYPE_CHECKING:
    from vita_edge.runtime import Assistant, Reply, Session, Turn

__all__ = ["add_arguments", "run"]

REPLY_TOKENS = 48
"""Its replies are single sentences."""
PROMPT = "you          "
HELP = "Type a question. /image FILE shows a picture, /audio FILE plays a recorded question, an empty line ends."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="WAV",
        help="write the spoken replies, one after the other, to this WAV file (default: reply.wav, or reply-2.wav …)",
    )
    add_force(parser)
    parser.add_argument(
        "--interactive", action="store_true", help="then answer questions that you type, until an empty line"
    )
    parser.add_argument("--mute", action="store_true", help="do not play the replies")
    add_options(parser)
    parser.set_defaults(max_new_tokens=REPLY_TOKENS, max_tiles=1)


@dataclass(frozen=True)
class _Asked:
    """A turn of the demo: its files, or what was typed."""

    question: Path | str
    picture: Path | None = None
    said: str | None = None
    """What the recording says, where that is known."""

    def turn(self) -> Turn:
        from vita_edge.runtime import Turn, read_image, read_sound

        images = [read_image(self.picture)] if self.picture else []
        if isinstance(self.question, str):
            return Turn(text=self.question, images=images)
        return Turn(sounds=[read_sound(self.question)], images=images)

    def facts(self) -> dict[str, Any]:
        picture = str(self.picture) if self.picture else None
        return {"question": str(self.question), "said": self.said, "picture": picture}

    def shown(self) -> str:
        """What a person sees of it before the reply; what was typed stands there already."""
        lines = {"picture": self.picture, "recording": self.question, "question": self.said}
        if isinstance(self.question, str):
            del lines["recording"]
        return "".join(f"{name:13}{value}\n" for name, value in lines.items() if value)


@dataclass(frozen=True)
class _Stage:
    """Where the talk is held: with which model, for whom, and how loud."""

    talk: Session
    assistant: Assistant
    arguments: argparse.Namespace
    play: Play | None


def run(arguments: argparse.Namespace) -> int:
    from vita_edge.runtime import Assistant, demo_folder

    if arguments.interactive and arguments.json:
        raise Misuse("--interactive and --json exclude each other.", why="One is for people.", fix="Leave one out.")
    demo = demo_folder()
    arguments.output = arguments.output or free_name(Path("reply.wav"))
    check_output(arguments.output, suffixes=WAV, force=arguments.force)
    options = options_from(arguments, speak=True)
    with Assistant(demo / "bundle", **engine_options(arguments)) as assistant:
        talk = assistant.session(options)
        audible = not arguments.json and not arguments.mute and sys.stdout.isatty()
        stage = _Stage(talk, assistant, arguments, find_loudspeaker() if audible else None)
        if not arguments.json:
            print(assistant.bundle.notice)
        replies, turns = [], []
        for asked in _script(demo):
            reply, facts = _hold(asked, stage)
            replies.append(reply)
            turns.append(facts)
        if arguments.interactive:
            for asked in _typed():
                try:
                    replies.append(_hold(asked, stage)[0])
                except VitaEdgeError as error:  # a wrong path does not end the talk
                    print(f"\n{error}")
        sound = _write(replies, arguments.output)
        if arguments.json:
            print_json({"audio": str(sound) if sound else None, "turns": turns})
        else:
            print(f"\nall replies  {sound or 'none was spoken'}")
            if not arguments.interactive:
                print(f"Type to it with --interactive. To speak with it: vita-edge chat {demo / 'bundle'}")
    return 0


def _script(demo: Path) -> list[_Asked]:
    """The recordings that come along, in their order."""
    listed = json.loads((demo / "script.json").read_text("utf-8"))
    return [
        _Asked(demo / turn["audio"], demo / turn["image"] if "image" in turn else None, turn["said"]) for turn in listed
    ]


def _hold(asked: _Asked, stage: _Stage) -> tuple[Reply, dict[str, Any]]:
    import numpy as np

    from vita_edge.runtime import read_sound

    arguments = stage.arguments
    if not arguments.json:
        print(f"\n{asked.shown()}reply        ", end="", flush=True)
    if stage.play and isinstance(asked.question, Path):
        sound = read_sound(asked.question)
        stage.play(sound.heard_channel, sound.sample_rate_hz)
    reply = hold_turn(stage.talk, asked.turn(), quiet=arguments.json)
    if stage.play and len(reply.pcm):
        stage.play(reply.pcm.astype(np.float32) / np.float32(32768), reply.sample_rate_hz)
    if not arguments.json:
        if reply.state == "noise":
            print("(nothing: it was not asked)")
        print(summary(reply, arguments.output if len(reply.pcm) else None))
    return reply, asked.facts() | reply_facts(reply, None, stage.assistant, stage.talk)


def _typed() -> Iterator[_Asked]:
    """What a person asks, until an empty line or the end of the input."""
    print(f"\n{HELP}")
    picture: Path | None = None
    while True:
        print(PROMPT, end="", flush=True)
        line = sys.stdin.readline().strip()
        command, _, name = line.partition(" ")
        if not line:
            print()
            return
        if command == "/image":
            picture = Path(name.strip())
            continue
        yield _Asked(Path(name.strip()) if command == "/audio" else line, picture)
        picture = None


def _write(replies: list[Reply], output: Path) -> Path | None:
    """All that was said into one file, with half a second of silence between replies."""
    import numpy as np

    from vita_edge.runtime import write_wav

    spoken = [reply for reply in replies if len(reply.pcm)]
    if not spoken:
        return None
    rate = spoken[0].sample_rate_hz
    silence = np.zeros(rate // 2, np.int16)
    write_wav(output, np.concatenate([part for reply in spoken for part in (reply.pcm, silence)][:-1]), rate)
    return output
