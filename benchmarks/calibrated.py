"""How far calibrated bundles are from the one they were made of, on feeds that they were not calibrated with.

python benchmarks/calibrated.py ORIGINAL CALIBRATED ... --feeds OTHER_FEEDS
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from vita_edge.calibration.component_graph import ComponentGraph
from vita_edge.calibration.feeds import Feeds, Sample, whole_feeds
from vita_edge.calibration.walk import run_graph
from vita_edge.engines.bundle import COMPONENTS, Bundle


def outputs(bundle: Bundle, name: str, raw: list[Sample], prefixes: list[Sample]) -> list[Sample]:
    """Of every sample; the cache of the speech decoder is filled by the prefix graph of the original."""
    graph = ComponentGraph(bundle.components[name].graph)
    pairs = zip(raw, prefixes or [None] * len(raw))
    return run_graph(graph, [whole_feeds(graph.inputs, sample, prefix) for sample, prefix in pairs])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("original", type=Path)
    parser.add_argument("calibrated", type=Path, nargs="+")
    parser.add_argument("--feeds", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--component", action="append")
    arguments = parser.parse_args()
    original, feeds = Bundle.open(arguments.original), Feeds.open(arguments.feeds)
    feeds.check(original)
    for name in arguments.component or COMPONENTS:
        raw = feeds.samples(name, arguments.samples)
        prefixes: list[Sample] = []
        if name == "speech_decoder":
            sentences = [{"text_embeds": sample["text_embeds"]} for sample in raw]
            prefixes = outputs(original, "speech_prefill", sentences, [])
        exact = outputs(original, name, raw, prefixes)
        for path in arguments.calibrated:
            got = outputs(Bundle.open(path), name, raw, prefixes)
            signal = sum(float(np.square(a, dtype=np.float64).sum()) for one in exact for a in one.values())
            noise = sum(
                float(np.square(one[key].astype(np.float64) - other[key]).sum())
                for one, other in zip(exact, got)
                for key in one
            )
            level = 10 * np.log10(signal / noise) if noise else np.inf
            told = ""
            if "logits" in exact[0]:
                same = [one["logits"].argmax(-1) == other["logits"].argmax(-1) for one, other in zip(exact, got)]
                joined = np.concatenate([each.ravel() for each in same])
                told = f"  same choice {100 * joined.mean():.1f} % of {len(joined)}"
            print(f"{name:15} {path.name:24} {level:6.1f} dB{told}")


if __name__ == "__main__":
    main()
