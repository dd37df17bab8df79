"""What this machine's processor reaches in the kernels that a bundle uses: for planning, not for praise.

Small graphs of the same operators as a bundle's are written, opened and run; so it needs the packages of export.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.cores import thread_count
from vita_edge.engines.machine import machine_facts
from vita_edge.engines.memory import available_memory
from vita_edge.engines.onnxruntime.cpu import OnnxCpuSession
from vita_edge.export.graphs.graph_builder import GraphBuilder
from vita_edge.export.weights.formats import Blocks, Float32, Int8Rows, LinearFormat
from vita_edge.export.weights.weight import Weight, computed

__all__ = ["Peak", "machine_device", "machine_peaks"]

ROWS, WIDTH, INNER = 256, 2048, 8192
PAIRS = 6
"""Of matrices that a single row is multiplied with: more bytes than a processor keeps."""
CHANNELS, KERNEL, SAMPLES = 64, 7, 13_200
"""A convolution of the codec's third stage, over 66 codes."""
ROUNDS = 9

Rates = Mapping[str, "Peak"]


@dataclass(frozen=True)
class Peak:
    """A rate over some rounds: GB/s, or 10⁹ operations a second (a multiply-accumulate is two)."""

    median: float
    minimum: float
    maximum: float


def machine_peaks(
    threads: int = 0,
    reported: Callable[[str], object] | None = None,
    between: Callable[[int], object] | None = None,
) -> Rates:
    """``read`` and ``blocks4`` in GB/s, ``fp32``, ``int8`` and ``convolution`` in Gop/s; kernels take turns.

    Args:
        threads: 0 takes one per core.
        told: called with what is being done.
        between: called with the number of each round after it, to measure something else in turn with the kernels.
            Round 0 touches every page and does not count.
    """
    say = reported or (lambda text: None)
    rates: dict[str, list[float]] = {}
    with TemporaryDirectory(prefix="vita-edge-peaks-") as folder:
        say("writing graphs")
        kernels = {
            "fp32": _products(Path(folder), "fp32", Float32(), threads),
            "int8": _products(Path(folder), "int8", Int8Rows(), threads),
            "blocks4": _row(Path(folder), threads),
            "convolution": _convolutions(Path(folder), threads),
        }
        kernels["read"] = _reading(threads)
        for number in range(ROUNDS + 1):
            say(f"round {number} of {ROUNDS}")
            for name, (work, run) in kernels.items():
                begin = time.perf_counter()
                run()
                rate = work / (time.perf_counter() - begin) / 1e9
                if number:
                    rates.setdefault(name, []).append(rate)
            if between:
                between(number)
    return {name: Peak(statistics.median(values), min(values), max(values)) for name, values in rates.items()}


def machine_device(peaks: Rates, name: str, when: str) -> dict[str, Any]:
    """An entry of a device file for this machine."""
    facts = machine_facts()
    memory = int(str(facts["memory_bytes"]))
    free = available_memory() or memory
    how = f"vita-edge estimate --measure-this-machine, {facts['cpu']}, {facts['cores']} cores, {when}"
    read, four = peaks["read"], peaks["blocks4"]
    convolution, fp32, int8 = peaks["convolution"], peaks["fp32"], peaks["int8"]

    def share(peak: Peak, whole: float, what: str) -> dict[str, Any]:
        numbers = {"value": peak.median, "low": peak.minimum, "high": peak.maximum}
        return {**{key: round(value / whole, 3) for key, value in numbers.items()}, "source": f"{what}: {how}"}

    return {
        "name": name,
        "backend": "onnxruntime-cpu",
        "sm": "",
        "memory_gib": round(memory / 2**30, 2),
        "shared_memory": True,
        "bandwidth_gb_s": round(read.median, 1),
        "fp32_tflops": round(fp32.median / 1000, 4),
        "fp16_tflops": 0,
        "int8_tops": round(int8.median / 1000, 4),
        "system_mib": max(memory - free, 0) >> 20,
        "runtime_mib": 150,
        "launch_us": 2,
        "platforms": [],
        "efficiency": {
            "decode": share(four, read.median, "One row times 4-bit blocks, of the bandwidth"),
            "prefill": share(int8, int8.median, "The peak is what the kernel reached, so this is its spread"),
            "convolution": share(convolution, fp32.median, "A convolution of the codec, of the fp32 product"),
        },
        "sources": {
            "memory_gib": how,
            "bandwidth_gb_s": f"Median of {ROUNDS} passes over 1 GiB: {how}",
            "fp32_tflops": f"{ROWS} rows, ONNX Runtime: {how}",
            "fp16_tflops": "The processor's kernels have no half-precision product.",
            "int8_tops": f"{ROWS} rows, as int8 bundles read prompts: {how}",
            "sm": "There is no GPU.",
            "system_mib": f"Taken when it was measured: {how}",
            "runtime_mib": "Assumption: interpreter, libraries and voice detector.",
            "launch_us": "0.5 ms a call of 28 layers of 10 operators, beside products: ONNX Runtime, two Zen 4 cores.",
        },
    }


def _products(folder: Path, name: str, linear: LinearFormat, threads: int) -> tuple[float, Callable[[], object]]:
    g = GraphBuilder(name, linear)
    x = g.input("x", "float32", [ROWS, WIDTH])
    y = g.linear(g.linear(x, _random(0, INNER, WIDTH), name="up"), _random(1, WIDTH, INNER), name="down")
    g.output(y, "y", "float32", [ROWS, WIDTH])
    return 2 * 2 * ROWS * WIDTH * INNER, _opened(g, folder, threads, {"x": _values(ROWS, WIDTH)})


def _row(folder: Path, threads: int) -> tuple[float, Callable[[], object]]:
    g = GraphBuilder("blocks4", Blocks(4, 128))
    x = g.input("x", "float32", [1, WIDTH])
    for i in range(PAIRS):
        x = g.linear(x, _random(2 * i, INNER, WIDTH), name=f"{i}.up")
        x = g.linear(x, _random(2 * i + 1, WIDTH, INNER), name=f"{i}.down")
    g.output(x, "y", "float32", [1, WIDTH])
    return g.nbytes, _opened(g, folder, threads, {"x": _values(1, WIDTH)})


def _convolutions(folder: Path, threads: int) -> tuple[float, Callable[[], object]]:
    g = GraphBuilder("convolution")
    x, count = g.input("x", "float32", [1, CHANNELS, SAMPLES]), 4
    for i in range(count):
        weight = _kernel(i)
        y = g.op("Conv", g.op("LeakyRelu", x, alpha=0.1), g.weight(f"{i}.weight", weight), pads=[KERNEL // 2] * 2)
        x = g.op("Add", x, y)
    g.output(x, "y", "float32", [1, CHANNELS, SAMPLES])
    work = 2 * count * CHANNELS * CHANNELS * KERNEL * SAMPLES
    return work, _opened(g, folder, threads, {"x": _values(1, CHANNELS, SAMPLES)})


def _reading(threads: int) -> tuple[float, Callable[[], object]]:
    block = np.ones(1 << 27, np.uint64)  # 1 GiB
    count = thread_count(threads)
    parts = np.array_split(block, count)

    def read() -> object:
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(np.bitwise_or.reduce, parts))

    return block.nbytes, read


def _opened(g: GraphBuilder, folder: Path, threads: int, feeds: dict[str, NDArray[np.float32]]) -> Callable[[], object]:
    graph, _ = g.save(folder)
    session = OnnxCpuSession(graph, threads=threads)
    return lambda: session.infer(feeds)


def _random(seed: int, rows: int, columns: int) -> Weight:
    """Distinct values: the backend keeps equal weights once."""

    def make() -> NDArray[np.float32]:
        values = np.random.default_rng(seed).standard_normal((rows, columns), np.float32)
        return values * np.float32(columns**-0.5)

    return computed((rows, columns), make)


def _kernel(seed: int) -> Weight:
    flat, shape = _random(seed, CHANNELS, CHANNELS * KERNEL), (CHANNELS, CHANNELS, KERNEL)
    return computed(shape, lambda: flat.read().reshape(shape))


def _values(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(7).standard_normal(shape, np.float32)
