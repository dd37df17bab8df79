"""Comparisons summed up by stage: how many hold, and which is the worst."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .compare import Check

__all__ = ["badness", "finite", "stage_rows"]


def stage_rows(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """One row a stage: counts, the worst comparison with its errors, how many tokens or codes agree."""
    stages: dict[str, list[Check]] = {}
    for check in checks:
        stages.setdefault(check.stage, []).append(check)
    return [_row(stage, members) for stage, members in stages.items()]


def badness(check: Check) -> tuple[bool, float]:
    """What is off comes first, then what takes the largest part of its limit."""
    if not check.limit:
        return not check.passed, math.inf if check.relative else 0.0
    part = check.relative / check.limit
    return not check.passed, math.inf if math.isnan(part) else part


def finite(facts: dict[str, Any]) -> dict[str, Any]:
    """JSON knows neither infinity nor NaN: null."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in facts.items()
    }


def _row(stage: str, members: Sequence[Check]) -> dict[str, Any]:
    judged = [check for check in members if not check.skipped]
    worst = max(judged, key=badness, default=None)
    agreements = [check.agreement for check in judged if check.agreement is not None]
    parted = [check.first_difference for check in judged if check.first_difference is not None]
    return {
        "stage": stage,
        "checks": len(judged),
        "failed": sum(not check.passed for check in judged),
        "skipped": len(members) - len(judged),
        "worst": worst.name if worst and (worst.relative or not worst.passed) else None,
        "max_error": worst.max_error if worst else None,
        "relative": worst.relative if worst else None,
        "snr_db": min((check.snr_db for check in judged), default=math.inf),
        "limit": worst.limit if worst else None,
        "agreement": sum(agreements) / len(agreements) if agreements else None,
        "first_difference": min(parted, default=None),
    }
