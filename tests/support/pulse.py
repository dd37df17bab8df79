"""A room without hardware: a PulseAudio server of our own, whose two null sinks are the microphone and the speaker.

What is played to ``mic`` is heard by the default microphone, and what the default speaker plays comes out of
``speaker``. ALSA's default device leads there, so PortAudio finds both.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

__all__ = ["SPEAKER_RATE_HZ", "PulseRoom", "missing", "wait_until"]

PROGRAMS = ("pulseaudio", "pactl", "paplay", "parec")
SPEAKER_RATE_HZ = 24_000
MODULES = (
    "module-native-protocol-unix",
    "module-null-sink sink_name=mic rate=16000",
    f"module-null-sink sink_name=speaker rate={SPEAKER_RATE_HZ}",
)
ASOUND = """\
</usr/share/alsa/alsa.conf>
pcm.!default { type pulse }
ctl.!default { type pulse }
"""


def missing() -> str | None:
    """What the room lacks here, or None."""
    for program in PROGRAMS:
        if not shutil.which(program):
            return f"{program} is not installed (scripts/audio-packages installs it)"
    if not list(Path("/usr/lib").glob("**/alsa-lib/libasound_module_pcm_pulse.so")):
        return "libasound2-plugins is not installed (scripts/audio-packages installs it)"
    try:
        import sounddevice  # noqa: F401
    except (ImportError, OSError) as error:
        return f"PortAudio: {error}"
    return None


def wait_until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Wait for something that happens elsewhere."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.02)


class PulseRoom:
    """Open with ``with``; can be stopped and started again in between, as when a device is unplugged."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="room-")  # short: a socket's path has 107 letters at most
        folder = Path(self._folder.name)
        (folder / "asound.conf").write_text(ASOUND)
        self.environment = {
            "XDG_RUNTIME_DIR": str(folder),
            "PULSE_RUNTIME_PATH": str(folder / "pulse"),
            "PULSE_SERVER": f"unix:{folder}/pulse/native",
            "PULSE_COOKIE": str(folder / "cookie"),
            "ALSA_CONFIG_PATH": str(folder / "asound.conf"),
        }
        self.heard = folder / "heard.raw"
        self._server: subprocess.Popen[bytes] | None = None
        self._listeners: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the server, and record its speaker from now on."""
        modules = [word for module in MODULES for word in ("-L", module)]
        self._server = self._run("pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", *modules)
        wait_until(lambda: self.control("info", check=False).returncode == 0)
        self.control("set-default-source", "mic.monitor")
        self.control("set-default-sink", "speaker")
        # a null sink that nobody listens to closely sleeps for two seconds at a time, and a stream that begins waits
        with self.heard.open("wb") as file:
            self._listeners = [
                self._run("parec", "--latency-msec=10", "--device=mic.monitor", "--raw"),
                self._run(
                    "parec", "--latency-msec=10", "--device=speaker.monitor", "--raw", "--format=float32le",
                    f"--rate={SPEAKER_RATE_HZ}", "--channels=1", stdout=file.fileno(),
                ),
            ]  # fmt: skip
        wait_until(lambda: self.heard.stat().st_size > 0)

    def stop(self) -> None:
        """Stop the server: to its clients, the devices are gone."""
        for process in [*self._listeners, self._server]:
            if process is not None:
                process.terminate()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self._server, self._listeners = None, []

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Let the server stand still, as a driver does that hangs."""
        assert self._server is not None
        self._server.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._server.send_signal(signal.SIGCONT)

    def control(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["pactl", *words], env=self._env(), capture_output=True, text=True, check=check, timeout=20
        )

    def play(self, path: Path) -> subprocess.Popen[bytes]:
        """Let the microphone hear a sound file; the process ends with the sound."""
        return self._run("paplay", "--device=mic", "--latency-msec=20", str(path))

    def say(self, samples: NDArray[np.float32], rate_hz: int) -> subprocess.Popen[bytes]:
        """Let the microphone hear float32 [n]."""
        path = Path(self._folder.name) / f"said-{time.monotonic_ns()}.wav"
        soundfile.write(path, samples, rate_hz, subtype="FLOAT")
        return self.play(path)

    def speaker(self) -> NDArray[np.float32]:
        """float32 [n] at 24 kHz: what the speaker has played since the room was last started."""
        return np.frombuffer(self.heard.read_bytes()[: self.heard.stat().st_size // 4 * 4], np.float32)

    @contextmanager
    def echo(self, echo_db: float) -> Iterator[None]:
        """Let the microphone hear the speaker too, at this level, after about 40 ms."""
        module = self.control("load-module", "module-loopback", "source=speaker.monitor", "sink=mic", "latency_msec=40")
        number = module.stdout.strip()
        inputs = self.control("list", "short", "sink-inputs").stdout.splitlines()
        # of loopback streams the driver column names the module; the newest one is ours
        stream = [line.split()[0] for line in inputs if "module-loopback" in line][-1]
        self.control("set-sink-input-volume", stream, f"{echo_db:g}dB")
        try:
            yield
        finally:
            self.control("unload-module", number, check=False)

    def __enter__(self) -> PulseRoom:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._folder.cleanup()

    def _env(self) -> dict[str, str]:
        return {**os.environ, **self.environment}

    def _run(self, *words: str, stdout: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            words, env=self._env(), stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.DEVNULL
        )


@pytest.fixture(scope="module")
def pulse_room() -> Iterator[PulseRoom]:
    """The room, and this process in it: PortAudio of this process sees its microphone and speaker and no others."""
    if reason := missing():
        pytest.skip(reason)
    from vita_edge.runtime.audio_io.portaudio import rescan

    with PulseRoom() as room, pytest.MonkeyPatch.context() as patch:
        for name, value in room.environment.items():
            patch.setenv(name, value)
        rescan()
        yield room
    rescan()
