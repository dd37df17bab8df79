"""Write a checkpoint with random weights in the layout of the release: for tests, for trying a device, for the demo.

It says nothing sensible, and takes the same memory and time as a real one of its sizes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vita_edge.engines.bundle.atomic_folder import free_place, whole_folder
from vita_edge.engines.errors import Misuse

from ..checkpoint.config import CheckpointConfig
from ..checkpoint.layout import AUDIO_TENSORS, expected_tensors
from ..checkpoint.safetensors_file import write_safetensors
from ..checkpoint.tensor import StreamedTensor
from .files import AUDIO_FOLDER, config_files
from .presets import PRESETS, preset
from .tokenizer import PracticeTokenizer, practice_tokenizer
from .torch_writer import StreamedTree, write_torch_file
from .weights import practice_tensor

__all__ = ["Progress", "write_checkpoint", "write_practice_checkpoint"]

Progress = Callable[[str, int, int], object]
"""``progress(file, bytes done, bytes in all)``"""

SHARD_BYTES = 5_000_000_000


def write_practice_checkpoint(
    folder: Path | str, preset_name: str, seed: int = 0, progress: Progress | None = None
) -> Path:
    """Write the checkpoint of a preset (``tiny``, ``half`` or ``full``); see :func:`write_checkpoint`."""
    if preset_name not in PRESETS:
        raise Misuse(
            f"There is no size {preset_name!r}.",
            why="A practice checkpoint has a preset size.",
            fix=f"Choose one of {', '.join(PRESETS)}.",
        )
    config = preset(preset_name)
    if preset_name == "tiny":
        return write_checkpoint(folder, config, seed, torch_dtype="float16", shard_bytes=200_000, progress=progress)
    return write_checkpoint(folder, config, seed, progress=progress)


def write_checkpoint(
    folder: Path | str,
    config: CheckpointConfig,
    seed: int = 0,
    dtype: str = "bfloat16",
    *,
    torch_dtype: str = "float32",
    shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
) -> Path:
    """Write a whole random checkpoint with the sizes and options of ``config``; same seed, same bytes.

    ``dtype`` is that of the main shards, ``torch_dtype`` that of the ``.pt`` files (float32, float16 or bfloat16); a
    shard holds at most ``shard_bytes`` unless one tensor is larger. The folder appears when it is complete. Memory: a
    few tensors' blocks of 4 MiB. Raises Misuse when ``folder`` holds something, OutputFailed when the disk is full.
    """
    folder = Path(folder)
    in_the_way = Misuse(
        f"{folder} exists and is not empty.", why="Nothing is ever overwritten.", fix="Name a new folder."
    )
    place = free_place(folder, lambda target: in_the_way)
    tokenizer = practice_tokenizer(config.llm.vocab_rows)
    plan = _plan(config, tokenizer, seed, dtype, torch_dtype, shard_bytes)
    texts = config_files(config, dtype)
    total = sum(tensor.nbytes for shard in plan.shards.values() for tensor in shard.values())
    total += sum(map(_bytes, plan.torch_files.values()))
    with whole_folder(place, total, what="checkpoint") as target:
        report = _Report(progress, total)
        for name, text in {**texts, **tokenizer.files(), **plan.index}.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_text(text, encoding="utf-8")
        for name, tree in plan.torch_files.items():
            write_torch_file(target / name, tree, report.of(name))
        for name, tensors in plan.shards.items():
            write_safetensors(target / name, tensors, report.of(name))
    return folder


@dataclass(frozen=True)
class _PracticeFiles:
    """What goes into which file."""

    shards: Mapping[str, Mapping[str, StreamedTensor]]
    index: Mapping[str, str]
    torch_files: Mapping[str, StreamedTree]


def _plan(
    config: CheckpointConfig, tokenizer: PracticeTokenizer, seed: int, dtype: str, torch_dtype: str, shard_bytes: int
) -> _PracticeFiles:
    shapes = expected_tensors(config)
    head = "model.embed_tokens.weight" if config.llm.tied else "lm_head.weight"
    gains = {head: tokenizer.row_gains(config.llm.vocab_rows)}
    main = {name: practice_tensor(name, shape, dtype, seed, gains.get(name)) for name, shape in shapes["main"].items()}

    def stored(names: Mapping[str, tuple[int, ...]], prefix: str, seed: int = seed) -> dict[str, StreamedTensor]:
        found = {name.removeprefix(prefix): shape for name, shape in names.items() if name.startswith(prefix)}
        return {name: practice_tensor(prefix + name, shape, torch_dtype, seed) for name, shape in found.items()}

    width = config.speech.width  # a few tensors that nothing uses, as the real files hold many
    unused = {"layers_prefix.0.input_layernorm.weight": (width,), "unused_projection.weight": (width, width)}
    codec = {part: stored(shapes["codec"], f"{part}.") for part in ("generator", "quantizer")}
    torch_files: dict[str, StreamedTree] = {
        # another seed than in the shards, so that it shows when the wrong ones are used
        f"{AUDIO_FOLDER}/final.pt": stored(shapes["main"], AUDIO_TENSORS, seed + 1),
        "vita_tts_ckpt/decoder/final.pt": {"model": stored(shapes["speech"] | unused, ""), "epoch": 0},
        "vita_tts_ckpt/codec/final.pt": codec | {"encoder": stored({"conv_pre.weight_v": (4, 1, 7)}, "")},
    }
    shards = _sharded(main, shard_bytes)
    if len(shards) == 1:
        return _PracticeFiles({"model.safetensors": main}, {}, torch_files)
    names = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    places = {tensor: name for name, shard in zip(names, shards) for tensor in shard}
    index = {"metadata": {"total_size": sum(t.nbytes for t in main.values())}, "weight_map": places}
    return _PracticeFiles(
        dict(zip(names, shards)), {"model.safetensors.index.json": json.dumps(index, indent=2)}, torch_files
    )


def _sharded(tensors: Mapping[str, StreamedTensor], limit: int) -> list[dict[str, StreamedTensor]]:
    shards: list[dict[str, StreamedTensor]] = [{}]
    held = 0
    for name, tensor in tensors.items():
        if shards[-1] and held + tensor.nbytes > limit:
            shards.append({})
            held = 0
        shards[-1][name] = tensor
        held += tensor.nbytes
    return shards


def _bytes(tree: StreamedTree) -> int:
    return sum(
        _bytes(value) if isinstance(value, Mapping) else value.nbytes
        for value in tree.values()
        if not isinstance(value, int)
    )


class _Report:
    """Adds up what has been written and tells ``progress``."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def of(self, file: str) -> Callable[[int], None]:
        def advance(count: int) -> None:
            self._done += count
            if self._progress:
                self._progress(file, self._done, self._total)

        return advance
