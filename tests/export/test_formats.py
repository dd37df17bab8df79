"""Formats of linear layers: what is written is what the kernels read, and outliers stay where they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from support.one_product import FORMATS, TENSORRT_FORMATS, product
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import Misuse
from vita_edge.estimate.footprint import footprint
from vita_edge.export.bundle import export_bundle
from vita_edge.export.checkpoint.tensor import LazyTensor, fetch_from_array
from vita_edge.export.graphs.graph_builder import GraphBuilder
from vita_edge.export.weights import formats
from vita_edge.export.weights import weight as weights
from vita_edge.export.weights.formats import Blocks, Float16
from vita_edge.export.weights.precision import PRECISIONS, precision_plan
from vita_edge.export.weights.weight import as_is
from vita_edge.runtime import Assistant, SessionOptions, Turn
from vita_edge.verification.parity import verify


@pytest.mark.parametrize("name", [*FORMATS, *TENSORRT_FORMATS])
@pytest.mark.parametrize("shape", [(48, 128), (33, 96), (7, 40)], ids=str)
def test_a_product_is_close_to_float32_for_even_and_odd_shapes(
    tmp_path: Path, name: str, shape: tuple[int, int]
) -> None:
    form, limit = {**FORMATS, **TENSORRT_FORMATS}[name]
    random = np.random.default_rng(1)
    weight, x = random.standard_normal(shape, np.float32), random.standard_normal((9, shape[1]), np.float32)
    got, want = product(tmp_path, form, weight, x), x @ weight.T
    assert np.linalg.norm(got - want) <= limit * np.linalg.norm(want)


@pytest.mark.parametrize("name", FORMATS)
def test_one_row_of_outliers_does_not_drown_the_others(tmp_path: Path, name: str) -> None:
    form, limit = FORMATS[name]
    random = np.random.default_rng(2)
    weight, x = random.standard_normal((64, 128), np.float32), random.standard_normal((20, 128), np.float32)
    x[3] *= 1000
    got, want = product(tmp_path, form, weight, x), x @ weight.T
    others = np.arange(20) != 3
    assert np.linalg.norm((got - want)[others]) <= limit * np.linalg.norm(want[others])


def test_half_precision_is_turned_a_block_of_columns_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(5).standard_normal((33, 40), np.float32)
    monkeypatch.setattr(formats, "HALF_BLOCK_BYTES", 33 * 2 * 7)
    monkeypatch.setattr(weights, "PIECE_VALUES", 400)
    stored = as_is(LazyTensor("t", values.shape, "float32", Path("nowhere"), fetch_from_array(values)))
    g = GraphBuilder("one", Float16())
    g.linear(g.input("x", "float32", [1, "n", 40]), stored, None, "w")
    (blob,) = g._blobs
    pieces = list(blob.pieces())
    assert [piece.shape for piece in pieces] == [(7, 33)] * 5 + [(5, 33)]
    np.testing.assert_array_equal(np.concatenate(pieces), values.T.astype(np.float16))


def test_a_row_of_zeros_gives_zeros_and_not_nan(tmp_path: Path) -> None:
    x = np.zeros((2, 64), np.float32)
    for name, (form, _) in FORMATS.items():
        weight = np.random.default_rng(3).standard_normal((16, 64), np.float32)
        weight[5] = 0
        assert np.array_equal(product(tmp_path / name.replace(" ", ""), form, weight, x), np.zeros((2, 16)))


def test_four_bits_keep_sixteen_evenly_spaced_values_exactly(tmp_path: Path) -> None:
    steps = np.arange(16, dtype=np.float32) - 5
    weight = np.stack([np.resize(steps, 64), np.resize(steps[::-1], 64)])
    x = np.eye(64, dtype=np.float32)[:4]
    assert np.allclose(product(tmp_path, Blocks(4, 64), weight, x), x @ weight.T, atol=1e-5)


@pytest.mark.parametrize("kind", ["normal", "heavy tails"])
def test_a_few_outer_values_are_rounded_further_where_the_others_gain_more(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    random = np.random.default_rng(6)
    rows = (random.standard_normal if kind == "normal" else lambda shape: random.standard_t(4, shape))((64, 1024))
    rows = rows.astype(np.float32)
    searched = four_bit_error(rows, 128)
    monkeypatch.setattr(formats, "CLIPS", (1.0,))
    assert searched < 0.97 * four_bit_error(rows, 128)


def four_bit_error(rows: np.ndarray, block: int) -> float:
    """Root mean square of what 4 bits lose, as the operator would widen them again."""
    packed, scales, zeros = formats._four_bits(rows, block)
    values, zero = (np.stack([part & 15, part >> 4], -1) for part in (packed, zeros.reshape(len(rows), -1)))
    steps = values.reshape(*packed.shape[:2], block) - zero.reshape(len(rows), -1, 1).astype(np.float32)
    wide = steps * scales.reshape(len(rows), -1, 1)
    return float(np.sqrt(np.square(wide.reshape(rows.shape) - rows).mean()))


def test_at_int4_the_first_layer_and_the_head_have_8_bits_and_the_others_4(golden: Path, tmp_path: Path) -> None:
    export_bundle(golden / "checkpoint", tmp_path / "b", precision="int4")
    graph = onnx.load(tmp_path / "b" / "components" / "llm.onnx", load_external_data=False).graph
    bits: dict[str, set[int]] = {}
    for node in graph.node:
        if node.op_type == "MatMulNBits":
            reported = {attribute.name: attribute.i for attribute in node.attribute}
            bits.setdefault(node.name.split("/")[0], set()).add(reported["bits"])
    assert bits == {"layers.0": {8}, "layers.1": {4}, "layers.2": {4}, "head": {8}}


@pytest.mark.parametrize("precision", [name for name in PRECISIONS if name != "fp32"])
def test_a_bundle_of_every_precision_passes_its_gate(golden: Path, tmp_path: Path, precision: str) -> None:
    export_bundle(golden / "checkpoint", tmp_path / "b", precision=precision)
    bundle = Bundle.open(tmp_path / "b")
    assert bundle.components["llm"].precision == precision
    off = [check for check in verify(bundle, golden) if not check.passed]
    assert off == []


def test_half_precision_saves_disk_and_is_not_said_to_save_memory(golden: Path, tmp_path: Path) -> None:
    bundles = {}
    for precision in ("fp32", "fp16"):
        export_bundle(golden / "checkpoint", tmp_path / precision, precision=precision)
        bundles[precision] = Bundle.open(tmp_path / precision)
    assert bundles["fp16"].bytes < bundles["fp32"].bytes
    assert footprint(bundles["fp16"])["weights"] >= footprint(bundles["fp32"])["weights"]


def test_a_damaged_int8_bundle_does_not_pass_its_gate(golden: Path, tmp_path: Path) -> None:
    export_bundle(golden / "checkpoint", tmp_path / "b", precision="int8")
    weights = tmp_path / "b" / "components" / "llm.bin"
    content = bytearray(weights.read_bytes())
    content[len(content) // 3 : 2 * len(content) // 3] = bytes(len(content) // 3 + len(content) % 3 // 2)
    weights.write_bytes(content[: weights.stat().st_size].ljust(weights.stat().st_size, b"\0"))
    assert any(not check.passed for check in verify(Bundle.open(tmp_path / "b"), golden))


def test_prompts_read_by_the_second_graph_give_nearly_the_same_logits(golden: Path, tmp_path: Path) -> None:
    export_bundle(golden / "checkpoint", tmp_path / "b", precision="int4")
    rows = np.random.default_rng(4).standard_normal((40, 128), np.float32)
    logits = {}
    for fast in (False, True):
        with Assistant(tmp_path / "b", fast_prefill=fast) as assistant:
            assert assistant.fast_prefill is fast
            model = assistant.language_model(64)
            logits[fast] = model.prefill(rows).copy()
            assert model.position == 40
    agreement = np.corrcoef(logits[False], logits[True])[0, 1]
    assert 0.5 < agreement < 0.999  # int4 and int8 weights differ, the model is the same


def test_a_talk_is_the_same_however_its_bundle_was_opened(golden: Path, tmp_path: Path) -> None:
    export_bundle(golden / "checkpoint", tmp_path / "b", precision="int8")
    picture = np.random.default_rng(7).integers(0, 256, (112, 112, 3), np.uint8)
    replies = []
    for repack in (False, True):
        with Assistant(tmp_path / "b", repack=repack) as assistant:
            turn = Turn("What is this?", images=[picture])
            replies.append(assistant.session(SessionOptions(max_new_tokens=8)).ask(turn))
    assert replies[0].token_ids == replies[1].token_ids


def test_a_talk_with_an_int4_bundle_is_deterministic(golden: Path, tmp_path: Path) -> None:
    export_bundle(golden / "checkpoint", tmp_path / "b", precision="int4")
    replies = []
    for _ in range(2):
        with Assistant(tmp_path / "b", fast_prefill=True) as assistant:
            replies.append(assistant.session(SessionOptions(max_new_tokens=8, seed=3)).ask(Turn("Hello.")))
    assert replies[0].token_ids == replies[1].token_ids
    assert np.array_equal(replies[0].pcm, replies[1].pcm)


def test_without_the_second_graph_a_bundle_has_six_components(golden: Path, tmp_path: Path) -> None:
    export_bundle(golden / "checkpoint", tmp_path / "b", precision=precision_plan("int4", int8_prefill=False))
    assert len(Bundle.open(tmp_path / "b").components) == 6


def test_an_unknown_precision_or_block_is_refused() -> None:
    with pytest.raises(Misuse, match="int2"):
        precision_plan("int2")
    with pytest.raises(Misuse, match="block of 48"):
        precision_plan("int4", block=48)
