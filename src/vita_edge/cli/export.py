"""vita-edge export CHECKPOINT -o BUNDLE"""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path

from .output.show import export_module, mib, print_json, progress_bar

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="folder in the layout of the release")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="BUNDLE", help="folder to write")
    parser.add_argument(
        "--vision-tower",
        type=Path,
        metavar="DIR",
        help="folder of the vision tower's config files (default: beside the checkpoint)",
    )
    parser.add_argument(
        "--target",
        default="onnxruntime",
        metavar="T",
        help="backend that will run the bundle: onnxruntime, tensorrt (10.15 and later) or tensorrt-10.3 (JetPack 6) "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--precision",
        default="fp32",
        metavar="P",
        help="precision of the linear layers: fp32, fp16, int8 or int4 (default: fp32)",
    )
    parser.add_argument(
        "--block",
        type=int,
        default=128,
        metavar="N",
        help="weights that share a scale, in blocks of 4 or 8 bits: 32, 64 or 128 (default: %(default)s)",
    )
    parser.add_argument(
        "--no-int8-prefill",
        action="store_true",
        help="int4 for onnxruntime: leave out the second, int8 graph for faster prefill",
    )
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="JSON file of system prompts (default: our own)")
    parser.add_argument(
        "--notice", metavar="TEXT", help="notice shown to users of these weights (default: the licence)"
    )
    parser.add_argument("--force", action="store_true", help="replace an existing bundle")


def run(arguments: argparse.Namespace) -> int:
    bundle = export_module("bundle")
    plan = export_module("weights.precision").precision_plan(
        arguments.precision, target=arguments.target, block=arguments.block, int8_prefill=not arguments.no_int8_prefill
    )
    prompts = export_module("prompts").read_prompts(arguments.prompts) if arguments.prompts else None
    bar = functools.cache(progress_bar)  # drawn when the notice has been said
    report = bundle.export_bundle(
        arguments.checkpoint,
        arguments.output,
        vision_tower=arguments.vision_tower,
        precision=plan,
        prompts=prompts,
        notice=arguments.notice,
        force=arguments.force,
        progress=lambda *step: bar()(*step),
        told=None if arguments.json else lambda notice: print(notice, file=sys.stderr),
    )
    parameters = sum(report.parameters.values())
    if arguments.json:
        print_json(
            {
                "bundle": str(report.bundle),
                "bytes": report.bytes,
                "precision": arguments.precision,
                "target": arguments.target,
                "parameters": dict(report.parameters),
                "notes": list(report.notes),
                "notice": report.notice,
            }
        )
        return 0
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{report.bundle}: {mib(report.bytes)}, {parameters / 1e6:,.1f} M parameters, {arguments.precision}")
    return 0
