"""Spoiled files for every reader, for as long as you like: how many were accepted, refused, and ended otherwise.

    python benchmarks/fuzz.py [--seconds 60] [--seed 1] [--only WORD] [--keep DIR]

Run from the checkout, with the extras test and export. Inputs follow from the seed. A fault is printed with the place
that raised it; --keep stores the file.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support.fuzz_targets import Sources, Target, targets, try_once  # noqa: E402

SLOW_S = 10.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each reader (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the inputs (default: %(default)s)")
    parser.add_argument("--only", default="", help="readers whose name holds this")
    parser.add_argument("--keep", type=Path, help="folder for the files that ended in a fault")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    faults = 0
    print(f"{'reader':<58}{'inputs':>8}{'accepted':>10}{'refused':>9}{'faults':>8}{'slowest s':>11}")
    with tempfile.TemporaryDirectory() as work:
        for target in targets(_sources(Path(work)), _folder(Path(work) / "targets")):
            if arguments.only in target.name:
                faults += _fuzz(target, arguments.seconds, arguments.seed, arguments.keep)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB; {faults} faults")
    return 1 if faults else 0


def _fuzz(target: Target, seconds: float, seed: int, keep: Path | None) -> int:
    whole, counts, slowest, seen = target.file.read_bytes(), Counter[str](), 0.0, set[str]()
    until, number = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        random, started = Random(f"{seed} {target.name} {number}"), time.monotonic()
        verdict, error = try_once(target, whole, random)
        slowest = max(slowest, time.monotonic() - started)
        counts[verdict] += 1
        if error is not None:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
            if place not in seen:
                seen.add(place)
                print(f"  input {number}: {place}: {error}"[:200], flush=True)
            if keep:
                keep.mkdir(parents=True, exist_ok=True)
                content = target.mutate(Random(f"{seed} {target.name} {number}"), whole)
                (keep / f"{target.file.name}.{number}").write_bytes(content)
        number += 1
    row = f"{number:>8}{counts['accepted']:>10}{counts['refused']:>9}{counts['fault']:>8}{slowest:>11.2f}"
    print(f"{target.name[:57]:<58}{row}", flush=True)
    return counts["fault"]


def _sources(work: Path) -> Sources:
    from vita_edge.export.bundle import export_bundle

    golden = ROOT / "tests" / "golden" / "tiny-a"
    export_bundle(golden / "checkpoint", work / "bundle")
    picture = next((golden / "data" / "inputs").rglob("*.png"))
    return Sources(golden / "checkpoint", work / "bundle", golden / "data", picture, ROOT / "tests/data/no-en-us.flac")


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


if __name__ == "__main__":
    sys.exit(main())
