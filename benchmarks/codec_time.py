"""Processor time of the codec for a second of sound, of several bundles in turn.

    python benchmarks/codec_time.py BUNDLE ... [--codes 10 40]

One thread, medians over the rounds. Bundles take turns call by call, so that a busy machine is busy for all of them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from vita_edge.engines.backends import open_backend
from vita_edge.engines.bundle.format import Bundle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE")
    parser.add_argument("--codes", nargs="+", type=int, default=[10, 40], help="of one call (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    bundles = [Bundle.open(path) for path in arguments.bundles]
    facts = bundles[0].model.codec
    random = np.random.default_rng(0)
    with ExitStack() as stack:
        sessions = [stack.enter_context(open_backend(bundle, threads=1).session("codec")) for bundle in bundles]
        for length in arguments.codes:
            codes = random.integers(0, bundles[0].model.speech.codes, (1, length))
            sound_s = length * facts.samples_per_code / facts.sample_rate_hz
            used: list[list[float]] = [[] for _ in sessions]
            for round_ in range(arguments.rounds + 3):
                for session, times in zip(sessions, used):
                    begin = time.process_time()
                    session.infer({"codes": codes})
                    if round_ >= 3:
                        times.append((time.process_time() - begin) / sound_s)
            for bundle, times in zip(bundles, used):
                print(f"{bundle.path.name:24} {length:4} codes  {statistics.median(times) * 1e3:8.2f} ms for a second")


if __name__ == "__main__":
    main()
