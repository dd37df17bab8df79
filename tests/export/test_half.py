"""What half precision holds lies so in the bundle; what it does not hold stays float32."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.onnxruntime.cpu import OnnxCpuSession
from vita_edge.export.bundle import export_bundle
from vita_edge.export.checkpoint.open_checkpoint import Checkpoint
from vita_edge.export.graphs.graph_builder import GraphBuilder
from vita_edge.export.lowerings.onnx_runtime import OnnxRuntime
from vita_edge.export.practice.presets import preset
from vita_edge.export.practice.write_practice import write_checkpoint
from vita_edge.export.weights.half import held_by_half
from vita_edge.export.weights.weight import computed

NORMAL = np.random.default_rng(4).standard_normal((6, 4, 5)).astype(np.float32)
LARGEST = NORMAL.max()
WEIGHTS = {
    "ordinary": (1e-2 * NORMAL, True),
    "nothing but zeros": (0 * NORMAL, True),
    "the largest": (np.where(NORMAL == LARGEST, np.float32(65504), NORMAL), True),
    "one too large": (np.where(NORMAL == LARGEST, np.float32(65600), NORMAL), False),
    "not a number": (np.where(NORMAL == LARGEST, np.float32("nan"), NORMAL), False),
    "tiny beside large": (np.where(NORMAL > 1, np.float32(1e-7), NORMAL), True),
    "tiny throughout": (1e-6 * NORMAL, False),
    "below the least": (1e-9 * NORMAL, False),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_half_precision_holds_what_is_neither_too_large_nor_small_throughout(name: str) -> None:
    values, held = WEIGHTS[name]
    assert held_by_half(computed(values.shape, lambda: values.astype(np.float32))) is held


@pytest.mark.parametrize("name", [name for name in WEIGHTS if name != "not a number"])
def test_a_convolution_is_as_exact_as_its_weight(tmp_path: Path, name: str) -> None:
    values, held = WEIGHTS[name]
    x = np.random.default_rng(5).standard_normal((1, 4, 12)).astype(np.float32)
    made = {}
    for stored in ("float32", "float16"):
        g = GraphBuilder(stored, lowering=OnnxRuntime(stored=stored))
        weight = g.convolution("w.weight", computed(values.shape, lambda: values.astype(np.float32)))
        g.result(g.op("Conv", g.input("x", "float32", [1, 4, "n"]), weight), "y", [1, 6, "m"])
        g.save(tmp_path)
        with OnnxCpuSession(tmp_path / f"{stored}.onnx") as session:
            made[stored] = np.asarray(session.infer({"x": x})["y"], np.float32)
    kinds = Counter(tensor.data_type for tensor in _initializers(tmp_path / "float16.onnx"))
    assert kinds == {TensorProto.FLOAT16 if held else TensorProto.FLOAT: 1}
    error = np.linalg.norm(made["float16"] - made["float32"])
    assert error <= 1e-3 * np.linalg.norm(made["float32"])
    assert held or error == 0


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In float32, as a model that was trained from nothing is."""
    return write_checkpoint(tmp_path_factory.mktemp("wide") / "checkpoint", preset("tiny"), 7, dtype="float32")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int4"])
def test_convolutions_and_tables_are_half_at_all_precisions_but_fp32(
    checkpoint: Path, tmp_path: Path, precision: str
) -> None:
    export_bundle(checkpoint, tmp_path / "bundle", precision=precision)
    bundle = Bundle.open(tmp_path / "bundle")
    half = precision != "fp32"
    assert bundle.components["codec"].precision == ("fp16" if half else "fp32")
    assert bundle.embeddings["dtype"] == ("float16" if half else "float32")
    for name in ("codec", "audio", "vision", "speech_decoder"):
        graph = onnx.load(bundle.components[name].graph, load_external_data=False).graph
        tensors = {tensor.name: tensor for tensor in graph.initializer}
        casts = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Cast"}
        weights = [node.input[1] for node in graph.node if node.op_type in ("Conv", "ConvTranspose")]
        retained = [tensors[casts.get(weight, weight)] for weight in weights]
        retained += [
            tensors[x] for node in graph.node if node.op_type == "Gather" for x in node.input[:1] if x in tensors
        ]
        assert retained
        assert {tensor.data_type for tensor in retained} == {TensorProto.FLOAT16 if half else TensorProto.FLOAT}, name
    table = Checkpoint.open(checkpoint).main["model.embed_tokens.weight"].read()[: bundle.model.llm.vocab_size]
    rows = bundle.embedding_table().rows(list(range(len(table))))
    assert np.allclose(rows, table, rtol=2**-11 if half else 0, atol=2**-25 if half else 0)


def test_a_table_of_sixteen_bits_stays_as_it_is(golden: Path, tmp_path: Path) -> None:
    table = Checkpoint.open(golden / "checkpoint").main["model.embed_tokens.weight"]
    export_bundle(golden / "checkpoint", tmp_path / "bundle", precision="int8")
    assert Bundle.open(tmp_path / "bundle").embeddings["dtype"] == table.dtype


def test_a_token_table_that_half_does_not_hold_stays_float32(tmp_path: Path) -> None:
    """Its first value alone is too large."""
    folder = write_checkpoint(tmp_path / "checkpoint", preset("tiny"), 7, dtype="float32")
    for file in folder.glob("model*.safetensors"):
        stored = bytearray(file.read_bytes())
        begin = 8 + int.from_bytes(stored[:8], "little")
        if entry := json.loads(stored[8:begin]).get("model.embed_tokens.weight"):
            at = begin + entry["data_offsets"][0]
            stored[at : at + 4] = np.float32(1e5).tobytes()
            file.write_bytes(stored)
    export_bundle(folder, tmp_path / "bundle", precision="int8")
    bundle = Bundle.open(tmp_path / "bundle")
    assert bundle.embeddings["dtype"] == "float32"
    assert bundle.embedding_table().rows([0])[0, 0] == np.float32(1e5)


def _initializers(file: Path) -> list[TensorProto]:
    return [t for t in onnx.load(file, load_external_data=False).graph.initializer if t.name.endswith("weight")]
