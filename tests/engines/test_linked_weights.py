"""Bundles that lie behind links: whole as a hub cache keeps them, or one file on another disk."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from support.command import run
from support.open_graph import open_graph
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import BadBundle
from vita_edge.engines.onnx_file.linked_weights import graph_and_folder, has_links


def hub_cache(source: Path, hub: Path) -> Path:
    """``source`` as huggingface_hub keeps it: names that link to blobs, which are called by their sha256."""
    root = hub / "models--me--bundle"
    snapshot = root / "snapshots" / "1234"
    (root / "blobs").mkdir(parents=True)
    for file in sorted(source.rglob("*")):
        if file.is_file():
            blob = root / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
            if not blob.exists():
                os.link(file, blob)
            link = snapshot / file.relative_to(source)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


def test_a_bundle_in_a_hub_cache_is_asked_verified_and_calibrated(
    spare_bundle: Path, golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = hub_cache(spare_bundle, tmp_path)
    feeds = tmp_path / "feeds"
    asked = run(capsys, "record", bundle, "-o", feeds, "--text", "hello", "--greedy", "--max-new-tokens", "3")
    assert asked.code == 0, asked.err
    verified = run(capsys, "verify", bundle, "--golden", golden)
    assert verified.code == 0, verified.err
    calibrated = run(capsys, "calibrate", bundle, "-o", tmp_path / "out", "--feeds", feeds, "--component", "llm")
    assert calibrated.code == 0, calibrated.err
    open_graph(Bundle.open(tmp_path / "out"), "llm").close()


def test_a_bundle_with_one_file_elsewhere_opens(bundle_copy: Path, tmp_path: Path) -> None:
    weights = bundle_copy / "components" / "codec.bin"
    weights.rename(tmp_path / "moved.bin")
    weights.symlink_to(tmp_path / "moved.bin")
    assert has_links(bundle_copy / "components" / "codec.onnx")
    with open_graph(Bundle.open(bundle_copy), "codec") as session:
        assert "codes" in session.inputs


def test_only_the_names_of_weights_change(tiny_bundle: Bundle, tmp_path: Path) -> None:
    graph = tiny_bundle.components["llm"].graph
    assert not has_links(graph)
    model, folder = graph_and_folder(graph)
    assert (model, folder) == (graph.read_bytes(), graph.parent.resolve())
    for file in (graph, graph.with_suffix(".bin")):
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "llm.bin").unlink()
    (tmp_path / "renamed-and-longer.bin").symlink_to(tmp_path / "real.bin")
    (tmp_path / "real.bin").write_bytes(b"")
    (tmp_path / "llm.bin").symlink_to(tmp_path / "renamed-and-longer.bin")
    linked, _ = graph_and_folder(tmp_path / "llm.onnx")
    assert linked.replace(b"real.bin", b"llm.bin").count(b"llm.bin") == model.count(b"llm.bin")


def test_weights_in_several_folders_are_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    tensors = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "w.bin").write_bytes(bytes(4))
        (tmp_path / f"{name}.bin").symlink_to(tmp_path / name / "w.bin")
        tensor = onnx.TensorProto(name=name, dims=[1], data_type=1, data_location=1)
        tensor.external_data.add(key="location", value=f"{name}.bin")
        tensors.append(tensor)
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], tensors))
    (tmp_path / "g.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BadBundle, match="several folders"):
        graph_and_folder(tmp_path / "g.onnx")
