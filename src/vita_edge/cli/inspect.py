"""vita-edge inspect BUNDLE"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vita_edge.engines.errors import BadBundle

from .output.show import mib, print_json, table

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder that `vita-edge export` has written")
    parser.add_argument("--check", action="store_true", help="read every file and compare its sha256")


def run(arguments: argparse.Namespace) -> int:
    from vita_edge.engines.bundle.format import Bundle
    from vita_edge.estimate.footprint import footprint

    bundle = Bundle.open(arguments.bundle)
    damaged = list(bundle.damaged_files(_progress(bundle.bytes))) if arguments.check else None
    memory = footprint(bundle)
    model = bundle.model
    facts: dict[str, Any] = {
        "bundle": str(bundle.path),
        "model": model.name,
        "producer": bundle.producer,
        "precision": bundle.precision,
        "notice": bundle.notice,
        "bytes": bundle.bytes,
        "components": {
            name: {
                "precision": component.precision,
                "parameters": component.parameters,
                "bytes": sum(file.stat().st_size for file in component.files),
            }
            for name, component in bundle.components.items()
        },
        "context_tokens": model.llm.context_tokens,
        "prompt_limit_tokens": model.llm.prompt_limit_tokens,
        "memory_bytes": memory,
        "facts": model.to_json(),
        "checksums": None if damaged is None else {"damaged": damaged, "files": len(bundle.files)},
    }
    if arguments.json:
        print_json(facts)
    else:
        _print(facts)
    if damaged:
        raise BadBundle(
            f"{len(damaged)} of {len(bundle.files)} files are damaged: {', '.join(damaged)}.",
            why="Their sha256 is not the one of the manifest.",
            fix="Copy the bundle again, or export the checkpoint again.",
        )
    return 0


def _progress(total: int) -> Callable[[int], None] | None:
    """On a terminal, say how much has been read: a full model takes a while."""
    if not sys.stderr.isatty():
        return None
    done = 0

    def show(count: int) -> None:
        nonlocal done
        done += count
        end = "\r" + " " * 20 + "\r" if done >= total else ""
        print(f"\rchecking {done / total:4.0%}{end}", end="", file=sys.stderr, flush=True)

    return show


def _print(facts: dict[str, Any]) -> None:
    model = facts["facts"]
    print(f"{facts['bundle']}: {facts['model']}, {facts['precision']}, {mib(facts['bytes'])}, by {facts['producer']}")
    print(facts["notice"])
    rows = [("component", "precision", "parameters", "on disk")]
    rows += [
        (name, entry["precision"], f"{entry['parameters']:,}", mib(entry["bytes"]))
        for name, entry in facts["components"].items()
    ]
    print("\n" + table(rows, left=2))
    vision, audio, llm, codec = (model[part] for part in ("vision", "audio", "llm", "codec"))
    learned = f", and {audio['prompt_rows']} learned ones" if audio["prompt_rows"] else ""
    tile = f"for each tile of {vision['tile_size']} x {vision['tile_size']} pixels"
    print(f"\ncontext     {llm['context_tokens']:,} tokens, prompts up to {llm['prompt_limit_tokens']:,}")
    live = f"{vision['max_tiles']} in live style"
    print(f"picture     {vision['tokens_per_tile']} tokens {tile}; at most 12 tiles, {live}")
    print(f"sound       12.5 tokens a second{learned}")
    rate = codec["sample_rate_hz"] / codec["samples_per_code"]
    print(f"speech      {rate:g} codes a second, {codec['sample_rate_hz']} Hz")
    print("\nmemory at run time, about")
    print(table([(f"  {name.replace('_', ' ')}", mib(size)) for name, size in facts["memory_bytes"].items()]))
    if facts["checksums"] and not facts["checksums"]["damaged"]:
        print(f"\nchecksums   all {facts['checksums']['files']} files are as the manifest says")
