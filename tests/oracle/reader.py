"""Reading a checkpoint folder into float32 arrays (specification 2): safetensors, .pt, configurations, precedence."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

Array = npt.NDArray[Any]
Tensors = dict[str, Array]

QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SAFE_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "<u1"}
PT_TYPES = {"Double": "<f8", "Float": "<f4", "Half": "<f2", "Long": "<i8", "Int": "<i4", "Byte": "<u1", "Bool": "?"}


def widen_bf16(bits: Array) -> Array:
    """bfloat16 bit patterns to float32 (spec 2.4)."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def read_safetensors(path: Path) -> Tensors:
    """All tensors of one file as float32 (spec 2.1)."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    found = {}
    for name, entry in json.loads(raw[8:start]).items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        part = raw[start + first : start + last]
        if entry["dtype"] == "BF16":
            values = widen_bf16(np.frombuffer(part, "<u2"))
        else:
            values = np.frombuffer(part, SAFE_TYPES[entry["dtype"]]).astype(np.float32)
        found[name] = values.reshape(entry["shape"])
    return found


class Ignored:
    """Stands for anything in a pickle that is not a tensor or a dictionary (spec 2.4)."""

    def __init__(self, *_args: object, **_kwargs: object) -> None: ...

    def __setstate__(self, _state: object) -> None: ...


def rebuild(storage: Array, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_rest: object) -> Array:
    """A tensor out of a flat storage, by offset and stride (spec 2.4)."""
    if prod(size) == 0:
        return np.zeros(size, np.float32)
    view = np.lib.stride_tricks.as_strided(storage[offset:], size, [s * storage.itemsize for s in stride])
    return view.astype(np.float32)


class PtUnpickler(pickle.Unpickler):
    """Builds dictionaries of arrays and nothing else (spec 2.4)."""

    def __init__(self, archive: zipfile.ZipFile, pickled: str) -> None:
        super().__init__(archive.open(pickled))
        self.archive, self.folder = archive, pickled.removesuffix("data.pkl")

    def find_class(self, module: str, name: str) -> Any:
        """Only what a dictionary of tensors needs; everything else becomes `Ignored`."""
        if (module, name) == ("collections", "OrderedDict"):
            return type("OrderedDict", (dict,), {})
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return rebuild
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        return name.removesuffix("Storage") if module == "torch" and name.endswith("Storage") else Ignored

    def persistent_load(self, pid: Any) -> Array:
        """A raw storage of the archive."""
        _, kind, key, _, count = pid
        raw = self.archive.read(f"{self.folder}data/{key}")
        if kind == "BFloat16":
            return widen_bf16(np.frombuffer(raw, "<u2", count))
        return np.frombuffer(raw, PT_TYPES[kind], count)


def read_pt(path: Path) -> dict[str, Any]:
    """The dictionary in a .pt archive (spec 2.4)."""
    with zipfile.ZipFile(path) as archive:
        pickled = next(n for n in archive.namelist() if n == "data.pkl" or n.endswith("/data.pkl"))
        return PtUnpickler(archive, pickled).load()


def tensors_only(values: dict[str, Any]) -> Tensors:
    """Drop what is not a tensor (spec 2.4)."""
    return {k: v for k, v in values.items() if isinstance(v, np.ndarray)}


def main_tensors(root: Path) -> Tensors:
    """The main shards, as the index assigns them, or the only file (spec 2.1)."""
    index = root / "model.safetensors.index.json"
    if not index.exists():
        return read_safetensors(root / "model.safetensors")
    places = json.loads(index.read_text("utf-8"))["weight_map"]
    shards = {name: read_safetensors(root / name) for name in sorted(set(places.values()))}
    return {name: shards[shard][name] for name, shard in places.items()}


def main_config(root: Path) -> dict[str, Any]:
    """`config.json`, or what a nested one stands for (spec 2.1)."""
    config = json.loads((root / "config.json").read_text("utf-8"))
    if "text_config" not in config:
        return config
    origin = root / "origin_config.json"
    if origin.exists():
        return json.loads(origin.read_text("utf-8"))
    return {**config, **config["text_config"]}


def named_folder(root: Path, value: str | None) -> Path | None:
    """The side folder a configuration value names, when it exists on the device (spec 2.2, rules 1 and 2)."""
    if not value:
        return None
    last = Path(value).name
    places = (Path(value), root / value, root / last, root.parent / last)
    return next((p for p in places if p.is_absolute() and p.is_dir()), None)


def audio_folder(root: Path, config: dict[str, Any]) -> Path:
    """The audio folder (spec 2.2, rule 3)."""
    named = named_folder(root, config.get("mm_audio_encoder"))
    if named and (named / "train.yaml").exists():
        return named
    (only,) = (p for p in root.iterdir() if (p / "train.yaml").exists() and (p / "global_cmvn").exists())
    return only


def vision_folder(root: Path, config: dict[str, Any]) -> Path:
    """The vision folder (spec 2.2, rule 3)."""

    def is_vision(path: Path) -> bool:
        file = path / "config.json"
        return file.exists() and str(json.loads(file.read_text()).get("model_type", "")).startswith("intern_vit")

    named = named_folder(root, config.get("mm_vision_tower"))
    if named and is_vision(named):
        return named
    inside = [p for p in root.iterdir() if is_vision(p)]
    (only,) = inside or [p for p in root.parent.iterdir() if is_vision(p)]
    return only


def cmvn_from_file(path: Path, is_json: bool) -> Tensors:
    """Mean and inverse deviation out of the statistics file (spec 5.3)."""
    if is_json:
        stats = json.loads(path.read_text())
        mean, square, n = np.array(stats["mean_stat"]), np.array(stats["var_stat"]), stats["frame_num"]
    else:
        numbers = np.array([float(x) for x in re.sub(r"[\[\]]", " ", path.read_text()).split()])
        width = (len(numbers) - 2) // 2
        mean, n, square = numbers[:width], numbers[width], numbers[width + 1 : 2 * width + 1]
    mean = mean / n
    istd = 1 / np.sqrt(np.maximum(square / n - mean**2, 1e-20))
    return {"mean": mean.astype(np.float32), "istd": istd.astype(np.float32)}


def find_tokenizer(root: Path) -> Tokenizer:
    """Byte-level BPE from `tokenizer.json`, or from its three older files (spec 3)."""
    if (root / "tokenizer.json").exists():
        return Tokenizer.from_file(str(root / "tokenizer.json"))
    tokenizer = Tokenizer(models.BPE.from_file(str(root / "vocab.json"), str(root / "merges.txt")))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    added = json.loads((root / "added_tokens.json").read_text("utf-8"))
    special = (root / "special_tokens_map.json").read_text("utf-8")
    for text in sorted(added, key=added.__getitem__):
        tokenizer.add_tokens([AddedToken(text, normalized=False, special=f'"{text}"' in special)])
    return tokenizer


@dataclass
class Checkpoint:
    """Everything that is read from a checkpoint folder; `main` holds the winning weights (spec 2.3)."""

    config: dict[str, Any]
    generation: dict[str, Any]
    audio: dict[str, Any]
    vision: dict[str, Any]
    pixels: dict[str, Any]
    decoder: dict[str, Any]
    codec: dict[str, Any]
    main: Tensors
    decoder_weights: Tensors
    generator: Tensors
    quantizer: Tensors
    tokenizer: Tokenizer


def load(root: Path | str) -> Checkpoint:
    """Read a checkpoint folder (spec 2)."""
    root = Path(root).resolve()

    def read(path: Path) -> Any:
        return json.loads(path.read_text("utf-8")) if path.exists() else {}

    config = main_config(root)
    audio, vision = audio_folder(root, config), vision_folder(root, config)
    train = yaml.safe_load((audio / "train.yaml").read_text("utf-8"))
    main = main_tensors(root)
    alone = tensors_only(read_pt(audio / "final.pt")) if (audio / "final.pt").exists() else {}
    stats = cmvn_from_file(audio / "global_cmvn", train["is_json_cmvn"])
    below = {f"encoder.global_cmvn.{k}": v for k, v in stats.items()} | alone
    main = {f"model.audio_encoder.{k}": v for k, v in below.items()} | main
    tts = root / "vita_tts_ckpt"
    idim, odim, rest = read(tts / "decoder" / "model.json")
    speech, codec = read_pt(tts / "decoder" / "final.pt"), read_pt(tts / "codec" / "final.pt")
    wrapped = speech.get("model")
    return Checkpoint(
        config=config,
        generation=read(root / "generation_config.json"),
        audio=train,
        vision=read(vision / "config.json"),
        pixels=read(vision / "preprocessor_config.json"),
        decoder={**rest, "idim": idim, "odim": odim},
        codec=read(tts / "codec" / "model.json"),
        main=main,
        decoder_weights=tensors_only(wrapped if isinstance(wrapped, dict) else speech),
        generator=tensors_only(codec["generator"]),
        quantizer=tensors_only(codec["quantizer"]),
        tokenizer=find_tokenizer(root),
    )
