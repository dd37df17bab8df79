"""vita-edge calibrate BUNDLE --feeds DIR --precision int8|int4 -o OUT"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .output.show import mib, optional_module, print_json, progress_bar, table

if TYPE_CHECKING:
    from vita_edge.calibration.report.calibration_report import CalibrationReport

__all__ = ["add_arguments", "run"]

WORST = 20
"""Layers that are printed; report.json has all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="bundle at fp32 or fp16")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="bundle to write")
    parser.add_argument(
        "--feeds", type=Path, required=True, metavar="DIR", help="recording that `vita-edge record` has written"
    )
    parser.add_argument(
        "--precision",
        choices=("int8", "int4"),
        default="int8",
        help="int8: 8-bit weights and activations, 8-bit weights alone in the decoders; int4: 4-bit weights in the "
        "language model (default: int8)",
    )
    parser.add_argument(
        "--component", action="append", metavar="NAME", help="calibrate only this component; repeatable (default: all)"
    )
    ranges = parser.add_argument_group("activations")
    ranges.add_argument(
        "--method",
        choices=("auto", "minmax", "percentile", "entropy"),
        default="auto",
        help="range of each activation; auto takes the method with the least error, tensor by tensor (default: auto)",
    )
    ranges.add_argument(
        "--no-smoothing", action="store_true", help="do not move outliers of activations into weights (SmoothQuant)"
    )
    ranges.add_argument(
        "--decoder-activations", action="store_true", help="int8: quantise activations of the decoders too"
    )
    ranges.add_argument(
        "--keep-below",
        type=float,
        metavar="DB",
        help="leave layers whose output SNR is lower at full precision (default: 20 for 8 bits, 8 for 4 bits)",
    )
    ranges.add_argument(
        "--reach",
        type=float,
        metavar="DB",
        help="give the worst layers more bits until the component's output reaches this SNR (default: 20 with "
        "quantised activations, else none)",
    )
    weights = parser.add_argument_group("decoder weights")
    weights.add_argument(
        "--weights",
        choices=("rtn", "searched", "gptq"),
        default="searched",
        help="4-bit rounding: to nearest, with the best of several ranges, or by GPTQ on the feeds (default: searched)",
    )
    weights.add_argument(
        "--block", type=int, default=128, choices=(32, 64, 128), help="weights that share a scale (default: 128)"
    )
    weights.add_argument(
        "--head", choices=("int8", "int4"), default="int8", help="precision of the LM head (default: int8)"
    )
    parser.add_argument(
        "--samples", type=int, default=32, metavar="N", help="max samples of each component (default: 32)"
    )
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads (default, max: usable cores)")
    parser.add_argument("--force", action="store_true", help="replace an existing bundle")


def run(arguments: argparse.Namespace) -> int:
    calibration = optional_module("calibration.calibrate", "calibration")
    bar = progress_bar()
    started = time.monotonic()
    report: CalibrationReport = calibration.calibrate(
        arguments.bundle,
        arguments.feeds,
        arguments.output,
        calibration.Choices(
            precision=arguments.precision,
            method=arguments.method,
            smoothing=not arguments.no_smoothing,
            decoder_activations=arguments.decoder_activations,
            keep_below_db=arguments.keep_below,
            reach_db=arguments.reach,
            weights=arguments.weights,
            block=arguments.block,
            head=arguments.head,
            samples=arguments.samples,
        ),
        components=arguments.component,
        threads=arguments.threads,
        force=arguments.force,
        progress=bar,
    )
    cost = {
        "seconds": round(time.monotonic() - started, 1),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    if arguments.json:
        print_json({"bundle": str(arguments.output), **report.to_json(), **cost})
    else:
        _print(report, arguments.output, cost)
    return 0


def _print(report: CalibrationReport, output: Path, cost: dict[str, Any]) -> None:
    layers = report.worst_first()
    rows = [("layer", "SNR dB", "kept as", "range", "smoothed", "min-max dB")]
    for layer in layers[:WORST]:
        rows.append(
            (
                f"{layer.component}: {layer.name}",
                f"{layer.snr_db:.1f}" if layer.snr_db is not None else "",
                layer.stored_as,
                layer.method or "",
                f"{layer.smoothing:g}" if layer.smoothing else "",
                f"{layer.minmax_db:.1f}" if layer.minmax_db is not None else "",
            )
        )
    print(table(rows))
    if len(layers) > WORST:
        print(f"… and {len(layers) - WORST} better ones in calibration/report.json")
    rows = [("stage", "output", "samples", "SNR dB", "same choice", "wider layers")]
    for stage in report.stages:
        same = f"{100 * stage.same_choice:.1f} %" if stage.same_choice is not None else ""
        rows.append((stage.component, stage.output, str(stage.samples), f"{stage.snr_db:.1f}", same, str(stage.wider)))
    print(f"\n{table(rows, left=2)}")
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)
    memory = mib(cost["peak_memory_bytes"])
    missed = [f"{s.component} ({s.snr_db:.1f} of {s.target_db:g} dB)" for s in report.stages if not s.reached]
    reported = f"; not reached: {', '.join(missed)}" if missed else ""
    print(f"{output}: {mib(report.bytes)}, {cost['seconds']:,.1f} s, {memory} of memory at most{reported}")
