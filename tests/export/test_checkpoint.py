"""A checkpoint is opened whole or refused with everything that is wrong with it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tokenizers import Tokenizer

from vita_edge.engines.bundle.facts import SamplingFacts
from vita_edge.engines.errors import BadCheckpoint, Misuse
from vita_edge.export.checkpoint.layout import expected_tensors
from vita_edge.export.checkpoint.open_checkpoint import Checkpoint
from vita_edge.export.checkpoint.safetensors_file import open_safetensors, write_safetensors
from vita_edge.export.checkpoint.tensor import LazyTensor, StreamedTensor
from vita_edge.export.practice.files import AUDIO_FOLDER, VISION_FOLDER
from vita_edge.export.practice.write_practice import write_practice_checkpoint

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"
CMVN = "model.audio_encoder.encoder.global_cmvn"
NORM = "model.layers.1.input_layernorm.weight"


@pytest.fixture(scope="module")
def tiny_a() -> Checkpoint:
    folder = GOLDEN / "tiny-a" / "checkpoint"
    if not folder.is_dir():
        pytest.skip("the golden data are not here")
    return Checkpoint.open(folder)


@pytest.fixture(scope="module")
def pristine() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield write_practice_checkpoint(Path(folder) / "tiny", "tiny")


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A practice checkpoint to spoil."""
    return Path(shutil.copytree(pristine, tmp_path / "checkpoint"))


def edit_json(file: Path, **changes: Any) -> None:
    """Set keys; None removes one."""
    values = json.loads(file.read_text())
    table = values[2] if isinstance(values, list) else values
    for key, value in changes.items():
        table[key] = value
        if value is None:
            del table[key]
    file.write_text(json.dumps(values))


def edit_train(folder: Path, section: str, **changes: Any) -> None:
    """Set keys of train.yaml, written with underscores; None removes one."""
    file = folder / AUDIO_FOLDER / "train.yaml"
    values = yaml.safe_load(file.read_text())
    table = values
    for key in section.split("."):
        table = table[key]
    for key, value in changes.items():
        name = next((known for known in table if known.replace("-", "_").endswith(key)), key)
        table[name] = value
        if value is None:
            del table[name]
    file.write_text(yaml.safe_dump(values))


def streamed(tensor: LazyTensor) -> StreamedTensor:
    def pieces() -> Iterator[np.ndarray[Any, Any]]:
        yield tensor.raw_rows(0, tensor.shape[0])

    return StreamedTensor(tensor.shape, tensor.dtype, pieces)


def rewrite_main(folder: Path, change: Callable[[dict[str, StreamedTensor]], object]) -> None:
    """Change the main weights, which become one file without index."""
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    shards = sorted(set(index["weight_map"].values()))
    tensors = {n: streamed(t) for shard in shards for n, t in open_safetensors(folder / shard).items()}
    change(tensors)
    write_safetensors(folder / "model.safetensors", tensors)
    for shard in shards:
        (folder / shard).unlink()
    (folder / "model.safetensors.index.json").unlink()


def zeros(*shape: int, dtype: str = "float32") -> StreamedTensor:
    return StreamedTensor(shape, dtype, lambda: iter([np.zeros(shape, np.float32)]))


def refused(folder: Path) -> BadCheckpoint:
    with pytest.raises(BadCheckpoint) as raised:
        Checkpoint.open(folder)
    assert raised.value.why
    assert raised.value.fix
    return raised.value


# --- the golden checkpoint


def test_the_golden_checkpoint_opens_with_all_its_parts(tiny_a: Checkpoint) -> None:
    config = tiny_a.config
    assert (config.llm.hidden_size, config.llm.heads, config.llm.kv_heads, config.llm.eos_token_ids) == (
        128,
        8,
        2,
        (598,),
    )
    assert (config.vision.image_size, config.vision.max_tiles, config.vision.use_thumbnail) == (112, 12, True)
    assert (config.audio.chunk_size, config.audio.left_chunks, config.audio.adapter_gelu) == (4, 3, True)
    assert (config.speech.width, config.speech.pre_layers) == (32, 2)
    assert (config.codec.samples_per_code, config.codec.streams) == (600, 1)
    for part, shapes in expected_tensors(config).items():
        found = getattr(tiny_a, part)
        assert {name: tensor.shape for name, tensor in found.items()} == shapes
        assert all(np.isfinite(tensor.read()).all() for tensor in found.values())


def test_rows_equal_the_same_rows_of_the_whole(tiny_a: Checkpoint) -> None:
    for tensor in (*tiny_a.main.values(), *tiny_a.codec.values()):
        half = tensor.shape[0] // 2
        np.testing.assert_array_equal(tensor.rows(half, tensor.shape[0]), tensor.read()[half:])


def test_the_rounded_statistics_of_the_shards_win(tiny_a: Checkpoint) -> None:
    mean = tiny_a.main[f"{CMVN}.mean"]
    assert mean.dtype == "bfloat16"
    assert mean.file.suffix == ".safetensors"


def test_the_tokenizer_built_from_its_parts_equals_the_one_in_the_file(tiny_a: Checkpoint, tmp_path: Path) -> None:
    for name in ("vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json"):
        shutil.copy(tiny_a.path / name, tmp_path / name)
    given = Tokenizer.from_str(tiny_a.tokenizer_json())
    built = Tokenizer.from_str(replace(tiny_a, path=tmp_path).tokenizer_json())
    (tmp_path / "added_tokens.json").unlink()
    without_added = Tokenizer.from_str(replace(tiny_a, path=tmp_path).tokenizer_json())
    for text in (
        "Hello, it's 123 ☞ 你好。",
        "<|im_start|>user\nx <tool_call>y<|im_end|>\n\n  e\u0301  ",
        "a\r\n\n b'LL",
    ):
        ids = given.encode(text).ids
        assert built.encode(text).ids == ids == without_added.encode(text).ids
        for skip in (True, False):
            assert built.decode(ids, skip_special_tokens=skip) == given.decode(ids, skip_special_tokens=skip)


# --- where files are looked for


def test_side_folders_are_found_by_path_by_name_and_by_content(folder: Path) -> None:
    for name in (f"{AUDIO_FOLDER}", str(folder / AUDIO_FOLDER), f"some/where/{AUDIO_FOLDER}", "VITA-MLLM/other", None):
        edit_json(folder / "config.json", mm_audio_encoder=name or "")
        Checkpoint.open(folder)
    vision = folder / VISION_FOLDER
    for place in (folder / "eyes", folder.parent / VISION_FOLDER, folder.parent / "eyes"):
        vision = vision.rename(place)
        Checkpoint.open(folder)
    elsewhere = folder.parent / "a" / "b"
    elsewhere.parent.mkdir()
    vision = vision.rename(elsewhere)
    assert "--vision-tower" in refused(folder).fix
    Checkpoint.open(folder, vision_tower=elsewhere)
    with pytest.raises(Misuse):
        Checkpoint.open(folder, vision_tower=folder / "nothing")
    with pytest.raises(BadCheckpoint, match="InternViT"):
        Checkpoint.open(folder, vision_tower=folder)


def test_two_folders_that_could_be_meant_are_refused(folder: Path) -> None:
    shutil.copytree(folder / AUDIO_FOLDER, folder / "another")
    assert "several audio folders" in refused(folder).what


def test_the_folder_of_the_live_demo_is_read_through_its_original_config(folder: Path) -> None:
    flat = json.loads((folder / "config.json").read_text())
    plain = Checkpoint.open(folder).config
    original = {key: value for key, value in flat.items() if "dynamic_patch" not in key}
    nested = {"model_type": "qwen2_vita", "text_config": {"hidden_size": 1}, "max_dynamic_patch": 3}
    (folder / "origin_config.json").write_text(json.dumps(original))
    (folder / "config.json").write_text(json.dumps(nested))
    assert Checkpoint.open(folder).config == replace(plain, vision=replace(plain.vision, max_tiles=3))

    (folder / "origin_config.json").unlink()
    text = {key: value for key, value in flat.items() if not key.startswith(("mm_", "_name", "audio", "image"))}
    (folder / "config.json").write_text(json.dumps(nested | {"text_config": text}))
    opened = Checkpoint.open(folder)
    assert opened.config.llm == plain.llm
    assert any("text_config" in note for note in opened.notes)


def test_absent_tile_limits_are_one_twelve_and_a_thumbnail(folder: Path) -> None:
    edit_json(folder / "config.json", min_dynamic_patch=None, max_dynamic_patch=None, use_thumbnail=None)
    vision = Checkpoint.open(folder).config.vision
    assert (vision.min_tiles, vision.max_tiles, vision.use_thumbnail) == (1, 12, True)


def test_stop_ids_come_from_the_generation_config_first(folder: Path) -> None:
    edit_json(folder / "config.json", eos_token_id=5)
    edit_json(folder / "generation_config.json", eos_token_id=[7, 8], repetition_penalty=1.1)
    llm = Checkpoint.open(folder).config.llm
    assert (llm.eos_token_ids, llm.repetition_penalty) == ((7, 8), 1.1)
    (folder / "generation_config.json").unlink()
    llm = Checkpoint.open(folder).config.llm
    assert (llm.eos_token_ids, llm.repetition_penalty) == ((5,), 1.0)


def test_the_generation_config_advises_how_to_draw_when_it_draws(folder: Path) -> None:
    edit_json(folder / "generation_config.json", temperature=0.7, top_k=20, top_p=0.8)
    assert Checkpoint.open(folder).config.llm.sampling == SamplingFacts()
    edit_json(folder / "generation_config.json", do_sample=True)
    assert Checkpoint.open(folder).config.llm.sampling == SamplingFacts(0.7, 20, 0.8)
    edit_json(folder / "generation_config.json", top_k=None)
    assert Checkpoint.open(folder).config.llm.sampling.top_k == 50


# --- which weights win


def test_one_file_without_index_is_as_good_as_shards(folder: Path, pristine: Path) -> None:
    rewrite_main(folder, lambda tensors: None)
    one, many = Checkpoint.open(folder), Checkpoint.open(pristine)
    for name, tensor in one.main.items():
        np.testing.assert_array_equal(tensor.read(), many.main[name].read())


def test_missing_statistics_come_from_final_pt_and_then_from_the_text(folder: Path) -> None:
    def drop(tensors: dict[str, StreamedTensor]) -> None:
        del tensors[f"{CMVN}.mean"], tensors[f"{CMVN}.istd"]

    rewrite_main(folder, drop)
    opened = Checkpoint.open(folder)
    assert opened.main[f"{CMVN}.istd"].file.name == "final.pt"
    assert sum("final.pt" in note for note in opened.notes if "CMVN" in note) == 2

    (folder / AUDIO_FOLDER / "final.pt").unlink()
    opened = Checkpoint.open(folder)
    assert any("global_cmvn" in note for note in opened.notes)
    file = folder / AUDIO_FOLDER / "global_cmvn"
    sums = json.loads(file.read_text())
    mean = np.array(sums["mean_stat"]) / sums["frame_num"]
    deviation = np.sqrt(np.array(sums["var_stat"]) / sums["frame_num"] - mean**2)
    for name, expected in (("mean", mean), ("istd", 1 / deviation)):
        tensor = opened.main[f"{CMVN}.{name}"]
        np.testing.assert_array_equal(tensor.read(), expected.astype(np.float32))
        np.testing.assert_array_equal(tensor.rows(3, 5), expected.astype(np.float32)[3:5])

    numbers = [*sums["mean_stat"], sums["frame_num"], *sums["var_stat"], 0]
    file.write_text(" [ " + " ".join(map(repr, numbers)) + " ]\n")
    np.testing.assert_array_equal(Checkpoint.open(folder).main[f"{CMVN}.mean"].read(), mean.astype(np.float32))
    file.write_text("[ 1 2 3 ]")
    assert "global_cmvn" in refused(folder).what


def test_a_parameter_of_the_audio_encoder_is_never_taken_from_final_pt(folder: Path) -> None:
    name = "model.audio_encoder.adpter.project.bias"
    rewrite_main(folder, lambda tensors: tensors.pop(name))
    error = refused(folder)
    assert f"{name} [64] is missing" in error.why
    assert "random values" in error.fix


def test_buffers_that_can_be_computed_are_ignored(folder: Path) -> None:
    def add(tensors: dict[str, StreamedTensor]) -> None:
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = zeros(8)
        tensors["model.audio_encoder.encoder.enc.1.embed.pos_enc.pe"] = zeros(1, 5, 32)
        tensors["model.audio_encoder.adpter.bn2.num_batches_tracked"] = zeros(1)

    rewrite_main(folder, add)
    assert "model.layers.0.self_attn.rotary_emb.inv_freq" not in Checkpoint.open(folder).main


def test_a_tied_output_layer_is_the_embedding(folder: Path) -> None:
    edit_json(folder / "config.json", tie_word_embeddings=True)
    opened = Checkpoint.open(folder)
    assert "lm_head.weight" not in opened.main
    assert any("tied" in note for note in opened.notes)
    rewrite_main(folder, lambda tensors: tensors.pop("lm_head.weight"))
    assert Checkpoint.open(folder).config.llm.tied


def test_unused_tensors_of_the_speech_decoder_are_mentioned_and_ignored(folder: Path) -> None:
    opened = Checkpoint.open(folder)
    assert any("2 tensors that VITA-1.5 never uses" in note for note in opened.notes)
    assert not any(name.startswith("layers_prefix") for name in opened.speech)
    assert not any(name.startswith("encoder") for name in opened.codec)


def test_random_chunks_become_full_attention_and_are_mentioned(folder: Path) -> None:
    edit_train(folder, "encoder_conf.para_conf.transformer", dynamic_chunks=True)
    opened = Checkpoint.open(folder)
    assert (opened.config.audio.chunk_size, opened.config.audio.dynamic_chunks) == (0, True)
    assert any("Full attention" in note for note in opened.notes)


# --- what is refused


def test_everything_wrong_with_the_tensors_is_told_at_once(folder: Path) -> None:
    def spoil(tensors: dict[str, StreamedTensor]) -> None:
        del tensors[NORM]
        tensors["model.norm.weight"] = zeros(63)
        tensors["model.surprise.weight"] = zeros(2, 2)

    rewrite_main(folder, spoil)
    why = refused(folder).why
    assert f"{NORM} [64] is missing" in why
    assert "model.norm.weight has shape [63], expected [64]" in why
    assert "model.surprise.weight is left over" in why


def test_a_long_list_of_problems_is_cut(folder: Path) -> None:
    edit_json(folder / "config.json", num_hidden_layers=9)
    why = refused(folder).why
    assert len(why.splitlines()) == 1
    assert "main weights: 84 of " in why and "model.layers.2.input_layernorm.weight" in why
    assert why.endswith("… and 78 more")


def test_a_missing_shard_is_named(folder: Path) -> None:
    (folder / "model-00002-of-00003.safetensors").unlink()
    assert "1 of 3 shards: model-00002-of-00003.safetensors" in refused(folder).what


def test_a_shard_that_was_cut_off_is_named_wherever_it_ends(folder: Path) -> None:
    shard = folder / "model-00002-of-00003.safetensors"
    size = shard.stat().st_size
    for end in (size - 1, size // 2, 100, 8, 3, 0):
        os.truncate(shard, end)
        error = refused(folder)
        assert shard.name in error.what
        assert "cut off" in error.why or "empty" in error.why


@pytest.mark.parametrize("file", ["vita_tts_ckpt/decoder/final.pt", "vita_tts_ckpt/codec/final.pt"])
def test_a_torch_file_that_was_cut_off_is_named(folder: Path, file: str) -> None:
    os.truncate(folder / file, 50_000)
    assert file in refused(folder).what


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[]",
        b'{"a": 3}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]}}',
        b'{"a": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}',
    ],
)
def test_a_broken_header_is_refused(tmp_path: Path, header: bytes) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 16)
    with pytest.raises(BadCheckpoint, match=r"model\.safetensors"):
        open_safetensors(file)


@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("config.json", "hidden_size"),
        ("config.json", "mm_projector_type"),
        (f"{VISION_FOLDER}/config.json", "patch_size"),
        (f"{VISION_FOLDER}/preprocessor_config.json", "image_std"),
        ("vita_tts_ckpt/decoder/model.json", "transformer_num_blocks"),
        ("vita_tts_ckpt/codec/model.json", "global_tokens"),
    ],
)
def test_a_config_without_a_needed_key_is_named_with_the_key(folder: Path, file: str, key: str) -> None:
    edit_json(folder / file, **{key: None})
    assert refused(folder).what == f"{folder / file} has no {key}."


def test_a_missing_key_of_train_yaml_is_named_with_its_section(folder: Path) -> None:
    edit_train(folder, "encoder_conf.para_conf.transformer", chunk_size=None)
    assert refused(folder).what.endswith("no encoder_conf.para_conf.transformer.transformer-chunk_size.")


@pytest.mark.parametrize(
    "file", ["config.json", f"{AUDIO_FOLDER}/train.yaml", "vita_tts_ckpt/codec/model.json", "generation_config.json"]
)
def test_a_config_that_cannot_be_parsed_is_named(folder: Path, file: str) -> None:
    for content in (b"{", b"\xff\xfe", b"3"):
        (folder / file).write_bytes(content)
        assert file in refused(folder).what


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("config.json", "use_sliding_window", True),
        ("config.json", "mm_projector_type", "linear"),
        ("config.json", "hidden_act", "gelu"),
        ("config.json", "num_attention_heads", 5),
        ("config.json", "num_key_value_heads", 3),
        ("config.json", "hidden_size", "64"),
        ("config.json", "hidden_size", float("nan")),
        ("config.json", "num_hidden_layers", 0),
        ("config.json", "mm_hidden_size", 32),
        ("config.json", "max_dynamic_patch", 0),
        (f"{VISION_FOLDER}/config.json", "image_size", 126),
        (f"{VISION_FOLDER}/config.json", "image_size", 113),
        (f"{VISION_FOLDER}/config.json", "hidden_act", "quick_gelu"),
        (f"{VISION_FOLDER}/config.json", "norm_type", "batch_norm"),
        (f"{VISION_FOLDER}/config.json", "num_attention_heads", 3),
        (f"{VISION_FOLDER}/preprocessor_config.json", "crop_size", 224),
        (f"{VISION_FOLDER}/preprocessor_config.json", "image_mean", [0.5]),
        ("vita_tts_ckpt/decoder/model.json", "transformer_attention_dim", 64),
        ("vita_tts_ckpt/decoder/model.json", "transformer_attention_heads", 3),
        ("vita_tts_ckpt/decoder/model.json", "idim", 24),
        ("vita_tts_ckpt/codec/model.json", "resblock", "3"),
        ("vita_tts_ckpt/codec/model.json", "residul_layer", 3),
        ("vita_tts_ckpt/codec/model.json", "upsample_kernel_sizes", [15, 11, 11, 5]),
        ("vita_tts_ckpt/codec/model.json", "upsample_kernel_sizes", [16, 11, 11]),
        ("vita_tts_ckpt/codec/model.json", "resblock_kernel_sizes", [3, 4]),
        ("vita_tts_ckpt/codec/model.json", "resblock_dilation_sizes", [[1, 3, 5], [1, 3]]),
        ("vita_tts_ckpt/codec/model.json", "n_code_groups", 3),
        ("vita_tts_ckpt/codec/model.json", "global_tokens", [1, 2, 3]),
        ("vita_tts_ckpt/codec/model.json", "upsample_initial_channel", 8),
    ],
)
def test_an_option_that_is_not_supported_is_named_with_its_file(folder: Path, file: str, key: str, value: Any) -> None:
    edit_json(folder / file, **{key: value})
    what = refused(folder).what
    assert Path(file).name in what
    assert key in what or key == "idim"


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("model_conf", "adpter_type", "cnn"),
        ("model_conf", "norm", "none"),
        ("encoder_conf.para_conf.transformer", "pos_enc_class", "abs-enc"),
        ("encoder_conf.para_conf.transformer", "normalize_before", False),
        ("encoder_conf.para_conf.transformer", "concat_after", True),
        ("encoder_conf.para_conf.transformer", "positionwise_layer_type", "conv1d"),
        ("encoder_conf.para_conf.transformer", "attention_heads", 5),
        ("encoder_conf.para_conf.transformer", "input_layer", "embed"),
        ("encoder_conf.para_conf.subsampling", "rate", 8),
        ("encoder_conf.overview_conf", "encoder_layer_config", "transformer"),
        ("dataset_conf.resample_conf", "resample_rate", 8000),
    ],
)
def test_an_audio_option_that_is_not_supported_is_named(folder: Path, section: str, key: str, value: Any) -> None:
    edit_train(folder, section, **{key: value})
    assert f"train.yaml: {section}." in refused(folder).what


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    assert "config.json" in refused(tmp_path).what
    assert "no checkpoint folder" in refused(tmp_path / "nothing").what
