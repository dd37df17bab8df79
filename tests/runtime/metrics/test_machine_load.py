"""The load of the machine: read from files of proc and sys, and summed up between two moments."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from vita_edge.runtime.metrics.machine_load import MachineSample, MachineSampler, read_sample


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine of two cores: a tenth of the time of others, and a GPU as a Jetson shows it."""
    files = {
        "proc/stat": "cpu  1000 0 500 6000 100 0 400 2000 0 0\ncpu0 1 2 3\n",
        "proc/meminfo": "MemTotal: 16000 kB\nMemAvailable:    8000 kB\n",
        "sys/fs/cgroup/cpu.stat": "usage_usec 5\nthrottled_usec 2500000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1500000\n",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "500000\n",
        "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
        "sys/class/thermal/thermal_zone0/temp": "61500\n",
        "sys/class/thermal/thermal_zone1/temp": "-256000\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def test_a_sample_is_read_from_the_files_of_the_system(root: Path) -> None:
    one = read_sample(root)
    assert (one.core_s, one.busy_s, one.steal_s) == (100.0, 19.0, 20.0)
    assert (one.clock_mhz, one.gpu_clock_mhz, one.temperature_c) == (1000.0, 306.0, 61.5)
    assert (one.throttled_s, one.memory_available_bytes) == (2.5, 8_192_000)


def test_what_the_system_does_not_tell_is_none(tmp_path: Path) -> None:
    one = read_sample(tmp_path)
    assert (one.core_s, one.busy_s, one.clock_mhz, one.temperature_c, one.throttled_s) == (None,) * 5
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text("cpu  1 2\n")
    assert read_sample(tmp_path).core_s is None


def sample(at_s: float, **facts: float) -> MachineSample:
    """Two cores since 0 s; nothing is used of them but what is said."""
    idle = MachineSample(at_s, 2 * at_s, 0.0, 0.0, 0.0, None, 2000.0, None, None, None)
    return replace(idle, **facts)  # type: ignore[arg-type]


def test_the_load_between_two_moments_counts_what_others_had() -> None:
    later = sample(20.0, own_s=4.0, busy_s=10.0, steal_s=2.0, clock_mhz=900.0, temperature_c=91.0)
    samples = iter([sample(10.0), later])
    sampler = MachineSampler(lambda: next(samples))
    sampler.sample()
    load = sampler.between(10.0, 20.0)
    assert load is not None
    assert (load.own_cpu_s, load.others_share, load.steal_share) == (4.0, 0.3, 0.1)
    assert load.busy and load.taken_share == pytest.approx(0.4)
    assert list(load.reasons()) == [
        "other processes used 30% of the cores",
        "the host took 10% of the cores",
        "the clock fell to 45% of its highest at 91 °C",
    ]


def test_a_machine_of_ones_own_is_no_reason() -> None:
    samples = iter([sample(10.0), sample(20.0, own_s=4.0, busy_s=4.5)])
    sampler = MachineSampler(lambda: next(samples))
    sampler.sample()
    load = sampler.between(10.0, 20.0)
    assert load is not None and not load.busy and list(load.reasons()) == []


def test_own_processor_time_is_seen_by_the_real_sampler() -> None:
    with MachineSampler(every_s=0.02) as sampler:
        begin_s = time.monotonic()
        while time.process_time() % 1 >= 0 and time.monotonic() - begin_s < 0.15:
            pass
        load = sampler.between(begin_s, time.monotonic())
    assert load is not None and 0.02 < load.own_cpu_s < 1.0
