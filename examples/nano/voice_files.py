"""Stage voice 4: what was trained, as the folder ``vita_tts_ckpt`` of a checkpoint in the release's layout.

May be run while the stages before it are still running: it takes what they saved last.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from numpy.typing import NDArray
from torch import Tensor

import generator as codec_model
import speech_model
from codec import load_generator
from speech_decoder import load_speech_model
from vita_edge.export.checkpoint.tensor import StreamedTensor
from vita_edge.export.practice.files import config_files
from vita_edge.export.practice.presets import preset
from vita_edge.export.practice.torch_writer import StreamedTree, write_torch_file
from vocabulary import OUT

__all__ = ["VOICE", "write_voice"]

VOICE = OUT / "voice"


def write_voice(folder: Path = VOICE) -> int:
    """Write ``folder`` anew, in one step; returns how many weights it holds."""
    speech, generator = load_speech_model(), load_generator()
    config = replace(preset("tiny"), speech=speech_model.CONFIG, codec=codec_model.CONFIG)
    texts = config_files(config, "float32")
    parts = {name: _streamed(tensors) for name, tensors in codec_model.release_tensors(generator).items()}
    files: dict[str, StreamedTree] = {
        "decoder": {"model": _streamed(speech_model.release_tensors(speech))},
        "codec": parts,
    }
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for name, tree in files.items():
        (part / name).mkdir(parents=True)
        (part / name / "model.json").write_text(texts[f"vita_tts_ckpt/{name}/model.json"], encoding="utf-8")
        write_torch_file(part / name / "final.pt", tree)
    old = folder.with_name(f"{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return sum(tensor.size for level in (files["decoder"]["model"], *parts.values()) for tensor in level.values())


def _streamed(tensors: Mapping[str, Tensor]) -> dict[str, StreamedTensor]:
    return {name: _one(tensor.detach().numpy()) for name, tensor in tensors.items()}


def _one(values: NDArray) -> StreamedTensor:
    def pieces() -> Iterator[NDArray]:
        yield values

    return StreamedTensor(values.shape, "float32", pieces)


def main() -> None:
    print(f"{VOICE}: {write_voice() / 1e6:.2f} M weights")


if __name__ == "__main__":
    main()
