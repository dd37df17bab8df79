"""What half precision cannot hold is found, and named by its layer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from support.spoil import rewrite
from vita_edge.calibration.component_graph import ComponentGraph
from vita_edge.calibration.half_range import tensor_ranges
from vita_edge.cli import main
from vita_edge.engines.bundle.format import Bundle
from vita_edge.export.bundle import export_bundle
from vita_edge.export.checkpoint.safetensors_file import open_safetensors, write_safetensors
from vita_edge.export.checkpoint.tensor import LazyTensor, StreamedTensor
from vita_edge.verification.record_bundle import record_bundle

PLANTED = {
    "model.layers.1.mlp.up_proj.weight": 2.0**16,
    "model.layers.1.mlp.down_proj.weight": 2.0**-16,
}
"""One layer's inner activations are so many times as large; what it computes is the same."""


@pytest.fixture(scope="module")
def outliers(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden checkpoint with outliers, and recorded arrays of it: ``checkpoint``, ``fp32``, ``recording``."""
    folder = tmp_path_factory.mktemp("outliers")
    shutil.copytree(golden / "checkpoint", folder / "checkpoint")
    for file in sorted((folder / "checkpoint").glob("*.safetensors")):
        tensors = {name: scaled(tensor, PLANTED.get(name, 1.0)) for name, tensor in open_safetensors(file).items()}
        write_safetensors(file.with_suffix(".new"), tensors)
        file.with_suffix(".new").rename(file)
    export_bundle(folder / "checkpoint", folder / "fp32")
    record_bundle(Bundle.open(folder / "fp32"), folder / "recording", max_tokens=4)
    return folder


def scaled(tensor: LazyTensor, factor: float) -> StreamedTensor:
    def pieces() -> Iterator[np.ndarray[Any, Any]]:
        values = tensor.read() * np.float32(factor)
        yield (values.view(np.uint32) >> 16).astype(np.uint16)  # powers of two: nothing is rounded

    assert tensor.dtype == "bfloat16"
    return StreamedTensor(tensor.shape, tensor.dtype, pieces)


def report(capsys: pytest.CaptureFixture[str], *arguments: object, status: int) -> Any:
    assert main(["verify", *map(str, arguments), "--json"]) == status
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("target", ["tensorrt", "tensorrt-10.3"])
def test_an_overflow_fails_with_the_name_of_its_layer(
    outliers: Path, target: str, asked: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export_bundle(outliers / "checkpoint", tmp_path / "fp16", precision="fp16", target=target)
    options = ["--half-precision"] if asked else []
    reported = report(capsys, tmp_path / "fp16", "--golden", outliers / "recording", *options, status=1)
    named = {c["name"]: c["detail"] for c in reported["checks"] if c["stage"] == "half precision" and not c["passed"]}
    assert list(named) == ["llm"]
    assert named["llm"].startswith("layers.1/mlp.")
    cause = next(part for part in reported["half_precision"] if part["component"] == "llm")["overflows"][0]
    assert cause["dtype"] == "float16"
    assert cause["not_finite"] > 0


def test_what_float32_holds_is_told_and_passes(outliers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reported = report(capsys, outliers / "fp32", "--golden", outliers / "recording", "--half-precision", status=0)
    parts = {part["component"]: part for part in reported["half_precision"]}
    assert set(parts) == {"vision", "audio", "llm", "speech_prefill", "speech_decoder", "codec"}
    assert all(part["overflows"] == [] for part in parts.values())
    held = parts["llm"]["held_wide"]
    assert held[0]["layer"].startswith("layers.1/")
    assert held[0]["largest"] > 65504
    assert all(part["held_wide"] == [] for name, part in parts.items() if name != "llm")


def test_a_sound_checkpoint_has_room(tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--tokens", 2, "--half-precision")
    reported = report(capsys, tiny_bundle.path, "--against", tiny_bundle.path, *options, status=0)
    assert all(part["overflows"] == part["held_wide"] == [] for part in reported["half_precision"])
    assert 1 < max(part["largest"]["largest"] for part in reported["half_precision"]) < 1000


@pytest.mark.parametrize("component", ["vision", "audio", "speech_decoder", "codec"])
def test_a_weight_that_is_no_number_is_named_by_the_layer_that_uses_it(
    component: str, golden: Path, bundle_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last weight of a component: it is reached in any case."""
    model = onnx.load(bundle_copy / "components" / f"{component}.onnx", load_external_data=False)
    floats = [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and t.external_data]
    place = {entry.key: entry.value for entry in floats[-1].external_data}
    file = bundle_copy / "components" / place["location"]
    content = bytearray(file.read_bytes())
    content[int(place["offset"]) : int(place["offset"]) + 4] = np.float32(np.nan).tobytes()
    rewrite(file, bytes(content))
    reported = report(capsys, bundle_copy, "--golden", golden, status=1)
    named = [c["name"] for c in reported["checks"] if c["stage"] == "half precision" and not c["passed"]]
    assert component in named


# --- by hand


def ranges_of(tmp_path: Path, nodes: list[onnx.NodeProto], **feeds: np.ndarray[Any, Any]) -> dict[str, Any]:
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    outputs = [onnx.ValueInfoProto(name=nodes[-1].output[0])]
    graph = helper.make_graph(nodes, "hand", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), tmp_path / "g.onnx")
    return {found.name: found for found in tensor_ranges(ComponentGraph(tmp_path / "g.onnx"), [dict(feeds)])}


def test_the_largest_finite_magnitude_and_what_is_no_number_are_counted(tmp_path: Path) -> None:
    x = np.array([1e4, -3e4, 2.0], np.float16)
    found = ranges_of(tmp_path, [helper.make_node("Add", ["x", "x"], ["y"], name="layers.3/add")], x=x)["y"]
    assert (found.layer, found.operator, found.dtype) == ("layers.3/add", "Add", "float16")
    assert (found.amax, found.not_finite, found.beyond_half) == (60000.0, 0, False)
    found = ranges_of(tmp_path, [helper.make_node("Mul", ["x", "x"], ["y"], name="square")], x=x)["y"]
    assert (found.amax, found.not_finite, found.overflows) == (4.0, 2, True)


def test_float32_beyond_half_is_no_overflow(tmp_path: Path) -> None:
    x = np.array([300.0, 1.0], np.float32)
    found = ranges_of(tmp_path, [helper.make_node("Mul", ["x", "x"], ["y"], name="square")], x=x)["y"]
    assert (found.overflows, found.beyond_half) == (False, True)


def test_masked_scores_do_not_count(tmp_path: Path) -> None:
    scores = np.array([[3.0, -65530.0, -np.inf]], np.float32)
    nodes = [helper.make_node("Identity", ["x"], ["s"], name="scores")]
    nodes.append(helper.make_node("Softmax", ["s"], ["y"], name="softmax"))
    assert ranges_of(tmp_path, nodes, x=scores)["s"].amax == 3.0
    assert not ranges_of(tmp_path, nodes, x=scores)["s"].overflows
    assert ranges_of(tmp_path, nodes, x=np.full((1, 3), np.nan, np.float32))["s"].overflows
    assert ranges_of(tmp_path, nodes, x=np.array([[np.inf, 0, 0]], np.float32))["s"].overflows
