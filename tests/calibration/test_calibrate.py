"""From recorded feeds to a calibrated bundle: refused when they are another model's, the same bytes for the same feeds,
and good enough for the gate that every bundle passes."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from support.spoil import flip_byte
from vita_edge.calibration.calibrate import _without, calibrate
from vita_edge.calibration.choices import Choices
from vita_edge.calibration.component_graph import ComponentGraph
from vita_edge.calibration.feeds import Feeds
from vita_edge.calibration.report.calibration_report import CalibrationReport
from vita_edge.cli import main
from vita_edge.engines.bundle.atomic_folder import DISK_RESERVE_BYTES
from vita_edge.engines.bundle.component_spec import COMPONENTS
from vita_edge.engines.bundle.feeds_format import model_identity
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import BadBundle, BadInput, Misuse, OutputFailed
from vita_edge.engines.tensors import Array
from vita_edge.export.bundle import export_bundle
from vita_edge.export.practice.presets import preset
from vita_edge.export.practice.write_practice import write_checkpoint
from vita_edge.runtime import Assistant, SessionOptions, Turn, read_image, read_sound
from vita_edge.verification.parity import verify

QUICK = Choices(method="minmax", samples=24, rows=128)


@pytest.fixture(scope="module")
def feeds(tiny_bundle: Bundle, golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two turns, so that every component is used."""
    folder = tmp_path_factory.mktemp("recorded") / "feeds"
    inputs = golden / "data" / "inputs"
    with Assistant(tiny_bundle, record=folder) as assistant:
        talk = assistant.session(SessionOptions(max_new_tokens=48))
        talk.ask(Turn(sounds=[read_sound(inputs / "zh_ask.wav")], images=[read_image(inputs / "square.png")]))
        talk.ask(Turn(text="Hello, how are you today?"))
    return folder


@pytest.fixture(scope="module")
def calibrated(
    tiny_bundle: Bundle, feeds: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, CalibrationReport]:
    folder = tmp_path_factory.mktemp("calibrated") / "int8"
    return folder, calibrate(tiny_bundle.path, feeds, folder, QUICK)


def test_every_component_is_calibrated_and_none_is_far_off(calibrated: tuple[Path, CalibrationReport]) -> None:
    folder, report = calibrated
    assert [stage.component for stage in report.stages] == list(COMPONENTS)
    assert min(stage.snr_db for stage in report.stages) > 14
    bundle = Bundle.open(folder)
    assert bundle.precision == "int8"
    assert {part.precision for part in bundle.components.values()} == {"int8"}
    assert list(bundle.damaged_files()) == []
    reported = json.loads((folder / "calibration" / "report.json").read_text("utf-8"))
    levels = [layer["snr_db"] for layer in reported["layers"]]
    assert levels == sorted(levels) and len(levels) == len(report.layers)


def test_all_q_and_dq_are_signed_and_symmetric(calibrated: tuple[Path, CalibrationReport]) -> None:
    rounded = 0
    for part in Bundle.open(calibrated[0]).components.values():
        onnx.checker.check_model(part.graph)
        graph = ComponentGraph(part.graph)
        for node in graph.nodes:
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                if len(node.input) == 2:  # the bias of a convolution on the CPU; none is zero
                    assert graph.initializers[node.input[0]].data_type == TensorProto.INT32
                    continue
                zero = graph.initializers[node.input[2]]
                assert zero.data_type == TensorProto.INT8 and not graph.array(zero.name).any()
            if node.op_type == "QuantizeLinear":
                assert graph.array(node.input[1]).shape == ()  # one scale for all of a tensor
                rounded += 1
    assert rounded > 80


def test_the_calibrated_bundle_passes_the_gate(calibrated: tuple[Path, CalibrationReport], golden: Path) -> None:
    checks = list(verify(Bundle.open(calibrated[0]), golden))
    assert [f"{check.stage}: {check.name}" for check in checks if not check.passed] == []
    assert sum(not check.skipped for check in checks) > 100


def test_the_calibrated_bundle_answers(calibrated: tuple[Path, CalibrationReport]) -> None:
    with Assistant(calibrated[0]) as assistant:
        reply = assistant.session(SessionOptions(max_new_tokens=4)).ask(Turn(text="Hello."))
    assert len(reply.token_ids) == 4


def test_the_same_feeds_give_the_same_bytes(tiny_bundle: Bundle, feeds: Path, tmp_path: Path) -> None:
    for name in ("one", "other"):
        calibrate(tiny_bundle.path, feeds, tmp_path / name, Choices(samples=4), components=["vision", "llm"])
    files = sorted(file.relative_to(tmp_path / "one") for file in (tmp_path / "one").rglob("*") if file.is_file())
    assert Path("components/vision.bin") in files and Path("calibration/report.json") in files
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes(), file


def test_feeds_of_another_model_are_refused(
    tiny_bundle: Bundle, feeds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "feeds"
    shutil.copytree(feeds, other)
    manifest = json.loads((other / "manifest.json").read_text("utf-8"))
    manifest["model"]["embeddings"] = "0" * 64
    (other / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    assert main(["calibrate", str(tiny_bundle.path), "--feeds", str(other), "-o", str(tmp_path / "out")]) == 1
    assert "another model" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_model_is_the_same_where_its_float32_table_was_narrowed_and_another_one_is_not(tmp_path: Path) -> None:
    tables, models = [], []
    for seed, precision in ((0, "fp32"), (0, "int8"), (1, "fp32")):
        checkpoint = write_checkpoint(tmp_path / f"checkpoint-{seed}-{precision}", preset("tiny"), seed, "float32")
        export_bundle(checkpoint, tmp_path / f"{seed}-{precision}", precision=precision)
        bundle = Bundle.open(tmp_path / f"{seed}-{precision}")
        tables.append(bundle.embeddings["dtype"])
        models.append(model_identity(bundle))
    assert tables == ["float32", "float16", "float32"]
    assert models[0] == models[1]
    assert models[0]["embeddings"] != models[2]["embeddings"]


def test_feeds_recorded_with_another_precision_serve(
    tiny_bundle: Bundle, feeds: Path, golden: Path, tmp_path: Path
) -> None:
    """What is told about the model is what bundles of all precisions and targets have in common."""
    export_bundle(golden / "checkpoint", tmp_path / "half", precision="fp16", target="tensorrt")
    report = calibrate(tmp_path / "half", feeds, tmp_path / "out", QUICK, components=["vision", "llm"])
    assert min(stage.snr_db for stage in report.stages) > 20
    graph = ComponentGraph(Bundle.open(tmp_path / "out").components["vision"].graph)
    scales = [graph.array(n.input[1]).dtype for n in graph.nodes if n.op_type == "QuantizeLinear"]
    assert len(scales) > 8 and set(scales) == {np.dtype("float16")}


def test_four_bits_are_for_the_language_model(tiny_bundle: Bundle, feeds: Path, tmp_path: Path) -> None:
    choices = Choices(precision="int4", weights="gptq", method="minmax", samples=2, block=32)
    calibrate(tiny_bundle.path, feeds, tmp_path / "out", choices, components=["llm", "speech_decoder"])
    bundle = Bundle.open(tmp_path / "out")
    precisions = {name: part.precision for name, part in bundle.components.items()}
    assert precisions == dict.fromkeys(COMPONENTS, "fp32") | {"llm": "int4", "speech_decoder": "int8"}
    with Assistant(bundle) as assistant:
        assert assistant.session(SessionOptions(max_new_tokens=4)).ask(Turn(text="Hello.")).token_ids


def test_room_is_asked_for_what_will_be_written(
    calibrated: tuple[Path, CalibrationReport],
    tiny_bundle: Bundle,
    feeds: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not for the bundle at full width, which is twice to four times as large."""
    written = Bundle.open(calibrated[0]).bytes
    assert written < 0.6 * tiny_bundle.bytes
    disk = shutil.disk_usage(tmp_path)

    def leave(free_bytes: float) -> None:
        left = disk._replace(free=DISK_RESERVE_BYTES + int(free_bytes))
        monkeypatch.setattr(shutil, "disk_usage", lambda _: left)

    leave(0.7 * written)
    with pytest.raises(OutputFailed, match="are free"):
        calibrate(tiny_bundle.path, feeds, tmp_path / "out", QUICK)
    assert not list(tmp_path.iterdir())
    leave(1.4 * written)
    calibrate(tiny_bundle.path, feeds, tmp_path / "out", QUICK)


def test_a_bundle_that_was_rounded_is_not_rounded_again(
    calibrated: tuple[Path, CalibrationReport], feeds: Path, tmp_path: Path
) -> None:
    with pytest.raises(Misuse, match="cannot be calibrated"):
        calibrate(calibrated[0], feeds, tmp_path / "out")


def test_a_component_that_was_not_used_is_named(tiny_bundle: Bundle, feeds: Path, tmp_path: Path) -> None:
    less = tmp_path / "feeds"
    shutil.copytree(feeds, less)
    manifest = json.loads((less / "manifest.json").read_text("utf-8"))
    for name in COMPONENTS:
        if name != "codec":
            manifest["components"][name]["files"] = []
    (less / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(BadInput, match="hold nothing of vision"):
        calibrate(tiny_bundle.path, less, tmp_path / "out", QUICK, components=["vision"])
    report = calibrate(tiny_bundle.path, less, tmp_path / "out", QUICK)
    assert [stage.component for stage in report.stages] == ["codec"]
    assert any(note.startswith("vision was left as it is") for note in report.notes)


def test_damage_is_not_written_on_with_a_new_checksum(bundle_copy: Path, feeds: Path, tmp_path: Path) -> None:
    flip_byte(bundle_copy / "components" / "codec.bin", 64)
    calibrate(bundle_copy, feeds, tmp_path / "out", QUICK, components=["vision"])
    assert list(Bundle.open(tmp_path / "out").damaged_files()) == ["components/codec.bin"]
    with pytest.raises(BadBundle, match="damaged") as reported:
        calibrate(bundle_copy, feeds, tmp_path / "other", QUICK, components=["codec"])
    assert "components/codec.bin" in reported.value.why
    assert not (tmp_path / "other").exists()


def test_a_bundle_of_which_nothing_was_rounded_says_so(tiny_bundle: Bundle, feeds: Path, tmp_path: Path) -> None:
    choices = replace(QUICK, keep_below_db=190)
    report = calibrate(tiny_bundle.path, feeds, tmp_path / "out", choices, components=["vision"])
    assert {layer.stored_as for layer in report.layers} == {"float32"}
    bundle = Bundle.open(tmp_path / "out")
    assert (bundle.precision, bundle.components["vision"].precision) == ("fp32", "fp32")


def test_four_bits_that_no_layer_bears_are_not_told(tiny_bundle: Bundle, feeds: Path, tmp_path: Path) -> None:
    choices = Choices(precision="int4", weights="rtn", samples=2, keep_below_db=30)
    calibrate(tiny_bundle.path, feeds, tmp_path / "out", choices, components=["llm"])
    bundle = Bundle.open(tmp_path / "out")
    assert (bundle.precision, bundle.components["llm"].precision) == ("int8", "int8")


def test_what_was_found_of_a_component_before_gives_way_to_what_is_found_now() -> None:
    def report(component: str, earlier: dict[str, Any] | None = None) -> dict[str, Any]:
        return {"stages": [{"component": component}], "layers": [{"component": component}], "earlier": earlier}

    reported = _without(["vision"], report("codec", report("vision", report("audio"))))
    assert reported == report("codec", {"stages": [], "layers": [], "earlier": report("audio")})


def test_another_component_can_be_calibrated_later(
    tiny_bundle: Bundle, feeds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrate(tiny_bundle.path, feeds, tmp_path / "one", QUICK, components=["vision"])
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # the picture cannot be drawn a second time
    calibrate(tmp_path / "one", feeds, tmp_path / "both", QUICK, components=["codec"])
    reported = json.loads((tmp_path / "both" / "manifest.json").read_text("utf-8"))
    assert reported["calibration"]["components"] == ["vision", "codec"]
    assert set(reported["calibration"]["feeds"]) == {"vision", "codec"}
    report = json.loads((tmp_path / "both" / "calibration" / "report.json").read_text("utf-8"))
    assert [stage["component"] for stage in report["stages"]] == ["codec"]
    assert [stage["component"] for stage in report["earlier"]["stages"]] == ["vision"]
    assert {layer["component"] for layer in report["earlier"]["layers"]} == {"vision"}
    assert (tmp_path / "one" / "calibration" / "report.png").is_file()
    assert not (tmp_path / "both" / "calibration" / "report.png").exists()  # it would show vision alone
    assert list(Bundle.open(tmp_path / "both").damaged_files()) == []


def with_last_sample(feeds: Path, folder: Path, component: str, **changed: Array | None) -> Path:
    """A copy of ``feeds`` in which some tensors of the last sample are others, or missing."""
    shutil.copytree(feeds, folder)
    last = sorted((folder / component).iterdir())[-1]
    retained = {**np.load(last), **changed}
    np.savez(last, **{name: array for name, array in retained.items() if array is not None})
    return last


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_feeds_that_are_no_numbers_are_refused(tiny_bundle: Bundle, feeds: Path, tmp_path: Path, value: float) -> None:
    rows = np.load(sorted((feeds / "llm").iterdir())[-1])["inputs_embeds"].copy()
    rows[0, -1, 3] = value
    file = with_last_sample(feeds, tmp_path / "feeds", "llm", inputs_embeds=rows)
    with pytest.raises(BadInput, match="NaN or infinity") as reported:
        calibrate(tiny_bundle.path, tmp_path / "feeds", tmp_path / "out", QUICK, components=["llm"])
    assert str(file) in reported.value.what and "inputs_embeds has 1 NaN or infinite" in reported.value.why
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("component", "changed", "why"),
    [
        ("llm", {"inputs_embeds": None}, "inputs_embeds is missing"),
        ("llm", {"hidden": np.zeros((1, 2, 128), np.float32)}, "hidden is not one of its inputs"),
        ("vision", {"pixel_values": np.zeros((1, 3, 8, 8), np.float32)}, "pixel_values has shape"),
        ("speech_decoder", {"text_embeds": np.zeros((1, 2, 7), np.float32)}, "text_embeds has shape"),
        ("codec", {"codes": np.zeros((1, 4), np.float32)}, "codes is float32, expected int64"),
    ],
)
def test_feeds_that_do_not_fit_are_refused_whichever_sample_it_is(
    tiny_bundle: Bundle, feeds: Path, tmp_path: Path, component: str, changed: dict[str, Array | None], why: str
) -> None:
    """None is filled in: a decoder that was fed nothing would be calibrated on zeros."""
    file = with_last_sample(feeds, tmp_path / "feeds", component, **changed)
    every = replace(QUICK, samples=64)
    with pytest.raises(BadInput, match="do not fit") as reported:
        calibrate(tiny_bundle.path, tmp_path / "feeds", tmp_path / "out", every, components=[component])
    assert str(file) in reported.value.what and why in reported.value.why


def test_a_sequence_without_a_prefix_is_calibrated_beside_others(
    tiny_bundle: Bundle, feeds: Path, tmp_path: Path
) -> None:
    with_last_sample(feeds, tmp_path / "feeds", "speech_decoder", text_embeds=None)
    every = replace(QUICK, samples=64)
    report = calibrate(tiny_bundle.path, tmp_path / "feeds", tmp_path / "out", every, components=["speech_decoder"])
    assert report.stages[0].snr_db > 20


def test_layers_that_were_fed_zeros_are_named(
    tiny_bundle: Bundle, feeds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silent = tmp_path / "feeds"
    shutil.copytree(feeds, silent)
    for file in (silent / "vision").iterdir():
        np.savez(file, pixel_values=np.zeros_like(np.load(file)["pixel_values"]))
    command = ["calibrate", str(tiny_bundle.path), "--feeds", str(silent), "-o", str(tmp_path / "out")]
    assert main([*command, "--component", "vision", "--method", "minmax"]) == 0
    printed = capsys.readouterr()
    assert "note: vision: left at full precision" in printed.err and "embeddings/patch" in printed.err
    reported = json.loads((tmp_path / "out" / "calibration" / "report.json").read_text("utf-8"))
    assert reported["layers"][0]["snr_db"] is None and reported["layers"][0]["stored_as"] == "float32"


def test_what_is_not_reached_is_said(
    tiny_bundle: Bundle, feeds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["calibrate", str(tiny_bundle.path), "--feeds", str(feeds), "-o", str(tmp_path / "out")]
    options = ["--component", "vision", "--method", "minmax", "--samples", "2", "--reach", "90"]
    assert main([*command, *options]) == 0
    printed = capsys.readouterr()
    assert "not reached: vision (" in printed.out.splitlines()[-1] and "of 90 dB)" in printed.out.splitlines()[-1]
    assert "note: vision reaches" in printed.err
    reported = json.loads((tmp_path / "out" / "calibration" / "report.json").read_text("utf-8"))
    assert reported["stages"][0]["target_db"] == 90 and reported["notes"][0].startswith("vision reaches")


def test_damaged_feeds_are_told(tiny_bundle: Bundle, feeds: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="Cannot read the recording"):
        Feeds.open(tmp_path)
    broken = tmp_path / "feeds"
    shutil.copytree(feeds, broken)
    for file in (broken / "codec").iterdir():
        file.write_bytes(b"PK")
    with pytest.raises(BadInput, match="Cannot read the recording"):
        calibrate(tiny_bundle.path, broken, tmp_path / "out", QUICK, components=["codec"])
    assert not (tmp_path / "out").exists()


def test_numbers_of_the_graph_file_are_where_it_says(calibrated: tuple[Path, CalibrationReport]) -> None:
    """The onnx package reads the weights that were written beside the graph."""
    path = Bundle.open(calibrated[0]).components["vision"].graph
    whole = onnx.load(path)
    graph = ComponentGraph(path)
    for tensor in whole.graph.initializer:
        assert np.array_equal(numpy_helper.to_array(tensor), graph.array(tensor.name)), tensor.name


def test_the_command_prints_layers_and_stages(
    tiny_bundle: Bundle, feeds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--component", "vision", "--method", "minmax", "--samples", "2"]
    command = ["calibrate", str(tiny_bundle.path), "--feeds", str(feeds), "-o", str(tmp_path / "out"), *arguments]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "vision: layers.0/mlp.fc1" in printed and "image_embeds" in printed
    assert main(command) == 2  # it exists
    assert "exists" in capsys.readouterr().err
    assert main([*command, "--force", "--json"]) == 0
    reported = json.loads(capsys.readouterr().out)
    assert reported["stages"][0]["component"] == "vision" and reported["peak_memory_bytes"] > 1 << 20
