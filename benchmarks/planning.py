"""How far `vita-edge estimate` is off on this machine: stages of a turn, predicted and measured in alternation.

    python benchmarks/planning.py BUNDLE [--rounds 9] [--repack] [--json FILE]

The kernels say what the processor reaches; the stages of the bundle are run between their rounds, so that both meet the
same neighbours. Then the stages are predicted from the kernels. Nothing is fitted: the errors are the roofline's.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from vita_edge.estimate import machine_peaks
from vita_edge.estimate.device_file import Device, read_devices
from vita_edge.estimate.graph_calls import Calls
from vita_edge.estimate.roofline import Call, time_of
from vita_edge.estimate.turn_estimate import FIRST_CHUNK
from vita_edge.estimate.weight_bits import weight_bits
from vita_edge.runtime import Assistant
from vita_edge.runtime.encoders.streaming_audio_encoder import piece_feeds

STEPS, REST, TOKENS, PROMPT, PAST, CONTEXT = 12, 20, 10, 300, 64, 1024
"""Encoder steps, unread positions and tokens of the first clause, as `vita-edge estimate` takes them; a prompt."""


def stages(assistant: Assistant) -> dict[str, Callable[[], float]]:
    """Stage → what runs it once and tells how long it took, in seconds."""
    random, bundle = np.random.default_rng(0), assistant.bundle
    model, voice = assistant.language_model(CONTEXT), assistant.voice
    ids = random.integers(0, 500, PROMPT).tolist()
    rows, audio = assistant.embeddings.rows(ids), bundle.session("audio")
    fbank = random.standard_normal((4 * STEPS + 3, bundle.model.audio.mel_bins), np.float32)
    feeds = piece_feeds(audio, fbank)
    first = FIRST_CHUNK + bundle.model.codec.right_context
    codes = random.integers(0, bundle.model.speech.codes, (1, first))

    def prefill(count: int) -> None:
        model.rewind(PAST)
        model.prefill(rows[:count])

    def write() -> None:
        model.rewind(PAST + REST)
        for token in ids[: TOKENS - 1]:
            model.step(token)

    def speak() -> None:
        for code in codes[0]:
            voice.decoder.step(int(code))

    model.prefill(rows[:PAST])
    runs: dict[str, Callable[[], object]] = {
        f"audio, {STEPS} steps": lambda: audio.infer(feeds),
        f"prefill, {PROMPT} positions": lambda: prefill(PROMPT),
        f"prefill, {REST} positions": lambda: prefill(REST),
        f"decode, {TOKENS - 1} tokens": write,
        f"speech prefix, {TOKENS} tokens, and a code": lambda: voice.decoder.start(rows[:TOKENS]),
        f"speech decoder, {first} codes": speak,
        f"codec, {first} codes": lambda: voice.decode(codes),
    }
    return {name: lambda run=run: _seconds(run) for name, run in runs.items()}  # type: ignore[misc]


def predictions(assistant: Assistant, device: Device) -> list[tuple[float, str]]:
    """Milliseconds of each stage in the order of :func:`stages`, and what it is bound by."""
    bundle = assistant.bundle
    if bundle.work is None:
        raise SystemExit("export the checkpoint again: this bundle does not say its work")
    form = weight_bits("onnxruntime-cpu", bundle.precision)
    calls = Calls(bundle.work, form, device.target, CONTEXT)
    prefix = TOKENS * bundle.work.vectors_per_token + 1
    first = FIRST_CHUNK + bundle.work.codec_right

    def ms(call: Call, times: int = 1) -> tuple[float, str]:
        timed = time_of(call, device, form)
        return timed.ms * times, timed.bound

    code = ms(calls.speech_step(prefix + first // 2))
    start = ms(calls.speech_prefill(TOKENS))
    return [
        ms(calls.audio(STEPS)),
        ms(calls.llm(PROMPT, PAST)),
        ms(calls.llm(REST, PAST)),
        ms(calls.llm(1, PAST + REST + TOKENS // 2), TOKENS - 1),
        (start[0] + code[0], start[1]),
        (code[0] * first, code[1]),
        ms(calls.codec(first)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--repack", action="store_true")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    machine_peaks.ROUNDS = options.rounds
    with Assistant(options.bundle, threads=options.threads, repack=options.repack) as assistant:
        runs = stages(assistant)
        measured: dict[str, list[float]] = {name: [] for name in runs}

        def between(number: int) -> None:
            for name, run in runs.items():
                ms = 1000 * run()
                if number:
                    measured[name].append(ms)

        peaks = machine_peaks.machine_peaks(options.threads, between=between)
        device = _device(machine_peaks.machine_device(peaks, "this machine", time.strftime("%Y-%m-%d")))
        found = predictions(assistant, device)
    packing = "repacked" if options.repack else "as stored"
    print(f"{options.bundle.name}, {packing}, {options.rounds} rounds; median (least to most)\n")
    for name, peak in peaks.items():
        print(f"{name:12} {peak.median:7.1f} ({peak.minimum:.1f} to {peak.maximum:.1f})")
    print(f"\n{'stage':42} {'predicted':>10} {'measured':>10} {'minimum':>8} {'maximum':>8} {'error':>6}  bound by")
    for (name, values), (ms, bound) in zip(measured.items(), found):
        middle = median(values)
        spread = f"{min(values):8.1f} {max(values):8.1f}"
        print(f"{name:42} {ms:7.1f} ms {middle:7.1f} ms {spread} {ms / middle - 1:+6.0%}  {bound}")
    if options.json:
        reported = {"peaks": {k: vars(p) for k, p in peaks.items()}, "measured_ms": measured, "predicted_ms": found}
        options.json.write_text(json.dumps(reported, indent=1))


def _device(entry: dict[str, object]) -> Device:
    """The entry as the reader of device files makes it."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "devices.json"
        file.write_text(json.dumps({"format": 1, "devices": {"this-machine": entry}}))
        return read_devices(file).devices["this-machine"]


def _seconds(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
