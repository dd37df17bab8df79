"""Instead of stages 3 to 5: language model, sight, hearing and voice out of a bundle, as a point to go on from.

    python examples/nano/recover.py src/vita_edge/demo/bundle

A bundle of int8 holds each matrix as whole numbers and a scale for every row or block, so what comes back is what the
bundle computes with; exported again, the weights are the same to the byte but for one layer of the voice, which the
bundle holds twice. Writes ``out/nano/recovered.pt``, ``out/nano/voice_stages/*.pt`` and, of those, ``out/nano/voice``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

import codec
import generator as codec_model
import speech_decoder
import speech_model
from model import new_model
from vocabulary import OUT, open_tokenizer, read_embeddings
from voice_files import write_voice

__all__ = ["Graph", "hearing", "language_and_sight", "voice"]

Weights = dict[str, Tensor]


class Graph:
    """The weights of one graph of a bundle, wide again."""

    def __init__(self, bundle: Path, name: str) -> None:
        model = onnx.load(str(bundle / "components" / f"{name}.onnx"))
        self._arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def plain(self, name: str) -> Tensor:
        return torch.from_numpy(self._arrays[name].astype(np.float32))

    def matrix(self, name: str) -> Tensor:
        """[outputs, inputs], as PyTorch holds it; in the graph columns have a scale each, or blocks of rows."""
        whole, scale = self._arrays[f"{name}.weight"], self._arrays[f"{name}.scale"].astype(np.float32)
        wide = _of_blocks(whole, scale) if whole.dtype == np.uint8 else (whole.astype(np.float32) * scale).T
        return torch.from_numpy(np.ascontiguousarray(wide))


def _of_blocks(whole: NDArray[np.uint8], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    rows, blocks, _ = whole.shape
    return ((whole.astype(np.float32) - 128) * scale.reshape(rows, blocks, 1)).reshape(rows, -1)


def language_and_sight(bundle: Path) -> Weights:
    """Names as in ``model.Vita``."""
    found = _language(Graph(bundle, "llm")) | _sight(Graph(bundle, "vision"))
    rows = len(open_tokenizer())
    head = torch.zeros_like(new_model().lm_head.weight)  # further rows belong to no token
    head[:rows] = found["lm_head.weight"]
    return found | {"lm_head.weight": head, "model.embed_tokens.weight": torch.from_numpy(read_embeddings())}


def _language(graph: Graph) -> Weights:
    found: Weights = {}
    for i in range(_count(graph)):
        old, new = f"layers.{i}/", f"model.layers.{i}."
        found |= _decoder_layer(graph, old, new, (256, 128, 128))
        bias = graph.plain(f"{old}attn.qkv.bias").split((256, 128, 128))
        found |= {f"{new}self_attn.{name}_proj.bias": part for name, part in zip("qkv", bias)}
    found["model.norm.weight"] = graph.plain("head/norm.weight")
    found["lm_head.weight"] = graph.matrix("head/lm_head")
    return found


def _decoder_layer(graph: Graph, old: str, new: str, widths: tuple[int, ...]) -> Weights:
    """What decoder layers of both models have in common."""
    found = {
        f"{new}input_layernorm.weight": graph.plain(f"{old}input_norm.weight"),
        f"{new}post_attention_layernorm.weight": graph.plain(f"{old}post_norm.weight"),
        f"{new}self_attn.o_proj.weight": graph.matrix(f"{old}attn.out"),
    }
    parts = graph.matrix(f"{old}attn.qkv").split(widths)
    found |= {f"{new}self_attn.{name}_proj.weight": part for name, part in zip("qkv", parts)}
    return found | {f"{new}mlp.{part}_proj.weight": graph.matrix(f"{old}mlp.{part}") for part in ("gate", "up", "down")}


def _sight(graph: Graph) -> Weights:
    """The bundle has the class token in its position table, and the layer scales in the matrices."""
    tower = "model.vision_tower.vision_tower."
    position = graph.plain("embeddings/position")
    found = {
        f"{tower}embeddings.position_embedding": position,
        f"{tower}embeddings.class_embedding": torch.zeros(1, 1, position.shape[2]),
        f"{tower}embeddings.patch_embedding.weight": graph.plain("embeddings/patch.weight"),
        f"{tower}embeddings.patch_embedding.bias": graph.plain("embeddings/patch.bias"),
    }
    for i in range(_count(graph)):
        old, new = f"layers.{i}/", f"{tower}encoder.layers.{i}."
        for part in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
            found[f"{new}{part}.weight"] = graph.matrix(old + part)
            found[f"{new}{part}.bias"] = graph.plain(f"{old}{part}.bias")
        for part in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
            found[new + part] = graph.plain(old + part)
        found |= {f"{new}{scale}": torch.ones(position.shape[2]) for scale in ("ls1", "ls2")}
    for part in ("0", "2"):
        found[f"model.mm_projector.{part}.weight"] = graph.matrix(f"projector/{part}")
        found[f"model.mm_projector.{part}.bias"] = graph.plain(f"projector/{part}.bias")
    return found


def hearing(bundle: Path) -> Weights:
    """Names as in ``model.Vita``. A layer that the bundle lacks begins by handing on what it gets."""
    graph, model = Graph(bundle, "audio"), new_model()
    encoder = "model.audio_encoder.encoder."
    transformer = f"{encoder}enc.1."
    found = {f"{encoder}global_cmvn.{part}": graph.plain(f"cmvn/{part}") for part in ("mean", "istd")}
    names = {f"subsampling/conv.{i}": f"{encoder}enc.0.core.conv.{i}" for i in (0, 2)}
    names |= {"subsampling/out": f"{encoder}enc.0.core.out.0", "transformer/after_norm": f"{transformer}after_norm"}
    names |= {f"transformer/embed.{i}": f"{transformer}embed.{i}" for i in (0, 1)}
    adapter = {"conv": "conv1d2", "norm": "bn2", "project": "project"}
    names |= {f"adapter/{old}": f"model.audio_encoder.adpter.{new}" for old, new in adapter.items()}
    for i in range(_count(graph, "transformer/layers")):
        old, new = f"transformer/layers.{i}/", f"{transformer}encoders.{i}."
        names |= {f"{old}{part}": f"{new}self_attn.linear_{part}" for part in ("q", "k", "v", "pos", "out")}
        names |= {old + part: new + part for part in ("norm1", "norm2", "feed_forward.w_1", "feed_forward.w_2")}
        found |= {f"{new}self_attn.{part}": graph.plain(old + part) for part in ("pos_bias_u", "pos_bias_v")}
    for old, new in names.items():
        found[f"{new}.weight"] = graph.matrix(old) if f"{old}.scale" in graph else graph.plain(f"{old}.weight")
        if f"{old}.bias" in graph:
            found[f"{new}.bias"] = graph.plain(f"{old}.bias")
    return _handing_on(model.state_dict(), found) | found


def _handing_on(fresh: Weights, found: Weights) -> Weights:
    """What is not ``found`` of the hearing, with nothing to add by the last matrices of its layers."""
    missing = {name: tensor for name, tensor in fresh.items() if "audio_encoder" in name and name not in found}
    last = ("linear_out.weight", "linear_out.bias", "w_2.weight", "w_2.bias")
    return {name: torch.zeros_like(tensor) if name.endswith(last) else tensor for name, tensor in missing.items()}


def _count(graph: Graph, layers: str = "layers") -> int:
    """How many numbered layers it has."""
    first = ("input_norm.weight", "norm1.weight")
    return next(i for i in range(100) if not any(f"{layers}.{i}/{part}" in graph for part in first))


def voice(bundle: Path) -> tuple[speech_model.SpeechModel, codec_model.Generator]:
    return _speech(Graph(bundle, "speech_prefill"), Graph(bundle, "speech_decoder")), _generator(Graph(bundle, "codec"))


def _speech(prefill: Graph, decoder: Graph) -> speech_model.SpeechModel:
    model = speech_model.SpeechModel()
    width = (model.width,) * 3
    found = {"embedding.weight": decoder.plain("embedding"), "norm.weight": decoder.plain("norm.weight")}
    found |= {"out_fnn.weight": decoder.matrix("out"), "out_fnn.bias": decoder.plain("out.bias")}
    for i in range(len(model.layers_pre_nn)):
        found |= _decoder_layer(prefill, f"pre_nn/layers.{i}/", f"layers_pre_nn.{i}.", width)
    for i in range(len(model.layers)):
        found |= _decoder_layer(decoder, f"layers.{i}/", f"layers.{i}.", width)
    model.load_state_dict(found)
    return model


def _generator(graph: Graph) -> codec_model.Generator:
    """A weight that was norm and direction is one again; its norm and itself give the same weight."""
    model = codec_model.Generator()
    model.table.weight.data.copy_(graph.plain("quantizer/table.0.0"))
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            place = _place(name)
            module.weight = graph.plain(f"generator/{place}.weight")
            module.bias.data.copy_(graph.plain(f"generator/{place}.bias"))
    return model


def _place(name: str) -> str:
    """Of a module of the generator, in the graph."""
    kind, *rest = name.split(".")
    if kind == "ups":
        return f"stage.{rest[0]}/up"
    if kind == "resblocks":
        return f"stage.{int(rest[0]) // len(codec_model.CONFIG.resblock_kernel_sizes)}/{name}"
    return name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    bundle: Path = parser.parse_args().bundle
    torch.save({"model": language_and_sight(bundle) | hearing(bundle), "step": 0}, OUT / "recovered.pt")
    speech, generator = voice(bundle)
    for file, module in ((speech_decoder.state_file(), speech), (codec.state_file(), generator)):
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"average": module.state_dict()}, file)
    print(f"{OUT / 'recovered.pt'}, and a voice of {write_voice() / 1e6:.2f} M weights")


if __name__ == "__main__":
    main()
