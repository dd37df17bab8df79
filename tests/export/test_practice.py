"""Practice checkpoints: random, whole, in the layout of the release, with any sizes and options."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from vita_edge.engines.errors import Misuse, OutputFailed
from vita_edge.export.checkpoint.config import CheckpointConfig
from vita_edge.export.checkpoint.layout import expected_tensors
from vita_edge.export.checkpoint.open_checkpoint import Checkpoint
from vita_edge.export.checkpoint.torch_file import open_torch_file
from vita_edge.export.practice.files import AUDIO_FOLDER
from vita_edge.export.practice.presets import preset
from vita_edge.export.practice.tokenizer import practice_tokenizer
from vita_edge.export.practice.weights import BLOCK, practice_tensor
from vita_edge.export.practice.write_practice import write_checkpoint, write_practice_checkpoint

TINY = preset("tiny")


def with_options(**parts: dict[str, Any]) -> CheckpointConfig:
    return replace(TINY, **{part: replace(getattr(TINY, part), **changes) for part, changes in parts.items()})


OPTIONS = {
    "tied": with_options(llm={"tied": True}),
    "heads of 12 and 8": with_options(
        llm={"hidden_size": 96, "heads": 8, "kv_heads": 1},
        speech={"width": 48, "heads": 6},
        vision={"hidden_size": 40, "heads": 5},
    ),
    "heads of 20": with_options(llm={"hidden_size": 80, "heads": 4, "kv_heads": 4}, speech={"width": 40, "layers": 3}),
    "batch norm, kernel 3, ReLU": with_options(
        audio={"adapter_norm": "batch", "adapter_kernel": 3, "adapter_gelu": False}
    ),
    "prompt rows": with_options(audio={"prompt_rows": 6}),
    "no chunks": with_options(audio={"chunk_size": -1, "left_chunks": -1}),
    "random chunks": with_options(audio={"chunk_size": 0, "dynamic_chunks": True}),
    "other audio widths": with_options(audio={"mel_bins": 40, "conv_width": 24, "hidden_size": 36, "heads": 3}),
    "simple blocks": with_options(codec={"resblock": "2", "resblock_dilation_sizes": ((1, 3), (1, 2))}),
    "grouped and residual codes": with_options(codec={"n_code_groups": 2, "residual_layers": 2, "global_code_num": 8}),
    "four residual layers": with_options(codec={"residual_layers": 4}),
    "rms norm": with_options(vision={"norm_type": "rms_norm", "qk_normalization": True, "qkv_bias": False}),
    "pictures": with_options(
        vision={"image_size": 168, "min_tiles": 2, "max_tiles": 5, "use_thumbnail": False, "pad_frames": True}
    ),
    "one block of speech": with_options(speech={"layers": 1}),
    "stops and penalty": with_options(llm={"eos_token_ids": (3, 4), "repetition_penalty": 1.05}),
}


def digests(folder: Path) -> dict[str, str]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.parametrize("config", OPTIONS.values(), ids=OPTIONS.keys())
def test_what_was_asked_for_is_what_is_opened(config: CheckpointConfig, tmp_path: Path) -> None:
    opened = Checkpoint.open(write_checkpoint(tmp_path / "checkpoint", config, dtype="float16"))
    assert opened.config == config
    for part, shapes in expected_tensors(config).items():
        assert {name: tensor.shape for name, tensor in getattr(opened, part).items()} == shapes


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_the_values_are_the_same_in_every_type_up_to_rounding(dtype: str, tmp_path: Path) -> None:
    opened = Checkpoint.open(write_checkpoint(tmp_path / "c", TINY, seed=3, dtype=dtype, torch_dtype=dtype))
    for tensors in (opened.main, opened.speech):
        for name, tensor in tensors.items():
            assert tensor.dtype == dtype
            if name != "lm_head.weight":  # its rows are scaled
                exact = np.concatenate([p.ravel() for p in practice_tensor(name, tensor.shape, "float32", 3).pieces()])
                np.testing.assert_allclose(tensor.read().ravel(), exact, rtol=2**-8, atol=1e-6)


def test_the_tiny_preset_is_small_and_in_the_layout_of_the_release(tmp_path: Path) -> None:
    folder = write_practice_checkpoint(tmp_path / "tiny", "tiny")
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 4 << 20
    assert {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()} == {
        "InternViT-300M-448px/config.json",
        "InternViT-300M-448px/preprocessor_config.json",
        "added_tokens.json",
        f"{AUDIO_FOLDER}/final.pt",
        f"{AUDIO_FOLDER}/global_cmvn",
        f"{AUDIO_FOLDER}/train.yaml",
        "config.json",
        "generation_config.json",
        "merges.txt",
        "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors",
        "model-00003-of-00003.safetensors",
        "model.safetensors.index.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vita_tts_ckpt/codec/final.pt",
        "vita_tts_ckpt/codec/model.json",
        "vita_tts_ckpt/decoder/final.pt",
        "vita_tts_ckpt/decoder/model.json",
        "vocab.json",
    }


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_weights(tmp_path: Path) -> None:
    first, again, other = (
        digests(write_practice_checkpoint(tmp_path / name, "tiny", seed=seed))
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first == again
    assert {name for name in first if first[name] != other[name]} == {
        n for n in first if n.endswith((".pt", "safetensors"))
    }


def test_the_full_preset_has_the_sizes_of_the_release() -> None:
    counts = {
        part: sum(int(np.prod(shape)) for shape in shapes.values())
        for part, shapes in expected_tensors(preset("full")).items()
    }
    assert round(counts["main"] / 1e6, 1) == 8322.9
    assert round(sum(counts.values()) / 1e6, 1) == 8438.6  # with both halves of weight normalisation


def test_no_row_of_a_large_tensor_repeats_and_no_two_layers_are_equal() -> None:
    shape = (3 * BLOCK // 512, 512)
    rows = np.concatenate(list(practice_tensor("model.layers.0.mlp.up_proj.weight", shape, "float32", 0).pieces()))
    rows = rows.reshape(shape)
    assert len(np.unique(rows[:, :4], axis=0)) == len(rows)
    other = next(practice_tensor("model.layers.1.mlp.up_proj.weight", shape, "float32", 0).pieces())
    assert abs(np.corrcoef(rows.ravel()[: other.size], other)[0, 1]) < 0.01


def test_the_stand_alone_audio_weights_differ_from_the_ones_in_the_shards(tmp_path: Path) -> None:
    folder = write_practice_checkpoint(tmp_path / "tiny", "tiny")
    name = "encoder.enc.1.after_norm.weight"
    stand_alone = open_torch_file(folder / AUDIO_FOLDER / "final.pt")[name]
    assert not isinstance(stand_alone, dict)
    assert not np.allclose(stand_alone.read(), Checkpoint.open(folder).main[f"model.audio_encoder.{name}"].read())


@pytest.mark.parametrize(
    ("rows", "hands", "end"), [(640, (258, 257, 259), 604), (152064, (145789, 144766, 146164), 151645)]
)
def test_hands_are_one_token_each_and_words_are_reachable(rows: int, hands: tuple[int, ...], end: int) -> None:
    made = practice_tokenizer(rows)
    tokenizer = Tokenizer.from_str(made.files()["tokenizer.json"])
    assert tuple(tokenizer.encode(hand).ids[0] for hand in "☜☞☟") == hands
    assert all(len(tokenizer.encode(hand).ids) == 1 for hand in "☜☞☟")
    assert tokenizer.encode("<|im_end|>").ids == [end]
    assert sorted(tokenizer.get_vocab().values()) == list(range(tokenizer.get_vocab_size()))
    assert tokenizer.get_vocab_size() <= rows
    text = "Hello, 你好! é 42\n\n ☞ yes"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    spaced = [number for token, number in made.vocabulary.items() if token.startswith("Ġ") and len(token) > 1]
    for number in spaced[:: max(len(spaced) // 500, 1)]:
        word = tokenizer.decode([number])
        assert tokenizer.encode(word).ids == [number]
        assert word.strip().isalpha()


def test_a_tokenizer_in_parts_equals_the_whole(tmp_path: Path) -> None:
    opened = Checkpoint.open(write_practice_checkpoint(tmp_path / "tiny", "tiny"))
    whole = json.loads(opened.tokenizer_json())
    (opened.path / "tokenizer.json").unlink()
    assert json.loads(opened.tokenizer_json()) == whole


def test_progress_ends_with_everything_written(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    write_practice_checkpoint(tmp_path / "tiny", "tiny", progress=lambda *call: calls.append(call))
    done = [call[1] for call in calls]
    assert done == sorted(done)
    assert calls[-1][1] == calls[-1][2]


def test_an_existing_folder_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(Misuse, match="not empty"):
        write_practice_checkpoint(tmp_path, "tiny")
    with pytest.raises(Misuse, match="not empty"):
        write_practice_checkpoint(tmp_path / "mine.txt", "tiny")
    with pytest.raises(Misuse, match="no size"):
        write_practice_checkpoint(tmp_path / "new", "huge")
    (tmp_path / "empty").mkdir()
    Checkpoint.open(write_practice_checkpoint(tmp_path / "empty", "tiny"))


def test_the_folder_that_one_is_in_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Misuse, match="folder that you are in"):
        write_practice_checkpoint(".", "tiny")


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OutputFailed, match="MiB are free"):
        write_practice_checkpoint(tmp_path / "tiny", "tiny")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputFailed, match="Cannot write"):
        write_practice_checkpoint(tmp_path / "tiny", "tiny", progress=fail)
    assert list(tmp_path.iterdir()) == []
