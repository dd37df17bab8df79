"""What a bundle was held to and how it came out, as JSON and as a page: weights, bundle, device, versions, figures."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from typing import Any

from vita_edge.engines.bundle.atomic_file import write_whole
from vita_edge.engines.bundle.format import Bundle, sha256_of
from vita_edge.engines.errors import OutputFailed
from vita_edge.engines.machine import machine_facts

from .parity import Check
from .parity.stages import badness, finite, stage_rows

__all__ = ["certificate", "certificate_files", "certificate_page", "write_certificate"]

STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --soft: #616e7c; --line: #e4e7eb; --paper: #fff; --good: #207a3c;
  --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7eb; --soft: #9aa5b1; --line: #323f4b; --paper: #14181d; --good: #6fcf8e; --bad: #ff8a80; }
}
body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 64rem; padding: 0 1rem; }
h1 { font-size: 1.35rem; margin: 0; } h2 { font-size: 1rem; margin: 2rem 0 .25rem; }
.soft { color: var(--soft); } .good { color: var(--good); } .bad { color: var(--bad); } .scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
td, th { border-bottom: 1px solid var(--line); padding: .25rem .8rem; text-align: right; vertical-align: top; }
td:first-child, th:first-child { padding-left: 0; text-align: left; }
.facts td { text-align: left; overflow-wrap: anywhere; }
"""
HEADINGS = ("stage", "compared", "off", "worst", "relative error", "limit", "SNR dB", "tokens or codes agree")


def certificate(
    bundle: Bundle, checks: Sequence[Check], *, held_to: dict[str, Any], backend: str, seconds: float
) -> dict[str, Any]:
    """Everything that the verdict stands on, ready for JSON.

    Args:
        held_to: what the bundle was compared with: recorded arrays and their source, or another bundle.
        backend: what ran the bundle.
        seconds: how long it took.
    """
    judged = [check for check in checks if not check.skipped]
    return {
        "passed": all(check.passed for check in judged),
        "compared": len(judged),
        "failed": sum(not check.passed for check in judged),
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "bundle": {
            "path": str(bundle.path),
            "model": bundle.model.name,
            "producer": bundle.producer,
            "target": bundle.target,
            "precision": {name: part.precision for name, part in bundle.components.items()},
            "bytes": bundle.bytes,
            "manifest_sha256": sha256_of(bundle.path / "manifest.json"),
        },
        "held_to": held_to,
        "backend": backend,
        "machine": machine_facts(),
        "stages": [finite(row) for row in stage_rows(checks)],
        "checks": [finite(asdict(check)) for check in checks],
    }


def certificate_files(name: Path) -> tuple[Path, Path]:
    """``name``.json and ``name``.html; ``name`` may have either ending already."""
    stem = name.with_suffix("") if name.suffix in (".json", ".html") else name
    return stem.with_name(f"{stem.name}.json"), stem.with_name(f"{stem.name}.html")


def write_certificate(facts: dict[str, Any], name: Path) -> tuple[Path, Path]:
    """Write ``name``.json and ``name``.html; returns both.

    Raises:
        OutputFailed: they cannot be written.
    """
    written = certificate_files(name)
    texts = json.dumps(facts, ensure_ascii=False, indent=1) + "\n", certificate_page(facts)
    for file, text in zip(written, texts):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputFailed.from_os_error(file, error) from error
        write_whole(file, text.encode())
    return written


def certificate_page(facts: dict[str, Any]) -> str:
    """One page with nothing from elsewhere."""
    verdict = "passed" if facts["passed"] else "failed"
    tone = "good" if facts["passed"] else "bad"
    held = facts["compared"] - facts["failed"]
    off = sorted((Check(**_numbers(c)) for c in facts["checks"] if not c["passed"]), key=badness, reverse=True)
    body = [
        f'<h1>{escape(str(facts["bundle"]["model"]))}: <span class="{tone}">{verdict}</span></h1>',
        f'<p class="soft">{held} of {facts["compared"]} comparisons hold. {escape(facts["made"])},'
        f" {facts['seconds']:g} s, backend {escape(facts['backend'])}.</p>",
        "<h2>Stages</h2>",
        f'<div class="scroll">{_table([HEADINGS, *map(_stage_cells, facts["stages"])])}</div>',
    ]
    if off:
        rows = [("stage", "comparison", "relative error", "limit", "what"), *map(_off_cells, off)]
        body += ["<h2>Off</h2>", f'<div class="scroll">{_table(rows)}</div>']
    for title, part in (("Bundle", "bundle"), ("Held to", "held_to"), ("Machine", "machine")):
        body += [f"<h2>{title}</h2>", _facts_table(facts[part])]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>vita-edge verify: {verdict}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _stage_cells(row: dict[str, Any]) -> tuple[str, ...]:
    agreement = "" if row["agreement"] is None else f"{row['agreement']:.1%}"
    if row["first_difference"] is not None:
        agreement += f", first differs at {row['first_difference']}"
    snr = "" if row["snr_db"] is None else f"{row['snr_db']:.0f}"
    relative, limit = (f"{row[key]:.1e}" if row[key] else "" for key in ("relative", "limit"))
    return row["stage"], str(row["checks"]), str(row["failed"]), row["worst"] or "", relative, limit, snr, agreement


def _off_cells(check: Check) -> tuple[str, ...]:
    return check.stage, check.name, f"{check.relative:.1e}", f"{check.limit:.0e}", check.detail


def _numbers(check: dict[str, Any]) -> dict[str, Any]:
    """As it was before JSON: what is no number is null there."""
    lost = {"max_error": math.nan, "relative": math.nan, "snr_db": math.inf}
    return {key: lost[key] if value is None and key in lost else value for key, value in check.items()}


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = rows
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rest]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _facts_table(facts: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(_reported(value))}</td></tr>" for name, value in facts.items()
    )
    return f'<table class="facts">{rows}</table>'


def _reported(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {reported}" for name, reported in value.items() if reported is not None)
    return "not known" if value is None else str(value)
