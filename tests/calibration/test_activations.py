"""A checkpoint that is sound in float32 and leaves half precision on the way is found before anything is compiled."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from support.command import run
from support.spoil import linked_copy, rewrite
from vita_edge.calibration.activations import check_activations
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import BadCheckpoint


def multiplied(folder: Path, part: str, powers_of_two: int) -> None:
    """Scale tensors of the main shards, stored as bfloat16, by a power of two: exact."""
    for file in folder.glob("model-*.safetensors"):
        raw = bytearray(file.read_bytes())
        length = struct.unpack("<Q", raw[:8])[0]
        header = json.loads(raw[8 : 8 + length])
        for name, entry in header.items():
            if part in name:
                assert entry["dtype"] == "BF16"
                start, stop = (8 + length + offset for offset in entry["data_offsets"])
                bits = np.frombuffer(raw[start:stop], "<u2").astype(np.int32)
                moved = np.where((bits & 0x7F80) > 0, bits + (powers_of_two << 7), bits)
                raw[start:stop] = moved.astype("<u2").tobytes()
        rewrite(file, bytes(raw))


@pytest.fixture
def overflowing(golden: Path, tmp_path: Path) -> Path:
    """The product in an MLP is 65,536 times as large, and its output projection as much smaller: the same function."""
    folder = linked_copy(golden / "checkpoint", tmp_path / "checkpoint")
    multiplied(folder, "model.layers.1.mlp.up_proj.weight", 16)
    multiplied(folder, "model.layers.1.mlp.down_proj.weight", -16)
    return folder


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4"])
def test_an_export_in_half_precision_names_the_layer_and_the_way_out(
    precision: str, overflowing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--target", "tensorrt", "--precision", precision)
    result = run(capsys, "export", overflowing, "-o", tmp_path / "out", *arguments)
    result.assert_explains("The activations of llm leave half precision, first in layers.1")
    assert "--precision fp32" in result.err and "calibrate" in result.err
    assert not (tmp_path / "out").exists()


def test_the_same_checkpoint_is_exported_wide(
    overflowing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for target in ("onnxruntime", "tensorrt"):
        assert run(capsys, "export", overflowing, "-o", tmp_path / target, "--target", target).code == 0


def test_a_sound_checkpoint_passes_in_half_precision(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--target", "tensorrt", "--precision", "fp16")
    assert run(capsys, "export", golden / "checkpoint", "-o", tmp_path / "out", *arguments).code == 0
    check_activations(Bundle.open(tmp_path / "out"))


def test_a_calibration_with_a_reference_that_is_no_number_is_refused(overflowing: Path, tmp_path: Path) -> None:
    from vita_edge.calibration.activations import probe_sample
    from vita_edge.calibration.component_graph import ComponentGraph
    from vita_edge.calibration.feeds import whole_feeds
    from vita_edge.calibration.judge import judged
    from vita_edge.engines.errors import BadBundle
    from vita_edge.export.bundle import export_bundle

    export_bundle(overflowing, tmp_path / "half", target="tensorrt", precision="fp16")
    bundle = Bundle.open(tmp_path / "half")
    with pytest.raises(BadCheckpoint):
        check_activations(bundle)
    graph = ComponentGraph(bundle.components["llm"].graph)
    feeds = [whole_feeds(graph.inputs, probe_sample(bundle, "llm"))]
    with pytest.raises(BadBundle, match="gives no numbers") as raised:
        judged(graph, [(graph, feeds)], feeds)
    assert "--precision fp32" in raised.value.fix
