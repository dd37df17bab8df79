"""A check that nobody here wrote: the language model as optimum exports it to ONNX, against the reference and a bundle.

    make crosscheck                                               # on a tiny checkpoint
    pip install -e '.[crosscheck]'                                # in an environment of its own
    python benchmarks/crosscheck.py CHECKPOINT --work DIR
    python benchmarks/crosscheck.py CHECKPOINT --work DIR --bundle BUNDLE
    python benchmarks/crosscheck.py CHECKPOINT --work DIR --layers 4      # of a large one: 17 bytes a parameter

The decoder's weights are copied into a folder that transformers reads as Qwen2. `optimum-cli export onnx` traces it and
writes a graph with token ids in and logits out. On text prompts, logits, the most likely token of every position and
greedy tokens are compared. Time and peak memory of optimum's export, and time per token, come along. Exit 1 when
something is off.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vita_edge.engines.bundle.format import Bundle  # before onnxruntime, whose telemetry it switches off
from vita_edge.export.checkpoint.open_checkpoint import Checkpoint
from vita_edge.export.checkpoint.safetensors_file import write_safetensors
from vita_edge.export.checkpoint.tensor import LazyTensor, StreamedTensor
from vita_edge.runtime import Assistant
from vita_edge.runtime.decoding.top_k_logits import row_of
from vita_edge.verification.parity.compare import LIMITS, judged_as
from vita_edge.verification.reference import Reference
from vita_edge.verification.reference.prompts import one_turn, prompt_ids

import onnxruntime as ort  # isort: skip

PROMPTS = ("Hello, how are you today?", "用一句话解释什么是编解码器。", "Count from 1 to 12: 1, 2, 3,")
SYSTEM = "You are a helpful assistant."
LIMIT = LIMITS["fp32"]["logits"]
PIECE_ROWS = 4096

Rows = NDArray[np.float32]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="a folder for what optimum reads and writes")
    parser.add_argument("--bundle", type=Path, help="a bundle of the whole checkpoint to compare as well")
    parser.add_argument("--layers", type=int, help="the first N layers alone (default: all)")
    parser.add_argument("--tokens", type=int, default=16, help="greedy tokens of each prompt (default: %(default)s)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    whole = Checkpoint.open(options.checkpoint)
    if options.bundle and options.layers:
        parser.error("--bundle has all layers: leave out --layers")
    checkpoint = with_layers(whole, options.layers) if options.layers else whole
    reference = Reference(checkpoint)
    prompts = [prompt_ids(reference.tokenizer, one_turn(SYSTEM, text)) for text in PROMPTS]
    facts: dict[str, Any] = {"layers": checkpoint.config.llm.layers}
    facts |= export_with_optimum(checkpoint, options.work)
    theirs = Optimum(options.work / "onnx" / "model.onnx", reference.language.words)
    expected = [theirs.greedy(ids, options.tokens) for ids in prompts]
    facts["optimum_ms_per_token"] = theirs.ms_per_token
    facts["reference"] = compared([greedy(reference, ids, options.tokens) for ids in prompts], expected, LIMIT)
    if options.bundle:
        bundle = Bundle.open(options.bundle)
        limit = LIMITS[judged_as(bundle, "llm")]["logits"]
        with Assistant(bundle) as assistant:
            ours = Ours(assistant)
            facts["bundle"] = compared(
                [ours.along(ids, tokens) for ids, (tokens, _) in zip(prompts, expected)], expected, limit
            )
            facts["bundle_ms_per_token"] = ours.ms_per_token
    report(facts, options.json)
    return 0 if all(facts[name]["passed"] for name in ("reference", "bundle") if name in facts) else 1


def with_layers(checkpoint: Checkpoint, layers: int) -> Checkpoint:
    llm = replace(checkpoint.config.llm, layers=layers)
    return replace(checkpoint, config=replace(checkpoint.config, llm=llm))


def export_with_optimum(checkpoint: Checkpoint, work: Path) -> dict[str, Any]:
    """Write ``work``/decoder for transformers and have optimum write ``work``/onnx."""
    decoder, target = work / "decoder", work / "onnx"
    shutil.rmtree(decoder, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)
    decoder.mkdir(parents=True)
    write_decoder(checkpoint, decoder)
    started = time.monotonic()
    command = [sys.executable, "-m", "optimum.commands.optimum_cli", "export", "onnx", "--model", str(decoder)]
    subprocess.run([*command, "--task", "text-generation-with-past", str(target)], check=True, stdout=sys.stderr)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"optimum_export_s": round(time.monotonic() - started, 1), "optimum_export_peak_mib": peak >> 10}


def write_decoder(checkpoint: Checkpoint, folder: Path) -> None:
    """The language model alone, in the layout of Qwen2ForCausalLM."""
    c = checkpoint.config.llm
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "hidden_size": c.hidden_size,
        "intermediate_size": c.intermediate_size,
        "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads,
        "num_key_value_heads": c.kv_heads,
        "max_position_embeddings": c.max_positions,
        "rms_norm_eps": c.rms_norm_eps,
        "rope_theta": c.rope_theta,
        "tie_word_embeddings": c.tied,
        "use_sliding_window": False,
        "vocab_size": c.vocab_rows,
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    (folder / "tokenizer.json").write_text(checkpoint.tokenizer_json(), "utf-8")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    layers = tuple(f"model.layers.{i}." for i in range(c.layers))
    outer = ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")
    tensors = {name: in_float32(t) for name, t in checkpoint.main.items() if name in outer or name.startswith(layers)}
    write_safetensors(folder / "model.safetensors", tensors)


def in_float32(tensor: LazyTensor) -> StreamedTensor:
    def pieces() -> Iterator[NDArray[Any]]:
        for start in range(0, tensor.shape[0], PIECE_ROWS):
            yield tensor.rows(start, min(start + PIECE_ROWS, tensor.shape[0]))

    return StreamedTensor(tensor.shape, "float32", pieces)


class Optimum:
    """Optimum's graph in ONNX Runtime: token ids in, logits out, a KV cache that grows by concatenation."""

    def __init__(self, model: Path, words: int) -> None:
        self._session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        self._words = words
        self._times: list[float] = []

    @property
    def ms_per_token(self) -> float:
        return round(1000 * statistics.median(self._times), 2)

    def greedy(self, ids: list[int], count: int) -> tuple[list[int], Rows]:
        """``count`` tokens; logits [len(ids) + count - 1, words] of all positions."""
        inputs = {i.name: i for i in self._session.get_inputs()}
        outputs = [o.name for o in self._session.get_outputs()]
        past = {
            name: np.zeros([1, i.shape[1], 0, i.shape[3]], np.float32) for name, i in inputs.items() if "past" in name
        }
        tokens: list[int] = []
        rows: list[Rows] = []
        fed, held = list(ids), 0
        while len(tokens) < count:
            positions = np.arange(held, held + len(fed))[None]
            feeds = {"input_ids": np.array([fed]), "attention_mask": np.ones((1, held + len(fed)), np.int64), **past}
            if "position_ids" in inputs:
                feeds["position_ids"] = positions
            started = time.perf_counter()
            got = dict(zip(outputs, self._session.run(outputs, feeds)))
            if held:
                self._times.append(time.perf_counter() - started)
            past = {name: got[name.replace("past_key_values", "present")] for name in past}
            rows.append(got["logits"][0, :, : self._words])
            tokens.append(int(rows[-1][-1].argmax()))
            held += len(fed)
            fed = [tokens[-1]]
        return tokens, np.concatenate(rows)


@torch.inference_mode()
def greedy(reference: Reference, ids: list[int], count: int) -> tuple[list[int], Rows]:
    """The same of the reference."""
    language = reference.language
    cache, rows, tokens, fed = language.new_cache(), [], list[int](), list(ids)
    while len(tokens) < count:
        (hidden,) = language.hidden([language.embed(fed)], [cache])
        rows.append(language.logits(hidden).numpy())
        tokens.append(int(rows[-1][-1].argmax()))
        fed = [tokens[-1]]
    return tokens, np.concatenate(rows)


class Ours:
    """A bundle, along given tokens."""

    def __init__(self, assistant: Assistant) -> None:
        self._assistant = assistant
        self._times: list[float] = []

    @property
    def ms_per_token(self) -> float:
        return round(1000 * statistics.median(self._times), 2)

    def along(self, ids: list[int], tokens: Sequence[int]) -> tuple[list[int], Rows]:
        """What it would say after each token; its logits from the end of the prompt on."""
        model = self._assistant.language_model()
        rows = [row_of(model.prefill(self._assistant.embeddings.rows(ids))).copy()]
        for token in tokens[:-1]:
            started = time.perf_counter()
            logits = model.step(token)
            self._times.append(time.perf_counter() - started)
            rows.append(row_of(logits).copy())
        return [int(row.argmax()) for row in rows], np.stack(rows)


def compared(
    ours: Sequence[tuple[list[int], Rows]], theirs: Sequence[tuple[list[int], Rows]], limit: float
) -> dict[str, Any]:
    """The worst relative error of logits, how often the most likely token is the same, and greedy tokens."""
    errors, same, positions, equal = [], 0, 0, 0
    for (our_tokens, our_rows), (their_tokens, their_rows) in zip(ours, theirs):
        count = min(len(our_rows), len(their_rows))
        a, b = our_rows[-count:], their_rows[-count:]
        errors.append(float(np.abs(a - b).max() / np.abs(b).max()))
        same += int((a.argmax(1) == b.argmax(1)).sum())
        positions += count
        equal += our_tokens == their_tokens
    exact = limit == LIMIT
    return {
        "relative_error": max(errors),
        "limit": limit,
        "top1_agreement": same / positions,
        "prompts_with_equal_tokens": equal,
        "prompts": len(ours),
        "passed": max(errors) <= limit and (not exact or equal == len(ours)),
    }


def report(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    cost = f"{facts['optimum_export_s']} s, {facts['optimum_export_peak_mib']} MiB"
    print(f"optimum exported {facts['layers']} layers in {cost}")
    for name in ("reference", "bundle"):
        if name in facts:
            f = facts[name]
            equal = f"{f['prompts_with_equal_tokens']} of {f['prompts']} prompts with equal tokens"
            print(
                f"{name}: relative error {f['relative_error']:.1e} (limit {f['limit']:.0e}), "
                f"top-1 agreement {f['top1_agreement']:.1%}, {equal}: {'holds' if f['passed'] else 'OFF'}"
            )
    for name in ("optimum", "bundle"):
        if f"{name}_ms_per_token" in facts:
            print(f"{name}: {facts[f'{name}_ms_per_token']} ms a token")


if __name__ == "__main__":
    sys.exit(main())
