"""Every reader, given files spoiled at random: accepted, or refused in words of the product. Nothing else comes out.

``VITA_EDGE_FUZZ_SECONDS`` sets the time for each reader; benchmarks/fuzz.py runs the same for hours and counts.
"""

from __future__ import annotations

import os
import time
import traceback
import warnings
from pathlib import Path
from random import Random

import pytest

from support.fuzz_targets import Sources, targets, try_once

pytestmark = pytest.mark.integration

SECONDS = float(os.environ.get("VITA_EDGE_FUZZ_SECONDS", "0.3"))
MIN_INPUTS = 8


def test_no_reader_ends_in_anything_but_an_error_of_the_family(
    golden: Path, spare_bundle: Path, tmp_path: Path
) -> None:
    sources = Sources(
        golden / "checkpoint",
        spare_bundle,
        golden / "data",
        next((golden / "data" / "inputs").rglob("*.png")),
        Path(__file__).parents[1] / "data" / "no-en-us.flac",
    )
    faults = []
    for target in targets(sources, tmp_path):
        whole, random, until, tried = target.file.read_bytes(), Random(target.name), time.monotonic() + SECONDS, 0
        while tried < MIN_INPUTS or time.monotonic() < until:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                verdict, error = try_once(target, whole, random)
            if verdict == "fault" and error is not None:
                place = traceback.extract_tb(error.__traceback__)[-1]
                faults.append(f"{target.name} {tried}: {type(error).__name__} at {place.name}: {error}"[:200])
            tried += 1
    assert not faults, "\n".join(faults)
