"""How much there is to do, against the numbers of the specification's table of sizes (spec: sizes)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.bundle.work import DecoderShape, ModelWork
from vita_edge.export.bundle import export_bundle
from vita_edge.export.checkpoint.config import CheckpointConfig
from vita_edge.export.practice.presets import PRESETS, preset
from vita_edge.export.practice.write_practice import write_checkpoint
from vita_edge.export.work import model_work
from vita_edge.runtime.speech.speech_decoder import MAX_CODES


@pytest.fixture(scope="module")
def full() -> ModelWork:
    return model_work(preset("full"))


def test_the_parts_of_the_released_model_have_the_weights_of_the_specification(full: ModelWork) -> None:
    millions = {name: part.weights / 1e6 for name, part in full.parts.all().items()}
    assert millions == pytest.approx(
        {
            "embedding": 545.0,
            "llm_layers": 6525.6,
            "llm_head": 545.0,
            "vision": 304.0,
            "projector": 27.5,
            "audio_encoder": 358.0,
            "audio_adapter": 17.8,
            "speech_prefix": 32.6,
            "speech_layers": 65.1,
            "speech_head": 1.8,
            "codec": 15.4 + 0.66,
        },
        abs=0.06,
    )
    assert full.weights / 1e6 == pytest.approx(8438.5, abs=0.1)


@pytest.mark.parametrize(("bits", "mib"), [(16, 16095), (8, 8048), (4, 4024), (4 + 16 / 128, 4150)])
def test_all_weights_together_take_the_mib_of_the_specification(full: ModelWork, bits: float, mib: int) -> None:
    assert full.weights * bits / 8 / 2**20 == pytest.approx(mib, abs=1)


def test_a_position_takes_the_cache_bytes_of_the_specification(full: ModelWork) -> None:
    assert full.llm.kv_values() * 2 == 57_344
    assert full.speech.kv_values() * 2 == 14_336


def test_a_layer_by_hand(full: ModelWork) -> None:
    matrices = 3584 * (28 + 2 * 4) * 128 + 3584 * 3584 + 3 * 3584 * 18944
    assert full.parts.llm_layers.macs == 28 * matrices
    assert full.parts.llm_head.macs == 152064 * 3584


def test_attention_by_hand() -> None:
    shape = DecoderShape(layers=2, heads=3, kv_heads=1, head_dim=4)
    # three new positions over five old ones see 6, 7 and 8; scores and sums are 2 MACs a value
    assert shape.attention_macs(3, 5) == 2 * 2 * 3 * 4 * (6 + 7 + 8)


def test_a_second_of_sound_takes_the_codec_27_4_gflop(full: ModelWork) -> None:
    assert full.parts.codec.convolution_macs * 2 * full.codes_per_second / 1e9 == pytest.approx(27.4, abs=0.1)


def test_a_step_of_the_audio_front_by_hand(full: ModelWork) -> None:
    # 80 bins become 39 and 19; a step of 40 ms has two rows of the first convolution and one of the second
    assert full.parts.audio_encoder.convolution_macs == 2 * 39 * 9 * 1024 + 19 * 9 * 1024 * 1024


def test_a_bundle_counts_the_weights_of_its_graphs(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint", preset("tiny"))
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle")
    bundle = Bundle.open(tmp_path / "bundle")
    work = bundle.work
    assert work is not None
    parts, graphs = work.parts, {name: part.parameters for name, part in bundle.components.items()}
    assert parts.llm_layers.weights + parts.llm_head.weights == graphs["llm"]
    assert parts.audio_encoder.weights + parts.audio_adapter.weights == graphs["audio"]
    assert parts.speech_layers.weights + parts.speech_head.weights == graphs["speech_decoder"]
    # layer scales and the class token are folded away, tables of unused voices are left behind, and of the last layer
    # of the prefix only keys and values are used
    assert 0 <= parts.vision.weights + parts.projector.weights - graphs["vision"] < 0.01 * graphs["vision"]
    assert graphs["codec"] < parts.codec.weights
    assert graphs["speech_prefill"] < parts.speech_prefix.weights + parts.speech_layers.weights


@pytest.mark.parametrize("size", PRESETS)
def test_what_is_written_into_a_manifest_is_read_back(size: str) -> None:
    work = model_work(preset(size))
    assert ModelWork.from_json(json.loads(json.dumps(work.to_json()))) == work


def test_a_damaged_description_names_what_is_missing(full: ModelWork) -> None:
    data = full.to_json()
    del data["parts"]["codec"]["macs"]
    with pytest.raises(ValueError, match=r"work\.parts\.codec\.macs"):
        ModelWork.from_json(data)


@pytest.mark.parametrize(("size", "vectors", "positions"), [("tiny", 2, 3072), ("full", 4, 5120)])
def test_the_speech_context_has_room_for_the_longest_reply(size: str, vectors: int, positions: int) -> None:
    config: CheckpointConfig = preset(size)
    work = model_work(config)
    assert (work.vectors_per_token, work.speech_context_tokens) == (vectors, positions)
    assert positions >= 1024 * vectors + 1 + 1 + MAX_CODES  # bos, the text, sos and the codes
