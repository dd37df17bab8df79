"""Our decode and prefill against llama.cpp and onnxruntime-genai, on the same random weights, interleaved in one run.

    pip install llama-cpp-python gguf                             # in the environment of vita-edge
    pip install onnxruntime-genai torch transformers onnx_ir      # its builder needs the last three
    python benchmarks/peers.py --work DIR                                       # four layers, all engines
    python benchmarks/peers.py --work DIR --layers 28 --vocab 152064 \
        --engines "int4 b64" "int4" "llama.cpp Q4_0"                            # the real size, 20 GB of disk

The language model has the layers of VITA-1.5 (3584 wide, 18944 inside, 28 query and 4 key heads), fewer of them, and a
smaller vocabulary; the other parts are tiny and never run. Every engine is opened once; then rounds go over all
engines in turn, and a ratio is the median over rounds of two neighbours in time. Bits per weight count scales and zero
points. A peer that is not installed is left out.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from precision import bits_per_weight

from vita_edge.engines.backends import open_backend
from vita_edge.engines.bundle.format import Bundle
from vita_edge.export.bundle import export_bundle
from vita_edge.export.checkpoint.open_checkpoint import Checkpoint
from vita_edge.export.checkpoint.safetensors_file import write_safetensors
from vita_edge.export.checkpoint.tensor import LazyTensor, StreamedTensor
from vita_edge.export.practice.presets import preset
from vita_edge.export.practice.write_practice import write_checkpoint
from vita_edge.export.weights.precision import precision_plan
from vita_edge.runtime.decoding.language_model import LanguageModel


class Ours:
    """A bundle's language model through the runtime's own loop."""

    def __init__(self, name: str, folder: Path, capacity: int, threads: int, prefill: bool) -> None:
        bundle = Bundle.open(folder)
        second = open_backend(bundle, threads=threads).session("llm_prefill") if prefill else None
        self.name, self.facts = name, bundle.model.llm
        session = open_backend(bundle, threads=threads).session("llm")
        self.model = LanguageModel(session, bundle.embedding_table(), self.facts, capacity, prefill=second)
        self.bits = bits_per_weight(bundle)

    def prefill(self, tokens: list[int]) -> None:
        self.model.rewind(0)
        self.model.prefill(self.model.embeddings.rows(tokens))

    def step(self, token: int) -> int:
        return int(self.model.step(token).argmax())

    def rewind(self, length: int) -> None:
        self.model.rewind(length)


class LlamaCpp:
    """llama.cpp through the low level of its Python bindings."""

    def __init__(self, name: str, file: Path, capacity: int, threads: int) -> None:
        import llama_cpp

        self.name, self.lib = name, llama_cpp
        llama_cpp.llama_backend_init()
        self._quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self._quiet, ctypes.c_void_p(0))
        self.model = llama_cpp.llama_model_load_from_file(str(file).encode(), llama_cpp.llama_model_default_params())
        options = llama_cpp.llama_context_default_params()
        options.n_ctx, options.n_batch, options.n_ubatch = capacity, 512, 512
        options.n_threads = options.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, options)
        self.vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.length = 0
        self.bits = 8 * llama_cpp.llama_model_size(self.model) / llama_cpp.llama_model_n_params(self.model)

    def prefill(self, tokens: list[int]) -> None:
        self.rewind(0)
        for start in range(0, len(tokens), 512):
            self._decode(tokens[start : start + 512])

    def step(self, token: int) -> int:
        self._decode([token])
        logits = self.lib.llama_get_logits_ith(self.context, -1)
        return int(np.ctypeslib.as_array(logits, shape=(self.vocab,)).argmax())

    def rewind(self, length: int) -> None:
        self.lib.llama_memory_seq_rm(self.memory, 0, length, -1)
        self.length = length

    def _decode(self, tokens: list[int]) -> None:
        array = (self.lib.llama_token * len(tokens))(*tokens)
        if self.lib.llama_decode(self.context, self.lib.llama_batch_get_one(array, len(tokens))):
            raise RuntimeError("llama_decode failed")
        self.length += len(tokens)


class Genai:
    """onnxruntime-genai with the graph of its own builder."""

    def __init__(self, name: str, folder: Path, capacity: int, bits: float) -> None:
        import onnxruntime_genai

        self.name, self.lib, self.bits, self.capacity = name, onnxruntime_genai, bits, capacity
        self.model = onnxruntime_genai.Model(str(folder))
        self.generator: Any = None

    def prefill(self, tokens: list[int]) -> None:
        options = self.lib.GeneratorParams(self.model)
        options.set_search_options(max_length=self.capacity, do_sample=False)
        self.generator = self.lib.Generator(self.model, options)
        self.generator.append_tokens(tokens)

    def step(self, token: int) -> int:
        self.generator.generate_next_token()
        return token

    def rewind(self, length: int) -> None:
        self.generator.rewind_to(length)


def build_genai(checkpoint: Checkpoint, source: Path, folder: Path, block: int, threads: int) -> None:
    """The same language model through the builder of onnxruntime-genai."""
    config, plain = checkpoint.config.llm, folder.parent / "hugging_face"
    if not plain.exists():
        plain.mkdir()
        language = ("model.embed", "model.layers", "model.norm", "lm_")
        names = [name for name in checkpoint.main if name.startswith(language)]
        write_safetensors(plain / "model.safetensors", {name: _streamed(checkpoint.main[name]) for name in names})
        reported = {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "hidden_size": config.hidden_size,
            "intermediate_size": config.intermediate_size,
            "num_hidden_layers": config.layers,
            "num_attention_heads": config.heads,
            "num_key_value_heads": config.kv_heads,
            "vocab_size": config.vocab_rows,
            "rms_norm_eps": config.rms_norm_eps,
            "rope_theta": config.rope_theta,
            "max_position_embeddings": config.max_positions,
            "tie_word_embeddings": False,
            "hidden_act": "silu",
            "torch_dtype": "bfloat16",
            "bos_token_id": 1,
            "eos_token_id": 2,
        }
        (plain / "config.json").write_text(json.dumps(reported))
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(source / name, plain / name)
    module = ["-m", "onnxruntime_genai.models.builder", "-i", str(plain), "-o", str(folder), "-p", "int4", "-e", "cpu"]
    extra = ["--extra_options", f"int4_block_size={block}", "int4_accuracy_level=4"]
    command = [sys.executable, *module, "-c", str(folder.parent / "cache"), *extra]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    settings = json.loads((folder / "genai_config.json").read_text())
    settings["model"]["decoder"]["session_options"]["intra_op_num_threads"] = threads
    (folder / "genai_config.json").write_text(json.dumps(settings))


def _streamed(tensor: LazyTensor) -> StreamedTensor:
    rows = max((1 << 20) // max(math.prod(tensor.shape[1:]), 1), 1)
    starts = range(0, tensor.shape[0], rows)
    pieces = (tensor.raw_rows(start, min(start + rows, tensor.shape[0])) for start in starts)
    return StreamedTensor(tensor.shape, tensor.dtype, lambda: pieces)


def write_gguf(checkpoint: Checkpoint, file: Path, kind: str) -> None:
    """The same language model for llama.cpp, matrices in ``kind``, norms and biases in float32."""
    import gguf

    config, writer = checkpoint.config.llm, gguf.GGUFWriter(file, "qwen2")
    writer.add_block_count(config.layers)
    writer.add_context_length(config.max_positions)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_vocab_size(config.vocab_rows)
    writer.add_tokenizer_model("none")
    quantisation = gguf.GGMLQuantizationType[kind]
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{kind}"])

    def add(name: str, source: str, *, matrix: bool) -> None:
        values = checkpoint.main[source].read()
        if matrix:
            writer.add_tensor(name, gguf.quants.quantize(values, quantisation), raw_dtype=quantisation)
        else:
            writer.add_tensor(name, values)

    add("token_embd.weight", "model.embed_tokens.weight", matrix=True)
    add("output.weight", "lm_head.weight", matrix=True)
    add("output_norm.weight", "model.norm.weight", matrix=False)
    attention = {"attn_q": "q_proj", "attn_k": "k_proj", "attn_v": "v_proj"}
    for i in range(config.layers):
        ours, theirs = f"model.layers.{i}.", f"blk.{i}."
        for name, source in attention.items():
            add(f"{theirs}{name}.weight", f"{ours}self_attn.{source}.weight", matrix=True)
            add(f"{theirs}{name}.bias", f"{ours}self_attn.{source}.bias", matrix=False)
        add(f"{theirs}attn_output.weight", f"{ours}self_attn.o_proj.weight", matrix=True)
        for name in ("gate", "up", "down"):
            add(f"{theirs}ffn_{name}.weight", f"{ours}mlp.{name}_proj.weight", matrix=True)
        add(f"{theirs}attn_norm.weight", f"{ours}input_layernorm.weight", matrix=False)
        add(f"{theirs}ffn_norm.weight", f"{ours}post_attention_layernorm.weight", matrix=False)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


OURS = {
    "int4 b32": ("int4", 32, False, "same"),
    "int4 b64": ("int4", 64, False, "same"),
    "int4 b128": ("int4", 128, False, "same"),
    "int4": ("int4", 128, False, "wide"),
    "int4 + int8 prefill": ("int4", 128, True, "wide"),
    "int8": ("int8", 128, False, "wide"),
}
"""Name → precision, block, second graph, first layer: like the others or in 8 bits, as it is exported."""


def prepare(
    work: Path, layers: int, vocab: int, capacity: int, threads: int, head: str, requested: list[str] | None
) -> list[Any]:
    """Write what is missing below ``work`` and open every engine that is installed, or those ``wanted``."""
    source = work / "checkpoint"
    if not source.exists():
        full, tiny = preset("full").llm, preset("tiny")
        llm = replace(full, layers=layers, vocab_rows=vocab, eos_token_ids=tiny.llm.eos_token_ids)
        write_checkpoint(source, replace(tiny, name="practice/peers", llm=llm))
    engines: list[Any] = []
    for name, (precision, block, prefill, first) in OURS.items():
        if requested and name not in requested:
            continue
        folder = work / name.replace(" ", "_")
        if not folder.exists():
            plan = precision_plan(precision, block=block, int8_prefill=prefill)
            if head == "same":
                plan = replace(plan, head=plan.llm)
            if first == "same":
                plan = replace(plan, llm_first=None)
            export_bundle(source, folder, precision=plan)
        engines.append(Ours(name, folder, capacity, threads, prefill))
    try:
        import llama_cpp  # noqa: F401
    except ImportError:
        print("llama.cpp: not installed, left out")
        return engines
    for kind in ("Q4_0", "Q8_0"):
        if requested and f"llama.cpp {kind}" not in requested:
            continue
        file = work / f"{kind}.gguf"
        if not file.exists():
            write_gguf(Checkpoint.open(source), file, kind)
        engines.append(LlamaCpp(f"llama.cpp {kind}", file, capacity, threads))
    try:
        import onnxruntime_genai  # noqa: F401
    except ImportError:
        print("onnxruntime-genai: not installed, left out")
        return engines
    for block in (32, 64):
        if requested and f"genai int4 b{block}" not in requested:
            continue
        folder = work / f"genai_b{block}"
        if not folder.exists():
            build_genai(Checkpoint.open(source), source, folder, block, threads)
        engines.append(Genai(f"genai int4 b{block}", folder, capacity, 4 + 36 / block))
    return engines


def measure(
    engines: list[Any], rounds: int, prompt: int, contexts: list[int], steps: int
) -> dict[str, dict[str, list[float]]]:
    """Tokens per second: {what: {engine: one figure a round}}."""
    ids = np.random.default_rng(0).integers(0, 500, max([*contexts, prompt])).tolist()
    figures: dict[str, dict[str, list[float]]] = {f"prefill {prompt}": {e.name: [] for e in engines}}
    for engine in engines:  # once, unmeasured: every page touched, every buffer made
        engine.prefill(ids[:64])
        engine.step(1)
    for _ in range(rounds):
        for engine in engines:
            seconds = _timed(lambda engine=engine: engine.prefill(ids[:prompt]))
            figures[f"prefill {prompt}"][engine.name].append(prompt / seconds)
    for context in contexts:
        what = f"decode at {context}"
        figures[what] = {e.name: [] for e in engines}
        for engine in engines:
            engine.prefill(ids[:context])
        for _ in range(rounds):
            for engine in engines:

                def run(engine: Any = engine, context: int = context) -> None:
                    token = 1
                    for _ in range(steps):
                        token = engine.step(token % 500)
                    engine.rewind(context)

                figures[what][engine.name].append(steps / _timed(run))
    return figures


def bandwidth(threads: int) -> float:
    """GB/s that the cores read together from memory, best of a few passes."""
    block = np.ones(1 << 27, np.uint64)  # 1 GiB
    parts = np.array_split(block, threads)
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(5):
            begin = time.perf_counter()
            list(pool.map(np.bitwise_or.reduce, parts))
            best = max(best, block.nbytes / (time.perf_counter() - begin) / 1e9)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints and bundles (a few GB)")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--vocab", type=int, default=32768)
    parser.add_argument("--prompt", type=int, default=300)
    parser.add_argument("--contexts", type=int, nargs="+", default=[256, 2048])
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--head", choices=("int8", "same"), default="same", help="the last layer of our int4 bundles")
    parser.add_argument("--engines", nargs="+", metavar="NAME", help="only these, by the names of the table")
    parser.add_argument("--against", default="llama.cpp Q4_0")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    capacity = max([*options.contexts, options.prompt]) + 64
    engines = prepare(
        options.work, options.layers, options.vocab, capacity, options.threads, options.head, options.engines
    )
    figures = measure(engines, options.rounds, options.prompt, options.contexts, options.steps)
    read = bandwidth(options.threads)
    print(
        f"{platform.processor() or platform.machine()}, {options.threads} threads, {options.layers} layers, vocabulary"
    )
    print(f"{options.vocab}, {options.rounds} rounds, median; reading {read:.1f} GB/s in this run\n")
    base = options.against if any(e.name == options.against for e in engines) else engines[0].name
    weights = sum(size for size in _matrix_sizes(options.layers, options.vocab))
    print(f"{'engine':26} {'bits':>5}  " + "  ".join(f"{what:>24}" for what in figures) + "   read at decode")
    for engine in engines:
        cells = []
        for by_engine in figures.values():
            mine = by_engine[engine.name]
            ratio = statistics.median(a / b for a, b in zip(mine, by_engine[base]))
            cells.append(f"{statistics.median(mine):9.1f} tok/s ({ratio:4.2f})")
        speed = statistics.median(figures[f"decode at {options.contexts[0]}"][engine.name])
        gb_s = speed * weights * engine.bits / 8e9
        print(f"{engine.name:26} {engine.bits:5.2f}  " + "  ".join(f"{cell:>24}" for cell in cells), end="")
        print(f"   {gb_s:5.1f} GB/s ({gb_s / read:.2f})")
    if options.json:
        reported = {"bandwidth_gb_s": read, "bits": {e.name: e.bits for e in engines}, "tokens_per_second": figures}
        options.json.write_text(json.dumps(reported, indent=1))


def _matrix_sizes(layers: int, vocab: int) -> list[int]:
    """Weights read for every token: all matrices of the layers, and the head."""
    llm = preset("full").llm
    attention = llm.hidden_size * llm.head_dim * (2 * llm.heads + 2 * llm.kv_heads)
    return [layers * (attention + 3 * llm.hidden_size * llm.intermediate_size), vocab * llm.hidden_size]


def _timed(run: Callable[[], None]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
