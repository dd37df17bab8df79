"""The facts that `vita-edge estimate` prints: verdicts, predictions, and predictions against measurements."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.bundle.work import ModelWork
from vita_edge.engines.errors import BadInput, Misuse

from .device_file import TARGETS, Device, DeviceFile, Measurement
from .footprint import bytes_on_disk, resident_weights
from .memory_fit import MemoryFit, advice, memory_fit
from .turn_estimate import Estimate, SpokenTurn, estimate, yardstick_estimate

__all__ = ["Bench", "EstimatedModel", "estimate_facts", "read_bench"]

DEFAULT_PRECISIONS = ("fp16", "int8", "int4")

Figures = Mapping[str, tuple[float, str]]
"""What was measured → its value, and its source."""


@dataclass(frozen=True)
class Bench:
    """A result of `vita-edge bench`: what is known of it as measurements."""

    path: Path
    model: str
    precision: str
    backend: str
    figures: Figures
    turn: SpokenTurn

    def check(self, model: str, backend: str, precisions: Sequence[str]) -> None:
        """It has to be of what is estimated.

        Raises:
            Misuse: it is not.
        """
        pairs = [("model", self.model, [model]), ("backend", self.backend, [backend])]
        for name, measured, asked in [*pairs, ("precision", self.precision, precisions)]:
            if measured not in asked:
                raise Misuse(
                    f"{self.path} was measured with another {name}.",
                    why=f"It was {measured}; estimated is {', '.join(asked)}.",
                    fix="Estimate the bundle that was measured, for a device that it was measured on.",
                )


@dataclass(frozen=True)
class EstimatedModel:
    """A model, and what it is estimated for."""

    name: str
    bundle: Bundle | None
    work: ModelWork
    target: str | None = None
    """That was named."""

    @property
    def precisions(self) -> Sequence[str]:
        return [self.bundle.precision] if self.bundle else DEFAULT_PRECISIONS

    def on(self, device: Device) -> Device:
        """``device`` with the target that was named or exported, where it runs that."""
        targets = (self.target, self.bundle.target if self.bundle else None)
        found = next((target for target in targets if target in TARGETS[device.backend]), device.target)
        return dataclasses.replace(device, target=found)

    def weights(self, device: Device, precision: str) -> dict[str, int] | None:
        """Resident bytes as the bundle's files say them, where it is for this backend and precision."""
        bundle = self.bundle
        if bundle is None or bundle.precision != precision:
            return None
        if bundle.target != device.target:
            return None
        resident = resident_weights if device.backend == "onnxruntime-cpu" else bytes_on_disk
        return {name: resident(component) for name, component in bundle.components.items()}


def estimate_facts(
    model: EstimatedModel,
    known: DeviceFile,
    keys: Sequence[str],
    precisions: Sequence[str],
    context_tokens: int,
    turn: SpokenTurn,
    bench: Bench | None = None,
) -> dict[str, Any]:
    """One object with everything; latencies are null where the model does not fit.

    Raises:
        Misuse: ``bench`` is not of what is estimated.
    """
    if bench:
        for key in keys:
            bench.check(model.name, known.devices[key].backend, precisions)
    estimates = [
        _estimate_of(
            model,
            key,
            known,
            precision,
            context_tokens,
            turn,
            bench.figures if bench and bench.precision == precision else {},
        )
        for key in keys
        for precision in precisions
    ]
    return {
        "model": model.name,
        "bundle": str(model.bundle.path) if model.bundle else None,
        "context_tokens": context_tokens,
        "turn": dataclasses.asdict(turn.heard_by(model.work)),
        "estimates": estimates,
        "yardsticks": [one for key in keys for one in _yardsticks(key, known)],
    }


def read_bench(path: Path) -> Bench:
    """Medians of a result of `vita-edge bench -o`, and the turn that was measured.

    Raises:
        BadInput: it cannot be read, is something else, or has no turn.
    """
    from vita_edge.runtime.metrics.bench_result import BenchResult

    run = BenchResult.read(path)
    turns = run.group(run.groups[0]) if run.groups else ()
    if not turns:
        raise BadInput(
            f"{path} has no turn to compare with.",
            why="No question was answered when it was measured.",
            fix="Measure again: vita-edge bench BUNDLE -o FILE.",
        )
    reports = [turn.report for turn in turns]
    source = f"{path.name}: p50 of {len(turns)} turns, {run.time}"
    names = {
        "first_audio_ms": "engine_ms",
        "server_ms": "server_ms",
        "decode_tokens_per_s": "decode_rate",
        "rest_positions_per_s": "prefill_rate",
        "speech_rtf": "speech_decoder_rtf",
        "codec_rtf": "codec_rtf",
    }
    figures: dict[str, tuple[float, str]] = {}
    for name, field in names.items():
        values = [value for report in reports if (value := getattr(report, field)) is not None]
        if values:
            figures[name] = (statistics.median(values), source)
    if run.memory_peak_bytes:
        figures["needed_bytes"] = (float(run.memory_peak_bytes), source)
    turn = SpokenTurn(
        question_s=round(statistics.median(report.speech_s for report in reports), 2),
        held_tokens=round(statistics.median(turn.history_tokens for turn in turns)) or SpokenTurn.held_tokens,
        rest_tokens=round(statistics.median(report.positions_after_speech for report in reports)),
        clause_tokens=max(round(statistics.median(report.tokens for report in reports)), 1),
        speculation_delay_ms=float(run.settings.get("speculation_delay_ms", SpokenTurn.speculation_delay_ms)),
        endpoint_ms=float(run.settings.get("endpoint_ms", SpokenTurn.endpoint_ms)),
    )
    model, precision, backend = (str(run.bundle.get(name, "")) for name in ("model", "precision", "backend"))
    return Bench(path, model, precision, backend, figures, turn)


def _estimate_of(
    model: EstimatedModel,
    key: str,
    known: DeviceFile,
    precision: str,
    context_tokens: int,
    turn: SpokenTurn,
    figures: Figures,
) -> dict[str, Any]:
    work, device = model.work, model.on(known.devices[key])
    weights = model.weights(device, precision)
    memory = memory_fit(work, device, precision, context_tokens, weights)
    fits = memory.verdict != "no"
    cases = [estimate(work, device, precision, context_tokens, turn, case) for case in ("expected", "slow", "fast")]
    latency = _latency(*cases)
    predicted = _predicted(cases[0], memory)
    return {
        "device": key,
        "name": device.name,
        "platforms": [dataclasses.asdict(known.platforms[name]) for name in device.platforms],
        "target": device.target,
        "precision": precision,
        "verdict": memory.verdict,
        "advice": None if fits else advice(work, device, precision, context_tokens, weights),
        "memory_bytes": _memory(memory, device),
        "latency": latency if fits else None,
        "efficiency": {name: dataclasses.asdict(share) for name, share in device.efficiency.items()},
        "compared": [
            _compared(what, predicted[what], value, source)
            for what, (value, source) in {**_known_figures(device, model.name, precision), **figures}.items()
            if what in predicted
        ],
        "sources": dict(device.sources),
    }


def _memory(memory: MemoryFit, device: Device) -> dict[str, Any]:
    return {
        "weights": dict(memory.weights),
        "kv_cache": memory.kv_cache,
        "speech_kv_cache": memory.speech_kv_cache,
        "activations": memory.activations,
        "runtime": memory.runtime,
        "needed": memory.needed,
        "memory": memory.memory,
        "system": memory.system,
        "available": memory.available,
        "embeddings_on_disk": memory.on_disk,
        "build_peak": memory.build_peak if device.backend == "tensorrt" else None,
        "shared": device.shared_memory,
    }


def _latency(expected: Estimate, slow: Estimate, fast: Estimate) -> dict[str, Any]:
    def spread(name: str) -> dict[str, float]:
        cases = {"expected": expected, "slow": slow, "fast": fast}
        return {case: round(getattr(one, name), 2) for case, one in cases.items()}

    return {
        "stages_ms": {name: round(stage.ms, 2) for name, stage in expected.stages.items()},
        "bound_by": {name: stage.bound for name, stage in expected.stages.items()},
        "first_audio_ms": spread("first_audio_ms"),
        "server_ms": spread("server_ms"),
        "server_without_speculation_ms": spread("server_without_speculation_ms"),
        "heard_at_once_ms": spread("heard_at_once_ms"),
        "picture_ms": spread("picture_ms"),
        "decode_tokens_per_s": spread("decode_tokens_per_s"),
        "prefill_positions_per_s": spread("prefill_positions_per_s"),
        "speech_steps_per_s": spread("speech_steps_per_s"),
        "speech_steps_needed_per_s": expected.codes_per_s,
        "speech_rtf": spread("speech_rtf"),
        "codec_rtf": spread("codec_rtf"),
        "load": spread("load"),
        "real_time": expected.real_time,
    }


def _predicted(expected: Estimate, memory: MemoryFit) -> dict[str, float]:
    names = (
        "first_audio_ms",
        "server_ms",
        "decode_tokens_per_s",
        "prefill_positions_per_s",
        "speech_steps_per_s",
        "speech_rtf",
        "codec_rtf",
    )
    figures = {name: float(getattr(expected, name)) for name in names}
    # a live talk reads a few positions at a time, never 300 at once
    figures["rest_positions_per_s"] = 1000 * expected.turn.rest_tokens / expected.stages["prefill_rest"].ms
    if not expected.real_time:
        del figures["server_ms"]  # what is held back, so that the rest does not run dry, is not predicted
    return {**figures, "needed_bytes": float(memory.needed)}


def _known_figures(device: Device, model: str, precision: str) -> dict[str, tuple[float, str]]:
    return {
        one.what: (one.value, one.source) for one in device.measured if (one.model, one.precision) == (model, precision)
    }


def _yardsticks(key: str, known: DeviceFile) -> list[dict[str, Any]]:
    device, found = known.devices[key], []
    for one in device.measured:
        model = known.yardsticks.get(one.model)
        predicted = yardstick_estimate(model, device, one.what, one.positions) if model else None
        if model and predicted is not None:
            what = _labelled(one)
            found.append({"device": key, "model": model.name, **_compared(what, predicted, one.value, one.source)})
    return found


def _labelled(one: Measurement) -> str:
    return f"{one.what} of {one.positions} positions" if one.positions else one.what


def _compared(what: str, predicted: float, measured: float, source: str) -> dict[str, Any]:
    return {
        "what": what,
        "predicted": round(predicted, 3),
        "measured": round(measured, 3),
        "error": round(predicted / measured - 1, 3),
        "source": source,
    }
