"""vita-edge estimate BUNDLE, vita-edge estimate --model SIZE, and vita-edge estimate --measure-this-machine"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vita_edge.engines.errors import BadBundle, Misuse

from .output.show import export_module, optional_module, print_json

if TYPE_CHECKING:
    from vita_edge.estimate.device_file import DeviceFile
    from vita_edge.estimate.estimate_report import EstimatedModel
    from vita_edge.estimate.turn_estimate import SpokenTurn

__all__ = ["add_arguments", "run"]

MODELS = ("full", "half", "tiny")
TARGETS = ("tensorrt", "tensorrt-10.3")
PRECISIONS = ("fp32", "fp16", "int8", "int4")
THIS = "this-machine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("model")
    what.add_argument(
        "bundle", type=Path, nargs="?", metavar="BUNDLE", help="folder that `vita-edge export` has written"
    )
    what.add_argument(
        "--model", choices=MODELS, help="estimate without a bundle: full as released, or a practice model"
    )
    what.add_argument(
        "--precision", choices=PRECISIONS, help="default: that of the bundle, or fp16, int8 and int4 in turn"
    )
    what.add_argument(
        "--target",
        choices=TARGETS,
        help="export target, on boards with TensorRT (default: that of the bundle, or what the board's platform needs)",
    )
    what.add_argument(
        "--context", type=int, metavar="N", help="size of the KV cache in tokens (default: as `vita-edge build`)"
    )
    what.add_argument("--clause-tokens", type=int, metavar="N", help="tokens of the first clause (default: 10)")
    where = parser.add_argument_group("board")
    where.add_argument("--board", nargs="+", metavar="B", help="boards by their key (default: all known)")
    where.add_argument(
        "--board-file", type=Path, metavar="FILE", help="your own device file, read after the built-in one"
    )
    checked = parser.add_argument_group("measurements")
    checked.add_argument(
        "--measured",
        type=Path,
        metavar="JSON",
        help="compare with this result of `vita-edge bench -o` on the one --board",
    )
    checked.add_argument(
        "--measure-this-machine",
        action="store_true",
        help="measure this CPU and add it to --board-file",
    )
    checked.add_argument(
        "--threads",
        type=int,
        default=0,
        metavar="N",
        help="CPU threads to measure with (default, max: usable cores)",
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.measure_this_machine:
        return _measure(arguments)
    _check(arguments)
    from vita_edge.estimate.device_file import read_devices
    from vita_edge.estimate.estimate_report import estimate_facts, read_bench

    known = read_devices(*([arguments.board_file] if arguments.board_file else []))
    keys = _chosen(arguments.board, known)
    planned = _planned(arguments)
    bench = read_bench(arguments.measured) if arguments.measured else None
    turn = _turn(arguments, bench.turn if bench else None)
    precisions = [arguments.precision] if arguments.precision else planned.precisions
    facts = estimate_facts(planned, known, keys, precisions, _context(arguments, planned), turn, bench)
    if arguments.json:
        print_json(facts)
    else:
        from .output.estimate_text import estimate_text

        print(estimate_text(facts))
    return 0


def _check(arguments: argparse.Namespace) -> None:
    if (arguments.bundle is None) == (arguments.model is None):
        raise Misuse(
            "There is nothing to estimate." if arguments.bundle is None else "Two models are named.",
            why="A bundle or --model says what is planned.",
            fix="Give one of them: vita-edge estimate --model full.",
        )
    for option, value, minimum in (
        ("--context", arguments.context, 1),
        ("--clause-tokens", arguments.clause_tokens, 1),
    ):
        if value is not None and value < minimum:
            raise Misuse(f"{option} is {value}.", why=f"It must be {minimum} or more.", fix="Leave it out.")
    if arguments.measured and len(arguments.board or ()) != 1:
        raise Misuse(
            "--measured belongs to one device.",
            why="The result was measured on one.",
            fix="Name it with --board.",
        )


def _chosen(asked: list[str] | None, known: DeviceFile) -> list[str]:
    strange = [key for key in asked or () if key not in known.devices]
    if strange:
        raise Misuse(
            f"There is no board {', '.join(strange)}.",
            why=f"Known: {', '.join(known.devices)}.",
            fix="Name one of them, or describe yours in a file and give it with --board-file.",
        )
    return asked or list(known.devices)


def _planned(arguments: argparse.Namespace) -> EstimatedModel:
    from vita_edge.estimate.estimate_report import EstimatedModel

    if arguments.model:
        size = export_module("practice.presets").preset(arguments.model)
        return EstimatedModel(size.name, None, export_module("work").model_work(size), arguments.target)
    from vita_edge.engines.bundle.format import Bundle

    bundle = Bundle.open(arguments.bundle)
    if bundle.work is None:
        raise BadBundle(
            f"The bundle {bundle.path} does not say how much its graphs have to do.",
            why="It was exported before bundles said it.",
            fix="Export the checkpoint again, or estimate by size: vita-edge estimate --model full.",
        )
    return EstimatedModel(bundle.model.name, bundle, bundle.work, arguments.target)


def _context(arguments: argparse.Namespace, planned: EstimatedModel) -> int:
    maximum = planned.work.context_tokens
    if arguments.context is None:
        from vita_edge.engines.tensorrt.build.profiles import usual_context

        return usual_context(planned.work.prompt_limit_tokens, maximum)
    if arguments.context > maximum:
        raise Misuse(
            f"A context of {arguments.context} tokens is more than the model has.",
            why=f"It was made for {maximum}.",
            fix=f"Ask for {maximum} or fewer.",
        )
    return int(arguments.context)


def _turn(arguments: argparse.Namespace, measured: SpokenTurn | None) -> SpokenTurn:
    from dataclasses import replace

    from vita_edge.estimate.turn_estimate import SpokenTurn

    turn = measured or SpokenTurn()
    return replace(turn, clause_tokens=arguments.clause_tokens) if arguments.clause_tokens else turn


def _measure(arguments: argparse.Namespace) -> int:
    if arguments.board_file is None:
        raise Misuse(
            "There is nowhere to write to.",
            why="What is measured goes into a device file of your own.",
            fix="Name it: vita-edge estimate --measure-this-machine --board-file my-devices.json.",
        )
    if arguments.bundle or arguments.model:
        raise Misuse("--measure-this-machine stands alone.", why="Nothing is planned.", fix="Plan afterwards.")
    import json
    from datetime import date

    from vita_edge.engines.bundle.atomic_file import write_whole
    from vita_edge.engines.machine import machine_facts
    from vita_edge.engines.reading.json_file import read_json
    from vita_edge.estimate.device_file import DEVICES, FORMAT, read_devices

    from .output.output_file import check_output

    check_output(arguments.board_file, suffixes=(".json",), force=True)  # it is added to
    own: dict[str, Any] = {"format": FORMAT, "devices": {}}
    if arguments.board_file.exists():
        read_devices(arguments.board_file)  # refuse what is not a device file before the measurement
        own = read_json(arguments.board_file, DEVICES)
    module = optional_module("estimate.machine_peaks", "export")
    peaks = module.machine_peaks(arguments.threads, _say)
    name = str(machine_facts()["cpu"] or "this machine")
    own.setdefault("devices", {})[THIS] = module.machine_device(peaks, name, date.today().isoformat())
    write_whole(arguments.board_file, (json.dumps(own, ensure_ascii=False, indent=1) + "\n").encode())
    facts = {
        "devices": str(arguments.board_file),
        "device": THIS,
        "peaks": {key: {"median": p.median, "least": p.minimum, "most": p.maximum} for key, p in peaks.items()},
    }
    if arguments.json:
        print_json(facts)
    else:
        from .output.estimate_text import peaks_text

        print(peaks_text(facts))
    return 0


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text:<40}\r", end="", file=sys.stderr, flush=True)
