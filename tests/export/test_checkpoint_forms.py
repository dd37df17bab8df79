"""Checkpoints as people really have them: public bug reports of other projects, each as one changed copy.

Every row is read right, or refused by name with what is there; none is exported into something that talks nonsense.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.spoil import linked_copy, rewrite
from support.spoiled import LFS
from vita_edge.engines.errors import BadCheckpoint
from vita_edge.export.checkpoint.check_values import check_values
from vita_edge.export.checkpoint.open_checkpoint import Checkpoint
from vita_edge.export.checkpoint.tensor import LazyTensor, StreamedTensor
from vita_edge.export.checkpoint.tensor_names import flat
from vita_edge.export.checkpoint.torch_file import open_torch_file
from vita_edge.export.facts import model_facts
from vita_edge.export.practice.torch_writer import write_torch_file

AUDIO = "audio-encoder-Qwen2-7B-1107-weight-base-11wh-tunning"
DECODER, CODEC = "vita_tts_ckpt/decoder/final.pt", "vita_tts_ckpt/codec/final.pt"
Change = Callable[[Path], object]


@pytest.fixture
def folder(golden: Path, tmp_path: Path) -> Path:
    return linked_copy(golden / "checkpoint", tmp_path / "checkpoint")


def opened(folder: Path) -> Checkpoint:
    """As an export reads it before it writes: settings, names, tokenizer, values."""
    checkpoint = Checkpoint.open(folder)
    facts = model_facts(checkpoint)
    check_values(checkpoint.tensors(), facts.llm.vocab_size, checkpoint.notes)
    return checkpoint


# --- how a copy is changed


def settings(name: str, **changes: Any) -> Change:
    """Set keys of a JSON file; ``...`` removes one."""

    def change(folder: Path) -> None:
        data = json.loads((folder / name).read_text("utf-8"))
        data.update(changes)
        retained = {key: value for key, value in data.items() if value is not ...}
        rewrite(folder / name, json.dumps(retained, ensure_ascii=False).encode())

    return change


def tokenizer(change: Callable[[Any], object]) -> Change:
    def edit(folder: Path) -> None:
        data = json.loads((folder / "tokenizer.json").read_text("utf-8"))
        change(data)
        rewrite(folder / "tokenizer.json", json.dumps(data, ensure_ascii=False).encode())

    return edit


def encoded(name: str, encoding: str) -> Change:
    return lambda folder: rewrite(folder / name, (folder / name).read_text("utf-8").encode(encoding))


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("model-*.safetensors"))


def read_shard(file: Path) -> tuple[dict[str, Any], bytes]:
    raw = file.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def write_shard(file: Path, header: dict[str, Any], values: bytes) -> None:
    text = json.dumps(header).encode()
    rewrite(file, struct.pack("<Q", len(text)) + text + values)


def names(change: Callable[[str], str]) -> Change:
    """Rename every tensor of the main shards."""

    def rename(folder: Path) -> None:
        for file in shards(folder):
            header, values = read_shard(file)
            write_shard(file, {k if k == "__metadata__" else change(k): v for k, v in header.items()}, values)
        index = folder / "model.safetensors.index.json"
        data = json.loads(index.read_text())
        data["weight_map"] = {change(name): file for name, file in data["weight_map"].items()}
        rewrite(index, json.dumps(data).encode())

    return rename


def stored(tensor: str, first_bytes: bytes, *, all_of_it: bool = False) -> Change:
    """Other bytes at the start of a tensor of the main shards, or throughout."""

    def poke(folder: Path) -> None:
        for file in shards(folder):
            header, values = read_shard(file)
            if tensor in header:
                start, stop = header[tensor]["data_offsets"]
                new = bytes(stop - start) if all_of_it else first_bytes + values[start + len(first_bytes) : stop]
                write_shard(file, header, values[:start] + new + values[stop:])

    return poke


def half_written(folder: Path) -> None:
    raw = shards(folder)[1].read_bytes()
    rewrite(shards(folder)[1], raw[: len(raw) // 2] + bytes(len(raw) - len(raw) // 2))


def streamed(values: np.ndarray[Any, Any]) -> StreamedTensor:
    def pieces() -> Iterator[np.ndarray[Any, Any]]:
        yield np.ascontiguousarray(values, np.float32)

    return StreamedTensor(values.shape, "float32", pieces)


def torch_file(name: str, change: Callable[[dict[str, np.ndarray[Any, Any]]], Any]) -> Change:
    """Write a torch file again with what ``change`` makes of its tensors, by flat name."""

    def write(folder: Path) -> None:
        tree = open_torch_file(folder / name)
        inner = tree.get("model")
        arrays = {key: tensor.read() for key, tensor in flat(inner if isinstance(inner, dict) else tree).items()}

        def leaves(level: Any) -> Any:
            return {k: leaves(v) if isinstance(v, dict) else streamed(v) for k, v in level.items()}

        new = leaves(change(arrays))
        (folder / name).unlink()
        write_torch_file(folder / name, new)

    return write


def renamed(tensors: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    return {change(name): values for name, values in tensors.items()}


def newer_weight_norm(name: str) -> str:
    return name.replace("weight_g", "parametrizations.weight.original0").replace(
        "weight_v", "parametrizations.weight.original1"
    )


def without_weight_norm(tensors: dict[str, Any]) -> dict[str, Any]:
    plain = {}
    for name, values in tensors.items():
        if name.endswith("weight_v"):
            norm = np.sqrt((values.astype(np.float64) ** 2).sum(axis=tuple(range(1, values.ndim)), keepdims=True))
            plain[name.removesuffix("_v")] = tensors[name.removesuffix("v") + "g"] * values / norm
        elif not name.endswith("weight_g"):
            plain[name] = values
    return plain


def with_zero_row(tensors: dict[str, Any]) -> dict[str, Any]:
    name = next(name for name in tensors if name.endswith("weight_v"))
    tensors[name][0] = 0
    return tensors


def only(*patterns: str) -> Change:
    """Main weights under other names of files."""

    def change(folder: Path) -> None:
        for file in [*shards(folder), folder / "model.safetensors.index.json"]:
            file.unlink()
        for pattern in patterns:
            (folder / pattern).write_bytes(b"x")

    return change


def twice(folder: Path) -> None:
    """A tensor of the second shard in the first, too: an older copy."""
    first, second = shards(folder)
    name = next(name for name in read_shard(second)[0] if name != "__metadata__")
    entry = dict(read_shard(second)[0][name])
    header, values = read_shard(first)
    size = entry["data_offsets"][1] - entry["data_offsets"][0]
    entry["data_offsets"] = [len(values), len(values) + size]
    write_shard(first, {**header, name: entry}, values + bytes(size))


READ: dict[str, Change] = {
    # config.json of today's transformers, and of editors
    "rope_parameters": settings(
        "config.json", rope_theta=..., rope_parameters={"rope_theta": 1e6, "rope_type": "default"}, dtype="bfloat16"
    ),
    "rope_scaling of type default": settings("config.json", rope_scaling={"rope_type": "default", "type": "default"}),
    "layer_types, all full": settings("config.json", layer_types=["full_attention"] * 3),
    "config.json with a mark": encoded("config.json", "utf-8-sig"),
    "config.json in UTF-16": encoded("config.json", "utf-16"),
    "tokenizer.json with a mark": encoded("tokenizer.json", "utf-8-sig"),
    "tokenizer.json in UTF-16": encoded("tokenizer.json", "utf-16"),
    "train.yaml with a tuple": lambda folder: rewrite(
        folder / AUDIO / "train.yaml",
        (folder / AUDIO / "train.yaml").read_bytes() + b"\nspeed_perturb: !!python/tuple [0.9, 1.0]\n",
    ),
    # a tokenizer of a newer library, beside its parts
    "tokenizer of a newer kind": tokenizer(lambda data: data["model"].update(type="BPE2")),
    "tokenizer without a model": lambda folder: rewrite(folder / "tokenizer.json", b"{}"),
    "padding and truncation": tokenizer(
        lambda data: data.update(
            padding={
                "strategy": {"Fixed": 16},
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 596,
                "pad_type_id": 0,
                "pad_token": "<|endoftext|>",
            },
            truncation={"direction": "Right", "max_length": 16, "strategy": "LongestFirst", "stride": 0},
        )
    ),
    "a pointer for vocab.json": lambda folder: rewrite(folder / "vocab.json", LFS),
    # names that tools put in front
    "module.": names(lambda name: f"module.{name}"),
    "base_model.model.": names(lambda name: f"base_model.model.{name}"),
    "_orig_mod inside": names(lambda name: name.replace("model.layers.", "model._orig_mod.layers.")),
    "model.language_model.": names(
        lambda name: (
            name.replace("model.", "model.language_model.", 1)
            if name.startswith(("model.layers", "model.embed", "model.norm"))
            else name
        )
    ),
    "language_model.": names(
        lambda name: name if name.startswith(("model.vision", "model.audio", "model.mm_")) else f"language_model.{name}"
    ),
    "the same tensor in two shards": twice,
    # torch files
    "wrapped in state_dict": torch_file(DECODER, lambda tensors: {"state_dict": tensors}),
    "module. in a torch file": torch_file(DECODER, lambda t: {"model": renamed(t, lambda name: f"module.{name}")}),
    "flat codec with a prefix": torch_file(CODEC, lambda t: renamed(t, lambda name: f"codec.{name}")),
    "newer weight norm": torch_file(CODEC, lambda tensors: renamed(tensors, newer_weight_norm)),
    "weight norm removed": torch_file(CODEC, without_weight_norm),
}


@pytest.mark.parametrize("name", READ)
def test_another_form_of_the_same_checkpoint_gives_the_same_model(name: str, folder: Path, golden: Path) -> None:
    READ[name](folder)
    ours, release = opened(folder), Checkpoint.open(golden / "checkpoint")
    assert model_facts(ours) == model_facts(release)
    assert ours.config == release.config
    for part in ("main", "speech", "codec"):
        mine, theirs = getattr(ours, part), getattr(release, part)
        assert mine.keys() == theirs.keys()
        for tensor in list(theirs)[:: max(len(theirs) // 12, 1)]:
            np.testing.assert_allclose(weight(mine, tensor), weight(theirs, tensor), rtol=1e-6, atol=1e-7)


def weight(tensors: dict[str, LazyTensor], name: str) -> Any:
    """A tensor; of a weight norm what both halves make."""
    if not name.endswith(("weight_v", "weight_g")):
        return tensors[name].read()
    v = tensors[name[:-1] + "v"].read().astype(np.float64)
    norm = np.sqrt((v**2).sum(axis=tuple(range(1, v.ndim)), keepdims=True))
    return tensors[name[:-1] + "g"].read() * v / norm


REFUSED: dict[str, tuple[Change, tuple[str, ...]]] = {
    # options under their new names
    "yarn in rope_parameters": (
        settings("config.json", rope_parameters={"rope_theta": 1e6, "rope_type": "yarn", "factor": 4.0}),
        ("rope_parameters.rope_type", "yarn"),
    ),
    "two values of rope_theta": (settings("config.json", rope_parameters={"rope_theta": 5e6}), ("5e+06", "1000000")),
    "sliding layers": (settings("config.json", layer_types=["sliding_attention"] * 3), ("layer_types",)),
    "a soft cap": (settings("config.json", attn_logit_softcapping=50.0), ("attn_logit_softcapping",)),
    "dual chunk attention": (settings("config.json", dual_chunk_attention_config={"a": 1}), ("dual_chunk",)),
    "quantised weights": (
        settings("config.json", quantization_config={"quant_method": "awq", "bits": 4}),
        ("quantization_config", "awq"),
    ),
    # a tokenizer that is not the weights'
    "a decoder of another family": (
        tokenizer(
            lambda data: data.update(decoder={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"})
        ),
        ("Metaspace", "byte-level"),
    ),
    "an added token moved": (
        tokenizer(lambda data: data["added_tokens"].pop(3)),
        ("added_tokens.json", "in the tokenizer"),
    ),
    "an end of turn that is a word": (settings("generation_config.json", eos_token_id=300), ("300", "<|im_end|>")),
    # values
    "NaN": (stored("model.layers.1.mlp.up_proj.weight", b"\xc0\x7f"), ("model.layers.1.mlp.up_proj.weight", "row 0")),
    "infinity in the embedding": (stored("model.embed_tokens.weight", b"\x80\x7f"), ("embed_tokens", "safetensors")),
    "a matrix of zeros": (
        stored("model.layers.1.mlp.up_proj.weight", b"", all_of_it=True),
        ("up_proj.weight", "All of it is zero"),
    ),
    "a norm of zeros": (stored("model.layers.1.input_layernorm.weight", b"", all_of_it=True), ("input_layernorm",)),
    "a shard half written": (half_written, ("model-00002-of-00002.safetensors", "zero")),
    "a weight norm of zero": (torch_file(CODEC, with_zero_row), ("weight_v", "weight norm")),
    # other forms of weights
    "only .bin": (only("pytorch_model.bin"), (".bin", "pytorch_model.bin")),
    "an adapter": (only("adapter_model.safetensors", "adapter_config.json"), ("adapter", "LoRA")),
    "gguf": (only("model-q4.gguf"), ("gguf",)),
    "a shard of another version": (
        lambda folder: names(lambda name: name.replace("layers.1.", "layers.11."))(folder),
        ("layers.1.", "are missing", "layers.11."),
    ),
    "a legacy torch file": (
        lambda folder: rewrite(folder / DECODER, bytes.fromhex("80028a0a6cfc9c46f9206aa850192e") + bytes(99)),
        ("before version 1.6", "torch.save"),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_talk_nonsense_is_refused_with_both_sides_of_it(name: str, folder: Path) -> None:
    change, words = REFUSED[name]
    change(folder)
    with pytest.raises(BadCheckpoint) as raised:
        opened(folder)
    for word in words:
        assert word in str(raised.value)


NOTED: dict[str, tuple[Change, str]] = {
    "a setting that nobody knows": (settings("config.json", warp_attention=3), "warp_attention = 3"),
    "sampling that is not carried": (settings("generation_config.json", no_repeat_ngram_size=3), "no_repeat_ngram"),
    "padding that is left out": (READ["padding and truncation"], "pads texts"),
    "a tokenizer that was built": (READ["tokenizer of a newer kind"], "vocab.json and merges.txt were taken"),
}


@pytest.mark.parametrize("name", NOTED)
def test_what_is_left_out_is_noted(name: str, folder: Path) -> None:
    change, word = NOTED[name]
    change(folder)
    assert any(word in note for note in opened(folder).notes)


def test_the_release_itself_gives_no_such_note(folder: Path) -> None:
    assert [note for note in opened(folder).notes if "not understood" in note or "zero" in note] == []
