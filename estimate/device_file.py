"""The device file: boards, graphics cards and platforms for `vita-edge estimate`; every number has a source."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vita_edge.engines.errors import BadInput
from vita_edge.engines.reading.file_kind import FileKind
from vita_edge.engines.reading.json_file import read_json
from vita_edge.engines.reading.typed import build_record

from .weight_bits import PRECISIONS

__all__ = [
    "PLANNED_FIGURES",
    "SOURCED",
    "TARGETS",
    "Device",
    "DeviceFile",
    "Measurement",
    "Platform",
    "Share",
    "Yardstick",
    "read_devices",
]

FILE = Path(__file__).with_name("devices.json")
FORMAT = 1
DEVICES = FileKind(BadInput, "the device file", fix="Write it as docs/how-to/estimate-a-board.md says.")
SOURCED = (
    "memory_gib",
    "bandwidth_gb_s",
    "fp32_tflops",
    "fp16_tflops",
    "int8_tops",
    "sm",
    "system_mib",
    "runtime_mib",
    "launch_us",
)
"""Fields of a device that need a source."""
TARGETS = {"tensorrt": ("tensorrt", "tensorrt-10.3"), "onnxruntime-cpu": ("onnxruntime",)}
"""Backend → export targets that it runs, the newest first."""
EFFICIENCIES = ("decode", "prefill", "convolution")
YARDSTICK_FIGURES = ("decode_tokens_per_s", "prefill_ms")
"""What is predicted of a language model of others."""
PLANNED_FIGURES = (
    "first_audio_ms",
    "server_ms",
    "decode_tokens_per_s",
    "prefill_positions_per_s",
    "rest_positions_per_s",
    "speech_steps_per_s",
    "speech_rtf",
    "codec_rtf",
    "needed_bytes",
)
"""What is predicted of a model that is planned."""


@dataclass(frozen=True)
class Share:
    """A part of a peak that is reached: as expected, and in worse and better cases."""

    value: float
    low: float
    high: float
    source: str


@dataclass(frozen=True)
class Measurement:
    """What somebody measured on a device: the prediction is shown against it."""

    model: str
    """A yardstick of the file, or the name of a model such as practice/half."""
    what: str
    """``decode_tokens_per_s``, ``prefill_ms`` (with ``positions``), or another figure of a prediction."""
    value: float
    source: str
    positions: int = 0
    precision: str = ""
    """Of a model that is planned; a yardstick has its own."""


@dataclass(frozen=True)
class Device:
    """A device at the clocks of one power mode."""

    name: str
    backend: str
    """``tensorrt`` or ``onnxruntime-cpu``"""
    sm: str
    """Compute capability of the GPU, such as 8.7; empty without one."""
    memory_gib: float
    shared_memory: bool
    """GPU and system share the memory."""
    bandwidth_gb_s: float
    fp32_tflops: float
    fp16_tflops: float
    """Dense, as of all peaks; 0 where there is no such arithmetic."""
    int8_tops: float
    system_mib: int
    """Memory that is never there for us: carve-outs, and a system without a desktop."""
    runtime_mib: int
    """Memory of the process before any weight: libraries, and the GPU's context."""
    launch_us: float
    """Least time of an operator."""
    platforms: tuple[str, ...]
    target: str = ""
    """Export target of the graphs that are planned; left out, the newest of the backend."""
    efficiency: Mapping[str, Share] = field(default_factory=dict)
    """Of ``decode`` (of the bandwidth), ``prefill`` and ``convolution`` (of the peak)."""
    sources: Mapping[str, str] = field(default_factory=dict)
    measured: tuple[Measurement, ...] = ()


@dataclass(frozen=True)
class Platform:
    """What a device runs, and the export target that it takes."""

    name: str
    boards: str
    tensorrt: str
    cuda: str
    python: str
    target: str
    source: str


@dataclass(frozen=True)
class Yardstick:
    """A language model of others, of which measurements are published."""

    name: str
    layer_weights: int
    layer_bits: float
    head_weights: int
    head_bits: float
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    positions: int
    """In the cache while decoding was measured."""
    source: str


@dataclass(frozen=True)
class DeviceFile:
    """All that is known, ours and the user's."""

    devices: Mapping[str, Device]
    platforms: Mapping[str, Platform]
    yardsticks: Mapping[str, Yardstick]


def read_devices(*more: Path) -> DeviceFile:
    """The file that comes along, and then ``more`` of the same form: what is named again is replaced.

    Raises:
        BadInput: a file cannot be read, is not of the form, or has a number without a source.
    """
    devices: dict[str, Device] = {}
    platforms: dict[str, Platform] = {}
    yardsticks: dict[str, Yardstick] = {}
    efficiency: dict[str, Share] = {}
    for path in (FILE, *more):
        data = _read(path)
        try:
            parts = ("efficiency", "platforms", "yardsticks", "devices", "sources")
            part = {name: _object(data.get(name, {}), name) for name in parts}
            efficiency |= _shares(part["efficiency"])
            platforms |= {key: build_record(Platform, entry, key) for key, entry in part["platforms"].items()}
            yardsticks |= {key: build_record(Yardstick, entry, key) for key, entry in part["yardsticks"].items()}
            for key, entry in part["devices"].items():
                devices[key] = _device(key, entry, part["sources"], efficiency)
            _check_references(devices, platforms, yardsticks)
        except ValueError as error:
            raise BadInput(
                f"The device file {path} cannot be used.",
                why=f"{error}.",
                fix=DEVICES.fix,
            ) from error
    return DeviceFile(devices, platforms, yardsticks)


def _read(path: Path) -> Mapping[str, Any]:
    data = read_json(path, DEVICES)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise BadInput(f"{path} is not a device file.", why=f"Its format is not {FORMAT}.", fix=DEVICES.fix)
    return data


def _shares(data: Mapping[str, Any]) -> dict[str, Share]:
    strange = sorted(set(data) - set(EFFICIENCIES))
    if strange:
        raise ValueError(f"there is no efficiency {', '.join(strange)}")
    shares = {key: build_record(Share, entry, f"efficiency.{key}") for key, entry in data.items()}
    for key, share in shares.items():
        if not 0 < share.low <= share.value <= share.high < math.inf:
            raise ValueError(f"efficiency.{key} is {share.value:g}, from {share.low:g} to {share.high:g}")
    return shares


def _device(key: str, entry: Any, texts: Mapping[str, str], efficiency: Mapping[str, Share]) -> Device:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{key} is not an object")
    named = _object(entry.get("sources", {}), f"{key}.sources")
    if strange := [name for name, source in named.items() if not isinstance(source, str)]:
        raise ValueError(f"{key}.sources.{strange[0]} is not a text")
    bare = [name for name in SOURCED if not named.get(name)]
    if bare:
        raise ValueError(f"{key} has no source for {', '.join(bare)}")
    known = {field.name for field in dataclasses.fields(Device)}
    if strange := sorted(set(entry) - known):
        raise ValueError(f"{key} has a field that is not known: {', '.join(strange)}")
    own = _shares(_object(entry.get("efficiency", {}), f"{key}.efficiency"))
    given = entry.get("measured", [])
    if not isinstance(given, list):
        raise ValueError(f"{key}.measured is not a list")
    plain = {name: value for name, value in entry.items() if name not in ("efficiency", "sources", "measured")}
    measured = tuple(build_record(Measurement, one, f"{key}.measured") for one in given)
    device = build_record(Device, plain, key)
    if device.backend not in TARGETS:
        raise ValueError(f"{key}.backend is {device.backend!r}, not {' or '.join(TARGETS)}")
    target = device.target or TARGETS[device.backend][0]
    if target not in TARGETS[device.backend]:
        raise ValueError(f"{key}.target is {target!r}, not {' or '.join(TARGETS[device.backend])}")
    _check_numbers(key, device)
    for one in measured:
        _check_measurement(f"{key}.measured", one)
    return dataclasses.replace(
        device,
        target=target,
        efficiency={**efficiency, **own},
        sources={name: texts.get(source, source) for name, source in named.items()},
        measured=measured,
    )


def _check_numbers(key: str, device: Device) -> None:
    """What is divided by is more than nothing: peaks of the arithmetic that the backend uses, and the bandwidth."""
    needed = {"tensorrt": ("fp32_tflops", "fp16_tflops"), "onnxruntime-cpu": ("fp32_tflops", "int8_tops")}
    positive = {"memory_gib", "bandwidth_gb_s", *needed[device.backend]}
    for name in SOURCED:
        value = getattr(device, name)
        if name == "sm":
            continue
        if not math.isfinite(value) or value < 0 or (value == 0 and name in positive):
            raise ValueError(f"{key}.{name} is {value:g}, which cannot be")


def _check_measurement(where: str, one: Measurement) -> None:
    if not 0 < one.value < math.inf:
        raise ValueError(f"{where}: {one.what} is {one.value:g}, which cannot be")
    planned = "/" in one.model
    known = PLANNED_FIGURES if planned else YARDSTICK_FIGURES
    if one.what not in known:
        raise ValueError(f"{where}: {one.what!r} is not predicted of {one.model}, but {', '.join(known)}")
    if planned and one.precision not in PRECISIONS:
        raise ValueError(f"{where}: the precision of {one.model} is {one.precision!r}, not {', '.join(PRECISIONS)}")
    if one.what == "prefill_ms" and one.positions < 1:
        raise ValueError(f"{where}: prefill_ms of {one.model} does not say of how many tokens")


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is not an object")
    return value


def _check_references(
    devices: Mapping[str, Device], platforms: Mapping[str, Platform], yardsticks: Mapping[str, Yardstick]
) -> None:
    for key, device in devices.items():
        if unknown := [name for name in device.platforms if name not in platforms]:
            raise ValueError(f"{key} names a platform that is not described: {', '.join(unknown)}")
        for measurement in device.measured:
            if "/" not in measurement.model and measurement.model not in yardsticks:
                raise ValueError(f"{key} has a measurement of {measurement.model}, which is not described")
