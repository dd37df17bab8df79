"""Leading silence off, and float samples to 16 bits."""

from __future__ import annotations

import numpy as np
import pytest

from vita_edge.runtime.audio_io.pcm import LeadingSilenceTrim, to_pcm16, trim_leading_silence


def test_silence_is_trimmed_from_every_segment_of_the_references_first_sentence():
    quiet, sound = np.full(5, 0.03, np.float32), np.array([0.01, -0.04, 0.0, 0.2], np.float32)
    assert trim_leading_silence(sound).tolist() == sound[1:].tolist()
    assert len(trim_leading_silence(quiet)) == 5
    assert len(trim_leading_silence(quiet[:0])) == 0


@pytest.mark.parametrize("onset", [0, 1, 17, 49, None])
def test_the_stream_loses_only_the_silence_before_its_first_sound(onset):
    wave = np.random.default_rng(0).uniform(-0.03, 0.03, 50).astype(np.float32)
    if onset is not None:
        wave[onset] = -0.5
    trim = LeadingSilenceTrim()
    for size in (1, 3, 50):
        pieces = [wave[i : i + size] for i in range(0, 50, size)]
        heard = np.concatenate([*[trim.step(piece) for piece in pieces], trim.flush()])
        assert heard.tolist() == wave[onset or 0 :].tolist()
    trim.step(wave[:1])
    trim.reset()
    assert len(trim.flush()) == 0


def test_samples_become_16_bits_towards_zero_without_wrapping():
    x = np.array([0.0, 1.0, -1.0, 1.5, -1.5, 1.9 / 32768, -1.9 / 32768, 0.5], np.float32)
    pcm = to_pcm16(x)
    assert pcm.dtype == np.int16
    assert pcm.tolist() == [0, 32767, -32768, 32767, -32768, 1, -1, 16384]
