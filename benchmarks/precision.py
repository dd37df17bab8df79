"""What a precision does to the language model: signal to noise of its logits and agreement on the best token.

    python benchmarks/precision.py CHECKPOINT --work DIR [--precisions fp16 int8 int4]

The fp32 bundle of the same checkpoint is the reference. Prompts are random ids; then both read the same tokens, chosen
by the reference, step by step. With random weights this measures the arithmetic, not the quality of a format on
trained weights.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.backends import open_backend
from vita_edge.engines.bundle.format import Bundle
from vita_edge.export.bundle import export_bundle
from vita_edge.export.weights.formats import Float32
from vita_edge.export.weights.precision import PrecisionPlan, precision_plan
from vita_edge.runtime.decoding.language_model import LanguageModel


def plans(names: list[str]) -> dict[str, PrecisionPlan]:
    """fp32 first, then what was asked for; int4 in its variants, to say what each part of it costs."""
    chosen: dict[str, PrecisionPlan] = {"fp32": precision_plan("fp32")}
    for name in names:
        if name != "int4":
            chosen[name] = precision_plan(name)
            continue
        for block in (32, 64, 128):
            plan = precision_plan("int4", block=block, int8_prefill=False)
            chosen[f"int4 b{block}, all layers"] = replace(plan, llm_first=None)
            chosen[f"int4 b{block}, first layer 8 bits"] = plan
        chosen["the same, head in 4 bits"] = replace(plan, head=plan.llm)
        chosen["the same, head in float32"] = replace(plan, head=Float32())
        chosen["int4 as exported, int8 prefill"] = precision_plan("int4")
    return chosen


def trace(
    bundle: Bundle, prompts: list[list[int]], path: list[list[int]] | None, steps: int
) -> tuple[NDArray[np.float32], list[list[int]]]:
    """Logits [prompts · steps, vocab] along ``path``, or along the model's own choice, which is returned."""
    with open_backend(bundle).session("llm") as session:
        prefill = open_backend(bundle).session("llm_prefill") if "llm_prefill" in bundle.components else None
        model = LanguageModel(session, bundle.embedding_table(), bundle.model.llm, 512, prefill=prefill)
        rows, chosen = [], []
        for i, prompt in enumerate(prompts):
            model.rewind(0)
            logits = model.prefill(model.embeddings.rows(prompt))
            tokens: list[int] = []
            for step in range(steps):
                rows.append(logits.copy())
                tokens.append(path[i][step] if path else int(logits.argmax()))
                logits = model.step(tokens[-1])
            chosen.append(tokens)
        if prefill:
            prefill.close()
    return np.stack(rows), chosen


def bits_per_weight(bundle: Bundle) -> float:
    """Of the decoding graph, with scales and zero points, and without the rotary tables."""
    component, llm = bundle.components["llm"], bundle.model.llm
    tables = 2 * llm.context_tokens * (llm.head_dim // 2) * 4
    return 8 * (sum(file.stat().st_size for file in component.weights) - tables) / component.parameters


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--precisions", nargs="+", default=["fp16", "int8", "int4"])
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--keep", action="store_true", help="do not delete the bundles")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    reference: NDArray[np.float32] | None = None
    path: list[list[int]] | None = None
    prompts: list[list[int]] = []
    print(f"{'precision':34} {'MiB':>8} {'bits':>6} {'SNR dB':>7} {'max rel':>8} {'top-1':>6}")
    for name, plan in plans(options.precisions).items():
        folder = options.work / name.replace(" ", "_").replace(",", "")
        if not folder.exists():
            export_bundle(options.checkpoint, folder, precision=plan)
        bundle = Bundle.open(folder)
        if not prompts:
            random = np.random.default_rng(0)
            prompts = random.integers(0, bundle.model.llm.vocab_size, (options.prompts, options.length)).tolist()
        logits, chosen = trace(bundle, prompts, path, options.steps)
        if reference is None:
            reference, path = logits, chosen
        error = logits.astype(np.float64) - reference
        noise = float((error**2).mean())
        snr = 10 * np.log10(float((reference.astype(np.float64) ** 2).mean()) / noise) if noise else float("inf")
        worst = float(np.abs(error).max() / np.abs(reference).max())
        same = float((logits.argmax(1) == reference.argmax(1)).mean())
        parts = [bundle.components[part] for part in ("llm", "llm_prefill") if part in bundle.components]
        size = sum(file.stat().st_size for part in parts for file in part.weights) / 2**20
        bits = bits_per_weight(bundle)
        print(f"{name:34} {size:8.1f} {bits:6.2f} {snr:7.1f} {worst:8.1e} {same:6.1%}", flush=True)
        if not options.keep:
            shutil.rmtree(folder)  # of the half model they would be some gigabytes together


if __name__ == "__main__":
    main()
