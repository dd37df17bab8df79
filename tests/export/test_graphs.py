"""Weights on their way into a graph, by hand: padded heads, rotary tables, folded norms, transposes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from vita_edge.engines.bundle.format import Bundle
from vita_edge.export.checkpoint.open_checkpoint import Checkpoint
from vita_edge.export.checkpoint.tensor import LazyTensor, fetch_from_array
from vita_edge.export.graphs.graph_builder import GraphBuilder
from vita_edge.export.lowerings.primitives import rotary_tables
from vita_edge.export.weights import weight as weights
from vita_edge.export.weights.weight import (
    Weight,
    as_is,
    computed,
    first_rows,
    head_padded,
    head_padded_columns,
    joined_rows,
    padded_head_dim,
    transposed,
)

Floats = NDArray[np.float32]


def tensor(values: NDArray[Any]) -> LazyTensor:
    return LazyTensor("t", values.shape, str(values.dtype), Path("nowhere"), fetch_from_array(values))


def weight(values: Floats) -> Weight:
    return as_is(tensor(values))


def normal(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# --- weights


def test_a_weight_comes_in_pieces_that_follow_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "PIECE_VALUES", 8)
    values = normal(7, 3)
    pieces = list(weight(values).pieces())
    assert [piece.shape for piece in pieces] == [(2, 3), (2, 3), (2, 3), (1, 3)]
    np.testing.assert_array_equal(np.concatenate(pieces), values)
    np.testing.assert_array_equal(weight(values).read(), values)
    np.testing.assert_array_equal(first_rows(tensor(values), 5).read(), values[:5])
    assert first_rows(tensor(values), 5).shape == (5, 3)
    wide = normal(2, 20)  # a row that is longer than a piece comes by itself
    assert [piece.shape for piece in weight(wide).pieces()] == [(1, 20), (1, 20)]


def test_a_weight_of_half_precision_is_widened() -> None:
    values = normal(3, 4).astype(np.float16)
    got = as_is(tensor(values)).read()
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, values.astype(np.float32))


def test_weights_are_joined_and_transposed_and_scalars_are_weights_too() -> None:
    a, b = normal(2, 3), normal(4, 3, seed=1)
    np.testing.assert_array_equal(joined_rows(weight(a), weight(b)).read(), np.concatenate([a, b]))
    assert joined_rows(weight(a), weight(b)).shape == (6, 3)
    np.testing.assert_array_equal(transposed(weight(a)).read(), a.T)
    np.testing.assert_array_equal(transposed(transposed(weight(a))).read(), a)
    assert weight(np.float32(3).reshape(())).read() == 3.0


def test_a_computed_weight_keeps_its_promise_or_says_so() -> None:
    assert computed((2, 2), lambda: np.eye(2)).read().dtype == np.float32
    with pytest.raises(ValueError, match=r"made \(2, 2\), promised \(4,\)"):
        computed((4,), lambda: np.eye(2)).read()


# --- heads


@pytest.mark.parametrize(("head_dim", "padded"), [(8, 16), (12, 16), (16, 16), (20, 32), (64, 64), (128, 128)])
def test_heads_are_padded_to_a_multiple_of_16(head_dim: int, padded: int) -> None:
    assert padded_head_dim(head_dim) == padded


def test_each_half_of_a_rotary_head_is_padded_by_itself() -> None:
    rows = np.arange(1.0, 9.0, dtype=np.float32)[:, None] * np.ones((8, 3), np.float32)  # two heads of 4
    wide = head_padded(weight(rows), 4, rotary=True).read()
    assert wide.shape == (32, 3)
    expected = np.zeros(32)
    expected[[0, 1, 8, 9, 16, 17, 24, 25]] = range(1, 9)
    np.testing.assert_array_equal(wide[:, 0], expected)
    plain = head_padded(weight(rows), 4, rotary=False).read()
    expected = np.zeros(32)
    expected[[0, 1, 2, 3, 16, 17, 18, 19]] = range(1, 9)
    np.testing.assert_array_equal(plain[:, 2], expected)
    np.testing.assert_array_equal(head_padded(weight(rows[:, 0]), 4, rotary=False).read(), expected)
    columns = head_padded_columns(weight(rows.T.copy()), 4).read()
    np.testing.assert_array_equal(columns, plain.T)


def test_heads_of_a_fitting_width_are_left_alone() -> None:
    values = weight(normal(32, 4))
    assert head_padded(values, 16, rotary=True) is values
    assert head_padded_columns(values, 4) is not values
    assert head_padded_columns(weight(normal(4, 32)), 16).shape == (4, 32)


def attention(x: Floats, q: Floats, k: Floats, v: Floats, out: Floats, scale: float, tables: Any) -> Floats:
    """Rotary attention of one head over all positions, in a few lines of numpy."""
    cos, sin = tables

    def rotated(y: Floats) -> Floats:
        first, second = np.split(y, 2, axis=1)
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=1)

    scores = scale * rotated(x @ q.T) @ rotated(x @ k.T).T
    share = np.exp(scores - scores.max(axis=1, keepdims=True))
    return (share / share.sum(axis=1, keepdims=True)) @ (x @ v.T) @ out.T


@pytest.mark.parametrize("head_dim", [8, 12, 20])
def test_attention_over_padded_heads_is_attention_over_the_heads_themselves(head_dim: int) -> None:
    x, out = normal(9, 24), normal(24, head_dim)
    q, k, v = (normal(head_dim, 24, seed=seed) for seed in (1, 2, 3))
    padded = rotary_tables(9, head_dim, 10_000.0)
    narrow = tuple(values[:, : head_dim // 2] for values in padded)
    scale = head_dim**-0.5
    want = attention(x, q, k, v, out, scale, narrow)
    got = attention(
        x,
        head_padded(weight(q), head_dim, rotary=True).read(),
        head_padded(weight(k), head_dim, rotary=True).read(),
        head_padded(weight(v), head_dim, rotary=False).read(),
        head_padded_columns(weight(out), head_dim).read(),
        scale,
        padded,
    )
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())


def test_rotary_tables_by_hand() -> None:
    cos, sin = rotary_tables(3, 4, 10_000.0)
    assert cos.shape == sin.shape == (3, 8)
    assert cos.dtype == sin.dtype == np.float32
    np.testing.assert_allclose(cos[2, :2], [math.cos(2), math.cos(0.02)], rtol=1e-6)
    np.testing.assert_allclose(sin[2, :2], [math.sin(2), math.sin(0.02)], rtol=1e-6)
    np.testing.assert_array_equal(cos[:, 2:], 1)  # what is padded is not turned
    np.testing.assert_array_equal(sin[:, 2:], 0)
    np.testing.assert_array_equal(cos[0], 1)


def test_rotary_tables_are_computed_in_float32_as_the_model_was_trained() -> None:
    cos, _ = rotary_tables(6001, 128, 1e6)
    frequency = np.float32(1) / np.power(np.float32(1e6), np.float32(2 / 128))
    angle = np.float32(6000) * frequency
    assert abs(cos[6000, 1] - math.cos(float(angle))) < 1e-6
    assert abs(math.cos(float(angle)) - math.cos(6000 * 1e6 ** (-2 / 128))) > 1e-5, "an exact table would differ"


# --- what arrives in the graphs of a bundle


def initializer(bundle: Bundle, component: str, name: str) -> Floats:
    model = onnx.load(bundle.components[component].graph)
    return onnx.numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("generator/conv_pre", "conv_pre"),
        ("generator/stage.0/up", "ups.0"),
        ("generator/stage.0/resblocks.0.convs1.1", "resblocks.0.convs1.1"),
    ],
)
def test_weight_norm_is_folded_over_all_axes_but_the_first(
    name: str, source: str, tiny_bundle: Bundle, golden: Path
) -> None:
    part = Checkpoint.open(golden / "checkpoint").codec
    v = part[f"generator.{source}.weight_v"].read().astype(np.float64)
    g = part[f"generator.{source}.weight_g"].read()
    folded = initializer(tiny_bundle, "codec", f"{name}.weight")
    np.testing.assert_allclose(folded, g * v / np.sqrt((v**2).sum(axis=(1, 2), keepdims=True)), rtol=1e-6)
    lengths = np.sqrt((folded.astype(np.float64) ** 2).sum(axis=(1, 2)))
    np.testing.assert_allclose(lengths, np.abs(g[:, 0, 0]), rtol=1e-5)


def test_the_language_model_has_q_k_and_v_in_one_matrix_and_no_row_that_no_id_reaches(
    tiny_bundle: Bundle, golden: Path
) -> None:
    main = Checkpoint.open(golden / "checkpoint").main
    packed = np.concatenate([main[f"model.layers.1.self_attn.{name}_proj.weight"].read() for name in "qkv"])
    np.testing.assert_array_equal(initializer(tiny_bundle, "llm", "layers.1/attn.qkv.weight"), packed.T)
    head = initializer(tiny_bundle, "llm", "head/lm_head.weight")
    np.testing.assert_array_equal(head, main["lm_head.weight"].read()[:605].T)


# --- the builder


def test_a_written_graph_computes_what_was_asked_for(tmp_path: Path) -> None:
    g = GraphBuilder("small")
    x = g.input("x", "float32", [1, "n", 3])
    a, b = normal(2, 3), normal(2)
    with g.scope("layer"):
        y = g.tap(g.linear(x, weight(a), weight(b), "linear"), "inner")
        y = g.op("Add", g.scale(y, 2.0), g.scale(y, 2.0))
    y = g.take(y, -1, 2**31, 1)
    g.output(y, "y", "float32", [1, 1, 2])
    files = g.save(tmp_path)
    assert [file.name for file in files] == ["small.onnx", "small.bin"]
    assert g.parameters == a.size + b.size
    assert g.taps == ["inner"]
    session = ort.InferenceSession(str(files[0]), providers=["CPUExecutionProvider"])
    rows = normal(1, 5, 3)
    (got,) = session.run(None, {"x": rows})
    np.testing.assert_allclose(got, 4 * (rows @ a.T + b)[:, -1:], rtol=1e-5)
    model = onnx.load(files[0], load_external_data=False)
    names = [t.name for t in model.graph.initializer]
    assert {"layer/linear.weight", "layer/linear.bias"} <= set(names)
    assert len(set(names)) == len(names)
    twos = [
        t for t in model.graph.initializer if not t.external_data and onnx.numpy_helper.to_array(t).dtype == np.float32
    ]
    assert len(twos) == 1, "equal constants are shared"
    assert "inner" in {name for node in model.graph.node for name in node.output}
