"""What else the machine did, and how fast it was allowed to run, while a turn was measured.

Linux tells all of it in files: processor time in ``/proc``, clocks and temperatures in ``/sys``, on a Jetson those of
the GPU too. What a system does not tell is None.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["BUSY_SHARE", "MachineLoad", "MachineSample", "MachineSampler", "read_sample"]

EVERY_S = 0.5
MAX_SAMPLES = 50_000
"""The newest: seven hours."""
BUSY_SHARE = 0.05
"""Of the cores: when others take more, a clock says something of them, too."""
SLOWED_SHARE = 0.9
"""Of the highest clock seen: below, the machine runs slower than it can."""


@dataclass(frozen=True)
class MachineSample:
    """The machine at one moment. Times are seconds of processor time since some moment in the past."""

    at_s: float
    """Of ``time.monotonic()``."""
    core_s: float | None
    """Of all cores together, idle or not: what could have been used."""
    busy_s: float | None
    """Of all processes of this system."""
    steal_s: float | None
    """That the host gave to somebody else."""
    own_s: float
    """Of this process."""
    throttled_s: float | None
    """That this control group was held back, because it had used up its share."""
    clock_mhz: float | None
    """Mean of the cores."""
    gpu_clock_mhz: float | None
    temperature_c: float | None
    """Of the hottest zone."""
    memory_available_bytes: int | None


@dataclass(frozen=True)
class MachineLoad:
    """The machine between two moments."""

    own_cpu_s: float
    """Processor time of this process."""
    others_share: float | None
    """Of all cores: what other processes used, 0 to 1."""
    steal_share: float | None
    """Of all cores: what the host gave to others, 0 to 1."""
    throttled_s: float | None
    """How long this control group was held back."""
    clock_mhz: float | None
    """The lowest that was seen, likewise below."""
    gpu_clock_mhz: float | None
    temperature_c: float | None
    """The highest that was seen."""
    memory_available_bytes: int | None
    clock_share: float | None
    """``clock_mhz`` as a share of the highest clock since the sampler began; 1 where it never moved."""

    @property
    def taken_share(self) -> float:
        """Of all cores: what was not there for this process, because others had it."""
        return (self.others_share or 0.0) + (self.steal_share or 0.0)

    @property
    def busy(self) -> bool:
        """The machine was not this process's alone, or slower than it can be."""
        return bool(list(self.reasons()))

    def reasons(self) -> Iterator[str]:
        """What may have made this turn slower, in words."""
        if self.others_share is not None and self.others_share > BUSY_SHARE:
            yield f"other processes used {self.others_share:.0%} of the cores"
        if self.steal_share is not None and self.steal_share > BUSY_SHARE:
            yield f"the host took {self.steal_share:.0%} of the cores"
        if self.throttled_s:
            yield f"the control group was throttled for {1000 * self.throttled_s:,.0f} ms"
        if self.clock_share is not None and self.clock_share < SLOWED_SHARE:
            hot = f" at {self.temperature_c:.0f} °C" if self.temperature_c is not None else ""
            yield f"the clock fell to {self.clock_share:.0%} of its highest{hot}"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> MachineLoad:
        """What :meth:`to_json` made."""
        return cls(**data)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class MachineSampler:
    """Samples the machine twice a second while it is entered; a thread of its own reads a few small files.

    Args:
        read: takes one sample.
        every_s: between two samples.
        sampled: told each sample, in the sampler's thread.
    """

    def __init__(
        self,
        read: Callable[[], MachineSample] | None = None,
        *,
        every_s: float = EVERY_S,
        sampled: Callable[[MachineSample], None] | None = None,
    ) -> None:
        self._read, self._every_s, self._sampled = read or read_sample, every_s, sampled
        self._samples: deque[MachineSample] = deque(maxlen=MAX_SAMPLES)
        self._highest_mhz = 0.0
        self._lock = threading.Lock()
        self._leaving = threading.Event()
        self._thread: threading.Thread | None = None

    def sample(self) -> MachineSample:
        """Take one now."""
        with self._lock:
            one = self._read()
            self._samples.append(one)
            self._highest_mhz = max(self._highest_mhz, one.clock_mhz or 0.0)
        if self._sampled:
            self._sampled(one)
        return one

    def between(self, begin_s: float, end_s: float) -> MachineLoad | None:
        """The load from the last sample before ``begin_s`` on; None when there are not two samples."""
        self.sample()
        with self._lock:
            samples, highest = list(self._samples), self._highest_mhz
        before = [one for one in samples if one.at_s <= begin_s][-1:]
        inside = before + [one for one in samples if begin_s < one.at_s <= end_s + self._every_s]
        return _load(inside, highest) if len(inside) > 1 else None

    def __enter__(self) -> MachineSampler:
        self._leaving.clear()
        self.sample()
        self._thread = threading.Thread(target=self._run, name="machine load", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.set()
        if self._thread:
            self._thread.join()

    def _run(self) -> None:
        while not self._leaving.wait(self._every_s):
            self.sample()


def read_sample(root: Path = Path("/")) -> MachineSample:
    """One sample of this machine.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    core_s, busy_s, steal_s = _processor_times(root / "proc/stat")
    return MachineSample(
        at_s=time.monotonic(),
        core_s=core_s,
        busy_s=busy_s,
        steal_s=steal_s,
        own_s=time.process_time(),
        throttled_s=_throttled(root / "sys/fs/cgroup/cpu.stat"),
        clock_mhz=_mean(_numbers(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq"), 1e3),
        gpu_clock_mhz=_mean(_numbers(root, "sys/class/devfreq/*gpu*/cur_freq"), 1e6)
        or _mean(_numbers(root, "sys/class/devfreq/*ga10b*/cur_freq"), 1e6),
        temperature_c=_hottest(root),
        memory_available_bytes=_available(root / "proc/meminfo"),
    )


def _load(samples: list[MachineSample], highest_mhz: float) -> MachineLoad:
    first, last = samples[0], samples[-1]
    cores_s = _between(first.core_s, last.core_s)
    own_s = last.own_s - first.own_s
    busy_s, steal_s = _between(first.busy_s, last.busy_s), _between(first.steal_s, last.steal_s)
    clock = min((one.clock_mhz for one in samples if one.clock_mhz), default=None)
    return MachineLoad(
        own_cpu_s=round(own_s, 4),
        others_share=_share(None if busy_s is None else busy_s - own_s, cores_s),
        steal_share=_share(steal_s, cores_s),
        throttled_s=_between(first.throttled_s, last.throttled_s),
        clock_mhz=clock,
        gpu_clock_mhz=min((one.gpu_clock_mhz for one in samples if one.gpu_clock_mhz), default=None),
        temperature_c=max((one.temperature_c for one in samples if one.temperature_c is not None), default=None),
        memory_available_bytes=min(
            (one.memory_available_bytes for one in samples if one.memory_available_bytes is not None), default=None
        ),
        clock_share=None if clock is None else round(clock / highest_mhz, 3),
    )


def _between(first: float | None, last: float | None) -> float | None:
    return None if first is None or last is None else max(last - first, 0.0)


def _share(part_s: float | None, whole_s: float | None) -> float | None:
    return None if part_s is None or not whole_s else round(min(max(part_s / whole_s, 0.0), 1.0), 4)


def _processor_times(path: Path) -> tuple[float | None, float | None, float | None]:
    """Seconds of all cores, of all work, and those that the host took."""
    line = next((line for line in _lines(path) if line.startswith("cpu ")), "")
    ticks = [int(word) for word in line.split()[1:] if word.isdigit()]
    if len(ticks) < 8:
        return None, None, None
    user, nice, system, idle, waiting, irq, softirq, steal = ticks[:8]
    hertz = os.sysconf("SC_CLK_TCK")
    busy = user + nice + system + irq + softirq
    return (busy + idle + waiting + steal) / hertz, busy / hertz, steal / hertz


def _throttled(path: Path) -> float | None:
    found = [line.split()[-1] for line in _lines(path) if line.startswith("throttled_usec")]
    return int(found[0]) / 1e6 if found and found[0].isdigit() else None


def _hottest(root: Path) -> float | None:
    """Degrees; zones that are switched off tell nonsense."""
    degrees = [value / 1000 for value in _numbers(root, "sys/class/thermal/thermal_zone*/temp")]
    return max((value for value in degrees if -40 < value < 150), default=None)


def _available(path: Path) -> int | None:
    found = [line.split()[1] for line in _lines(path) if line.startswith("MemAvailable:")]
    return int(found[0]) << 10 if found and found[0].isdigit() else None


def _numbers(root: Path, pattern: str) -> list[float]:
    values = (next(iter(_lines(path)), "").strip() for path in root.glob(pattern))
    return [float(value) for value in values if value.lstrip("-").isdigit()]


def _mean(values: list[float], unit: float) -> float | None:
    return round(sum(values) / len(values) / unit, 1) if values else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("ascii", "replace").splitlines()
    except OSError:
        return []
