"""`vita-edge verify A --against B`: what one bundle computes, another is held to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from support.spoil import linked_copy, rewrite
from vita_edge.cli import main
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import BadInput, Misuse
from vita_edge.export.bundle import export_bundle
from vita_edge.verification.parity import verify
from vita_edge.verification.record_bundle import record_bundle
from vita_edge.verification.recorder.arrays import RecordedArrays
from vita_edge.verification.recorder.inputs import built_in_inputs, plan_for, prepare_inputs


@pytest.fixture(scope="module")
def recording(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded") / "arrays"
    record_bundle(tiny_bundle, folder, max_tokens=6)
    return folder


def report(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> Any:
    assert main(["verify", *arguments, "--json"]) == status
    return json.loads(capsys.readouterr().out)


def test_a_bundle_is_what_it_was(tiny_bundle: Bundle, recording: Path) -> None:
    checks = list(verify(tiny_bundle, recording))
    assert [check for check in checks if not check.passed] == []
    assert {check.stage for check in checks if check.skipped} <= {"tokenizer", "talk"}
    assert all(check.relative < 1e-6 for check in checks)
    kinds = {check.name.rsplit(".", 1)[-1] for check in checks if not check.skipped}
    assert kinds >= {"fbank", "enc", "embeds", "pixels", "vit", "proj", "ids", "logits", "tokens", "codes", "wave"}


def test_what_stays_is_enough_to_compare_elsewhere(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    retained, bundle = tmp_path / "kept", str(tiny_bundle.path)
    report(capsys, bundle, "--against", bundle, "--tokens", "4", "--record", str(retained))
    again = report(capsys, bundle, "--golden", str(retained))
    assert again["passed"]
    assert {check["agreement"] for check in again["checks"] if check["stage"] == "llm"} == {None, 1.0}


def test_a_smaller_bundle_is_told_how_far_it_is_from_the_exact_one(
    golden: Path, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export_bundle(golden / "checkpoint", tmp_path / "int8", precision="int8")
    reported = report(capsys, str(tmp_path / "int8"), "--golden", str(recording))
    stages = {row["stage"]: row for row in reported["stages"]}
    assert 20 < stages["llm"]["snr_db"] < 60
    assert 0.5 < stages["llm"]["agreement"] <= 1
    assert 0 < stages["speech decoder"]["agreement"] <= 1
    assert stages["audio front end"]["snr_db"] is None  # equal: no noise


def test_one_wrong_weight_shows(bundle_copy: Path, recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = bundle_copy / "components" / "vision.bin"
    content = bytearray(file.read_bytes())
    content[4000:4400] = np.full(100, 0.5, np.float32).tobytes()
    rewrite(file, bytes(content))
    reported = report(capsys, str(bundle_copy), "--golden", str(recording), status=1)
    assert next(row for row in reported["stages"] if row["stage"] == "vision tower")["failed"]


def test_the_certificate_names_bundle_source_machine_and_figures(
    tiny_bundle: Bundle, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = tmp_path / "out" / "certificate.html"
    assert main(["verify", str(tiny_bundle.path), "--golden", str(recording), "--certificate", str(name)]) == 0
    facts = json.loads(name.with_suffix(".json").read_text("utf-8"))
    page = name.read_text("utf-8")
    assert facts["passed"]
    assert facts["bundle"]["precision"]["llm"] == "fp32"
    assert facts["held_to"]["manifest_sha256"] == facts["bundle"]["manifest_sha256"]
    assert facts["machine"]["versions"]["onnxruntime"]
    for reported in ("passed", facts["bundle"]["manifest_sha256"], "speech decoder", "100.0%", "onnxruntime"):
        assert reported in page
    assert "http" not in page  # nothing from elsewhere


def test_the_certificate_says_what_is_off(
    bundle_copy: Path, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = bundle_copy / "components" / "audio.bin"
    content = bytearray(file.read_bytes())
    content[8:12] = np.float32(np.nan).tobytes()
    rewrite(file, bytes(content))
    status = main(["verify", str(bundle_copy), "--golden", str(recording), "--certificate", str(tmp_path / "c")])
    facts = json.loads((tmp_path / "c.json").read_text("utf-8"), parse_constant=pytest.fail)
    assert status == 1
    assert not facts["passed"]
    assert facts["failed"] > 0
    page = (tmp_path / "c.html").read_text("utf-8")
    assert "failed" in page
    assert "english.enc" in page


# --- inputs


def test_the_inputs_that_come_along_are_whole(tmp_path: Path) -> None:
    prepare_inputs(built_in_inputs(), tmp_path / "inputs")
    plan = plan_for(tmp_path / "inputs")
    assert plan.sounds == ("chinese", "english")
    assert plan.pictures == ("picture",)
    assert set(plan.conversations) == {"text", "audio", "live1", "image_audio", "video_audio"}


def test_inputs_of_ones_own_may_be_of_other_kinds(golden: Path, tmp_path: Path, tiny_bundle: Bundle) -> None:
    from PIL import Image

    own = tmp_path / "own"
    own.mkdir()
    time = np.arange(22050) / 22050
    soundfile.write(own / "my.voice.flac", np.stack([np.sin(900 * time), np.cos(700 * time)], 1), 22050)
    Image.new("RGBA", (90, 40), (200, 30, 30, 128)).save(own / "see through.webp")
    (own / "notes.txt").write_text("not an input")
    record_bundle(tiny_bundle, tmp_path / "recording", inputs=own, max_tokens=3)
    checks = list(verify(tiny_bundle, tmp_path / "recording"))
    assert [check for check in checks if not check.passed] == []
    assert any(check.name == "my-voice.enc" for check in checks)


@pytest.mark.parametrize("missing", [True, False])
def test_a_folder_without_inputs_is_refused(missing: bool, tmp_path: Path) -> None:
    if not missing:
        (tmp_path / "own").mkdir()
        (tmp_path / "own" / "readme.txt").write_text("nothing")
    with pytest.raises(BadInput, match="no folder" if missing else "no inputs"):
        prepare_inputs(tmp_path / "own", tmp_path / "copy")


def test_inputs_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    soundfile.write(own / "short.wav", np.zeros(800), 16000)
    with pytest.raises(BadInput, match=r"short\.wav lasts 50 ms"):
        prepare_inputs(own, tmp_path / "copy")
    (own / "short.wav").unlink()
    (own / "list.json").write_text('{"fps": 2}')
    with pytest.raises(BadInput, match=r"list\.json has no frames"):
        prepare_inputs(own, tmp_path / "copy")
    (own / "list.json").write_text('{"fps": 2, "frames": ["gone.png"]}')
    with pytest.raises(BadInput, match=r"gone\.png"):
        prepare_inputs(own, tmp_path / "copy")
    (own / "list.json").unlink()
    for i in range(25):
        soundfile.write(own / f"{i}.wav", np.zeros(8000), 16000)
    with pytest.raises(BadInput, match="25 sounds"):
        prepare_inputs(own, tmp_path / "copy")


def test_two_inputs_of_one_name_are_refused(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for end in ("wav", "flac"):
        soundfile.write(own / f"same.{end}", np.zeros(8000), 16000)
    with pytest.raises(BadInput, match="the same name"):
        prepare_inputs(own, tmp_path / "copy")


def test_a_recording_has_a_bound() -> None:
    arrays = RecordedArrays("test", max_bytes=100)
    arrays.put("llm", "a.logits", np.zeros(20))
    with pytest.raises(BadInput, match="too much room"):
        arrays.put("llm", "b.logits", np.zeros(20))


def test_nothing_is_overwritten(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(Misuse, match="not empty"):
        record_bundle(tiny_bundle, tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [["--golden", "x", "--inputs", "y"], ["--golden", "x", "--record", "y"], ["--against", "x", "--tokens", "1"]],
)
def test_options_that_do_not_go_together_are_refused(tiny_bundle: Bundle, arguments: list[str]) -> None:
    assert main(["verify", str(tiny_bundle.path), *arguments]) == 2


def test_linked_bundles_are_recorded_like_others(spare_bundle: Path, tmp_path: Path) -> None:
    copy = linked_copy(spare_bundle, tmp_path / "copy")
    record_bundle(Bundle.open(copy), tmp_path / "recording", max_tokens=2)
    assert (tmp_path / "recording" / "manifest.json").is_file()
