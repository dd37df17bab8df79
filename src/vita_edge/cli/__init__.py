"""The command line: reads arguments, calls one folder, prints. Imports nothing heavy before a command runs."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
import traceback
from collections.abc import Sequence

from vita_edge import __version__
from vita_edge.engines.contact import report_to
from vita_edge.engines.errors import OutputFailed, VitaEdgeError

from .huge_pages import begin_again_with_huge_pages
from .output.safe_streams import safe_streams
from .parser import CommandParser

__all__ = ["build_parser", "main"]

COMMANDS = {
    "demo": "hold three turns with the built-in bundle: a question about a picture, a follow-up, a noise",
    "ask": "answer a question: text, audio, pictures or video in; text and speech out",
    "chat": "talk live, with microphone, speaker and camera",
    "devices": "list and test microphones, speakers and cameras",
    "export": "turn a VITA-1.5 checkpoint into a bundle",
    "build": "build TensorRT engines of a bundle for an NVIDIA GPU",
    "record": "answer questions and record what the graphs are fed, for calibrate",
    "calibrate": "write an INT8 or INT4 bundle, calibrated on recorded feeds",
    "verify": "compare every stage of a bundle with its checkpoint, with recorded arrays, or with another bundle",
    "inspect": "show what a bundle contains and how much memory it takes",
    "estimate": "predict whether a model fits a board, and how fast it runs",
    "bench": "measure latency: recorded questions in real time, three clocks",
    "clean": "remove what killed commands left half-written, and restore what they moved aside",
    "practice": "write a checkpoint of random weights in the layout of the release",
}
"""A module of this folder for each, with ``add_arguments`` and ``run``."""

TALKS = ("ask", "bench", "chat", "record")
"""Commands that hold a model's weights and read all of them for every word."""


def build_parser() -> argparse.ArgumentParser:
    parser = CommandParser(prog="vita-edge", description="Run VITA-1.5 speech and vision chat on this device.")
    parser.add_argument("--version", action="version", version=f"vita-edge {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        module = importlib.import_module(f".{name}", __name__)
        command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        command.add_argument("--json", action="store_true", help="print the result as one JSON object")
        command.add_argument("--debug", action="store_true", help="show the traceback of errors")
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns 0 done, 1 failed, 2 misuse, 130 interrupted.

    Args:
        argv: arguments; None takes those of the process, which may then be begun again for large pages.
    """
    if argv is None and sys.argv[1:2] and sys.argv[1] in TALKS:
        begin_again_with_huge_pages()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show Chinese shows ?
    with safe_streams():
        return _run(build_parser().parse_args(argv))


def _run(arguments: argparse.Namespace) -> int:
    try:
        try:
            return int(arguments.run(arguments))
        finally:
            _flush()
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1  # the reader has left
    except Exception as error:
        if arguments.debug:
            traceback.print_exc()
        else:
            print(f"error: {_explained(error)}", file=sys.stderr)
        return error.exit_code if isinstance(error, VitaEdgeError) else 1


def _flush() -> None:
    """Notice now that standard output is full or closed; Python would only mutter at exit."""
    if sys.stdout is None:  # closed before we began
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in the buffer has to go somewhere
        raise


def _explained(error: Exception) -> Exception | str:
    if isinstance(error, VitaEdgeError):
        return error
    if isinstance(error, OSError) and error.filename is None:  # files are told apart where they are opened
        return OutputFailed.from_os_error("to standard output", error)
    if isinstance(error, MemoryError):
        return (
            f"There is not enough memory.\n{error or 'An allocation failed.'}\nRun `vita-edge inspect` on the bundle."
        )
    return (
        f"{type(error).__name__}: {error}\nThis is a bug in vita-edge.\n"
        f"Run the command again with --debug and report what it prints to {report_to()}."
    )
