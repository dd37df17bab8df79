"""The device file: every number has a source, what users add is read, and what is wrong is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from support.device_file import own
from vita_edge.engines.errors import BadInput
from vita_edge.estimate.device_file import FILE, SOURCED, DeviceFile, read_devices


@pytest.fixture(scope="module")
def known() -> DeviceFile:
    return read_devices()


def keys() -> list[str]:
    return list(json.loads(FILE.read_text("utf-8"))["devices"])


@pytest.mark.parametrize("key", keys())
def test_every_device_has_every_number_and_a_source_for_it(known: DeviceFile, key: str) -> None:
    device = known.devices[key]
    for name in SOURCED:
        assert len(device.sources[name]) > 20, name  # not a key that leads nowhere
    numbers = [name for name in SOURCED if name != "sm"]
    assert all(getattr(device, name) > 0 for name in numbers)
    assert device.int8_tops > device.fp16_tflops > device.fp32_tflops
    assert {"decode", "prefill", "convolution"} == set(device.efficiency)
    for share in device.efficiency.values():
        assert 0 < share.low <= share.value <= share.high <= 1 and share.source
    assert device.platforms
    assert device.system_mib < 1024 * device.memory_gib / 4


def test_every_platform_yardstick_and_measurement_has_a_source(known: DeviceFile) -> None:
    assert all(platform.source and platform.tensorrt and platform.python for platform in known.platforms.values())
    assert all(yardstick.source for yardstick in known.yardsticks.values())
    measured = [one for device in known.devices.values() for one in device.measured]
    assert len(measured) >= 6
    assert all("http" in one.source for one in measured)


def test_the_orin_peaks_are_those_of_their_cores_and_clocks(known: DeviceFile) -> None:
    # 8 SMs at 918 MHz: 1024 FP16, 2048 INT8 and 128 FP32 multiply-accumulates a clock, two operations each
    device = known.devices["orin-nx-16"]
    assert device.fp16_tflops == pytest.approx(8 * 0.918 * 1024 * 2 / 1000, rel=0.01)
    assert device.int8_tops == pytest.approx(8 * 0.918 * 2048 * 2 / 1000, rel=0.01)
    assert device.fp32_tflops == pytest.approx(8 * 0.918 * 128 * 2 / 1000, rel=0.01)


def measured(model: str, what: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "what": what, "value": 1, "source": "a log", **more}


def share(value: float, low: float, high: float) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "source": "tried"}


def test_devices_of_the_user_are_added_with_our_efficiencies(tmp_path: Path, known: DeviceFile) -> None:
    file = tmp_path / "devices.json"
    file.write_text(json.dumps(own()))
    devices = read_devices(file).devices
    assert set(devices) == {*known.devices, "mine"}
    assert devices["mine"].bandwidth_gb_s == 34.0
    assert devices["mine"].efficiency == known.devices["orin-nx-16"].efficiency


def test_a_device_may_have_an_efficiency_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "devices.json"
    file.write_text(json.dumps(own(efficiency={"decode": {"value": 0.5, "low": 0.4, "high": 0.6, "source": "tried"}})))
    efficiency = read_devices(file).devices["mine"].efficiency
    assert (efficiency["decode"].value, efficiency["prefill"].value) == (0.5, 0.43)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sources": {"memory_gib": "data sheet"}}, "mine has no source for bandwidth_gb_s"),
        ({"bandwidth_gb_s": "fast"}, "mine.bandwidth_gb_s is 'fast'"),
        ({"platforms": ["windows"]}, "a platform that is not described: windows"),
        ({"backend": "abacus"}, "mine.backend is 'abacus'"),
        ({"target": "onnxruntime"}, "mine.target is 'onnxruntime', not tensorrt or tensorrt-10.3"),
        ({"cores": 4}, "not known: cores"),
        ({"efficiency": {"luck": {}}}, "there is no efficiency luck"),
        ({"measured": [measured("x", "prefill_ms", positions=9)]}, "x, which is not described"),
        ({"measured": [measured("x", "prefill_ms")]}, "does not say of how many tokens"),
        ({"measured": [measured("x", "decode")]}, "'decode' is not predicted of x, but decode_tokens_per_s"),
        ({"measured": [measured("practice/half", "prefill_ms")]}, "'prefill_ms' is not predicted of practice/half"),
        ({"measured": [measured("practice/half", "speech_rtf")]}, "precision of practice/half is ''"),
        ({"measured": [measured("practice/half", "speech_rtf", value=0)]}, "speech_rtf is 0, which cannot be"),
        (
            {"measured": [measured("practice/half", "speech_rtf", value=math.nan)]},
            "NaN is too large for a number, or is none",
        ),
        ({"measured": 5}, "mine.measured is not a list"),
        ({"sources": [1]}, "mine.sources is not an object"),
        ({"sources": {"memory_gib": 1}}, "mine.sources.memory_gib is not a text"),
        ({"efficiency": 1}, "mine.efficiency is not an object"),
        ({"efficiency": {"decode": share(0.5, 0.6, 0.7)}}, "efficiency.decode is 0.5, from 0.6 to 0.7"),
        ({"efficiency": {"decode": share(0.0, 0.0, 0.7)}}, "efficiency.decode is 0, from 0 to 0.7"),
        ({"bandwidth_gb_s": 0}, "mine.bandwidth_gb_s is 0, which cannot be"),
        ({"bandwidth_gb_s": math.nan}, "NaN is too large for a number, or is none"),
        ({"memory_gib": math.inf}, "Infinity is too large for a number, or is none"),
        ({"fp16_tflops": 0}, "mine.fp16_tflops is 0"),
        ({"backend": "onnxruntime-cpu", "fp16_tflops": 0, "int8_tops": 0}, "mine.int8_tops is 0"),
        ({"system_mib": -1}, "mine.system_mib is -1"),
    ],
)
def test_what_is_wrong_with_a_device_is_named(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    file = tmp_path / "devices.json"
    file.write_text(json.dumps(own(**changes)))
    with pytest.raises(BadInput) as refused:
        read_devices(file)
    assert says in refused.value.why
    assert str(file) in refused.value.what


@pytest.mark.parametrize("content", ["", "[]", '{"devices": {}}', '{"format": 1, "devices": []}'])
def test_what_is_no_device_file_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "devices.json"
    file.write_text(content)
    with pytest.raises(BadInput):
        read_devices(file)
