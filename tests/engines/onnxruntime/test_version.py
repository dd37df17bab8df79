"""An ONNX Runtime that is too old for a bundle is named as that, not told as a damaged file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from support.spoil import edit_json
from vita_edge.engines.backends import open_backend
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import EngineUnavailable
from vita_edge.engines.onnxruntime.version import MIN_VERSIONS, check_version
from vita_edge.export.weights.precision import TARGETS


@pytest.mark.parametrize(
    ("target", "installed"),
    [("onnxruntime", "1.23.0"), ("tensorrt", "1.25.0"), ("tensorrt", "2.0.1"), ("tensorrt-10.3", "1.23.2")],
)
def test_a_version_that_runs_the_target_is_taken(target: str, installed: str) -> None:
    check_version("BUNDLE", target, installed=installed)


@pytest.mark.parametrize("installed", ["1.23.0", "1.23.2", "1.24.1", "1.24.4"])
def test_a_version_that_is_too_old_is_named_beside_the_one_that_is_needed(installed: str) -> None:
    with pytest.raises(EngineUnavailable, match=rf"needs ONNX Runtime 1\.25, and {installed}") as raised:
        check_version("BUNDLE", "tensorrt", installed=installed)
    assert "tensorrt-10.3" in raised.value.fix


@pytest.mark.parametrize(("python", "way_out"), [((3, 10), "This Python has none"), ((3, 12), "pip install --upgrade")])
def test_the_way_out_fits_this_python(python: tuple[int, int], way_out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (*python, 0, "final", 0))
    with pytest.raises(EngineUnavailable) as raised:
        check_version("BUNDLE", "tensorrt", installed="1.23.2")
    assert raised.value.fix.startswith(way_out)


def test_a_bundle_says_what_it_needs_and_is_asked_before_a_graph_is_opened(bundle_copy: Path) -> None:
    assert Bundle.open(bundle_copy).onnxruntime == MIN_VERSIONS["onnxruntime"]
    assert set(MIN_VERSIONS) == set(TARGETS)
    edit_json(bundle_copy / "manifest.json", lambda manifest: manifest.update(onnxruntime="99.1"))
    with pytest.raises(EngineUnavailable, match=r"needs ONNX Runtime 99\.1"):
        open_backend(Bundle.open(bundle_copy))
