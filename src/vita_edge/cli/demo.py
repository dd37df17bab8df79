"""vita-edge demo: the whole way on this machine, with what comes along."""

from __future__ import annotations

import argparse
from pathlib import Path

from .ask import STATES, add_options, hold_turn, options_from, reply_facts, show_latency
from .show import print_json

__all__ = ["add_arguments", "run"]

DEMO = Path(__file__).parents[1] / "demo"
REPLY_TOKENS = 48
"""Random weights do not know when to stop."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=Path, default=Path("reply.wav"), metavar="WAV")
    add_options(parser)
    parser.set_defaults(max_new_tokens=REPLY_TOKENS)


def run(arguments: argparse.Namespace) -> int:
    from vita_edge.runtime import Assistant, Turn, read_image, read_sound, write_wav

    question, picture = DEMO / "question.wav", DEMO / "picture.png"
    options = options_from(arguments, speak=True)
    with Assistant(DEMO / "bundle", threads=arguments.threads) as assistant:
        if not arguments.json:
            print(assistant.bundle.notice)
            print(f"question  {question}\npicture   {picture}\nreply     ", end="", flush=True)
        turn = Turn(sounds=[read_sound(question)], images=[read_image(picture)])
        reply = hold_turn(assistant.conversation(options), turn, quiet=arguments.json)
        sound = None
        if len(reply.pcm):
            write_wav(arguments.output, reply.pcm, reply.sample_rate_hz)
            sound = arguments.output
        if arguments.json:
            print_json(reply_facts(reply, sound, assistant.bundle))
            return 0
    print(
        f"state     {STATES[reply.state]}"
        + ("" if reply.state_marked else ", as the question was: no state token came")
    )
    print(f"speech    {reply.seconds:.2f} s in {sound}" if sound else "speech    none")
    print("time      in the order in which the stages began; the last three count from the question")
    print(show_latency(reply))
    return 0
