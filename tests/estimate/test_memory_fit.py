"""Does it fit: sizes by hand, verdicts at their borders, and advice that holds."""

from __future__ import annotations

import dataclasses
import re

import pytest

from vita_edge.engines.bundle.work import ModelWork
from vita_edge.estimate.device_file import Device, read_devices
from vita_edge.estimate.memory_fit import advice, memory_fit
from vita_edge.estimate.weight_bits import PRECISIONS, weight_bits
from vita_edge.export.practice.presets import preset
from vita_edge.export.work import model_work

MIB = 2**20


@pytest.fixture(scope="module")
def full() -> ModelWork:
    return model_work(preset("full"))


@pytest.fixture(scope="module")
def board() -> Device:
    return read_devices().devices["orin-nx-16"]


def with_memory(board: Device, mib: float) -> Device:
    """The board with that much left for us."""
    return dataclasses.replace(board, memory_gib=(mib + board.system_mib) / 1024)


def test_half_precision_takes_two_bytes_a_weight(full: ModelWork, board: Device) -> None:
    weights = memory_fit(full, board, "fp16", 0).weights
    # the specification's rows: 12446.6 + 1039.5, 579.9 + 52.5, 682.7 + 34.0, 29.3 + 1.3 MiB
    assert weights["llm"] / MIB == pytest.approx(13486.1, abs=0.2)
    assert weights["vision"] / MIB == pytest.approx(632.4, abs=0.2)
    assert weights["audio"] / MIB == pytest.approx(716.7, abs=0.2)
    assert weights["codec"] / MIB == pytest.approx(30.6, abs=0.1)
    # its four layers are in two graphs
    assert (weights["speech_prefill"] + weights["speech_decoder"]) / MIB == pytest.approx(
        2 * 124.3 + 62.1 + 3.5, abs=0.2
    )


def test_four_bits_by_hand(full: ModelWork, board: Device) -> None:
    layer, head = full.parts.llm_layers.weights / 28, full.parts.llm_head.weights
    # 4 bits and a half-precision scale for 128 weights; first layer and head in 8
    expected = (27 * layer * 4.125 + layer * 8 + head * 8) / 8
    assert memory_fit(full, board, "int4", 0).weights["llm"] == pytest.approx(expected, abs=1)


def test_the_cache_grows_by_its_bytes_a_position(full: ModelWork, board: Device) -> None:
    assert memory_fit(full, board, "int4", 4096).kv_cache == 4096 * 57_344  # 224 MiB
    assert memory_fit(full, board, "int4", 6200).kv_cache / MIB == pytest.approx(339, abs=0.5)
    assert memory_fit(full, board, "fp32", 1).kv_cache == 2 * 57_344


def test_a_cache_that_grows_by_a_copy_is_held_twice(full: ModelWork, board: Device) -> None:
    older = dataclasses.replace(board, target="tensorrt-10.3")
    once, twice = (memory_fit(full, each, "int4", 4096) for each in (board, older))
    assert (twice.kv_cache, twice.speech_kv_cache) == (2 * once.kv_cache, 2 * once.speech_kv_cache)
    assert twice.needed - once.needed == once.kv_cache + once.speech_kv_cache


def test_what_is_needed_is_the_sum_and_embeddings_are_not_in_it(full: ModelWork, board: Device) -> None:
    engine_file = memory_fit(full, board, "int8", 2048)
    parts = (engine_file.kv_cache, engine_file.speech_kv_cache, engine_file.activations, engine_file.runtime)
    assert engine_file.needed == sum(engine_file.weights.values()) + sum(parts)
    assert engine_file.on_disk / MIB == pytest.approx(1039.5, abs=0.1)
    assert engine_file.available == (16 * 1024 - board.system_mib) * MIB


def test_activations_cover_what_the_compiler_reserves_for_a_talk(full: ModelWork, board: Device) -> None:
    # TensorRT for RTX, int4: 81.4 MB for prompts, less for tiles and pieces, and 52.4 MB for the codec beside them
    assert 81.4 + 52.4 < memory_fit(full, board, "int4", 8192).activations / 1e6 < 2 * (81.4 + 52.4)


def test_verdicts_change_where_they_should(full: ModelWork, board: Device) -> None:
    needed = memory_fit(full, board, "int4", 4096).needed / MIB

    def verdict(mib: float) -> str:
        return memory_fit(full, with_memory(board, mib), "int4", 4096).verdict

    assert verdict(needed / 0.9 + 1) == "fits"
    assert verdict(needed / 0.9 - 1) == "tight"
    assert verdict(needed + 1) == "tight"
    assert verdict(needed - 1) == "no"


@pytest.mark.parametrize(
    ("mib", "precision", "says"),
    [
        (14_336, "fp16", r"at int8 it would fit"),
        (6_400, "fp16", r"at int4 it would fit"),
        (5_800, "int4", r"with a context of ([\d,]+) tokens it would fit"),
        (5_850, "int8", r"at int4 and with a context of ([\d,]+) tokens it would fit"),
    ],
)
def test_advice_holds(full: ModelWork, board: Device, mib: int, precision: str, says: str) -> None:
    small = with_memory(board, mib)
    assert memory_fit(full, small, precision, 4096).verdict == "no"
    reported = advice(full, small, precision, 4096) or ""
    found = re.fullmatch(says, reported)
    assert found, reported
    other = re.search(r"int\d", reported)
    context = int(found[1].replace(",", "")) if found.groups() else 4096
    better = other[0] if other else precision
    assert memory_fit(full, small, better, context).verdict != "no"
    if context < 4096:
        assert memory_fit(full, small, better, context + 256).verdict == "no"


def test_where_nothing_helps_it_is_said(full: ModelWork, board: Device) -> None:
    assert advice(full, with_memory(board, 3000), "int4", 4096) is None


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("backend", ["tensorrt", "onnxruntime-cpu"])
def test_weights_are_never_fewer_than_their_bits(full: ModelWork, backend: str, precision: str) -> None:
    bits = {"fp32": 32, "fp16": 16, "int8": 8, "int4": 4}[precision]
    held = sum(weight_bits(backend, precision).weights(full).values())
    assert held > (full.weights - full.parts.embedding.weights) * bits / 8
