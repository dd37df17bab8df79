"""A stream of PortAudio that lives as long as the talk, whatever becomes of its device."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from vita_edge.engines.errors import DeviceFailed, VitaEdgeError

from .portaudio import PORTAUDIO, Direction, SoundDevice, choose, find_again, load, rescan, silent_stderr

__all__ = ["ReconnectingStream"]

Latency = float | str
LATENCIES: tuple[Latency, ...] = ("low", 0.04, 0.08, 0.16)
"""Asked for in turn, until the device keeps up: seconds, or what PortAudio takes for low."""
SERVERS = ("default", "pulse", "pipewire")
"""ALSA's names for sound servers: these run dry at 20 ms, which PortAudio takes for low, and begin with the second."""
MANY_GAPS, GAPS_S = 4, 10.0
"""So many gaps in so long a time: the device does not keep up."""
SETTLING_S = 0.5
"""Gaps while a stream begins are not counted: nothing is played yet, and the latency is still being found."""
SILENT_S, STARTING_S = 1.0, 3.0
"""Without callbacks for so long a stream is dead; the first may take longer."""
CLOSING_S = 0.5
LOOK_S, RETRY_S, RESCAN_S, LONGEST_S = 0.2, 0.5, 1.0, 30.0


class ReconnectingStream:
    """Opens a device and opens it again when it has gone.

    It is taken for gone when its stream has ended by itself or has not called back for a second. PortAudio sees new
    devices only when it is started anew, which interrupts the other direction too; so the same device is tried first,
    and while the other direction works the waits between new starts grow to half a minute.
    """

    def __init__(
        self, requested: int | str | None, direction: Direction, start: Callable[[SoundDevice, Latency], Any]
    ) -> None:
        """
        Args:
            wanted: as :func:`~.portaudio.choose` takes it.
            start: opens and starts a stream on a device, or raises ``PortAudioError``.
        """
        self.lost = False
        self.gaps = 0  # how often the device ran dry or over
        self.device: SoundDevice | None = None
        self._requested = requested
        self._direction = direction
        self._start = start
        self._stream: Any = None
        self._closing: threading.Thread | None = None
        self._latency = 0
        self._recent_gaps: deque[float] = deque(maxlen=MANY_GAPS)
        self._opened_s = self._called_s = 0.0
        self._called = self._was_silent = False

    @property
    def name(self) -> str:
        return self.device.name if self.device else "none"

    def called(self, *, gap: bool) -> None:
        """The callback is running; ``gap``: the device had run dry or over before."""
        self._called_s = time.monotonic()
        self._called = True
        if gap:
            self._recent_gaps.append(self._called_s)
            self.gaps += self._called_s - self._opened_s > SETTLING_S

    def open(self) -> None:
        """
        Raises:
            DeviceFailed: there is no such device, or it refuses.
            MissingPackage: sounddevice or PortAudio is not installed.
        """
        self.gaps = 0
        with PORTAUDIO:
            self._open(choose(self._requested, self._direction))
        _KEEPER.add(self)

    def close(self) -> None:
        _KEEPER.remove(self)
        with PORTAUDIO:
            self.drop()
            self.lost = False

    def is_dead(self) -> bool:
        """Looked at twice: where the interpreter was held up, so was the callback, and it gets its chance first."""
        limit_s = SILENT_S if self._called else STARTING_S
        silent = time.monotonic() - self._called_s > limit_s
        dead = not self._stream.active or (silent and self._was_silent)
        self._was_silent = silent
        return dead

    def falls_behind(self) -> bool:
        many = len(self._recent_gaps) == MANY_GAPS and self._recent_gaps[-1] - self._recent_gaps[0] < GAPS_S
        return many and self._latency + 1 < len(LATENCIES)

    @property
    def is_closing(self) -> bool:
        """The driver hangs in what was to be closed: nothing else may be asked of it."""
        return self._closing is not None and self._closing.is_alive()

    def drop(self) -> None:
        """Close what is open, and count the device as lost. A driver that hangs is left to itself."""
        self.lost = True
        self._drop()

    def _drop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            self._closing = threading.Thread(target=_close, args=(stream,), name="closing a sound device", daemon=True)
            self._closing.start()
            self._closing.join(CLOSING_S)

    def reopen(self, *, slower: bool = False) -> bool:
        """Whether the device is back."""
        if self.is_closing:
            return False
        self._latency += slower
        try:
            device = choose(None, self._direction) if self._requested is None else None
            if device is None and self.device is not None:
                device = find_again(self.device, self._direction)
            if device is not None:
                with silent_stderr():
                    self._open(device)
        except VitaEdgeError:
            pass
        return self._stream is not None

    def reopen_slower(self) -> None:
        """Open the device anew with a larger buffer, since it ran dry or over too often: it is not lost meanwhile."""
        self.gaps += 1
        self._drop()
        if not self.reopen(slower=True):
            self.lost = True

    def _open(self, device: SoundDevice) -> None:
        sounddevice = load()
        self._opened_s = self._called_s = time.monotonic()
        self._called = self._was_silent = False
        self._recent_gaps.clear()
        self.device = device
        if device.name in SERVERS:
            self._latency = max(self._latency, 1)
        try:
            self._stream = self._start(device, LATENCIES[self._latency])
        except (sounddevice.PortAudioError, ValueError) as error:
            kind = "microphone" if self._direction == "input" else "speaker"
            raise DeviceFailed(
                f"The {kind} {device.name} cannot be opened.",
                why=f"PortAudio says: {error}.",
                fix="Another program may hold it: close that, or choose another device with `vita-edge devices`.",
            ) from error
        self.lost = False


def _close(stream: Any) -> None:
    with contextlib.suppress(Exception):  # of a device that has gone nothing can be expected
        stream.abort(ignore_errors=True)
        stream.close(ignore_errors=True)


class _Keeper:
    """Looks after the open streams of this process from a thread of its own."""

    def __init__(self) -> None:
        self._streams: list[ReconnectingStream] = []
        self._leaving = threading.Event()
        self._thread: threading.Thread | None = None
        self._retry_s = self._rescan_s = 0.0
        self._wait_s = RESCAN_S

    def add(self, stream: ReconnectingStream) -> None:
        with PORTAUDIO:
            self._streams.append(stream)
            if self._thread is None:
                self._leaving = threading.Event()
                self._thread = threading.Thread(
                    target=self._watch, args=(self._leaving,), name="sound devices", daemon=True
                )
                self._thread.start()

    def remove(self, stream: ReconnectingStream) -> None:
        with PORTAUDIO:
            if stream in self._streams:
                self._streams.remove(stream)
            if not self._streams and self._thread is not None:
                self._leaving.set()
                self._thread = None

    def _watch(self, leaving: threading.Event) -> None:
        while not leaving.wait(LOOK_S):
            with PORTAUDIO:
                if not leaving.is_set():
                    self._look()

    def _look(self) -> None:
        for stream in self._streams:
            if not stream.lost and stream.is_dead():
                stream.drop()
            elif not stream.lost and stream.falls_behind():
                stream.reopen_slower()
        now_s = time.monotonic()
        if not any(stream.lost for stream in self._streams):
            self._wait_s, self._rescan_s = RESCAN_S, now_s + RESCAN_S
        elif now_s >= self._retry_s:
            self._bring_back(now_s)
            self._retry_s = time.monotonic() + RETRY_S

    def _bring_back(self, now_s: float) -> None:
        for stream in self._streams:
            if stream.lost:
                stream.reopen()
        working = [stream for stream in self._streams if not stream.lost]
        if len(working) == len(self._streams) or now_s < self._rescan_s:
            return
        if any(stream.is_closing for stream in self._streams):
            return
        for stream in working:
            stream.drop()
        with contextlib.suppress(Exception):  # no sound system at the moment: tried again
            rescan()
        for stream in self._streams:
            stream.reopen()
        self._wait_s = min(2 * self._wait_s, LONGEST_S) if working else RESCAN_S
        self._rescan_s = time.monotonic() + self._wait_s


_KEEPER = _Keeper()
