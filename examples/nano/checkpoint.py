"""Stage 6: the trained weights as a checkpoint in the layout of the release, which `vita-edge export` reads.

    python examples/nano/checkpoint.py WEIGHTS.pt FOLDER --hearing out/nano/hearing.pt

The voice comes from ``out/nano/voice``; as long as that is missing, a random one is written in its place.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model import Vita, new_model
from vita_edge.export.checkpoint.layout import AUDIO_TENSORS, expected_tensors
from vita_edge.export.checkpoint.safetensors_file import write_safetensors
from vita_edge.export.checkpoint.tensor import StreamedTensor
from vita_edge.export.practice.files import AUDIO_FOLDER, config_files
from vita_edge.export.practice.torch_writer import write_torch_file
from vita_edge.export.practice.weights import practice_tensor
from vocabulary import OUT

__all__ = ["load_weights", "write"]

NAME = "vita-edge/nano"
VOICE = OUT / "voice"


def load_weights(file: Path, hearing: Path | None = None) -> Vita:
    """The model with the weights of a stage; the audio encoder and its adapter from another if ``hearing`` names it."""
    model = new_model()
    found = torch.load(file, weights_only=True)["model"]
    if hearing:
        heard = torch.load(hearing, weights_only=True)["model"]
        found |= {name: tensor for name, tensor in heard.items() if "audio_encoder" in name}
    model.load_state_dict(found)
    return model.eval()


def write(model: Vita, folder: Path) -> None:
    """Write the checkpoint, float32; an old one in ``folder`` is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    config = replace(model.config, name=NAME)
    texts = config_files(config, "float32")
    texts[f"{AUDIO_FOLDER}/global_cmvn"] = _statistics(model)
    for file in sorted((OUT / "tokenizer").iterdir()):
        texts[file.name] = file.read_text(encoding="utf-8")
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    tensors = {name: _streamed(tensor.detach().numpy()) for name, tensor in model.state_dict().items()}
    write_safetensors(folder / "model.safetensors", tensors)
    audio = {
        name.removeprefix(AUDIO_TENSORS): tensor for name, tensor in tensors.items() if name.startswith(AUDIO_TENSORS)
    }
    write_torch_file(folder / AUDIO_FOLDER / "final.pt", audio)
    if VOICE.is_dir():
        shutil.copytree(VOICE, folder / "vita_tts_ckpt", dirs_exist_ok=True)
    else:
        _write_random_voice(model, folder / "vita_tts_ckpt")


def _write_random_voice(model: Vita, folder: Path) -> None:
    shapes = expected_tensors(model.config)
    speech = {name: practice_tensor(name, shape, "float16", 0) for name, shape in shapes["speech"].items()}
    write_torch_file(folder / "decoder" / "final.pt", {"model": speech})
    codec: dict[str, Any] = {}
    for name, shape in shapes["codec"].items():
        part, _, rest = name.partition(".")
        codec.setdefault(part, {})[rest] = practice_tensor(name, shape, "float16", 0)
    write_torch_file(folder / "codec" / "final.pt", codec)


def _statistics(model: Vita) -> str:
    cmvn = model.model.audio_encoder.encoder.global_cmvn
    mean, istd = cmvn.mean.double().numpy(), cmvn.istd.double().numpy()
    squares = 1 / istd**2 + mean**2
    table: Mapping[str, Any] = {"mean_stat": mean.tolist(), "var_stat": squares.tolist(), "frame_num": 1}
    return json.dumps(table)


def _streamed(values: NDArray[np.float32]) -> StreamedTensor:
    def pieces() -> Iterator[NDArray[Any]]:
        yield np.ascontiguousarray(values)

    return StreamedTensor(values.shape, "float32", pieces)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hearing", type=Path, metavar="WEIGHTS.pt", help="the audio encoder of another stage")
    arguments = parser.parse_args()
    write(load_weights(arguments.weights, arguments.hearing), arguments.folder)


if __name__ == "__main__":
    main()
