"""How fast an engine is, stage by stage, with nothing around it: prompts, tokens, codes, sound, and a whole turn.

    python benchmarks/engine_speed.py BUNDLE --backend cpu|cuda|tensorrt [-o result.json]

Decoding is bound by the bytes that are read for every token, so the bandwidth of the memory in question is measured in
the same run: a copy from memory of the GPU to memory of the GPU (bytes read and bytes written), or a sum over memory of
the host. Medians over --rounds; the first round warms up and is left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vita_edge.engines.errors import VitaEdgeError
from vita_edge.engines.machine import machine_facts
from vita_edge.engines.memory import peak_memory
from vita_edge.runtime import Assistant, SessionOptions, Turn, demo_folder, read_sound
from vita_edge.runtime.decoding.sampling import make_sampler, make_speech_sampler

PROMPTS = (300, 1500)
STEPS, CODES = 64, 100
COPY_BYTES = 1 << 29


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--backend", choices=("cpu", "cuda", "tensorrt"), default="cpu")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5, help="that count, after one to warm up (default: 5)")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    try:
        result = measure(arguments)
    except VitaEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    text = json.dumps(result, indent=1, ensure_ascii=False)
    if arguments.output:
        arguments.output.write_text(text, "utf-8")
    print(text)
    return 0


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    begin_s = time.monotonic()
    with Assistant(arguments.bundle, backend=arguments.backend, threads=arguments.threads) as assistant:
        opened_s = time.monotonic() - begin_s
        bandwidth = bandwidth_bytes_s(arguments.backend)
        rounds = arguments.rounds
        prefill = {length: prefill_rate(assistant, length, rounds) for length in fitting(assistant)}
        decode = {length: decode_rate(assistant, length, rounds) for length in (256, *fitting(assistant)[1:])}
        speech, codec = voice_rates(assistant, rounds)
        first = first_audio(assistant, rounds)
        llm = assistant.bundle.components["llm"]
        read_bytes = sum(file.stat().st_size for file in llm.weights)  # the token table is none of them
        return {
            "bundle": {
                "model": assistant.bundle.model.name,
                "precision": assistant.bundle.precision,
                "target": assistant.bundle.target,
                "notice": assistant.bundle.notice,
            },
            "backend": assistant.backend.name,
            "engine": assistant.backend.facts(),
            "opened_s": opened_s,
            "prefill_tokens_s": prefill,
            "decode_tokens_s": decode,
            "bandwidth_gb_s": bandwidth / 1e9 if bandwidth else None,
            "decode_share_of_bandwidth": {k: v * read_bytes / bandwidth for k, v in decode.items()}
            if bandwidth
            else None,
            "speech_steps_s": speech,
            "codec_real_time_factor": codec,
            "first_audio_ms": first,
            "peak_memory_bytes": peak_memory(),
            "rounds": rounds,
            "machine": machine_facts(),
        }


def fitting(assistant: Assistant) -> Sequence[int]:
    room = assistant.context_tokens(None, 1024)
    return [length for length in PROMPTS if length + STEPS < room]


def prefill_rate(assistant: Assistant, length: int, rounds: int) -> float:
    model = assistant.language_model(assistant.context_tokens(None, 1024))
    rows = assistant.embeddings.rows([10 + i % 500 for i in range(length)])
    sample = make_sampler()

    def once() -> None:
        model.rewind(0)
        sample(model.prefill(rows))

    return length / median_s(once, rounds)


def decode_rate(assistant: Assistant, length: int, rounds: int) -> float:
    """Tokens a second behind ``length`` positions, the choice of each token included."""
    model = assistant.language_model(assistant.context_tokens(None, 1024))
    sample = make_sampler()
    model.read(assistant.embeddings.rows([10 + i % 500 for i in range(length)]))

    def once() -> None:
        model.rewind(length)
        token = 10
        for _ in range(STEPS):
            token = sample(model.step(token))

    return STEPS / median_s(once, rounds)


def voice_rates(assistant: Assistant, rounds: int) -> tuple[float, float]:
    """Codes a second, and seconds of work for a second of sound."""
    facts, decoder = assistant.bundle.model, assistant.voice.decoder
    sample = make_speech_sampler(facts.speech)
    rows = assistant.embeddings.rows([10, 11, 12, 13, 14, 15])

    def speak() -> None:
        logits = decoder.start(rows)
        for code in range(CODES):
            sample(logits)
            logits = decoder.step(code % facts.speech.codes)

    count = 60
    codes = np.zeros((1, count), np.int64)
    sound_s = count * facts.codec.samples_per_code / facts.codec.sample_rate_hz
    return CODES / median_s(speak, rounds), median_s(lambda: assistant.voice.decode(codes), rounds) / sound_s


def first_audio(assistant: Assistant, rounds: int) -> float | None:
    """Milliseconds from a recorded question to the first sound, on the engine's clock: nothing is played."""
    question = Turn(sounds=[read_sound(demo_folder() / "question.wav")])
    found = []
    for _ in range(rounds + 1):
        reply = assistant.session(SessionOptions(max_new_tokens=24)).ask(question)
        found.append(reply.latency_ms.get("first_audio"))
    return statistics.median(ms for ms in found[1:] if ms is not None) if any(found[1:]) else None


def bandwidth_bytes_s(backend: str) -> float | None:
    if backend == "cpu":
        held = np.ones(COPY_BYTES // 8, np.int64)
        return held.nbytes / median_s(held.sum, 5)
    from vita_edge.engines.tensorrt.cuda import Cuda
    from vita_edge.engines.tensorrt.device_memory import Block, Lane

    try:
        cuda = Cuda()
        lane, source, target = Lane(cuda, "copies"), Block(cuda, COPY_BYTES), Block(cuda, COPY_BYTES)
    except VitaEdgeError:  # onnxruntime-gpu without cuda-python, or a GPU that the model has filled
        return None
    row = 1 << 20

    def copy() -> None:
        cuda.copy_rows(target.address, row, source.address, row, row, COPY_BYTES // row, lane.stream)
        cuda.wait(lane.stream)

    seconds = median_s(copy, 9)
    for held in (source, target, lane):
        held.close()
    return 2 * COPY_BYTES / seconds


def median_s(work: Callable[[], object], rounds: int) -> float:
    work()
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
