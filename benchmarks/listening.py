"""What is left to be encoded when the user has finished, and what listening costs meanwhile.

    python benchmarks/listening.py BUNDLE [BUNDLE ...] [--seconds 2 5 10 20] [--rows 4] [--repack 0 1]

A clip of noise is given to the encoder in blocks of 20 ms, and it encodes a piece whenever one is worth it, as a live
talk does. Then the last piece is timed, and the whole clip at once. Bundles take turns, run by run, so that they meet
the same disturbances. Each run of a length ends 72 ms after the one before it, so that pieces end everywhere.
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import numpy as np

from vita_edge.engines.backends import open_backend
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.session import GraphSession
from vita_edge.runtime.encoders.audio_frontend import AudioFrontEnd
from vita_edge.runtime.encoders.streaming_audio_encoder import ClipEncoder

RATE_HZ, BLOCK, RUNS = 16000, 320, 5


def timed(session: GraphSession, front_end: AudioFrontEnd, samples: int, rows: int) -> tuple[float, float, list[float]]:
    """Seconds: of the whole clip, of the last piece, and of each piece before it."""
    clip = (0.1 * np.random.default_rng(samples).standard_normal(samples)).astype(np.float32)
    begin = time.perf_counter()
    whole = ClipEncoder(session, front_end).finish(clip)
    whole_s = time.perf_counter() - begin
    growing, pieces, given = ClipEncoder(session, front_end), [], []
    for end in range(BLOCK, samples, BLOCK):
        if growing.ready(end) >= rows:
            begin = time.perf_counter()
            given.append(growing.step(clip[:end]))
            pieces.append(time.perf_counter() - begin)
    begin = time.perf_counter()
    given.append(growing.finish(clip))
    last_s = time.perf_counter() - begin
    error = np.abs(np.concatenate(given) - whole).max() / np.abs(whole).max()
    if error > 0.02:
        raise AssertionError(f"the pieces differ from the whole by {error:.1%}")
    return whole_s, last_s, pieces


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--seconds", nargs="+", type=float, default=[2, 5, 10, 20])
    parser.add_argument("--rows", nargs="+", type=int, default=[4], help="new rows that are worth a piece")
    parser.add_argument("--repack", nargs="+", type=int, default=[0], help="1 repacks the weights at load")
    options = parser.parse_args()
    with ExitStack() as stack:
        bundles = {path: Bundle.open(path) for path in options.bundles}
        sessions = {
            (path, repack): stack.enter_context(open_backend(bundle).session("audio", rearrange=bool(repack)))
            for path, bundle in bundles.items()
            for repack in options.repack
        }
        front_ends = {path: AudioFrontEnd(bundle.model.audio) for path, bundle in bundles.items()}
        for (path, _), session in sessions.items():
            timed(session, front_ends[path], RATE_HZ, 4)  # memory is there after it
        print(
            f"{'':24} {'rows':>4} {'clip s':>6} {'whole ms':>9} {'last ms':>8} {'max':>6} {'piece ms':>9} {'load':>5}"
        )
        for seconds in options.seconds:
            for rows in options.rows:
                runs: dict[tuple[Path, str], list[tuple[float, float, list[float]]]] = {name: [] for name in sessions}
                for run in range(RUNS):
                    samples = int(RATE_HZ * seconds) + run * RATE_HZ * 72 // 1000
                    for name, session in sessions.items():
                        runs[name].append(timed(session, front_ends[name[0]], samples, rows))
                for (path, repack), results in runs.items():
                    whole, last = ([1000 * result[i] for result in results] for i in (0, 1))
                    pieces = [1000 * piece for result in results for piece in result[2]] or [0.0]
                    load = sum(pieces) / sum(1000 * seconds for _ in results)
                    print(
                        f"{path.name:14} {repack:6} {rows:4} {seconds:6.1f} {median(whole):9.0f} {median(last):8.0f} "
                        f"{max(last):6.0f} {median(pieces):9.0f} {load:5.0%}"
                    )


if __name__ == "__main__":
    main()
