"""vita-edge clean FOLDER …"""

from __future__ import annotations

import argparse
from pathlib import Path

from .output.show import mib, print_json

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders",
        type=Path,
        nargs="*",
        default=[Path()],
        metavar="FOLDER",
        help="folder in which bundles, recordings or replies were written (default: the current one)",
    )
    parser.add_argument("--dry-run", action="store_true", help="list what would be removed, and change nothing")


def run(arguments: argparse.Namespace) -> int:
    from vita_edge.engines.bundle.leftovers import clean

    found = [left for folder in arguments.folders for left in clean(folder, look_only=arguments.dry_run)]
    if arguments.json:
        print_json({"leftovers": [{"path": str(left.path), "bytes": left.nbytes, "done": left.done} for left in found]})
        return 0
    for left in found:
        print(f"{left.done}  {left.path}  {mib(left.nbytes)}")
    if not found:
        print("nothing is left over")
    return 0
