"""How far calibrated bundles are from the one they were made of, on feeds that they were not calibrated with.

python benchmarks/calibrated.py ORIGINAL CALIBRATED ... --feeds OTHER_FEEDS
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vita_edge.calibration.component_graph import ComponentGraph
from vita_edge.calibration.feeds import Feeds, Sample, whole_feeds
from vita_edge.calibration.judge import judged
from vita_edge.calibration.walk import run_graph
from vita_edge.engines.bundle.component_spec import COMPONENTS
from vita_edge.engines.bundle.format import Bundle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("original", type=Path)
    parser.add_argument("calibrated", type=Path, nargs="+")
    parser.add_argument("--feeds", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--component", action="append")
    arguments = parser.parse_args()
    original, feeds = Bundle.open(arguments.original), Feeds.open(arguments.feeds)
    bundles = [Bundle.open(path) for path in arguments.calibrated]
    feeds.check(original)
    for name in arguments.component or COMPONENTS:
        graphs = [ComponentGraph(bundle.components[name].graph) for bundle in (original, *bundles)]
        prefill = ComponentGraph(original.components["speech_prefill"].graph) if name == "speech_decoder" else None
        raw = feeds.samples(name, arguments.samples, graphs[0].inputs, prefill.inputs if prefill else ())
        prefixes: list[Sample | None] = [None] * len(raw)
        if prefill:  # the cache of all is filled by the prefix graph of the original
            sentences = [whole_feeds(prefill.inputs, {"text_embeds": sample["text_embeds"]}) for sample in raw]
            prefixes = [*run_graph(prefill, sentences)]
        own = [[whole_feeds(graph.inputs, *pair) for pair in zip(raw, prefixes)] for graph in graphs]
        for path, judge in zip(arguments.calibrated, judged(graphs[0], [*zip(graphs, own)][1:], own[0])):
            same = judge.same_choice
            reported = "" if same is None else f"  same choice {100 * same:.1f} % of {judge.positions}"
            print(f"{name:15} {path.name:24} {judge.snr_db:6.1f} dB{reported}", flush=True)


if __name__ == "__main__":
    main()
