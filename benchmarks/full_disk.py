"""Every command that writes, on a disk with little left: an error in its own words, and nothing half-written.

    python benchmarks/full_disk.py CHECKPOINT                            # 0 bytes, 4 KiB, 2 MiB and 70 MiB left
    python benchmarks/full_disk.py CHECKPOINT --cases ask --left 4096

The disk is a tmpfs in a mount namespace of its own (unshare -rm), which nobody else sees. Ends with 1 where a
command ended without its three lines, left something behind, or lost what it had measured. CHECKPOINT is small:
`vita-edge practice CHECKPOINT --size tiny`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from killed import SHORT, Sources, vita_edge

__all__ = ["missing"]

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "src" / "vita_edge" / "demo" / "bundle"
DISK_BYTES = 200 << 20
INSIDE = "VITA_EDGE_FULL_DISK"
FILLER = "filler"
REASONS = ("No space left on device", "MiB are free")


@dataclass(frozen=True)
class Case:
    """A command that writes into the folder that it is called in."""

    words: Callable[[Sources], Sequence[object]]
    prints: str = ""
    """What has to be on standard output whatever becomes of the file."""


CASES = {
    "ask": Case(lambda s: ("ask", s.bundle, *SHORT, "-o", "reply.wav")),
    "ask-record": Case(lambda s: ("ask", s.bundle, *SHORT, "--record", "feeds")),
    "record": Case(lambda s: ("record", s.bundle, *SHORT, "-o", "feeds")),
    "export": Case(lambda s: ("export", s.checkpoint, "-o", "b")),
    "practice": Case(lambda s: ("practice", "ck")),
    "demo": Case(lambda s: ("demo", "--threads", 1)),
    "bench": Case(lambda s: ("bench", DEMO, "--turns", 1, "--threads", 1, "-o", "r.json"), "engine"),
    "trace": Case(lambda s: ("bench", DEMO, "--turns", 1, "--threads", 1, "--trace", "t.json"), "engine"),
}


def missing() -> str | None:
    """What is lacking here to have a disk of one's own, or None."""
    trial = subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True, check=False
    )
    return f"no disk can be mounted here: {trial.stderr.strip()[:100]}" if trial.returncode else None


def faults(case: Case, sources: Sources, disk: Path, left: int) -> list[str]:
    """Run the command on ``disk`` with ``left`` bytes free; what is wrong with how it ended."""
    before = _fill(disk, left)
    done = subprocess.run(vita_edge(*case.words(sources)), cwd=disk, capture_output=True, text=True, check=False)
    found = []
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        error = next((lines[i:] for i in range(len(lines)) if lines[i].startswith("error: ")), [])
        if not 2 <= len(error) <= 3 or not any(reason in line for line in error for reason in REASONS):
            found.append(f"told {done.stderr.strip()[-300:]!r}")
        if new := sorted(path.name for path in disk.iterdir() if path.name not in before):
            found.append(f"left {new}")
    if case.prints not in done.stdout:
        found.append("printed nothing of what it had measured")
    return found


def _fill(disk: Path, left: int) -> set[str]:
    for path in disk.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with (disk / FILLER).open("wb") as filler:
        while (room := shutil.disk_usage(disk).free - left) > 0:
            try:
                filler.write(bytes(min(room, 1 << 20)))
                filler.flush()
            except OSError:
                break
    return {path.name for path in disk.iterdir()}


def _again_with_a_disk() -> int:
    return subprocess.run(
        ["unshare", "-rm", sys.executable, *sys.argv], env={**os.environ, INSIDE: "1"}, check=False
    ).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--cases", nargs="+", choices=tuple(CASES), default=list(CASES))
    parser.add_argument("--left", type=int, nargs="+", default=[0, 4096, 2 << 20, 70 << 20], metavar="BYTES")
    arguments = parser.parse_args()
    if not os.environ.get(INSIDE):
        return _again_with_a_disk()
    bad = 0
    with tempfile.TemporaryDirectory() as work:
        sources, disk = Sources(arguments.checkpoint.resolve(), Path(work) / "bundle"), Path(work) / "disk"
        subprocess.run(vita_edge("export", sources.checkpoint, "-o", sources.bundle), check=True, capture_output=True)
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", disk], check=True)
        try:
            for name in arguments.cases:
                for left in arguments.left:
                    found = faults(CASES[name], sources, disk, left)
                    bad += bool(found)
                    print(f"{'BAD' if found else 'ok '} {name}, {left >> 10} KiB left {'; '.join(found)}", flush=True)
        finally:
            subprocess.run(["umount", "-l", disk], check=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
