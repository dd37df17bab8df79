"""A graph reads its weights from files beside it, and from nowhere else, on every backend and version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto

from vita_edge.calibration.component_graph import ComponentGraph
from vita_edge.engines.errors import BadBundle
from vita_edge.engines.onnx_file.external_data import check_external_data, external_locations
from vita_edge.engines.onnxruntime.cpu import OnnxCpuSession

OUTSIDE = (
    "../secret.bin",
    "/etc/passwd",
    "x/../../secret.bin",
    "..",
    ".",
    "",
    "*/_ORT_MEM_ADDR_/*",
    "C:\\secret",
    "a\0b",
)


def weights(location: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("offset", "0"), ("location", location), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def model_of(tensor: TensorProto) -> ModelProto:
    """y = x + w."""
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "w"], ["y"])],
        "sum",
        [value("x", TensorProto.FLOAT, [4])],
        [value("y", TensorProto.FLOAT, [4])],
        [tensor],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)


def nested(tensor: TensorProto) -> dict[str, ModelProto]:
    """The tensor in every place of a model that can hold one."""
    attribute = AttributeProto(name="value", type=AttributeProto.TENSOR, t=tensor)
    node = NodeProto(op_type="Constant", output=["w"], attribute=[attribute])
    inner = AttributeProto(name="then", type=AttributeProto.GRAPH, g=GraphProto(initializer=[tensor]))
    branch = AttributeProto(
        name="then", type=AttributeProto.GRAPH, g=GraphProto(node=[NodeProto(op_type="If", attribute=[inner])])
    )
    sparse = SparseTensorProto(values=tensor, dims=[4])
    return {
        "attribute": ModelProto(graph=GraphProto(node=[node])),
        "list": ModelProto(graph=GraphProto(node=[NodeProto(attribute=[AttributeProto(tensors=[tensor])])])),
        "subgraph": ModelProto(graph=GraphProto(node=[NodeProto(op_type="If", attribute=[branch])])),
        "sparse": ModelProto(graph=GraphProto(sparse_initializer=[sparse])),
        "function": ModelProto(functions=[FunctionProto(node=[node])]),
    }


def test_a_file_beside_the_graph_is_read(tmp_path: Path) -> None:
    graph = tmp_path / "sum.onnx"
    graph.write_bytes(model_of(weights("sum.bin")).SerializeToString())
    np.arange(4, dtype=np.float32).tofile(tmp_path / "sum.bin")
    with OnnxCpuSession(graph, threads=1) as session:
        assert session.infer({"x": np.ones(4, np.float32)})["y"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("location", OUTSIDE)
def test_any_other_place_is_refused_before_it_is_opened(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "bundle" / "components"
    folder.mkdir(parents=True)
    (tmp_path / "bundle" / "secret.bin").write_bytes(bytes(16))
    graph = folder / "sum.onnx"
    graph.write_bytes(model_of(weights(location)).SerializeToString())
    for opened in (check_external_data, OnnxCpuSession, ComponentGraph):
        with pytest.raises(BadBundle, match=r"sum\.onnx reads weights from outside of its folder"):
            opened(graph)


@pytest.mark.parametrize("place", nested(weights("a")))
def test_a_place_is_found_wherever_a_tensor_may_be(place: str) -> None:
    assert list(external_locations(nested(weights("../secret.bin"))[place].SerializeToString())) == ["../secret.bin"]


def test_the_last_of_two_places_counts_as_much_as_the_first() -> None:
    tensor = weights("sum.bin")
    tensor.external_data.add(key="location", value="../secret.bin")
    assert list(external_locations(model_of(tensor).SerializeToString())) == ["sum.bin", "../secret.bin"]


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_half_a_graph_is_told_as_such(cut: int, tmp_path: Path) -> None:
    graph = tmp_path / "sum.onnx"
    graph.write_bytes(model_of(weights("sum.bin")).SerializeToString()[:-cut])
    with pytest.raises(BadBundle, match=r"sum\.onnx cannot be opened"):
        OnnxCpuSession(graph)
