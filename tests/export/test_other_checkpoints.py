"""Checkpoints with other options than the release: what the PyTorch reference computes, the bundle computes.

The weights are random, the reference records its arrays on the spot, and `verify` compares every stage.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from support.reference_plans import SHORT_PLAN
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import BadBundle
from vita_edge.export.bundle import export_bundle
from vita_edge.export.checkpoint.config import CheckpointConfig
from vita_edge.export.checkpoint.layout import CMVN
from vita_edge.export.checkpoint.safetensors_file import open_safetensors, write_safetensors
from vita_edge.export.checkpoint.tensor import LazyTensor, StreamedTensor
from vita_edge.export.checkpoint.torch_file import TensorTree, open_torch_file
from vita_edge.export.practice.files import AUDIO_FOLDER, VISION_FOLDER
from vita_edge.export.practice.presets import preset
from vita_edge.export.practice.torch_writer import StreamedTree, write_torch_file
from vita_edge.export.practice.write_practice import write_checkpoint
from vita_edge.export.prompts import DEFAULT_PROMPTS
from vita_edge.runtime import Assistant, SessionOptions, Sound, read_sound
from vita_edge.verification.parity import verify

pytest.importorskip("torch", reason="the reference needs PyTorch")

from vita_edge.verification.recorder.record_reference import ReferenceRecorder
from vita_edge.verification.reference import Reference

SAMPLE_RATES_HZ = {"zh_ask": 16_000, "stereo_44k": 44_100}
SIZES = {"square": (150, 150), "wide": (330, 120)}


def options(**parts: dict[str, Any]) -> CheckpointConfig:
    tiny = preset("tiny")
    return replace(tiny, **{part: replace(getattr(tiny, part), **changes) for part, changes in parts.items()})


# --- what a folder can look like, beyond its config files


def unwrapped_decoder(folder: Path) -> None:
    """decoder/final.pt without the wrapper ``model``."""
    file = folder / "vita_tts_ckpt" / "decoder" / "final.pt"
    tree = open_torch_file(file)["model"]
    assert isinstance(tree, dict)
    write_torch_file(file.with_suffix(".new"), streamed_tree(tree))
    file.with_suffix(".new").rename(file)


def only_older_tokenizer_files(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def vision_folder_beside(folder: Path) -> None:
    shutil.move(folder / VISION_FOLDER, folder.parent / VISION_FOLDER)


def cmvn_in_final_pt_only(folder: Path) -> None:
    for file in folder.glob("*.safetensors"):
        tensors = {name: streamed(tensor) for name, tensor in open_safetensors(file).items() if CMVN not in name}
        write_safetensors(file.with_suffix(".new"), tensors)
        file.with_suffix(".new").rename(file)
    for index in folder.glob("*.index.json"):
        table = json.loads(index.read_text())
        table["weight_map"] = {name: file for name, file in table["weight_map"].items() if CMVN not in name}
        index.write_text(json.dumps(table))


def cmvn_in_statistics_only(folder: Path) -> None:
    cmvn_in_final_pt_only(folder)
    file = folder / AUDIO_FOLDER / "final.pt"
    tree = {name: value for name, value in open_torch_file(file).items() if CMVN not in name}
    write_torch_file(file.with_suffix(".new"), streamed_tree(tree))
    file.with_suffix(".new").rename(file)


def end_sentences_soon(folder: Path, advantage: float) -> None:
    """Raise the logit of the end, so that the reference need not speak for long."""
    file = folder / "vita_tts_ckpt" / "decoder" / "final.pt"
    tree = open_torch_file(file)
    flat = tree.get("model", tree)
    assert isinstance(flat, dict)
    bias = flat["out_fnn.bias"]
    assert isinstance(bias, LazyTensor)
    values = bias.read()
    values[-2] += advantage
    changed = {**streamed_tree(flat), "out_fnn.bias": StreamedTensor(bias.shape, "float32", lambda: iter([values]))}
    write_torch_file(file.with_suffix(".new"), {"model": changed} if flat is not tree else changed)
    file.with_suffix(".new").rename(file)


def streamed(tensor: LazyTensor) -> StreamedTensor:
    def pieces() -> Iterator[np.ndarray[Any, Any]]:
        yield tensor.raw_rows(0, tensor.shape[0])

    return StreamedTensor(tensor.shape, tensor.dtype, pieces)


def streamed_tree(tree: TensorTree) -> StreamedTree:
    return {key: streamed_tree(value) if isinstance(value, dict) else streamed(value) for key, value in tree.items()}


@dataclass(frozen=True)
class Variant:
    """A checkpoint: its options, how its weights are stored, and what else is unusual about its folder."""

    config: CheckpointConfig
    dtype: str = "bfloat16"
    torch_dtype: str = "float32"
    shard_bytes: int = 200_000
    changes: tuple[Callable[[Path], None], ...] = ()
    seed: int = 11
    """Such that a sentence of the reference has some dozens of codes."""
    end_advantage: float = 0.0


VARIANTS = {
    "tied, batch norm, kernel 3, relu, prompt rows, no chunks, heads of 12": Variant(
        options(
            llm={"tied": True, "hidden_size": 96, "heads": 8, "kv_heads": 8},
            vision={"image_size": 84, "hidden_size": 40, "heads": 5},
            audio={"adapter_norm": "batch", "adapter_kernel": 3, "adapter_gelu": False}
            | {"prompt_rows": 3, "chunk_size": 0, "conv_width": 24, "hidden_size": 36, "heads": 3},
            speech={"width": 24, "heads": 2, "layers": 1},
        ),
        dtype="float16",
        shard_bytes=1 << 30,
        changes=(unwrapped_decoder, only_older_tokenizer_files),
        seed=36,
        end_advantage=1.0,
    ),
    "rms norm, normalised q and k, no qkv bias, one kv head, heads of 20, text statistics, penalty": Variant(
        options(
            llm={"hidden_size": 80, "heads": 4, "kv_heads": 1, "eos_token_ids": (2, 3), "repetition_penalty": 1.3},
            vision={"norm_type": "rms_norm", "qk_normalization": True, "qkv_bias": False, "image_size": 140}
            | {"pad_frames": True, "use_thumbnail": False, "layer_norm_eps": 1e-3},
            audio={"chunk_size": -1},
            speech={"width": 40, "heads": 2, "layers": 3},
        ),
        dtype="float32",
        torch_dtype="float16",
        changes=(cmvn_in_statistics_only,),
    ),
    "resblock 2, all chunks to the left, heads of 8, statistics in final.pt, vision folder beside": Variant(
        options(
            llm={"heads": 8, "kv_heads": 2},
            audio={"chunk_size": 3, "left_chunks": -1},
            speech={"heads": 4, "layers": 5},
            codec={"resblock": "2", "resblock_dilation_sizes": ((1, 3), (1, 5)), "upsample_rates": (3, 5, 5, 8)}
            | {"upsample_kernel_sizes": (5, 11, 11, 16), "upsample_initial_channel": 256},
        ),
        changes=(cmvn_in_final_pt_only, vision_folder_beside),
    ),
    "two groups of codes in two layers, random chunks": Variant(
        options(
            audio={"dynamic_chunks": True, "chunk_size": 0},
            codec={"n_code_groups": 2, "residual_layers": 2, "global_code_num": 4, "global_tokens": (1, 2, 3, 200)},
        ),
    ),
    "four layers of codes, no chunk to the left": Variant(
        options(audio={"chunk_size": 4, "left_chunks": 0}, codec={"residual_layers": 4}), torch_dtype="bfloat16"
    ),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sounds, pictures and a video with the names that the plan asks for: made up, and short."""
    import soundfile

    folder = tmp_path_factory.mktemp("inputs")
    random = np.random.default_rng(0)
    for name, rate in SAMPLE_RATES_HZ.items():
        time = np.arange(int(1.3 * rate)) / rate
        voice = 0.2 * np.sin(2 * np.pi * (200 + 300 * time) * time) + 0.05 * random.standard_normal(len(time))
        soundfile.write(folder / f"{name}.wav", np.stack([voice, -voice], 1), rate, subtype="PCM_16")
    for name, (width, height) in SIZES.items():
        picture(random, width, height).save(folder / f"{name}.png")
    (folder / "frames").mkdir()
    names = [f"frames/{i:03}.png" for i in range(6)]
    for name in names:
        picture(random, 130, 100).save(folder / name)
    for fps in (2, 20):
        (folder / f"clip_{fps}.json").write_text(json.dumps({"fps": fps, "frames": names}))
    return folder


def picture(random: np.random.Generator, width: int, height: int) -> Image.Image:
    coarse = random.integers(0, 255, (height // 10, width // 10, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module", params=VARIANTS, ids=lambda name: name.replace(" ", "-"))
def exported(
    request: pytest.FixtureRequest, inputs: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Variant]:
    """A folder with the checkpoint of a variant, its bundle, and the arrays of the reference."""
    variant, folder = VARIANTS[request.param], tmp_path_factory.mktemp("variant")
    checkpoint = folder / "checkpoint"
    write_checkpoint(
        checkpoint,
        variant.config,
        seed=variant.seed,
        dtype=variant.dtype,
        torch_dtype=variant.torch_dtype,
        shard_bytes=variant.shard_bytes,
    )
    for change in variant.changes:
        change(checkpoint)
    end_sentences_soon(checkpoint, variant.end_advantage)
    export_bundle(checkpoint, folder / "bundle")
    recorder = ReferenceRecorder(Reference(checkpoint, "float64"), inputs, DEFAULT_PROMPTS, SHORT_PLAN)
    recorder.record()
    recorder.write(folder / "golden" / "data")
    (folder / "golden" / "prompts.json").write_text(json.dumps(DEFAULT_PROMPTS))
    return folder, variant


def test_every_stage_of_the_bundle_is_what_the_reference_computes(exported: tuple[Path, Variant]) -> None:
    folder, _ = exported
    checks = list(verify(Bundle.open(folder / "bundle"), folder / "golden"))
    assert [check for check in checks if not check.passed] == []
    assert {check.stage for check in checks if check.skipped} <= {"talk"}  # a cut may move within rounding
    stages = {check.stage for check in checks if not check.skipped}
    assert stages >= {"tokenizer", "audio encoder", "vision tower", "prompt ids", "llm", "speech decoder", "codec"}


def test_a_clip_in_pieces_is_the_whole_clip(exported: tuple[Path, Variant], inputs: Path) -> None:
    clip = read_sound(inputs / "zh_ask.wav").heard_channel
    with Assistant(exported[0] / "bundle") as assistant:
        encoder = assistant.encoders.new_clip()
        parts = [encoder.step(clip[:end]) for end in range(0, len(clip), 1500)]
        got = np.concatenate([*parts, encoder.finish(clip)])
        whole = assistant.encoders.hear(Sound(clip, 16000))
    assert np.abs(got - whole).max() < 1e-5 * np.abs(whole).max()
    assert any(map(len, parts)) == (assistant.bundle.model.audio.chunk_size > 0)


def test_facts_that_no_recorded_stage_shows_are_those_of_the_checkpoint(exported: tuple[Path, Variant]) -> None:
    folder, variant = exported
    facts, config = Bundle.open(folder / "bundle").model, variant.config
    for name in ("pad_frames", "use_thumbnail", "min_tiles", "max_tiles", "image_mean", "image_std"):
        assert getattr(facts.vision, name) == getattr(config.vision, name)
    assert set(config.llm.eos_token_ids) < set(facts.tokens.stop)
    assert facts.llm.repetition_penalty == config.llm.repetition_penalty
    assert facts.llm.prompt_limit_tokens == config.llm.prompt_limit
    assert facts.codec.streams == config.codec.n_code_groups * config.codec.residual_layers
    assert facts.speech.vectors_per_token * config.speech.width == config.llm.hidden_size


def test_a_talk_is_refused_where_the_voice_speaks_one_stream_and_the_codec_hears_several(
    exported: tuple[Path, Variant],
) -> None:
    with Assistant(exported[0] / "bundle") as assistant:
        streams = assistant.bundle.model.codec.streams
        if streams == 1:
            assistant.session(SessionOptions(speak=True))
            return
        with pytest.raises(BadBundle, match=f"{streams} "):
            assistant.session(SessionOptions(speak=True))
        assistant.session(SessionOptions(speak=False))
