"""vita-edge verify BUNDLE --golden DIR"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vita_edge.engines.errors import BadInput

from .ask import add_backend_options, backend_options
from .output.show import print_json, table

if TYPE_CHECKING:
    from vita_edge.verification.parity import Check

__all__ = ["add_arguments", "run"]

WORST = 20
"""Offenders that are named; --json has all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder that `vita-edge export` has written")
    parser.add_argument("--golden", type=Path, required=True, metavar="DIR", help="folder of recorded arrays")
    add_backend_options(parser)
    parser.add_argument(
        "--threads", type=int, default=0, help="threads of the CPU backend (default, max: usable cores)"
    )


def run(arguments: argparse.Namespace) -> int:
    from vita_edge.engines.bundle.format import Bundle
    from vita_edge.verification.parity import verify

    checks = []
    for check in verify(
        Bundle.open(arguments.bundle), arguments.golden, threads=arguments.threads, **backend_options(arguments)
    ):
        checks.append(check)
        if sys.stderr.isatty():
            print(f"\r{check.stage}: {check.name}".ljust(79)[:79], end="", file=sys.stderr)
    if sys.stderr.isatty():
        print("\r" + " " * 79 + "\r", end="", file=sys.stderr)
    failed = [check for check in checks if not check.passed]
    if all(check.skipped for check in checks):
        raise BadInput(
            "Nothing was compared.",
            why=f"{arguments.golden} holds nothing that this bundle could be compared with.",
            fix="Give a folder of arrays that were recorded from its checkpoint.",
        )
    if arguments.json:
        stages, each = map(_finite, _stages(checks)), (_finite(asdict(check)) for check in checks)
        print_json({"passed": not failed, "stages": list(stages), "checks": list(each)})
    else:
        _print(checks, failed)
    return 1 if failed else 0


def _stages(checks: Sequence[Check]) -> list[dict[str, Any]]:
    stages: dict[str, list[Check]] = {}
    for check in checks:
        stages.setdefault(check.stage, []).append(check)
    rows = []
    for stage, members in stages.items():
        judged = [check for check in members if not check.skipped]
        worst = max(judged, key=_badness, default=None)
        rows.append(
            {
                "stage": stage,
                "checks": len(judged),
                "failed": sum(not check.passed for check in judged),
                "skipped": len(members) - len(judged),
                "worst": worst.name if worst and (worst.relative or not worst.passed) else None,
                "max_error": worst.max_error if worst else None,
                "relative": worst.relative if worst else None,
                "snr_db": min((check.snr_db for check in judged), default=math.inf),
                "limit": worst.limit if worst else None,
            }
        )
    return rows


def _badness(check: Check) -> tuple[bool, float]:
    """What is off comes first, then what takes the largest part of its limit."""
    if not check.limit:
        return not check.passed, math.inf if check.relative else 0.0
    part = check.relative / check.limit
    return not check.passed, math.inf if math.isnan(part) else part


def _how_close(row: dict[str, Any]) -> str:
    if row["worst"] is None:
        return "equal" if row["checks"] else ""
    return f"{row['relative']:.2e}" if row["relative"] else "differs"


def _finite(facts: dict[str, Any]) -> dict[str, Any]:
    """JSON knows neither infinity nor NaN: null."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in facts.items()
    }


def _print(checks: Sequence[Check], failed: Sequence[Check]) -> None:
    rows = [("stage", "compared", "off", "worst", "max error", "relative", "limit", "SNR dB")]
    for row in _stages(checks):
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
            )
        )
    print(table(rows))
    for check in (check for check in checks if check.skipped):
        print(f"not compared: {check.stage}: {check.name}: {check.detail}")
    for check in sorted(failed, key=_badness, reverse=True)[:WORST]:
        error = f"relative error {check.relative:.2e}, limit {check.limit:.0e}" if check.limit else ""
        print(f"OFF  {check.stage}: {check.name}: {', '.join(filter(None, (error, check.detail)))}")
    if len(failed) > WORST:
        print(f"… and {len(failed) - WORST} more")
    judged = sum(not check.skipped for check in checks)
    print(f"{'FAILED' if failed else 'passed'}: {judged - len(failed)} of {judged} comparisons hold")
