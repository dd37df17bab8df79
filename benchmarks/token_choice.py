"""What choosing a token costs beside computing its logits, and what a step allocates.

    python benchmarks/token_choice.py BUNDLE

Times are medians over many steps of the bundle's own language model. `largest` is the most that Python and numpy had
allocated at once while a step ran and its token was chosen, counted from the beginning of the step: a copy of the
logits would show as 4 bytes for every id.
"""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from vita_edge.engines.backends import open_backend
from vita_edge.engines.bundle.format import Bundle
from vita_edge.runtime.decoding.language_model import LanguageModel
from vita_edge.runtime.decoding.sampling import make_sampler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    bundle = Bundle.open(options.bundle)
    samplers = {
        "greedy": make_sampler(1),
        "top 20 at 0.8": make_sampler(20, 0.8, seed=0),
        "all at 0.8": make_sampler(0, 0.8, seed=0),
    }
    with open_backend(bundle, threads=options.threads).session("llm") as session:
        model = LanguageModel(session, bundle.embedding_table(), bundle.model.llm, 64 + options.steps)
        model.prefill(model.embeddings.rows(list(range(32))))
        print(
            f"{bundle.path}: {bundle.model.llm.vocab_size:,} ids, logits of {bundle.model.llm.vocab_size * 4:,} bytes"
        )
        print(f"{'choice':16} {'step ms':>8} {'choice ms':>10} {'share':>6} {'largest':>12}")
        for name, sample in samplers.items():
            steps, choices = [], []
            model.rewind(32)
            logits = model.step(1)
            for _ in range(options.steps // 2):
                token, choice = timed(lambda logits=logits, sample=sample: sample(logits))
                logits, step = timed(lambda token=token: model.step(token))
                steps.append(step)
                choices.append(choice)
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            sample(model.step(1))
            largest = tracemalloc.get_traced_memory()[1] - before
            tracemalloc.stop()
            step, choice = statistics.median(steps), statistics.median(choices)
            share = choice / (step + choice)
            print(f"{name:16} {step * 1e3:8.2f} {choice * 1e3:10.3f} {share:6.2%} {largest:10,} B")


def timed(run: Callable[[], object]) -> tuple[object, float]:
    """What ``run`` gives, and its seconds."""
    begin = time.perf_counter()
    result = run()
    return result, time.perf_counter() - begin


if __name__ == "__main__":
    main()
