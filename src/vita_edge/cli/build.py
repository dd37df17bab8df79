"""vita-edge build BUNDLE --backend tensorrt"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vita_edge.engines.errors import Misuse

from .output.build_text import BuildLine, facts, print_outcomes
from .output.show import print_json

if TYPE_CHECKING:
    from vita_edge.engines.tensorrt.build.build import Outcome

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder that `vita-edge export` has written")
    parser.add_argument(
        "--sm",
        default="auto",
        metavar="SM",
        help="compute capability to build for, like sm86; auto takes the GPU of this machine (default: auto)",
    )
    parser.add_argument(
        "--precision", metavar="P", help="refuse a bundle of another precision; the precision is decided at export"
    )
    parser.add_argument(
        "--component",
        action="append",
        default=[],
        metavar="NAME",
        help="build only this component; repeatable (default: all)",
    )
    parser.add_argument(
        "--context",
        type=int,
        metavar="N",
        help="size of the KV cache in tokens (default: the longest prompt and 1024, rounded up)",
    )
    parser.add_argument(
        "--audio-seconds", type=int, default=60, metavar="N", help="max length of an utterance in seconds (default: 60)"
    )
    parser.add_argument("--sentence-tokens", type=int, metavar="N", help="max tokens of a spoken clause (default: 256)")
    parser.add_argument("--codes", type=int, default=128, metavar="N", help="max codec tokens per call (default: 128)")
    parser.add_argument("--memory", type=int, metavar="MIB", help="max build memory in MiB (default: what is free)")
    parser.add_argument(
        "--engine-dir",
        type=Path,
        metavar="DIR",
        help="folder of engines (default: $VITA_EDGE_ENGINE_DIR, or the user's cache)",
    )
    parser.add_argument(
        "--stripped",
        action="store_true",
        help="build engines without weights, read from the bundle at load; needs a GPU",
    )
    parser.add_argument("--force", action="store_true", help="rebuild existing engines")


def run(arguments: argparse.Namespace) -> int:
    from vita_edge.engines.bundle.format import Bundle
    from vita_edge.engines.tensorrt.build.build import build_engines
    from vita_edge.engines.tensorrt.build.build_jobs import build_jobs, check_bundle
    from vita_edge.engines.tensorrt.build.build_target import find_place
    from vita_edge.engines.tensorrt.build.profiles import EngineLimits
    from vita_edge.engines.tensorrt.engine_cache import EngineCache

    bundle = Bundle.open(arguments.bundle)
    check_bundle(bundle, arguments.precision)
    limits = EngineLimits.of(
        bundle.model,
        max_context=arguments.context,
        audio_s=arguments.audio_seconds,
        sentence_tokens=arguments.sentence_tokens,
        codes=arguments.codes,
    )
    if arguments.memory is not None and arguments.memory < 1:
        raise Misuse(f"--memory is {arguments.memory}.", why="It counts MiB.", fix="Give 1 or more.")
    place = find_place(arguments.sm)
    requested = build_jobs(bundle, place, limits, components=arguments.component, stripped=arguments.stripped)
    cache = EngineCache(arguments.engine_dir)
    line = BuildLine(len(requested))
    outcomes: list[Outcome] = []
    whole = False
    try:
        for outcome in build_engines(
            requested,
            place,
            cache,
            memory_bytes=arguments.memory << 20 if arguments.memory else None,
            force=arguments.force,
            progress=line.show,
            debug=(lambda text: print(text, file=sys.stderr)) if arguments.debug else None,
        ):
            outcomes.append(outcome)
            line.finished(outcome)
        whole = True
    finally:
        line.close()
        if outcomes and not whole:  # Ctrl-C
            _report_what_stays(outcomes)
    if arguments.json:
        print_json(
            {
                "bundle": str(bundle.path),
                "cache": str(cache.folder),
                "library": place.library.name,
                "version": place.library.version,
                "device": place.sm,
                "max_context": limits.max_context,
                "engines": {outcome.component: facts(outcome) for outcome in outcomes},
            }
        )
    else:
        print_outcomes(outcomes, str(place), cache.folder)
    return _exit_code(outcomes)


def _exit_code(outcomes: Sequence[Outcome]) -> int:
    failed = [outcome.error for outcome in outcomes if outcome.error]
    return max((error.exit_code for error in failed), default=0)


def _report_what_stays(outcomes: Sequence[Outcome]) -> None:
    done = [outcome.component for outcome in outcomes if outcome.engine_file]
    print(f"finished engines stay: {', '.join(done) or 'nothing'}", file=sys.stderr)
