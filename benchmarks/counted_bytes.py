"""How far the weights that `vita-edge estimate` counts are from those that export would write, for every target.

    vita-edge practice CHECKPOINT --size half
    python benchmarks/counted_bytes.py CHECKPOINT

Graphs are made and not written. On the CPU what is resident is counted, which is more than the file: at fp16 all
weights are widened, at int8 and int4 those of convolutions.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vita_edge.estimate.weight_bits import weight_bits
from vita_edge.export.bundle import _graphs  # what an export writes, without writing it
from vita_edge.export.checkpoint.open_checkpoint import Checkpoint
from vita_edge.export.facts import model_facts
from vita_edge.export.weights.precision import PRECISIONS, TARGETS, precision_plan
from vita_edge.export.work import model_work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    checkpoint = Checkpoint.open(parser.parse_args().checkpoint)
    vocabulary = model_facts(checkpoint).llm.vocab_size
    work = model_work(checkpoint.config, vocabulary)
    for target in TARGETS:
        for precision in PRECISIONS:
            graphs = _graphs(checkpoint, vocabulary, precision_plan(precision, target=target))
            backend = "onnxruntime-cpu" if target == "onnxruntime" else "tensorrt"
            counted = weight_bits(backend, precision).weights(work)
            written = sum(graph.nbytes for graph in graphs)
            errors = ", ".join(f"{graph.name} {counted[graph.name] / graph.nbytes - 1:+.1%}" for graph in graphs)
            whole = sum(counted.values())
            print(
                f"{target:14} {precision:5} {written / 2**20:8,.0f} MiB {whole / 2**20:8,.0f} MiB counted "
                f"{whole / written - 1:+.1%}   {errors}"
            )


if __name__ == "__main__":
    main()
