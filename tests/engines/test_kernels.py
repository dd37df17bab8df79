"""What TensorRT-RTX compiles of the graphs, without a GPU: fused attention, narrow weights, no float32 unasked for.

Compiled for SM86 and SM89, never run. The full TensorRT may choose other kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vita_edge.engines.bundle.format import Bundle
from vita_edge.export.bundle import export_bundle
from vita_edge.export.checkpoint.config import CheckpointConfig, SpeechConfig
from vita_edge.export.practice.presets import preset
from vita_edge.export.practice.write_practice import write_checkpoint

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (pip install tensorrt-rtx)")

from kernels import Compiled, Profile, Refused, compile_graph

CAPACITY = 1024
LAYERS = {"vision": 2, "audio": 2, "llm": 2, "speech_prefill": 2, "speech_decoder": 2, "codec": 0}
"""Layers that attend: ``speech_prefill`` has one before the prefix and two for the cache, of which the last gives only
keys and values."""
STEP: Profile = {"tokens": (1, 1, 1), "seen": (CAPACITY,) * 3}
PROMPT: Profile = {"tokens": (2, 64, 128), "seen": (256, 256, CAPACITY)}
FLAGS = {"opening": (0, 0, 1), "ending": (0, 1, 1)}
PROFILES: dict[str, list[Profile]] = {
    "vision": [{"tiles": (1, 1, 2)}],
    "audio": [{"frames": (7, 51, 131), "past": (0, 12, 12), "carried": (0, 4, 4), **FLAGS}],
    "llm": [STEP, PROMPT],
    "speech_prefill": [{"vectors": (1, 32, 64)}],
    "speech_decoder": [STEP],
    "codec": [{"frames": (1, 40, 80)}],
}


def small() -> CheckpointConfig:
    """Layers of the release's widths of a head, wide enough that no kernel is chosen for being tiny."""
    tiny = preset("tiny")
    return replace(
        tiny,
        name="practice/small",
        llm=replace(tiny.llm, hidden_size=512, intermediate_size=1024, heads=8),
        vision=replace(tiny.vision, hidden_size=256, intermediate_size=512, heads=4),
        audio=replace(tiny.audio, conv_width=64, hidden_size=256, intermediate_size=512, heads=4),
        speech=SpeechConfig(width=256, codes=256, layers=2, heads=4, intermediate_size=512),
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Bundle]:
    """``bundle(precision, target)`` of the small checkpoint, each written once."""
    folder = tmp_path_factory.mktemp("small")
    write_checkpoint(folder / "checkpoint", small())

    def made(precision: str, target: str = "tensorrt") -> Bundle:
        place = folder / f"{target}-{precision}"
        if not place.is_dir():
            export_bundle(folder / "checkpoint", place, precision=precision, target=target)
        return Bundle.open(place)

    return made


def compiled(bundle: Bundle, name: str, profiles: list[Profile] | None = None, device: str = "sm86") -> Compiled:
    return compile_graph(
        bundle.components[name].graph, profiles or PROFILES[name], devices=[device], fixed={"capacity": CAPACITY}
    )


def attending(result: Compiled, profile: int = 0) -> list[str]:
    return [kernel.name.split("_myl")[0] for kernel in result.of(profile) if kernel.attends]


@pytest.mark.parametrize("device", ["sm86", "sm89"])
@pytest.mark.parametrize("name", [name for name in LAYERS if name != "llm"])
def test_every_component_compiles_in_half_with_one_attention_a_layer(
    bundle: Callable[..., Bundle], name: str, device: str
) -> None:
    result = compiled(bundle("fp16"), name, device=device)
    kind = "_gemv_mha_v1" if name == "speech_decoder" else "_gemm_mha_v2"
    assert attending(result) == [kind] * LAYERS[name]
    assert not result.reading("Float")
    # between the kernels of a norm its sums may pass in float32, nothing else
    assert [k.name for k in result.in_float32() if not any("Normalization" in node for node in k.nodes)] == []


@pytest.mark.parametrize("precision", ["fp16", "int4"])
def test_a_step_attends_once_a_layer_and_reads_the_cache_where_it_lies(
    bundle: Callable[..., Bundle], precision: str
) -> None:
    result = compiled(bundle(precision), "llm")
    assert attending(result) == ["_gemv_mha_v1"] * 2
    assert attending(result, profile=1) == ["_gemm_mha_v2"] * 2
    for layer, kernel in enumerate(k for k in result.of(0) if k.attends):
        read = {t.name: t.shape for t in kernel.inputs}
        for part in ("key", "value"):
            assert read[f"present.{layer}.{part}"] == (1, 2, CAPACITY, 64)
    # nothing but the two caches themselves is as large as one: no copy for every head, none for every token
    whole_cache = 2 * CAPACITY * 64
    for profile in (0, 1):
        large = [t for k in result.of(profile) for t in k.outputs if np.prod(np.abs(t.shape)) >= whole_cache]
        assert all(t.name.startswith("present.") for t in large), large


@pytest.mark.parametrize("precision", ["fp16", "int4"])
def test_a_prompt_reads_what_it_sees_of_the_cache_once_for_all_heads_that_share_it(
    bundle: Callable[..., Bundle], precision: str
) -> None:
    """If as many positions as the cache has were always seen, it would be copied for each of the 8 heads."""
    for kernel in (k for k in compiled(bundle(precision), "llm").of(1) if k.attends):
        assert [t.shape for t in kernel.inputs].count((1, 2, -1, 64)) == 2
    whole = [STEP, {**PROMPT, "seen": (CAPACITY,) * 3}]
    copies = [t for k in compiled(bundle(precision), "llm", whole).of(1) if k.attends for t in k.inputs]
    assert (8, CAPACITY, 64) in [t.shape for t in copies]


def test_in_half_precision_steps_and_prompts_share_one_set_of_weights(bundle: Callable[..., Bundle]) -> None:
    planned = weight_bytes(bundle("fp16"), "llm")
    assert compiled(bundle("fp16"), "llm").weight_bytes == pytest.approx(planned, rel=0.01)


def test_four_bits_stay_four_bits_into_the_product(bundle: Callable[..., Bundle]) -> None:
    result = compiled(bundle("int4"), "llm")
    for profile in (0, 1):
        assert len(result.reading("Int4", profile)) == 4  # qkv, out, gate and up, down of the second layer
        assert len(result.reading("Int8", profile)) == 5  # of the first layer, and the head
        assert not [k.name for k in result.of(profile) if k.widens]
    planned = weight_bytes(bundle("int4"), "llm")
    assert result.weight_bytes == pytest.approx(planned, rel=0.02), "two profiles share one set of weights"


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "codec"])
def test_eight_bits_stay_eight_bits_into_the_product(bundle: Callable[..., Bundle], name: str) -> None:
    result = compiled(bundle("int8"), name, PROFILES[name][:1])
    products = layers_of(bundle("int8"), name)
    assert {node for k in result.reading("Int8") for node in k.nodes if node in products} == products
    assert not [k.name for k in result.of(0) if k.widens]
    # a convolution of three channels is given a fourth
    assert result.weight_bytes == pytest.approx(weight_bytes(bundle("int8"), name), rel=0.05)


@pytest.mark.parametrize("name", ["vision", "llm"])
def test_with_quantised_rows_the_products_are_int8(bundle: Callable[..., Bundle], name: str, tmp_path: Path) -> None:
    graph = tmp_path / f"{name}.onnx"
    products = quantise_rows(bundle("int8").components[name].graph, graph)
    result = compile_graph(graph, PROFILES[name][:1], fixed={"capacity": CAPACITY})
    int8 = [k for k in result.reading("Int8") if any(t.dtype == "Int8" for t in k.inputs)]
    assert len(int8) == products
    assert attending(result) == [attending(compiled(bundle("int8"), name, PROFILES[name][:1]))[0]] * 2


@pytest.mark.parametrize("precision", ["fp16", "int4"])
@pytest.mark.parametrize("name", [name for name in LAYERS if name != "codec"])
def test_the_graphs_for_10_3_compile_without_copies_of_the_cache_for_every_head(
    bundle: Callable[..., Bundle], name: str, precision: str
) -> None:
    past: Profile = {"past": (0, 128, CAPACITY)}
    profiles = [{**profile, **past} for profile in PROFILES[name][:1]]
    result = compiled(bundle(precision, "tensorrt-10.3"), name, profiles)
    if name not in ("audio", "speech_prefill"):  # there, at many rows, RTX widens what follows its attention
        assert not [k.name for k in result.of(0) if k.widens]
    if name == "llm":
        shapes = {t.shape for k in result.of(0) for t in k.outputs}
        assert (1, 8, -1, 64) not in shapes, "keys and values are folded, not repeated"


def test_a_graph_for_onnx_runtime_is_refused_and_the_node_is_named(bundle: Callable[..., Bundle]) -> None:
    with pytest.raises(Refused, match="GroupQueryAttention"):
        compile_graph(bundle("fp32", "onnxruntime").components["llm"].graph, [STEP], fixed={"capacity": CAPACITY})


def layers_of(bundle: Bundle, name: str) -> set[str]:
    """Names of the products with a matrix."""
    graph = onnx.load(bundle.components[name].graph, load_external_data=False).graph
    wide = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    return {node.name for node in graph.node if node.op_type == "MatMul" and node.input[1] in wide}


def weight_bytes(bundle: Bundle, name: str) -> int:
    """Bytes of the weights of a component, without what lies between pages."""
    graph = onnx.load(bundle.components[name].graph, load_external_data=False).graph
    return sum(int(e.value) for t in graph.initializer for e in t.external_data if e.key == "length")


def quantise_rows(source: Path, target: Path) -> int:
    """Put QuantizeLinear and DequantizeLinear before the rows of every product with a matrix, as calibration does;
    returns how many."""
    model = onnx.load(source)
    graph, nodes, quantised = model.graph, [], {}
    wide = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    graph.initializer.append(numpy_helper.from_array(np.array(0.05, np.float16), "rows.scale"))
    products = 0
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in wide:
            products += 1
            x = node.input[0]
            if x not in quantised:
                quantised[x] = f"{x}.rounded"
                nodes.append(
                    helper.make_node(
                        "QuantizeLinear", [x, "rows.scale"], [f"{x}.int8"], f"{x}.q", output_dtype=TensorProto.INT8
                    )
                )
                nodes.append(helper.make_node("DequantizeLinear", [f"{x}.int8", "rows.scale"], [quantised[x]]))
            node.input[0] = quantised[x]
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, target)
    return products
