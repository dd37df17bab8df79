"""vita-edge verify BUNDLE --golden DIR | --checkpoint CHECKPOINT | --against BUNDLE"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from vita_edge.engines.errors import BadInput, MissingPackage, Misuse

from .ask import add_backend_options, backend_options
from .output.output_file import add_force, check_output
from .output.show import optional_module, print_json, table

if TYPE_CHECKING:
    from vita_edge.engines.bundle.format import Bundle
    from vita_edge.verification.half_precision import HalfPrecision
    from vita_edge.verification.parity import Check, GoldenFolder

__all__ = ["add_arguments", "run"]

WORST = 20
"""Offenders that are named; --json has all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder that `vita-edge export` has written")
    held_to = parser.add_argument_group("what it is compared with").add_mutually_exclusive_group(required=True)
    held_to.add_argument("--golden", type=Path, metavar="DIR", help="a folder of recorded arrays")
    held_to.add_argument(
        "--checkpoint",
        type=Path,
        metavar="DIR",
        help="the checkpoint it was exported from, run by the PyTorch reference",
    )
    held_to.add_argument(
        "--against", type=Path, metavar="BUNDLE", help="another bundle, or the same on another backend"
    )
    how = parser.add_argument_group("how it is recorded, with --checkpoint and --against")
    how.add_argument(
        "--inputs",
        type=Path,
        metavar="DIR",
        help="sounds, pictures and lists of frames (default: speech, a picture and frames that come along)",
    )
    how.add_argument(
        "--record", type=Path, metavar="DIR", help="where the recorded arrays stay, for --golden elsewhere"
    )
    how.add_argument("--tokens", type=int, default=16, metavar="N", help="tokens of each reply (default: %(default)s)")
    how.add_argument(
        "--dtype",
        choices=("float32", "float64", "bfloat16"),
        default="float32",
        help="what the reference computes in (default: %(default)s)",
    )
    how.add_argument(
        "--reference-device", default="cpu", metavar="NAME", help="where the reference computes (default: %(default)s)"
    )
    how.add_argument(
        "--against-backend",
        choices=("cpu", "cuda", "tensorrt"),
        default="cpu",
        help="what runs the other bundle (default: %(default)s)",
    )
    parser.add_argument(
        "--half-precision", action="store_true", help="look at every tensor for what half precision cannot hold"
    )
    parser.add_argument("--certificate", type=Path, metavar="NAME", help="write NAME.json and NAME.html")
    add_force(parser)
    add_backend_options(parser)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default, max: usable cores)")


def run(arguments: argparse.Namespace) -> int:
    from vita_edge.engines.bundle.format import Bundle
    from vita_edge.verification.parity import GoldenFolder, verify

    _check_options(arguments)
    started = time.monotonic()
    bundle = Bundle.open(arguments.bundle)
    with _recorded(bundle, arguments) as folder:
        golden = GoldenFolder(folder)
        options = backend_options(arguments)
        checks = list(_shown(verify(bundle, golden, threads=arguments.threads, **options)))
        found = _half_precision(bundle, golden, checks, arguments)
        checks += [each.check for each in found if arguments.half_precision or each.overflows]
    if all(check.skipped for check in checks):
        raise BadInput(
            "Nothing was compared.",
            why=f"{folder} holds nothing that this bundle could be compared with.",
            fix="Give a folder of arrays that were recorded from its checkpoint.",
        )
    if arguments.certificate:
        _certify(bundle, golden.source, checks, found, arguments, time.monotonic() - started)
    return _report(checks, found, arguments)


def _check_options(arguments: argparse.Namespace) -> None:
    if arguments.golden and (arguments.inputs or arguments.record):
        raise Misuse(
            "--inputs and --record do not go with --golden.",
            why="What is recorded already has its inputs.",
            fix="Give --checkpoint or --against instead, or leave them out.",
        )
    if arguments.tokens < 2:
        raise Misuse(f"--tokens is {arguments.tokens}.", why="A reply has at least 2.", fix="The default is 16.")
    if arguments.certificate:
        from vita_edge.verification.certificate import certificate_files

        for file in certificate_files(arguments.certificate):
            if file.exists():
                check_output(file, force=arguments.force)


@contextmanager
def _recorded(bundle: Bundle, arguments: argparse.Namespace) -> Iterator[Path]:
    """The folder to compare with: given, or recorded now, and then only as long as it is needed without --record."""
    if arguments.golden:
        yield arguments.golden
        return
    with TemporaryDirectory(prefix="vita-edge-verify-") as temporary:
        folder: Path = arguments.record or Path(temporary) / "recording"
        shared = {"inputs": arguments.inputs, "max_tokens": arguments.tokens, "threads": arguments.threads}
        if arguments.checkpoint:
            record = optional_module("verification.record_checkpoint", "reference").record_checkpoint
            shared |= {"dtype": arguments.dtype, "device": arguments.reference_device}
            record(bundle, arguments.checkpoint, folder, progress=_progress(), **shared)
        else:
            from vita_edge.engines.bundle.format import Bundle
            from vita_edge.verification.record_bundle import record_bundle

            other = Bundle.open(arguments.against)
            backend = {"backend": arguments.against_backend, "engine_dir": arguments.engine_dir}
            record_bundle(other, folder, progress=_progress(), **backend, **shared)
        _progress()("")
        yield folder


def _half_precision(
    bundle: Bundle, golden: GoldenFolder, checks: Sequence[Check], arguments: argparse.Namespace
) -> list[HalfPrecision]:
    """Every graph, tensor by tensor: when asked for, or to name the layer where something is no longer a number."""
    lost = any(check.not_finite for check in checks)
    if not (lost or arguments.half_precision):
        return []
    try:
        module = optional_module("verification.half_precision", "calibration")
    except MissingPackage:
        if arguments.half_precision:
            raise
        print("install the extra calibration, and verify names the layer that overflows", file=sys.stderr)
        return []
    found = module.half_precision(bundle, golden, threads=arguments.threads, progress=_progress())
    return list(found)


def _certify(
    bundle: Bundle,
    held_to: dict[str, Any],
    checks: Sequence[Check],
    found: Sequence[HalfPrecision],
    arguments: argparse.Namespace,
    seconds: float,
) -> None:
    from vita_edge.verification.certificate import certificate, write_certificate

    backend = str(backend_options(arguments).get("backend", "cpu"))
    facts = certificate(bundle, checks, held_to=held_to, backend=backend, seconds=seconds)
    facts["half_precision"] = [each.to_json() for each in found]
    for file in write_certificate(facts, arguments.certificate):
        print(f"written: {file}", file=sys.stderr)


def _progress() -> Callable[[str], None]:
    """One line that is written over on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        return lambda text: None
    return lambda text: print(f"\r{text}".ljust(80)[:80], end="\r" if not text else "", file=sys.stderr, flush=True)


def _shown(checks: Iterable[Check]) -> Iterator[Check]:
    show = _progress()
    for check in checks:
        show(f"{check.stage}: {check.name}")
        yield check
    show("")


def _report(checks: Sequence[Check], found: Sequence[HalfPrecision], arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from vita_edge.verification.parity.stages import finite, stage_rows

    failed = [check for check in checks if not check.passed]
    if arguments.json:
        facts: dict[str, Any] = {"passed": not failed, "stages": [finite(row) for row in stage_rows(checks)]}
        facts["checks"] = [finite(asdict(check)) for check in checks]
        if found:
            facts["half_precision"] = [each.to_json() for each in found]
        print_json(facts)
    else:
        _print(checks, failed)
        for each in found:
            print(f"half precision: {each.component}: {each.reported}")
    return 1 if failed else 0


def _how_close(row: dict[str, Any]) -> str:
    if row["worst"] is None:
        return "equal" if row["checks"] else ""
    return f"{row['relative']:.2e}" if row["relative"] else "differs"


def _print(checks: Sequence[Check], failed: Sequence[Check]) -> None:
    from vita_edge.verification.parity.stages import badness, stage_rows

    rows = [("stage", "compared", "off", "worst", "max error", "relative", "limit", "SNR dB", "agree", "differs at")]
    for row in stage_rows(checks):
        measured = bool(row["relative"])
        rows.append(
            (
                row["stage"],
                str(row["checks"]),
                str(row["failed"]),
                row["worst"] or "",
                f"{row['max_error']:.2e}" if measured else "",
                _how_close(row),
                f"{row['limit']:.0e}" if measured else "",
                f"{row['snr_db']:.0f}" if math.isfinite(row["snr_db"]) else "",
                "" if row["agreement"] is None else f"{row['agreement']:.1%}",
                "" if row["first_difference"] is None else str(row["first_difference"]),
            )
        )
    print(table(rows))
    for check in (check for check in checks if check.skipped):
        print(f"not compared: {check.stage}: {check.name}: {check.detail}")
    for check in sorted(failed, key=badness, reverse=True)[:WORST]:
        error = f"relative error {check.relative:.2e}, limit {check.limit:.0e}" if check.limit else ""
        print(f"OFF  {check.stage}: {check.name}: {', '.join(filter(None, (error, check.detail)))}")
    if len(failed) > WORST:
        print(f"… and {len(failed) - WORST} more")
    judged = sum(not check.skipped for check in checks)
    print(f"{'FAILED' if failed else 'passed'}: {judged - len(failed)} of {judged} comparisons hold")
