"""New prompts over a bundle leave it at the precision and for the target that it had, or are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.command import run
from vita_edge.engines.bundle.component_spec import LLM_PREFILL
from vita_edge.engines.bundle.format import Bundle

PROMPTS = {
    "command_line": {"image": "See.", "video": "Watch.", "lang": "Read."},
    "live": {"audio": "Hear.", "image": "See.", "video": "Watch."},
}
Capsys = pytest.CaptureFixture[str]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    (tmp_path / "prompts.json").write_text(json.dumps(PROMPTS))
    return tmp_path / "prompts.json"


@pytest.mark.parametrize(
    "how",
    [
        ("--precision", "int8"),
        ("--precision", "int4", "--no-int8-prefill"),
        ("--precision", "fp16", "--target", "tensorrt-10.3"),
    ],
)
def test_new_prompts_change_nothing_else(
    how: tuple[str, ...], golden: Path, prompts: Path, tmp_path: Path, capsys: Capsys
) -> None:
    first = ("export", golden / "checkpoint", "-o", tmp_path / "b")
    assert run(capsys, *first, *how).code == 0
    before = Bundle.open(tmp_path / "b")
    result = run(capsys, *first, "--prompts", prompts, "--force")
    assert result.code == 0, result.err
    assert "as in the bundle that is replaced" in result.err
    after = Bundle.open(tmp_path / "b")
    assert (after.precision, after.target, after.files.keys()) == (before.precision, before.target, before.files.keys())
    assert {name: part.precision for name, part in after.components.items()} == {
        name: part.precision for name, part in before.components.items()
    }
    assert (LLM_PREFILL.name in after.components) == (LLM_PREFILL.name in before.components)
    assert after.prompts["live"]["audio"] == "Hear."


def test_a_precision_that_is_asked_for_is_taken(golden: Path, tmp_path: Path, capsys: Capsys) -> None:
    words = ("export", golden / "checkpoint", "-o", tmp_path / "b", "--force")
    assert run(capsys, *words, "--precision", "int8").code == 0
    assert run(capsys, *words, "--precision", "fp32").code == 0
    assert Bundle.open(tmp_path / "b").precision == "fp32"


def test_a_new_bundle_is_float32_for_onnx_runtime(golden: Path, tmp_path: Path, capsys: Capsys) -> None:
    assert run(capsys, "export", golden / "checkpoint", "-o", tmp_path / "b", "--force").code == 0
    bundle = Bundle.open(tmp_path / "b")
    assert (bundle.precision, bundle.target) == ("fp32", "onnxruntime")


def test_a_calibrated_bundle_is_not_replaced_by_one_that_is_not(
    golden: Path, prompts: Path, tmp_path: Path, capsys: Capsys
) -> None:
    words = ("export", golden / "checkpoint", "-o", tmp_path / "b")
    assert run(capsys, *words).code == 0
    assert run(capsys, "record", tmp_path / "b", "--text", "hello", "-o", tmp_path / "feeds").code == 0
    how = ("--feeds", tmp_path / "feeds", "--component", "codec", "--precision", "int8", "-o", tmp_path / "c")
    assert run(capsys, "calibrate", tmp_path / "b", *how).code == 0
    before = (tmp_path / "c" / "manifest.json").read_bytes()
    over = ("export", golden / "checkpoint", "-o", tmp_path / "c", "--prompts", prompts, "--force")
    run(capsys, *over).assert_explains("calibrated", code=2)
    assert (tmp_path / "c" / "manifest.json").read_bytes() == before
