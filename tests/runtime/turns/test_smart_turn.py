"""Smart Turn: features equal to the published extractor's, the model found and checked, and other files refused."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vita_edge.engines.errors import BadInput, MissingPackage
from vita_edge.runtime import read_sound
from vita_edge.runtime.turns import smart_turn as module
from vita_edge.runtime.turns.choose_detector import turn_detector
from vita_edge.runtime.turns.log_mel import log_mel
from vita_edge.runtime.turns.own_detector import CombinedDetector
from vita_edge.runtime.turns.smart_turn import SmartTurn, installed_model

DATA = Path(__file__).resolve().parents[2] / "data"
RECORDED = np.load(DATA / "smart_turn_features.npz")
"""Of two recordings, as transformers 5.24 (WhisperFeatureExtractor of 8 s) and pipecat-ai 1.14 gave them: the last 4 s
of the features, and the probability."""
CLIPS = {"long": "flite-has-please.flac", "short": "flite-yes.flac"}


def clip(name: str) -> NDArray[np.float32]:
    sound = read_sound(DATA / "labelled_speech" / CLIPS[name])
    assert sound.sample_rate_hz == 16_000
    return sound.heard_channel


@pytest.mark.parametrize("name", CLIPS)
def test_features_are_those_of_the_published_extractor(name: str) -> None:
    samples = clip(name)
    features = log_mel(np.concatenate([np.zeros(128_000 - samples.size, np.float32), samples]))
    assert features.shape == (80, 800) and features.dtype == np.float32
    assert np.abs(features[:, 400:] - RECORDED[name]).max() < 1e-4


@pytest.mark.parametrize("name", CLIPS)
def test_the_probability_is_that_of_pipecat(name: str) -> None:
    model = installed_model()
    if model is None:
        pytest.skip("pipecat-ai is not installed")
    detector = SmartTurn(model)
    assert detector.probability(clip(name)) == pytest.approx(float(RECORDED[f"{name}_probability"]), abs=0.01)
    assert 0 <= CombinedDetector(detector).probability(clip(name)) <= 1


def test_the_model_is_found_in_an_installed_package_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pipecat").mkdir()
    (tmp_path / "pipecat" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pipecat", raising=False)
    assert installed_model() is None
    place = tmp_path / "pipecat" / module.PLACE
    place.parent.mkdir(parents=True)
    place.write_bytes(b"")
    assert installed_model() == place
    assert "pipecat" not in sys.modules


def test_another_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="Cannot read the turn detector"):
        SmartTurn(tmp_path / "none.onnx")
    (tmp_path / "other.onnx").write_bytes(b"something else")
    with pytest.raises(BadInput, match="is not the turn detector"):
        turn_detector(str(tmp_path / "other.onnx"))


def test_a_model_with_the_right_sum_that_is_damaged_otherwise_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no graph")
    monkeypatch.setattr(module, "SHA256", hashlib.sha256(b"no graph").hexdigest())
    with pytest.raises(BadInput, match="cannot be run"):
        SmartTurn(tmp_path / "m.onnx")


def test_without_the_package_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vita_edge.runtime.turns.choose_detector.installed_model", lambda: None)
    with pytest.raises(MissingPackage, match="Smart Turn is not here"):
        turn_detector("smart-turn")
