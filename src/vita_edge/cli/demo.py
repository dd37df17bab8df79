"""vita-edge demo: the whole way on this machine, with what comes along."""

from __future__ import annotations

import argparse
from pathlib import Path

from .ask import add_options, check_output, engine_options, hold_turn, options_from, reply_facts, summary
from .show import print_json

__all__ = ["add_arguments", "run"]

REPLY_TOKENS = 48
"""Random weights do not know when to stop."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("reply.wav"),
        metavar="WAV",
        help="where the spoken reply goes (default: reply.wav)",
    )
    add_options(parser)
    parser.set_defaults(max_new_tokens=REPLY_TOKENS)


def run(arguments: argparse.Namespace) -> int:
    from vita_edge.runtime import Assistant, Turn, demo_folder, read_image, read_sound, write_wav

    demo = demo_folder()
    question, picture = demo / "question.wav", demo / "picture.png"
    check_output(arguments.output)
    options = options_from(arguments, speak=True)
    with Assistant(demo / "bundle", **engine_options(arguments)) as assistant:
        if not arguments.json:
            print(assistant.bundle.notice)
            print(f"question     {question}\npicture      {picture}\nreply        ", end="", flush=True)
        turn = Turn(sounds=[read_sound(question)], images=[read_image(picture)])
        talk = assistant.conversation(options)
        reply = hold_turn(talk, turn, quiet=arguments.json)
        sound = None
        if len(reply.pcm):
            write_wav(arguments.output, reply.pcm, reply.sample_rate_hz)
            sound = arguments.output
        if arguments.json:
            asked = {"question": str(question), "picture": str(picture)}
            print_json(asked | reply_facts(reply, sound, assistant, talk))
        else:
            print(summary(reply, sound))
    return 0
