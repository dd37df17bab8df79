"""From sound to what the audio encoder is fed: 80 log-mel bins every 10 ms."""

from __future__ import annotations

import kaldi_native_fbank as knf
import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.bundle.facts import AudioFacts
from vita_edge.engines.errors import BadInput

from ..audio_io.sound import Sound, resample

__all__ = ["AudioFrontEnd", "FbankStream"]

FULL_SCALE = 32768.0
"""The filter bank works in units of 16-bit samples; its floor is an absolute number in them."""
LOUDEST = float(1 << 31)
"""Samples beyond this (full scale is 1) would overflow the energies; NaN and infinity are caught with them."""
MAX_ENCODER_STEPS = 5000
"""Positions in the tables of the reference, specification 5.5: 200 s at 40 ms a step."""


class AudioFrontEnd:
    """The filter bank of a model, specification 5.1 and 5.2, computed by kaldi-native-fbank.

    Frames that overhang the end are dropped, each loses its mean, is pre-emphasised with 0.97, shaped by the povey
    window and turned into powers; triangles from 20 Hz to the Nyquist rate, natural log, floor at ln(2^-23). No dither,
    no energy. The result is raw: CMVN lies inside the audio graph.
    """

    def __init__(self, facts: AudioFacts) -> None:
        self.facts = facts
        options = knf.FbankOptions()
        frame = options.frame_opts
        frame.samp_freq = facts.sample_rate_hz
        frame.frame_length_ms = facts.frame_length_ms
        frame.frame_shift_ms = facts.frame_shift_ms
        frame.snip_edges = True
        frame.dither = 0.0
        frame.remove_dc_offset = True
        frame.preemph_coeff = 0.97
        frame.window_type = "povey"
        frame.round_to_power_of_two = True
        options.mel_opts.num_bins = facts.mel_bins
        options.mel_opts.low_freq = 20.0
        options.mel_opts.high_freq = 0.0  # the Nyquist rate
        options.use_energy = False
        options.use_log_fbank = True
        options.use_power = True
        self._options = options
        self._frame_samples = int(facts.sample_rate_hz * facts.frame_length_ms / 1000)
        self._shift_samples = int(facts.sample_rate_hz * facts.frame_shift_ms / 1000)

    def hear(self, sound: Sound) -> NDArray[np.float32]:
        """The features of a clip: float32 [frames, mel_bins], long enough for the encoder to answer.

        Raises:
            BadInput: the clip is too short for one encoder step or too long for its tables, or holds NaN or infinity.
        """
        return self.fbank(self.wave(sound))

    def wave(self, sound: Sound) -> NDArray[np.float32]:
        """What the model hears: float32 [n], one channel at ``facts.sample_rate_hz``.

        The reference resamples before it picks the channel; channels do not meet in a resampler, so only one is.

        Raises:
            BadInput: see :meth:`hear`.
        """
        samples = sound.heard_channel
        self.check_length(-(-samples.size * self.facts.sample_rate_hz // sound.sample_rate_hz))
        _check_values(samples)
        return resample(samples, sound.sample_rate_hz, self.facts.sample_rate_hz)

    def fbank(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [n] at ``facts.sample_rate_hz`` to float32 [frames, mel_bins]; no frames for less than 25 ms."""
        stream = self.stream()
        stream.extend(samples)
        return stream.frames(0, self.frames(len(samples)))

    def stream(self) -> FbankStream:
        """A filter bank for a clip that comes piece by piece."""
        return FbankStream(self._options)

    def frames(self, samples: int) -> int:
        """Frames of the filter bank in that many samples at ``facts.sample_rate_hz``."""
        return max((samples - self._frame_samples) // self._shift_samples + 1, 0)

    def check_length(self, samples: int) -> None:
        """Refuse a clip of that many samples at ``facts.sample_rate_hz`` that is too short or too long.

        Raises:
            BadInput: see :meth:`hear`.
        """
        facts = self.facts
        seconds = samples / facts.sample_rate_hz
        steps = facts.encoder_steps(self.frames(samples))
        if steps > MAX_ENCODER_STEPS:
            limit_s = MAX_ENCODER_STEPS * 4 * self._shift_samples / facts.sample_rate_hz
            why = f"It lasts {seconds:.1f} s; the audio encoder reads at most {limit_s:.0f} s."
            raise BadInput("The utterance is too long.", why=why, fix="Cut it into shorter clips.")
        if not steps:
            min_speech_ms = 1000 * (self._frame_samples + 6 * self._shift_samples) / facts.sample_rate_hz
            why = f"It lasts {1000 * seconds:.0f} ms; the audio encoder needs {min_speech_ms:.0f} ms for one step."
            raise BadInput("The utterance is too short.", why=why, fix="Record a longer one.")


class FbankStream:
    """The filter bank of a clip that grows: its frames are those of the whole clip, each computed once."""

    def __init__(self, options: knf.FbankOptions) -> None:
        self._bank = knf.OnlineFbank(options)
        self._rate_hz, self._mel_bins = options.frame_opts.samp_freq, options.mel_opts.num_bins
        self._taken = 0

    def extend(self, samples: NDArray[np.float32]) -> None:
        """Take what is new of the clip so far, float32 [n].

        Raises:
            BadInput: there are samples that are not numbers, or far beyond full scale.
        """
        new = samples[self._taken :]
        _check_values(new)
        self._bank.accept_waveform(self._rate_hz, new * np.float32(FULL_SCALE))
        self._taken += len(new)

    def frames(self, first: int, end: int) -> NDArray[np.float32]:
        """Frames of what was taken, from ``first`` up to ``end``: float32 [end - first, mel_bins]."""
        features = np.empty((end - first, self._mel_bins), np.float32)
        for i in range(first, end):
            features[i - first] = self._bank.get_frame(i)
        return features


def _check_values(samples: NDArray[np.float32]) -> None:
    if not np.abs(samples).max(initial=0) <= LOUDEST:
        why = "It has samples that are not numbers, or are far beyond full scale."
        raise BadInput("The clip is damaged.", why=why, fix="Record or convert it again.")
