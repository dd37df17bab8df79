"""The command line: reads arguments, calls one folder, prints. Imports nothing heavy before a command runs."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from vita_edge import __version__
from vita_edge.engines.errors import VitaEdgeError

__all__ = ["build_parser", "main"]

COMMANDS = {
    "demo": "answer a recorded question about a picture with the bundle that comes along",
    "ask": "ask a bundle: text, sound, pictures or a video in; text and speech out",
    "export": "turn a VITA-1.5 checkpoint into a bundle",
    "verify": "compare every stage of a bundle with recorded arrays",
    "inspect": "what is in a bundle, and the memory that it will take",
    "practice": "write a random checkpoint in the layout of the release",
}
"""A module of this folder for each, with ``add_arguments`` and ``run``."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vita-edge", description="VITA-1.5 on the device that talks.")
    parser.add_argument("--version", action="version", version=f"vita-edge {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        module = importlib.import_module(f".{name}", __name__)
        command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        command.add_argument("--json", action="store_true", help="print one JSON object with the same facts")
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns 0 done, 1 failed, 2 misuse, 130 interrupted."""
    arguments = build_parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except VitaEdgeError as error:
        if arguments.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has left; say nothing at exit
        return 1
    except Exception as error:
        if arguments.debug:
            raise
        print(
            f"error: {type(error).__name__}: {error}\nThis is a mistake in vita-edge.\n"
            "Run the command again with --debug and report what it prints.",
            file=sys.stderr,
        )
        return 1
