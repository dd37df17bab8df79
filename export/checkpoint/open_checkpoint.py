"""Open a checkpoint in the layout of the release: settings, tensors by name, tokenizer; checked at once, read lazily.

Which weights win: what the main shards hold; for the two CMVN buffers, when they are missing there, the audio folder's
``final.pt``, then its statistics file. A parameter is never taken from ``final.pt``, as in the reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from vita_edge.engines.errors import BadCheckpoint

from .cmvn import read_cmvn
from .config import CheckpointConfig
from .config_file import as_table, read_json
from .layout import AUDIO_TENSORS, CMVN, Shapes, expected_tensors
from .read_config import read_config
from .safetensors_file import open_safetensors
from .side_folders import SideFolders
from .tensor import FLOATS, LazyTensor, fetch_from_array
from .tokenizer_files import tokenizer_json
from .torch_file import TensorTree, open_torch_file

__all__ = ["Checkpoint"]

Tensors = dict[str, LazyTensor]

_HARMLESS = re.compile(r"num_batches_tracked$|rotary_emb\.inv_freq$|^model\.audio_encoder\..*\bpe$|^predictor_head\.")
"""Counters and tables in the main shards that can be computed, and a head that only training used."""
_MAX_PROBLEMS = 20


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
    def open(cls, path: Path | str, vision_tower: Path | str | None = None) -> Checkpoint:
        """Read the settings and the names, shapes and places of all tensors.

        Raises BadCheckpoint when anything is missing, damaged or not supported; tensors are reported all at once.
        """
        path = Path(path)
        if not path.is_dir():
            raise BadCheckpoint(
                f"There is no checkpoint folder {path}.",
                why="It has to be the folder that holds config.json.",
                fix="Correct the path, or download the release first.",
            )
        notes: list[str] = []
        config, folders = read_config(path, Path(vision_tower) if vision_tower else None, notes)
        main = _open_main(path)
        _complete_cmvn(main, folders, config, notes)
        speech = _flat(_unwrapped(open_torch_file(folders.decoder / "final.pt")))
        codec = {
            name: tensor
            for name, tensor in _flat(open_torch_file(folders.codec / "final.pt")).items()
            if name.startswith(("generator.", "quantizer."))
        }
        parts = {"main": main, "speech": speech, "codec": codec}
        used = _checked(path, parts, expected_tensors(config), notes)
        return cls(path, config, used["main"], used["speech"], used["codec"], notes)

    def tokenizer_json(self) -> str:
        """The text of ``tokenizer.json``, built from vocab.json, merges.txt and added_tokens.json when it is absent."""
        return tokenizer_json(self.path)


def _open_main(path: Path) -> Tensors:
    single, index = path / "model.safetensors", path / "model.safetensors.index.json"
    if single.is_file():
        return open_safetensors(single)
    if not index.is_file():
        raise BadCheckpoint(
            f"{path} has no weights.",
            why="Neither model.safetensors nor model.safetensors.index.json is there.",
            fix="Download the whole release, the index file included.",
        )
    places = as_table(index, read_json(index)).section("weight_map").values
    shards = sorted(set(map(str, places.values())))
    absent = [shard for shard in shards if not (path / shard).is_file()]
    if absent:
        raise BadCheckpoint(
            f"{path} lacks {len(absent)} of {len(shards)} shards: {', '.join(absent)}.",
            why=f"{index.name} says that they hold weights of the model.",
            fix="Download the missing files into the checkpoint folder.",
        )
    return {name: tensor for shard in shards for name, tensor in open_safetensors(path / shard).items()}


def _complete_cmvn(main: Tensors, folders: SideFolders, config: CheckpointConfig, notes: list[str]) -> None:
    missing = [name for name in ("mean", "istd") if f"{AUDIO_TENSORS}{CMVN}{name}" not in main]
    stand_alone = folders.audio / "final.pt"
    if missing and stand_alone.is_file():
        found = _flat(open_torch_file(stand_alone))
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


def _unwrapped(tree: TensorTree) -> TensorTree:
    inner = tree.get("model")
    return inner if isinstance(inner, dict) else tree


def _flat(tree: TensorTree, prefix: str = "") -> Tensors:
    tensors: Tensors = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        tensors |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: replace(value, name=name)}
    return tensors


def _checked(
    path: Path, parts: Mapping[str, Tensors], expected: Mapping[str, Shapes], notes: list[str]
) -> dict[str, Tensors]:
    """The tensors that are used; BadCheckpoint lists everything that is missing, left over or of another shape."""
    problems = []
    for part, shapes in expected.items():
        found = parts[part]
        problems += [_problem(name, shape, found.get(name)) for name, shape in shapes.items()]
        left_over = [name for name in found if name not in shapes]
        if part == "main":
            if "lm_head.weight" in left_over:  # expected unless tied
                left_over.remove("lm_head.weight")
                notes.append("The output layer is tied to the embedding; lm_head.weight in the shards is ignored.")
            left_over = [name for name in left_over if not _HARMLESS.search(name)]
        if part == "speech":
            if left_over:
                notes.append(
                    f"decoder/final.pt holds {len(left_over)} tensors that VITA-1.5 never uses; they are ignored."
                )
        else:
            problems += [f"{name} is left over: no place in the model for it" for name in left_over]
    problems = [problem for problem in problems if problem]
    if problems:
        raise BadCheckpoint(
            f"{path} does not hold the model that its config files describe.",
            why=_listed(problems),
            fix="Download the release again, weights and config files of one version. A parameter missing from the "
            "main shards is not taken from the side folders: the reference would leave random values there.",
        )
    return {part: {name: parts[part][name] for name in shapes} for part, shapes in expected.items()}


def _problem(name: str, shape: tuple[int, ...], tensor: LazyTensor | None) -> str:
    if tensor is None:
        return f"{name} {list(shape)} is missing"
    if tensor.shape != shape:
        return f"{name} has shape {list(tensor.shape)}, expected {list(shape)}"
    if tensor.dtype not in FLOATS:
        return f"{name} is stored as {tensor.dtype}; weights have to be floats"
    return ""


def _listed(problems: Iterable[str]) -> str:
    lines = list(problems)
    shown = lines[:_MAX_PROBLEMS]
    if len(lines) > len(shown):
        shown.append(f"… and {len(lines) - len(shown)} more")
    return "\n".join(f"  {line}" for line in shown)
