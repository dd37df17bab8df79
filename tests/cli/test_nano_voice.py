"""The recipe of the nano model's voice: what it writes fits the release, and what it bends stays in step."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("scipy")
sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "nano"))


import torch  # noqa: TID251 - the recipe is written in it

import generator as codec_model
import pitch_phase
import speech_model
from vita_edge.export.checkpoint.layout import expected_tensors
from vita_edge.export.practice.presets import preset

CONFIG = replace(preset("tiny"), speech=speech_model.CONFIG, codec=codec_model.CONFIG)


def test_the_voice_holds_exactly_the_tensors_of_a_release_of_its_sizes():
    expected = expected_tensors(CONFIG)
    speech = speech_model.release_tensors(speech_model.SpeechModel())
    parts = codec_model.release_tensors(codec_model.Generator())
    codec = {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}
    assert {name: tuple(tensor.shape) for name, tensor in speech.items()} == expected["speech"]
    assert {name: tuple(tensor.shape) for name, tensor in codec.items()} == expected["codec"]


def test_decoding_code_by_code_is_the_same_as_all_at_once():
    torch.manual_seed(0)
    model = speech_model.SpeechModel().eval()
    model.out_fnn.bias.data[speech_model.END] = -1e3  # goes on for as long as it is let
    rows = torch.randn(5, speech_model.CONFIG.width)
    codes = model.speak(rows, maximum=12)
    with torch.no_grad():
        logits = model(rows[None], torch.tensor([codes]))[0]
    special = [speech_model.BOS, speech_model.SOS, speech_model.PADDING]
    logits[:, special] = -torch.inf
    assert len(set(codes)) > 1
    assert logits.argmax(-1)[:-1].tolist() == codes


@pytest.mark.parametrize("pitch_hz", [163.0, 177.0, 196.0])
def test_a_bent_voice_begins_each_frame_at_a_quarter_of_a_period(pitch_hz: float):
    rate = 16000
    clock = np.arange(int(0.9 * rate)) / rate
    voice = sum(0.2 / k * np.sin(2 * np.pi * k * pitch_hz * clock) for k in (1, 2, 3))
    silence = np.zeros(rate // 10)
    found = pitch_phase.in_step(np.concatenate([silence, voice, silence]).astype(np.float32), rate)

    assert len(found.wave) == pitch_phase.FRAME * len(found.phase)
    assert abs(len(found.wave) / pitch_phase.RATE_HZ - 1.1) < 0.06
    steady = np.flatnonzero(found.phase != pitch_phase.UNVOICED)[4:-4]
    assert len(steady) > 20
    frames = found.wave.reshape(-1, pitch_phase.FRAME)
    for phase in np.unique(found.phase[steady]):  # frames of one phase are alike, whatever lies between them
        starts = frames[steady[found.phase[steady] == phase]][:, :60]
        assert np.ptp(starts, axis=0).max() < 0.12
    too_far = np.diff(found.phase[steady]) - round(pitch_hz * 0.025 * pitch_phase.PHASES)
    assert set(too_far % pitch_phase.PHASES) <= {3, 0, 1}  # a quarter off at the most, around the circle


def test_silence_is_left_as_it_is():
    found = pitch_phase.in_step(np.zeros(4000, np.float32), 16000)
    assert (found.phase == pitch_phase.UNVOICED).all()
    assert not found.wave.any()
