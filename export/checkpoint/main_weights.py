"""The main weights: one safetensors file, or shards with an index that says which of them holds a tensor."""

from __future__ import annotations

from pathlib import Path

from vita_edge.engines.errors import BadCheckpoint
from vita_edge.engines.reading.file_kind import beside, is_file

from .config_file import CONFIG, as_table, read_json
from .safetensors_file import open_safetensors
from .tensor import LazyTensor

__all__ = ["open_main"]

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_DOWNLOAD = "Download the whole release, the index file included."
_OTHER_FORMS = (
    (
        ("pytorch_model*.bin", "pytorch_model.bin.index.json", "*.bin"),
        "the weights are there as .bin files, pickles that are not read here",
        "Convert them where transformers is: AutoModel.from_pretrained(DIR).save_pretrained(DIR, "
        "safe_serialization=True), or download the .safetensors files.",
    ),
    (
        ("adapter_model.*", "adapter_config.json"),
        "it is an adapter (LoRA), the difference to a base model",
        "Merge it into its base model first (peft: merge_and_unload), and export the merged checkpoint.",
    ),
    (
        ("*.gguf",),
        "the weights are there as .gguf, a format of llama.cpp",
        "Download the original checkpoint: quantised weights cannot be exported again.",
    ),
    (
        ("consolidated*", "*.pth", "*.ckpt", "*.pt"),
        "the weights are there in a training format",
        "Save them as safetensors, with an index when there are several files.",
    ),
    (
        ("*.safetensors", "*.safetensors.*", "*.incomplete"),
        "weights are there under other names",
        _DOWNLOAD,
    ),
)
"""Patterns of files → what they say of a folder without main weights, and the way out."""


def open_main(path: Path) -> dict[str, LazyTensor]:
    """All tensors of the checkpoint folder ``path`` by name.

    Raises:
        BadCheckpoint: there are none, a shard is missing, or a tensor lies in several of them and no index decides.
    """
    if is_file(path / SINGLE):
        return open_safetensors(path / SINGLE)
    if not is_file(path / INDEX):
        raise _no_weights(path)
    index = as_table(path / INDEX, read_json(path / INDEX)).section("weight_map")
    places = {name: index.text(name) for name in index.values}
    shards = {shard: beside(index.file, shard, CONFIG) for shard in sorted(set(places.values()))}
    if absent := [shard for shard, file in shards.items() if not is_file(file)]:
        raise BadCheckpoint(
            f"{path} lacks {len(absent)} of {len(shards)} shards: {', '.join(absent)}.",
            why=f"{INDEX} says that they hold weights of the model.",
            fix="Download the missing files into the checkpoint folder.",
        )
    tensors: dict[str, LazyTensor] = {}
    for shard, file in shards.items():
        for name, tensor in open_safetensors(file).items():
            if places.get(name, shard) != shard:
                continue  # a copy that was left behind: the index decides
            if name in tensors:
                raise BadCheckpoint(
                    f"{tensors[name].file.name} and {shard} both hold {name}.",
                    why=f"{INDEX} does not say which of the two is meant.",
                    fix="Download the release again, the index file included.",
                )
            tensors[name] = tensor
    if gone := [name for name in places if name not in tensors]:
        raise BadCheckpoint(
            f"{places[gone[0]]} does not hold {gone[0]}" + (f", and {len(gone) - 1} more." if gone[1:] else "."),
            why=f"{INDEX} says that it does: the two are of different versions.",
            fix="Download the release again, the index file included.",
        )
    return tensors


def _no_weights(path: Path) -> BadCheckpoint:
    for patterns, why, fix in _OTHER_FORMS:
        found = sorted({file.name for pattern in patterns for file in path.glob(pattern)})
        if found:
            shown = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if found[3:] else "")
            return BadCheckpoint(
                f"{path} has no weights that can be exported.",
                why=f"Neither {SINGLE} nor {INDEX} is there; {why}: {shown}.",
                fix=fix,
            )
    return BadCheckpoint(f"{path} has no weights.", why=f"Neither {SINGLE} nor {INDEX} is there.", fix=_DOWNLOAD)
