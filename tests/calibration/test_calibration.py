"""Ranges, Q/DQ and rounded weights by hand, on graphs of a few nodes."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from support.open_graph import open_graph
from vita_edge.calibration.choices import Choices
from vita_edge.calibration.component import ComponentCalibration, calibrate_component
from vita_edge.calibration.component_graph import ComponentGraph
from vita_edge.calibration.feeds import Sample, whole_feeds
from vita_edge.calibration.judge import head_step, judged
from vita_edge.calibration.ranges import Observed, candidates
from vita_edge.calibration.report.calibration_report import CalibrationReport, LayerReport, StageReport
from vita_edge.calibration.report.picture import picture_png
from vita_edge.calibration.walk import run_graph
from vita_edge.calibration.weight_scales import (
    Blocked,
    BlockGrid,
    block_that_fits,
    channel_int8,
    gptq_blocks,
    moments_factor,
    round_blocks,
)
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import Misuse

Floats = NDArray[np.float32]


def graph_file(
    folder: Path, nodes: list[onnx.NodeProto], weights: dict[str, Floats], width: int, name: str = "part"
) -> Path:
    """x [1, rows, width] → y."""
    values = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, "rows", a]) for n, a in (("x", width), ("y", "out"))
    ]
    graph = helper.make_graph(
        nodes, name, values[:1], values[1:], [numpy_helper.from_array(w, n) for n, w in weights.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    return folder / f"{name}.onnx"


def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [output], name=output, **attributes)


def calibrated(
    file: Path, feeds: list[Sample], choices: Choices, *, name: str = "vision", target: str = "tensorrt"
) -> tuple[ComponentGraph, ComponentCalibration, StageReport]:
    out = file.parent / "out"
    out.mkdir()
    one = ComponentCalibration(name, ComponentGraph(file), feeds, choices, target, out)
    stage = one.run(feeds, threads=1, progress=lambda done, total: None)
    onnx.checker.check_model(out / file.name)
    return ComponentGraph(out / file.name), one, stage


def kinds(graph: ComponentGraph) -> list[str]:
    return [each.op_type for each in graph.nodes]


@pytest.fixture
def two_products(tmp_path: Path) -> Path:
    """y = relu(x · first) · second"""
    weights = {
        "first.weight": np.array([[1.0, -2.54], [0.5, 1.27]], np.float32),
        "second.weight": np.array([[12.7], [-6.35]], np.float32),
    }
    nodes = [
        node("MatMul", ["x", "first.weight"], "h"),
        node("Relu", ["h"], "r"),
        node("MatMul", ["r", "second.weight"], "y"),
    ]
    return graph_file(tmp_path, nodes, weights, 2)


def test_scales_are_the_largest_magnitude_over_127(two_products: Path) -> None:
    feeds: list[Sample] = [
        {"x": np.array([[[1.0, 2.0]]], np.float32)},
        {"x": np.array([[[-5.08, 0.5]]], np.float32)},  # the largest of x; it makes h (-4.83, 13.5382)
    ]
    graph, one, _ = calibrated(two_products, feeds, Choices(method="minmax", keep_below_db=-100))
    assert kinds(graph) == [
        *("QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "MatMul", "Relu"),
        *("QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "MatMul"),
    ]
    assert graph.array("x.range") == pytest.approx(5.08 / 127)
    assert graph.array("r.range") == pytest.approx((5.08 * 2.54 + 0.5 * 1.27) / 127)
    assert graph.array("int8_zero").dtype == np.int8 and graph.array("int8_zero") == 0
    assert graph.array("first.weight.scale").tolist() == pytest.approx([1 / 127, 2.54 / 127])
    assert graph.array("first.weight.int8").tolist() == [[127, -127], [64, 64]]  # 0.5 is 63.5 steps, 1.27 is 63.5
    assert graph.array("first.weight.zero").tolist() == [0, 0]
    assert graph.array("second.weight.int8").tolist() == [[127], [-64]]
    first, second = one.layers
    assert (first.amax, first.values, second.amax) == pytest.approx((5.08, 4, 13.5382))


def test_the_graph_computes_what_its_integers_say(two_products: Path) -> None:
    feeds: list[Sample] = [{"x": np.array([[[1.0, 2.0], [-5.08, 0.5]]], np.float32)}]
    graph, _, stage = calibrated(two_products, feeds, Choices(method="minmax", keep_below_db=-100))

    def rounded(x: Floats, scale: Floats) -> Floats:
        return np.clip(np.rint(x / scale), -128, 127) * scale

    x, weights = feeds[0]["x"], []
    for name in ("first", "second"):
        weights.append(graph.array(f"{name}.weight.int8") * graph.array(f"{name}.weight.scale"))
    hidden = np.maximum(rounded(x, graph.array("x.range")) @ weights[0], 0)
    want = rounded(hidden, graph.array("r.range")) @ weights[1]
    assert run_graph(graph, feeds)[0]["y"] == pytest.approx(want, rel=1e-5)
    assert stage.snr_db > 30


@pytest.fixture
def outliers(tmp_path: Path) -> Path:
    """A norm with one loud channel, as language models have them, then a product."""
    rng = np.random.default_rng(0)
    gain = np.ones(64, np.float32)
    gain[7] = 60
    weights = {"norm.weight": gain, "part.weight": rng.normal(size=(64, 32)).astype(np.float32)}
    weights["part.weight"][7] *= 0.02
    nodes = [
        node("RMSNormalization", ["x", "norm.weight"], "n", axis=-1, epsilon=1e-6),
        node("MatMul", ["n", "part.weight"], "y"),
    ]
    return graph_file(tmp_path, nodes, weights, 64)


def normal(*shape: int, seed: int = 1) -> Floats:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_smoothing_moves_an_outlier_into_the_weight(outliers: Path, tmp_path: Path) -> None:
    feeds: list[Sample] = [{"x": normal(1, 40, 64)}]
    graph, one, stage = calibrated(outliers, feeds, Choices())
    (layer,) = one.layers
    assert layer.smoothing is not None and layer.minmax_db is not None
    assert layer.snr_db > layer.minmax_db + 6
    assert stage.snr_db == pytest.approx(layer.snr_db, abs=1)
    old, new = ComponentGraph(outliers).array("norm.weight"), graph.array("norm.weight")
    assert (old / new).argmax() == 7 and (old / new)[7] > 5
    values, scales = graph.array("part.weight.int8"), graph.array("part.weight.scale")
    assert values * scales == pytest.approx(
        ComponentGraph(outliers).array("part.weight") * (old / new)[:, None], abs=0.2
    )


def test_without_smoothing_the_norm_is_as_it_was(outliers: Path) -> None:
    graph, one, _ = calibrated(outliers, [{"x": normal(1, 40, 64)}], Choices(smoothing=False))
    assert one.layers[0].smoothing is None
    assert np.array_equal(graph.array("norm.weight"), ComponentGraph(outliers).array("norm.weight"))


def test_a_norm_that_others_read_is_not_smoothed(tmp_path: Path) -> None:
    weights = {"norm.weight": np.linspace(1, 60, 16, dtype=np.float32), "part.weight": normal(16, 16)}
    nodes = [
        node("RMSNormalization", ["x", "norm.weight"], "n", axis=-1),
        node("MatMul", ["n", "part.weight"], "p"),
        node("Add", ["p", "n"], "y"),
    ]
    _, one, _ = calibrated(graph_file(tmp_path, nodes, weights, 16), [{"x": normal(1, 40, 16)}], Choices())
    assert one.layers[0].smoothing is None


def test_a_layer_that_rounding_ruins_stays_as_it_is(tmp_path: Path) -> None:
    """The first product reads one huge channel that its weight ignores: nothing is left of the others."""
    first, second = normal(16, 16), normal(16, 8, seed=2)
    first[3] = 0
    nodes = [node("MatMul", ["x", "bad.weight"], "h"), node("MatMul", ["h", "good.weight"], "y")]
    file = graph_file(tmp_path, nodes, {"bad.weight": first, "good.weight": second}, 16)
    x = normal(1, 50, 16)
    x[..., 3] = 5000
    graph, one, stage = calibrated(file, [{"x": x}], Choices(method="minmax"))
    assert {layer.name: layer.stored_as for layer in one.layers} == {"bad": "float32", "good": "int8"}
    assert one.layers[0].snr_db < 20 < one.layers[1].snr_db
    assert kinds(graph) == ["MatMul", "QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "MatMul"]
    assert np.array_equal(graph.array("bad.weight"), first)
    assert stage.wider == 1 and stage.snr_db > 30


def test_what_a_layer_hands_out_is_seen_by_the_layer_that_reads_it_too(tmp_path: Path) -> None:
    """Also where it is an output of the graph."""
    weights = {"one.weight": normal(6, 4, 3), "two.weight": normal(5, 6, 3), "three.weight": normal(28, 8)}
    nodes = [
        node("Conv", ["x", "one.weight"], "h", pads=[1, 1]),
        node("Conv", ["h", "two.weight"], "y"),
        node("MatMul", ["y", "three.weight"], "unread"),
    ]
    file = graph_file(tmp_path, nodes, weights, 30)
    _, one, _ = calibrated(file, [{"x": normal(1, 4, 30)}], Choices(), target="onnxruntime")
    assert {layer.name: layer.values for layer in one.layers} == {"one": 4 * 30, "two": 6 * 30, "three": 5 * 28}
    assert {layer.stored_as for layer in one.layers} == {"int8"}


def test_the_cpu_rounds_the_output_of_a_convolution_but_not_of_a_transposed_one(tmp_path: Path) -> None:
    """It has no transposed convolution in integers: rounding its output would be for nothing."""
    weights = {"conv.weight": normal(6, 4, 3), "up.weight": normal(6, 5, 4)}
    nodes = [
        node("Conv", ["x", "conv.weight"], "h", pads=[1, 1]),
        node("ConvTranspose", ["h", "up.weight"], "y", strides=[2]),
    ]
    file = graph_file(tmp_path, nodes, weights, 30)
    graph, _, _ = calibrated(file, [{"x": normal(1, 4, 30)}], Choices(), target="onnxruntime")
    rounded = [each.input[0] for each in graph.nodes if each.op_type == "QuantizeLinear"]
    assert rounded == ["x", "h.exact", "h"]


@pytest.mark.parametrize("bias", [0.0, 20.0])
def test_what_is_told_of_a_convolution_counts_its_rounded_output(tmp_path: Path, bias: float) -> None:
    """A bias that is far from what it is added to makes the output's steps coarse."""
    weights = {"conv.weight": normal(6, 4, 3), "bias": normal(6) + np.float32(bias)}
    file = graph_file(tmp_path, [node("Conv", ["x", "conv.weight", "bias"], "y", pads=[1, 1])], weights, 30)
    feeds: list[Sample] = [{"x": normal(1, 4, 30)}]
    choices = Choices(method="minmax", keep_below_db=-100)
    graph, one, _ = calibrated(file, feeds, choices, target="onnxruntime")
    want, got = (run_graph(each, feeds)[0]["y"] for each in (ComponentGraph(file), graph))
    signal = np.square(want - weights["bias"][:, None]).sum()
    measured = 10 * np.log10(signal / np.square(want - got).sum())
    assert one.layers[0].snr_db == pytest.approx(measured, abs=0.2)
    assert one.layers[0].minmax_db == one.layers[0].snr_db


@pytest.mark.parametrize(("name", "target"), [("vision", "tensorrt"), ("codec", "onnxruntime"), ("llm", "onnxruntime")])
def test_a_layer_that_was_fed_zeros_stays_as_it_is(tmp_path: Path, name: str, target: str) -> None:
    """Its range would be nothing, and whatever it reads in use would be cut off."""
    weights = {"silent.weight": normal(16, 16), "loud.weight": normal(16, 16, seed=2)}
    nodes = [
        node("Sub", ["x", "x"], "zeros"),
        node("MatMul", ["zeros", "silent.weight"], "h"),
        node("MatMul", ["x", "loud.weight"], "g"),
        node("Add", ["h", "g"], "y"),
    ]
    file = graph_file(tmp_path, nodes, weights, 16)
    graph, one, stage = calibrated(file, [{"x": normal(1, 50, 16)}], Choices(), name=name, target=target)
    silent, loud = sorted(one.layers, key=lambda layer: layer.name, reverse=True)
    assert (silent.stored_as, silent.snr_db, stage.wider) == ("float32", None, 1)
    assert loud.stored_as.startswith("int8")
    assert np.array_equal(graph.array("silent.weight"), weights["silent.weight"])


@pytest.mark.parametrize("name", ["vision", "llm"])
@pytest.mark.parametrize("divided_by", [0.0, np.nan])
def test_a_layer_that_read_what_is_no_number_stays_as_it_is(tmp_path: Path, name: str, divided_by: float) -> None:
    weights = {"bad.weight": normal(16, 16), "good.weight": normal(16, 16, seed=2)}
    nodes = [
        node("MatMul", ["x", "good.weight"], "g"),
        node("Div", ["g", "divisor"], "overflown"),
        node("MatMul", ["overflown", "bad.weight"], "y"),
    ]
    file = graph_file(tmp_path, nodes, {**weights, "divisor": np.full(1, divided_by, np.float32)}, 16)
    _, one, _ = calibrated(file, [{"x": normal(1, 50, 16)}], Choices(), name=name)
    good, bad = one.layers
    assert (bad.stored_as, bad.snr_db, bad.amax) == ("float32", None, None)
    assert good.stored_as.startswith("int8")


def test_the_output_of_a_convolution_that_gave_zeros_is_not_cut_off(tmp_path: Path) -> None:
    weights = {"conv.weight": np.zeros((6, 4, 3), np.float32), "bias": np.zeros(6, np.float32)}
    file = graph_file(tmp_path, [node("Conv", ["x", "conv.weight", "bias"], "y", pads=[1, 1])], weights, 30)
    graph, _, _ = calibrated(file, [{"x": normal(1, 4, 30)}], Choices(), target="onnxruntime")
    assert kinds(graph) == ["QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "Conv"]


def test_convolutions_have_a_scale_for_every_output(tmp_path: Path) -> None:
    weights = {"conv.weight": normal(6, 4, 3), "up.weight": normal(6, 5, 4), "bias": normal(6)}
    nodes = [
        node("Conv", ["x", "conv.weight", "bias"], "h", pads=[1, 1]),
        node("ConvTranspose", ["h", "up.weight"], "y", strides=[2]),
    ]
    file = graph_file(tmp_path, nodes, weights, 30)
    graph, one, stage = calibrated(file, [{"x": normal(1, 4, 30)}], Choices())
    assert graph.array("conv.weight.scale").shape == (6,) and graph.array("up.weight.scale").shape == (5,)
    axes = {
        each.output[0]: helper.get_node_attr_value(each, "axis") for each in graph.nodes if "weight" in each.input[0]
    }
    assert axes == {"conv.weight.dequantized": 0, "up.weight.dequantized": 1}
    assert [layer.stored_as for layer in one.layers] == ["int8", "int8"] and stage.snr_db > 30


def test_a_percentile_leaves_a_tail_out_and_entropy_too() -> None:
    seen = Observed(samples=1, rows=4096)
    x = normal(4096, 8)
    x[0, 0] = 1000
    seen(x, 0)
    limits = {each.method: each.limit for each in candidates(seen, "auto")}
    assert limits["minmax"] == 1000
    assert 3 < limits["percentile 99.9"] < limits["percentile 99.99"] < 6
    assert limits["entropy"] < 1000
    assert [each.method for each in candidates(seen, "percentile")] == ["percentile"]


def test_short_samples_leave_their_share_of_rows_to_long_ones() -> None:
    seen = Observed(samples=4, rows=100)
    for number, length in enumerate((500, 3, 40, 200)):
        seen(np.arange(length, dtype=np.float32)[None, :, None] + 1000 * number, number)
    (rows,) = seen.inputs()
    of_each = [rows[rows // 1000 == number] - 1000 * number for number in range(4)]
    assert [len(each) for each in of_each] == [32, 3, 32, 32]
    assert np.diff(of_each[0]).max() <= 2 * 500 / 32 and of_each[0].max() >= 470  # still spread over all of it
    few = Observed(samples=2, rows=100)
    few(normal(1, 10, 4), 0)
    few(normal(1, 20, 4), 1)
    assert [len(each) for each in few.inputs()] == [30]


def test_a_tensor_of_which_only_zeros_were_kept_cannot_be_tried() -> None:
    seen = Observed(samples=1, rows=4)
    rows = np.zeros((8, 2), np.float32)
    rows[3] = 5  # one of those that are left out
    seen(rows, 0)
    assert seen.amax == 5 and not seen.measurable
    seen(np.ones((2, 2), np.float32), 1)
    assert seen.measurable
    assert not Observed(samples=1, rows=None).measurable


def test_more_samples_than_rows_give_one_each() -> None:
    seen = Observed(samples=5, rows=2)
    for number in range(5):
        seen(normal(1, 7, 4), number)
    assert [len(each) for each in seen.inputs()] == [5]


def test_weights_alone_keep_the_activations(tmp_path: Path) -> None:
    file = graph_file(
        tmp_path, [node("MatMul", ["x", "layers.1/out.weight"], "y")], {"layers.1/out.weight": normal(32, 8)}, 32
    )
    graph, one, stage = calibrated(file, [{"x": normal(1, 20, 32)}], Choices(), name="llm")
    assert kinds(graph) == ["DequantizeLinear", "MatMul", "Mul"]
    assert graph.array("layers.1/out.weight.scale").shape == ()  # what TensorRT fuses for a single row
    assert one.layers[0].stored_as == "int8 weight" and stage.snr_db > 38


@pytest.mark.parametrize("target", ["tensorrt", "onnxruntime"])
@pytest.mark.parametrize("weights", ["rtn", "searched", "gptq"])
def test_blocks_of_four_bits_run_on_either_backend(tmp_path: Path, target: str, weights: Any) -> None:
    matrices = {"layers.1/a.weight": normal(96, 24), "layers.2/head.weight": normal(24, 7, seed=5)}
    nodes = [
        node("MatMul", ["x", "layers.1/a.weight"], "h"),
        node("MatMul", ["h", "layers.2/head.weight"], "y"),
    ]
    choices = Choices(precision="int4", weights=weights, block=32, keep_below_db=0)
    file = graph_file(tmp_path, nodes, matrices, 96)
    graph, one, stage = calibrated(file, [{"x": normal(1, 64, 96)}], choices, name="llm", target=target)
    assert {layer.name: layer.stored_as for layer in one.layers} == {
        "layers.1/a": "int4 weight",
        "layers.2/head": "int8 weight",
    }
    assert stage.wider == 0  # so many bits were asked for
    assert ("MatMulNBits" in kinds(graph)) == (target == "onnxruntime")
    assert 15 < stage.snr_db < 40
    assert stage.snr_db == pytest.approx(one.layers[0].snr_db, abs=1.5)


@pytest.mark.parametrize(
    ("name", "target", "choices"),
    [
        ("vision", "tensorrt", Choices(keep_below_db=30)),  # one is kept in floats, smoothed for the other
        ("llm", "tensorrt", Choices()),
        ("llm", "tensorrt", Choices(precision="int4", weights="gptq", block=32, keep_below_db=0)),
        ("llm", "onnxruntime", Choices(precision="int4", weights="searched", block=32, keep_below_db=0)),
    ],
)
def test_a_matrix_that_is_turned_before_its_product_is_rounded_like_any_other(
    tmp_path: Path, name: str, target: str, choices: Choices
) -> None:
    gain = np.ones(64, np.float32)
    gain[7] = 60
    weights = {"layers.1/a.weight": normal(64, 24), "layers.2/b.weight": normal(64, 24, seed=5)}
    weights["layers.1/a.weight"][7] *= 0.02
    weights["layers.2/b.weight"][9, :] *= 5000  # nothing is left of the others once it is rounded
    norm = node("RMSNormalization", ["x", "norm.weight"], "n", axis=-1, epsilon=1e-6)
    products = [
        helper.make_node("MatMul", ["n", retained], [retained[9]], name=retained.removesuffix(".weight"))
        for retained in weights
    ]
    total = node("Add", ["a", "b"], "y")
    x = normal(1, 80, 64)
    x[..., 9] = 0
    turns = []
    for product in products:
        retained = product.input[1]
        turns += [node("Transpose", [retained], f"{retained}.turned", perm=[1, 0]), onnx.NodeProto()]
        turns[-1].CopyFrom(product)
        turns[-1].input[1] = f"{retained}.turned"
    plain = graph_file(tmp_path / "plain", [norm, *products, total], {**weights, "norm.weight": gain}, 64)
    lying = {retained: np.ascontiguousarray(array.T) for retained, array in weights.items()}
    turned = graph_file(tmp_path / "turned", [norm, *turns, total], {**lying, "norm.weight": gain}, 64)
    (want, one, _), (got, other, _) = (
        calibrated(file, [{"x": x}], choices, name=name, target=target) for file in (plain, turned)
    )
    assert [layer.stored_as for layer in other.layers] == [layer.stored_as for layer in one.layers]
    for initializer in want.initializers:
        array = want.array(initializer)
        kept_lying = initializer in lying  # in floats
        assert np.array_equal(got.array(initializer), array.T if kept_lying else array), initializer
    assert set(got.initializers) == set(want.initializers)
    if name == "vision":
        assert [layer.stored_as for layer in one.layers] == ["int8", "float32"]
        assert not np.array_equal(want.array("layers.2/b.weight"), weights["layers.2/b.weight"])
    assert kinds(got).count("Transpose") == sum(layer.stored_as == "float32" for layer in other.layers)


def chain(folder: Path) -> Path:
    """Four products in a row, each of 64 by 64."""
    weights = {f"layers.{i}/w.weight": normal(64, 64, seed=i) / 8 for i in range(1, 5)}
    names = ["x", "a", "b", "c", "y"]
    return graph_file(
        folder, [node("MatMul", [names[i], retained], names[i + 1]) for i, retained in enumerate(weights)], weights, 64
    )


@pytest.mark.parametrize("target", ["tensorrt", "onnxruntime"])
def test_weights_alone_get_more_bits_until_the_target_is_reached(tmp_path: Path, target: str) -> None:
    def levels(folder: Path, reach: float | None) -> tuple[StageReport, list[str]]:
        choices = Choices(precision="int4", weights="rtn", block=32, keep_below_db=0, head="int4", reach_db=reach)
        (folder / "out").mkdir(parents=True)
        one = calibrate_component(
            "llm",
            ComponentGraph(chain(folder)),
            feeds := [{"x": normal(1, 64, 64)}],
            choices,
            target,
            folder / "out",
            feeds,
            threads=1,
            progress=lambda done, total: None,
        )
        return one[0], [layer.stored_as for layer in one[1]]

    freely, retained = levels(tmp_path / "freely", None)
    assert freely.wider == 0
    assert retained == ["int4 weight"] * 4 and freely.reached and freely.target_db is None and freely.snr_db < 17
    better, retained = levels(tmp_path / "better", freely.snr_db + 1)
    assert better.reached and "int8 weight" in retained and "int4 weight" in retained and better.min_db is not None
    assert better.wider == retained.count("int8 weight")
    missed, _ = levels(tmp_path / "missed", 150)
    assert not missed.reached and missed.snr_db > better.snr_db


def test_a_layer_that_is_too_bad_stays_wide_when_others_are_given_back(tmp_path: Path) -> None:
    """8 bits must have more than 4 bits must, whatever is asked of both to come nearer to a target."""
    weight, x = normal(16, 16), normal(1, 64, 16)
    weight[0], x[..., 0] = 60, 0  # one input is loud, and not fed: of the others 8 bits leave some 15 dB
    file = graph_file(tmp_path, [node("MatMul", ["x", "layers.0/w.weight"], "y")], {"layers.0/w.weight": weight}, 16)
    (tmp_path / "out").mkdir()
    one = ComponentCalibration(
        "llm", ComponentGraph(file), [{"x": x}], Choices("int4"), "tensorrt", tmp_path / "out", 9.0
    )
    one.run([], threads=1, progress=lambda done, total: None)
    assert 9 < (one.layers[0].snr_db or 0) < 20 and one.layers[0].stored_as == "float32"


def test_gptq_makes_up_for_rounding_where_inputs_are_correlated() -> None:
    inputs = normal(2000, 64) @ normal(64, 64, seed=2)
    weight, grid = normal(64, 48, seed=3), BlockGrid(32)

    def error(rounded: Blocked) -> float:
        return float(np.square(inputs @ (rounded.floats() - weight)).mean())

    plain, gptq = round_blocks(weight, grid, search=True), gptq_blocks(weight, moments_factor(inputs), grid)
    assert error(gptq) < 0.6 * error(plain)
    assert gptq.values.min() >= -8 and gptq.values.max() <= 7


def test_gptq_rounds_to_nearest_where_inputs_are_not_correlated() -> None:
    weight, grid = normal(32, 8), BlockGrid(32)
    factor = moments_factor(np.eye(32, dtype=np.float32))
    gptq, plain = gptq_blocks(weight, factor, grid), round_blocks(weight, grid, search=True)
    assert np.array_equal(gptq.values, plain.values)
    assert np.array_equal(gptq.scales, plain.scales)


def gptq_as_published(weight: Floats, inputs: Floats, grid: BlockGrid) -> Floats:
    """By the inverse of the moments, in double precision."""
    moments = inputs.T.astype(np.float64) @ inputs / len(inputs)
    moments[np.diag_indices(len(moments))] += 0.01 * np.diag(moments).mean()
    upper = np.linalg.cholesky(np.linalg.inv(moments)).T
    left, out = weight.astype(np.float64), np.empty(weight.shape)
    for start in range(0, len(weight), grid.block):
        ranges = round_blocks(left[start : start + grid.block].astype(np.float32), grid, search=True)
        scale, zero = ranges.scales[0], ranges.zeros[0]
        for i in range(start, start + grid.block):
            out[i] = (np.clip(np.rint(left[i] / scale) + zero, grid.lowest, grid.highest) - zero) * scale
            left[i:] -= np.outer(upper[i, i:], (left[i] - out[i]) / upper[i, i])
    return out.astype(np.float32)


@pytest.mark.parametrize("symmetric", [True, False])
def test_gptq_without_an_inverse_takes_the_same_steps(symmetric: bool) -> None:
    """More than one panel wide, and with loud inputs, as language models have them."""
    loud = np.exp(np.random.default_rng(4).normal(0, 2, 640)).astype(np.float32)
    inputs = normal(900, 640) @ normal(640, 640, seed=2) * loud
    weight, grid = normal(640, 24, seed=3), BlockGrid(64, 4, symmetric)
    got = gptq_blocks(weight, moments_factor(inputs), grid).floats()
    assert np.isclose(got, gptq_as_published(weight, inputs, grid), rtol=1e-4).mean() > 0.995


def test_the_factor_of_moments_takes_no_room_beside_them() -> None:
    """At 18,944 inputs, each further matrix of that size is 1.4 GB."""
    inputs = normal(256, 2048)
    tracemalloc.start()
    factor = moments_factor(inputs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.6 * factor.nbytes
    moments = inputs.T @ inputs / np.float32(256)
    moments[np.diag_indices(2048)] += 0.01 * np.diag(moments).mean()
    assert np.abs(factor @ factor.T - moments).max() < 1e-5


def test_layers_that_read_one_tensor_share_its_moments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = {f"layers.1/{name}.weight": normal(64, 32, seed=ord(name)) for name in "abc"}
    nodes = [node("MatMul", ["x", retained], retained[9]) for retained in weights]
    nodes += [node("Sum", ["a", "b", "c"], "y")]
    computed: list[int] = []

    def counted(inputs: Floats) -> Floats:
        computed.append(len(inputs))
        return moments_factor(inputs)

    monkeypatch.setattr("vita_edge.calibration.decide.moments_factor", counted)
    monkeypatch.setattr("vita_edge.calibration.trial.COLUMNS", 16)  # a wide matrix is rounded in parts
    choices = Choices(precision="int4", weights="gptq", block=32, keep_below_db=0)
    _, one, _ = calibrated(graph_file(tmp_path, nodes, weights, 64), [{"x": normal(1, 80, 64)}], choices, name="llm")
    assert [layer.stored_as for layer in one.layers][:2] == ["int4 weight"] * 2
    assert computed == [80]


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_searched_range_never_errs_more(symmetric: bool) -> None:
    weight, grid = np.random.default_rng(0).standard_t(3, (128, 16)).astype(np.float32), BlockGrid(64, 4, symmetric)
    errors = [np.square(round_blocks(weight, grid, search=s).floats() - weight).sum() for s in (True, False)]
    assert errors[0] < errors[1]


def test_a_block_divides_the_width() -> None:
    assert [block_that_fits(128, width) for width in (256, 96, 48, 100)] == [128, 32, 16, None]


def test_a_column_of_zeros_has_a_scale_that_is_not_zero() -> None:
    for dtype in ("float16", "float32"):
        values, scales = channel_int8(np.zeros((4, 2), np.float32), 1, dtype)
        assert not values.any() and (scales > 0).all()


def test_layer_by_layer_equals_the_whole_graph(tiny_bundle: Bundle) -> None:
    """The decoder too: all positions at once are what one step after the other gives."""
    graph = ComponentGraph(tiny_bundle.components["llm"].graph)
    rows = normal(1, 9, tiny_bundle.model.llm.hidden_size) * np.float32(0.1)
    (got,) = run_graph(graph, [whole_feeds(graph.inputs, {"inputs_embeds": rows})])
    with open_graph(tiny_bundle, "llm") as session:
        cache = session.new_cache(16)
        steps = [session.infer({"inputs_embeds": rows[:, i : i + 1]}, cache)["logits"][0, 0].copy() for i in range(9)]
    assert got["logits"][0] == pytest.approx(np.stack(steps), abs=1e-4)
    assert set(got) == {"logits"}


def test_the_report_begins_with_the_worst() -> None:
    layers = tuple(
        LayerReport("llm", name, "MatMul", snr, "int8") for name, snr in (("a", 30.0), ("b", 12.5), ("c", 40.0))
    )
    stages = (StageReport("llm", "logits", 2, 25.0, 0, "00"), StageReport("codec", "waveform", 2, 20.0, 0, "00"))
    report = CalibrationReport("int8", {}, layers, stages)
    assert [layer["name"] for layer in report.to_json()["layers"]] == ["b", "a", "c"]
    assert [stage["component"] for stage in report.to_json()["stages"]] == ["codec", "llm"]
    pytest.importorskip("matplotlib")
    picture = picture_png(report)
    assert picture.startswith(b"\x89PNG") and picture == picture_png(report)


def test_unknown_choices_are_refused() -> None:
    with pytest.raises(Misuse, match="no method guess"):
        Choices(method="guess")
    with pytest.raises(Misuse, match="samples is 0"):
        Choices(samples=0)


def test_the_backend_runs_it_in_half_precision(tmp_path: Path) -> None:
    """What calibration writes for TensorRT has half-precision scales; ONNX Runtime reads it as well."""
    weight = normal(16, 8).astype(np.float16)
    nodes = [
        node("Cast", ["x"], "half", to=TensorProto.FLOAT16),
        node("MatMul", ["half", "part.weight"], "h"),
        node("Cast", ["h"], "y", to=TensorProto.FLOAT),
    ]
    file = graph_file(tmp_path, nodes, {"part.weight": weight}, 16)  # type: ignore[dict-item]
    x = normal(1, 30, 16)
    graph, _, stage = calibrated(file, [{"x": x}], Choices())
    assert graph.array("half.range").dtype == graph.array("part.weight.scale").dtype == np.float16
    session = ort.InferenceSession(graph.path, providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": x})[0] == pytest.approx(x @ weight.astype(np.float32), abs=0.3)
    assert stage.snr_db > 30


def table_graph(folder: Path, *, moved: str) -> Path:
    """y = product(moved(table[ids]))"""
    table = np.random.default_rng(0).normal(0, 1, (5, 8)).astype(np.float32)
    weight = np.random.default_rng(1).normal(0, 1, (8, 4)).astype(np.float32)
    nodes = [
        node("Gather", ["table", "ids"], "rows"),
        node(moved, ["rows"], "x"),
        node("MatMul", ["x", "one.weight"], "y"),
    ]
    values = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, [1, "n"]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "n", 4]),
    ]
    weights = [numpy_helper.from_array(array, name) for name, array in (("table", table), ("one.weight", weight))]
    graph = helper.make_graph(nodes, "part", values[:1], values[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "part.onnx").write_bytes(model.SerializeToString())
    return folder / "part.onnx"


def test_a_table_whose_rows_are_rounded_is_kept_rounded(tmp_path: Path) -> None:
    """The same steps, once in the file and once on the way: the same output."""
    feeds: list[Sample] = [{"ids": np.array([[0, 3, 4, 1, 2]], np.int64)}]
    choices = Choices(method="percentile", keep_below_db=-100)
    graph, _, _ = calibrated(table_graph(tmp_path / "cpu", moved="Identity"), feeds, choices, target="onnxruntime")
    assert kinds(graph) == ["Gather", "Identity", "DequantizeLinear", "DequantizeLinear", "MatMul"]
    assert graph.array("table.int8").dtype == np.int8 and "table" not in graph.initializers
    other, _, _ = calibrated(table_graph(tmp_path / "gpu", moved="Identity"), feeds, choices)
    assert "QuantizeLinear" in kinds(other) and other.array("table").dtype == np.float32
    got, want = run_graph(graph, feeds)[0]["y"], run_graph(other, feeds)[0]["y"]
    assert got == pytest.approx(want, rel=1e-5)  # the two are fused in different ways


def test_a_table_that_is_changed_before_it_is_read_stays(tmp_path: Path) -> None:
    feeds: list[Sample] = [{"ids": np.array([[0, 3, 4, 1, 2]], np.int64)}]
    choices = Choices(method="minmax", keep_below_db=-100)
    graph, _, _ = calibrated(table_graph(tmp_path, moved="Relu"), feeds, choices, target="onnxruntime")
    assert graph.array("table").dtype == np.float32 and "QuantizeLinear" in kinds(graph)


def test_many_logits_are_compared_at_some_positions_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of a large vocabulary is bounded; from the last position on, every so many-th."""
    head = np.random.default_rng(1).normal(0, 1, (32, 6)).astype(np.float32)
    numbers = {"start": [-1], "end": [2**62], "axis": [1]}
    nodes = [
        node("Slice", ["inputs_embeds", "start", "end", "axis"], "last"),
        node("MatMul", ["last", "head.weight"], "logits"),
    ]
    values = [
        helper.make_tensor_value_info("inputs_embeds", TensorProto.FLOAT, [1, "n", 32]),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 1, 6]),
    ]
    weights = [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in numbers.items()]
    weights.append(numpy_helper.from_array(head, "head.weight"))
    graph = helper.make_graph(nodes, "part", values[:1], values[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    (tmp_path / "part.onnx").write_bytes(model.SerializeToString())
    random = np.random.default_rng(2)
    feeds: list[Sample] = [{"inputs_embeds": random.normal(0, 1, (1, n, 32)).astype(np.float32)} for n in (7, 12)]
    original = ComponentGraph(tmp_path / "part.onnx")
    whole = run_graph(original, feeds)[1]["logits"]
    assert head_step(original, feeds) == 1 and whole.shape == (1, 12, 6)
    monkeypatch.setattr("vita_edge.calibration.judge.LOGITS", 19 * 6 // 3)
    assert head_step(original, feeds) == 3
    (judge,) = judged(original, [(ComponentGraph(original.path), feeds)], feeds)
    assert judge.positions == 3 + 4 and judge.same_choice == 1 and judge.snr_db == 200
    assert run_graph(original, feeds)[1]["logits"] == pytest.approx(whole[:, ::-3], rel=1e-5)
    calibrated(tmp_path / "part.onnx", feeds, Choices(precision="int4"), name="llm", target="onnxruntime")
