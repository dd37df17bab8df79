"""vita-edge practice FOLDER --size tiny|half|full"""

from __future__ import annotations

import argparse
from pathlib import Path

from .output.show import export_module, mib, print_json, progress_bar

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder to write")
    parser.add_argument(
        "--size",
        choices=("tiny", "half", "full"),
        default="tiny",
        help="tiny: a few MB; half: Qwen2.5-0.5B's language model with full-size encoders; "
        "full: VITA-1.5's sizes, 18.6 GB (default: tiny)",
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed: same seed, same bytes (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    practice = export_module("practice.write_practice")
    practice.write_practice_checkpoint(arguments.folder, arguments.size, seed=arguments.seed, progress=progress_bar())
    size = sum(file.stat().st_size for file in arguments.folder.rglob("*") if file.is_file())
    facts = {"checkpoint": str(arguments.folder), "size": arguments.size, "seed": arguments.seed, "bytes": size}
    if arguments.json:
        print_json(facts)
    else:
        print(f"{arguments.folder}: random weights of size {arguments.size}, {mib(size)}")
    return 0
