"""Inputs and outputs of a graph are read, and axes are fixed, without the onnx package, and as it does."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import BadBundle
from vita_edge.engines.onnx_file.graph_inputs import fixed_axes, graph_interface


def model() -> onnx.ModelProto:
    """past [1, 2, capacity, 16] and x [1, tokens, 4] → present, y."""
    past = helper.make_tensor_value_info("past", TensorProto.FLOAT16, [1, 2, "capacity", 16])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "tokens", 4])
    flag = helper.make_tensor_value_info("flag", TensorProto.BOOL, [])
    present = helper.make_tensor_value_info("present", TensorProto.FLOAT16, [1, 2, "capacity", 16])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "tokens", 4])
    between = helper.make_tensor_value_info("between", TensorProto.FLOAT16, ["capacity", 300])
    nodes = [helper.make_node("Identity", ["past"], ["present"]), helper.make_node("Identity", ["x"], ["y"])]
    return helper.make_model(
        helper.make_graph(nodes, "g", [past, x, flag], [present, y], value_info=[between]), producer_name="Ω"
    )


def dims(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_inputs_and_outputs_are_told_with_dtypes_and_axes(tmp_path: Path) -> None:
    onnx.save(model(), str(tmp_path / "g.onnx"))
    found = graph_interface(tmp_path / "g.onnx")
    assert [str(spec) for spec in found.inputs.values()] == [
        "past: float16 [1, 2, capacity, 16]",
        "x: float32 [1, tokens, 4]",
        "flag: bool []",
    ]
    assert list(found.outputs) == ["present", "y"]


def test_axes_of_a_name_are_fixed_and_nothing_else_changes() -> None:
    before = model()
    after = onnx.load_from_string(fixed_axes(before.SerializeToString(), {"capacity": 2048}))
    assert dims(after.graph.input[0]) == dims(after.graph.output[0]) == [1, 2, 2048, 16]
    assert dims(after.graph.value_info[0]) == [2048, 300]
    assert dims(after.graph.input[1]) == [1, "tokens", 4]
    for value in (*after.graph.input, *after.graph.output, *after.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value == 2048:
                dim.dim_param = "capacity"
    assert after == before


def test_a_graph_without_such_axes_stays_as_it_is_byte_for_byte(tiny_bundle: Bundle) -> None:
    for component in tiny_bundle.components.values():
        content = component.graph.read_bytes()
        assert fixed_axes(content, {"nobody": 1}) == content


def test_the_graphs_of_a_bundle_are_read_as_onnx_reads_them(tiny_bundle: Bundle) -> None:
    for component in tiny_bundle.components.values():
        graph = onnx.load(str(component.graph), load_external_data=False).graph
        found = graph_interface(component.graph)
        assert {name: list(spec.axes) for name, spec in found.inputs.items()} == {v.name: dims(v) for v in graph.input}
        assert {name: list(spec.axes) for name, spec in found.outputs.items()} == {
            v.name: dims(v) for v in graph.output
        }


@pytest.mark.parametrize("content", [b"", b"not a graph at all", b"\x3a\xff\x01abc"])
def test_what_is_no_graph_is_refused_in_words(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "g.onnx").write_bytes(content)
    with pytest.raises(BadBundle, match="is no ONNX graph"):
        graph_interface(tmp_path / "g.onnx")
    with pytest.raises(BadBundle, match="cannot be read"):
        graph_interface(tmp_path / "absent.onnx")
