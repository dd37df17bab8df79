"""Open a checkpoint in the layout of the release: settings, tensors by name, tokenizer; checked at once, read lazily.

Which weights win: what the main shards hold; for the two CMVN buffers, when they are missing there, the audio folder's
``final.pt``, then its statistics file. A parameter is never taken from ``final.pt``, as in the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vita_edge.engines.errors import BadCheckpoint
from vita_edge.engines.reading.file_kind import is_file, is_folder

from ..tokenizer.tokenizer_files import tokenizer_json
from .check_tensors import checked_tensors
from .cmvn import read_cmvn
from .config import CheckpointConfig
from .layout import AUDIO_TENSORS, CMVN, Shapes, expected_tensors
from .main_weights import open_main
from .read_config import read_config
from .side_folders import SideFolders
from .tensor import LazyTensor, fetch_from_array
from .tensor_names import flat, named_as_released
from .torch_file import open_torch_file

__all__ = ["Checkpoint"]

Tensors = dict[str, LazyTensor]

PLACES = {"main": "main weights", "speech": "vita_tts_ckpt/decoder/final.pt", "codec": "vita_tts_ckpt/codec/final.pt"}
"""Part → its file, in messages."""


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint; values stay on disk until a tensor is read."""

    path: Path
    config: CheckpointConfig
    main: Mapping[str, LazyTensor]
    """Language model, vision tower, projector and audio encoder, named as in the main shards."""
    speech: Mapping[str, LazyTensor]
    """Speech decoder, named as in ``decoder/final.pt``, without the wrapping ``model``."""
    codec: Mapping[str, LazyTensor]
    """Codec: ``generator.…`` and ``quantizer.…``."""
    notes: list[str] = field(default_factory=list)
    """What the user should know about choices that were made for this checkpoint."""

    @classmethod
    def open(
        cls, path: Path | str, vision_tower: Path | str | None = None, audio_encoder: Path | str | None = None
    ) -> Checkpoint:
        """Read the settings and the names, shapes and places of all tensors.

        Raises BadCheckpoint when anything is missing, damaged or not supported; tensors are reported all at once.
        """
        path = Path(path)
        if not is_folder(path):
            raise BadCheckpoint(
                f"There is no checkpoint folder {path}.",
                why="It has to be the folder that holds config.json.",
                fix="Correct the path, or download the release first.",
            )
        notes: list[str] = []
        named = (Path(folder) if folder else None for folder in (vision_tower, audio_encoder))
        config, folders = read_config(path, *named, notes=notes)
        expected = expected_tensors(config)
        main = named_as_released(open_main(path), expected["main"], "The main weights", notes)
        _complete_cmvn(main, folders, config, notes)
        speech = _side_weights(folders.decoder / "final.pt", expected["speech"], notes)
        codec = _side_weights(folders.codec / "final.pt", expected["codec"], notes)
        codec = {name: tensor for name, tensor in codec.items() if name.startswith(("generator.", "quantizer."))}
        parts = {"main": main, "speech": speech, "codec": codec}
        used = checked_tensors(path, parts, expected, PLACES, notes)
        return cls(path, config, used["main"], used["speech"], used["codec"], notes)

    def tensors(self) -> dict[str, LazyTensor]:
        """All that is used; names of the side folders' files have the file in front."""
        side = {"decoder/final.pt": self.speech, "codec/final.pt": self.codec}
        named = {f"{file}: {name}": tensor for file, part in side.items() for name, tensor in part.items()}
        return {**self.main, **named}

    def tokenizer_json(self) -> str:
        """The text of ``tokenizer.json``, without padding and truncation; built from vocab.json, merges.txt and
        added_tokens.json when it is absent or newer than what is read here."""
        return tokenizer_json(self.path, self.notes)


def _side_weights(file: Path, expected: Shapes, notes: list[str]) -> Tensors:
    tree = open_torch_file(file)
    inner = tree.get("model")  # as in the release
    tensors = flat(inner if isinstance(inner, dict) else tree)
    return named_as_released(tensors, expected, f"{file.parent.name}/{file.name}", notes)


def _complete_cmvn(main: Tensors, folders: SideFolders, config: CheckpointConfig, notes: list[str]) -> None:
    missing = [name for name in ("mean", "istd") if f"{AUDIO_TENSORS}{CMVN}{name}" not in main]
    stand_alone = folders.audio / "final.pt"
    if missing and is_file(stand_alone):
        found = flat(open_torch_file(stand_alone))
        for name in [name for name in missing if f"{CMVN}{name}" in found]:
            main[f"{AUDIO_TENSORS}{CMVN}{name}"] = found[f"{CMVN}{name}"]
            missing.remove(name)
            notes.append(f"The main shards lack the CMVN {name}; it was taken from {stand_alone.name}.")
    if missing:
        file = folders.audio / "global_cmvn"
        statistics = dict(zip(("mean", "istd"), read_cmvn(file, config.audio.mel_bins)))
        for name in missing:
            values, full = statistics[name], f"{AUDIO_TENSORS}{CMVN}{name}"
            main[full] = LazyTensor(full, values.shape, "float32", file, fetch_from_array(values))
        notes.append(
            f"Neither the main shards nor final.pt hold the CMVN {' and '.join(missing)}; "
            "the statistics file global_cmvn was used."
        )
