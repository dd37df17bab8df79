"""A device that runs dry is given a larger buffer; that is not a loss of the device."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from vita_edge.runtime.audio_io import reconnecting_stream
from vita_edge.runtime.audio_io.reconnecting_stream import ReconnectingStream


class Stream:
    """What a driver hands out, as far as it is looked at."""

    active = True

    def abort(self, ignore_errors: bool) -> None: ...
    def close(self, ignore_errors: bool) -> None: ...


@pytest.fixture
def speaker(monkeypatch: pytest.MonkeyPatch) -> tuple[ReconnectingStream, list[Any]]:
    """A speaker of a driver that opens whatever is asked, the third time excepted, and what was asked for."""
    driver = SimpleNamespace(PortAudioError=OSError)
    monkeypatch.setattr(reconnecting_stream, "load", lambda: driver)
    monkeypatch.setattr(reconnecting_stream, "choose", lambda requested, direction: SimpleNamespace(name="loud"))
    monkeypatch.setattr(reconnecting_stream, "find_again", lambda device, direction: device)
    opened: list[Any] = []

    def start(device: Any, latency: Any) -> Stream:
        opened.append((latency, stream.lost))
        if len(opened) == 3:
            raise OSError("busy")
        return Stream()

    stream = ReconnectingStream(None, "output", start)
    stream._open(SimpleNamespace(name="loud"))
    return stream, opened


def test_it_is_opened_again_with_more_latency_and_never_lost(speaker: tuple[ReconnectingStream, list[Any]]) -> None:
    stream, opened = speaker
    stream.reopen_slower()
    (low, _), (higher, lost_meanwhile) = opened
    assert higher != low and not lost_meanwhile
    assert not stream.lost and stream.gaps == 1 and not stream.is_dead()


def test_it_is_lost_when_it_cannot_be_opened_again(speaker: tuple[ReconnectingStream, list[Any]]) -> None:
    stream, _ = speaker
    stream.reopen_slower()
    stream.reopen_slower()
    assert stream.lost
    assert stream.reopen() and not stream.lost
