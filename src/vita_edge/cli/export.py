"""vita-edge export CHECKPOINT -o BUNDLE"""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path

from .output.show import export_module, mib, optional_module, print_json, progress_bar

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
        "--audio-encoder",
        type=Path,
        metavar="DIR",
        help="folder with train.yaml and global_cmvn (default: in the checkpoint)",
    )
    parser.add_argument(
        "--target",
        metavar="T",
        help="backend that will run the bundle: onnxruntime, tensorrt (10.15 and later) or tensorrt-10.3 (JetPack 6) "
        "(default: that of the bundle that --force replaces, else onnxruntime)",
    )
    parser.add_argument(
        "--precision",
        metavar="P",
        help="precision of the linear layers: fp32, fp16, int8 or int4 (default: that of the bundle that --force "
        "replaces, else fp32)",
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


def _check_activations(folder: Path) -> None:
    """Refuse a bundle whose activations leave half precision, before anything is compiled."""
    from vita_edge.engines.bundle.format import Bundle

    optional_module("calibration.activations", "export").check_activations(Bundle.open(folder))


def run(arguments: argparse.Namespace) -> int:
    bundle = export_module("bundle")
    _as_before(arguments)
    plan = export_module("weights.precision").precision_plan(
        arguments.precision, target=arguments.target, block=arguments.block, int8_prefill=not arguments.no_int8_prefill
    )
    prompts = export_module("prompts").read_prompts(arguments.prompts) if arguments.prompts else None
    bar = functools.cache(progress_bar)  # drawn when the notice has been said
    report = bundle.export_bundle(
        arguments.checkpoint,
        arguments.output,
        vision_tower=arguments.vision_tower,
        audio_encoder=arguments.audio_encoder,
        precision=plan,
        prompts=prompts,
        notice=arguments.notice,
        force=arguments.force,
        progress=lambda *step: bar()(*step),
        reported=None if arguments.json else lambda notice: print(notice, file=sys.stderr),
        check=None if plan.lowering.floats == "float32" else _check_activations,
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


def _as_before(arguments: argparse.Namespace) -> None:
    """What was not asked is as in the bundle that is replaced: new prompts must not make it four times as large."""
    asked = arguments.precision is not None
    before = None if asked or not arguments.force else export_module("replaced").exported_as(arguments.output)
    if before is None:
        arguments.precision = arguments.precision or "fp32"
        arguments.target = arguments.target or "onnxruntime"
        return
    arguments.precision = before.precision
    arguments.target = arguments.target or before.target
    arguments.no_int8_prefill = arguments.no_int8_prefill or not before.int8_prefill
    if not arguments.json:
        reported = f"precision {arguments.precision}, target {arguments.target}, as in the bundle that is replaced"
        print(f"note: {reported}", file=sys.stderr)
