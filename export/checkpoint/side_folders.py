"""Find the folders that belong to a checkpoint: hearing, sight, and the two halves of the voice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vita_edge.engines.errors import BadCheckpoint, Misuse
from vita_edge.engines.reading.file_kind import is_file, is_folder

from .config_file import read_json

__all__ = ["SideFolders", "find_side_folders", "is_vision_folder"]


@dataclass(frozen=True)
class SideFolders:
    audio: Path
    """Holds train.yaml and global_cmvn."""
    vision: Path
    """Holds the InternViT config.json and preprocessor_config.json."""
    decoder: Path
    codec: Path


def find_side_folders(
    checkpoint: Path,
    audio_name: object,
    vision_name: object,
    vision_tower: Path | None = None,
    audio_encoder: Path | None = None,
) -> SideFolders:
    """Apply the release's naming rules; ``*_name`` are the values in ``config.json``, usually repository ids.

    In this order: the value as a path, absolute or inside the checkpoint; its last component inside the checkpoint or
    beside it, or in the same hub cache; the only folder in one of these places that looks right. ``vision_tower`` and
    ``audio_encoder`` are folders that the user named.
    """
    if audio_encoder and not is_audio_folder(audio_encoder):
        raise BadCheckpoint(
            f"{audio_encoder} is not an audio folder.",
            why="It has no train.yaml and global_cmvn.",
            fix="Name the folder of VITA-1.5's audio encoder.",
        )
    audio = audio_encoder or _named(checkpoint, audio_name, is_audio_folder)
    for places in ([checkpoint], _hub_snapshots(checkpoint)):
        audio = audio or _only(
            checkpoint, places, is_audio_folder, "audio folders (with train.yaml and global_cmvn)", "mm_audio_encoder"
        )
    if audio is None:
        raise BadCheckpoint(
            f"{checkpoint} has no audio folder.",
            why=f"mm_audio_encoder is {audio_name!r}, and no folder inside holds train.yaml and global_cmvn.",
            fix="Download the whole release, of which it is a sub-folder, or name it with --audio-encoder DIR.",
        )
    vision = _user_vision(vision_tower) if vision_tower else _named(checkpoint, vision_name, is_vision_folder)
    for places in ([checkpoint], [checkpoint.resolve().parent], _hub_snapshots(checkpoint)):
        vision = vision or _only(checkpoint, places, is_vision_folder, "vision folders", "mm_vision_tower")
    if vision is None:
        raise BadCheckpoint(
            f"{checkpoint} has no vision folder.",
            why=f"mm_vision_tower is {vision_name!r}, and no folder inside or beside holds an InternViT config.json.",
            fix="Download InternViT-300M-448px (its two JSON files are enough) and name it with --vision-tower DIR.",
        )
    voice = checkpoint / "vita_tts_ckpt"
    return SideFolders(audio, vision, voice / "decoder", voice / "codec")


def is_audio_folder(folder: Path) -> bool:
    return is_file(folder / "train.yaml") and is_file(folder / "global_cmvn")


def is_vision_folder(folder: Path) -> bool:
    try:
        config = read_json(folder / "config.json")
    except BadCheckpoint:
        return False
    return isinstance(config, dict) and str(config.get("model_type", "")).startswith("intern_vit")


def _named(checkpoint: Path, name: object, fits: Callable[[Path], bool]) -> Path | None:
    if not isinstance(name, str) or not name:
        return None
    last = Path(name).name
    candidates = [checkpoint / name, checkpoint / last, checkpoint.resolve().parent / last]
    for snapshots in _hub_snapshots(checkpoint, name):
        candidates += _folders(snapshots)
    return next((folder for folder in candidates if fits(folder)), None)


def _only(checkpoint: Path, places: list[Path], fits: Callable[[Path], bool], plural: str, key: str) -> Path | None:
    found = [folder for place in places for folder in _folders(place) if fits(folder)]
    if len(found) > 1:
        raise BadCheckpoint(
            f"{checkpoint} has several {plural}: {', '.join(folder.name for folder in found)}.",
            why=f"{key} in config.json names none of them.",
            fix="Keep one of them there"
            + (", or choose with --vision-tower DIR." if "vision" in key else ", or choose with --audio-encoder DIR."),
        )
    return found[0] if found else None


def _hub_snapshots(checkpoint: Path, name: str = "*") -> list[Path]:
    """Where the hub cache that ``checkpoint`` lies in keeps other repositories, or the one called ``name``:
    HUB/models--OWNER--NAME/snapshots/COMMIT."""
    here = checkpoint.resolve()
    if here.parent.name != "snapshots" or not here.parents[1].name.startswith("models--"):
        return []
    try:
        return sorted(here.parents[2].glob(f"models--{name.replace('/', '--')}/snapshots"))
    except ValueError:  # a name that is no pattern
        return []


def _folders(place: Path) -> Iterator[Path]:
    try:
        entries = sorted(place.iterdir())
    except OSError:
        return
    yield from (entry for entry in entries if is_folder(entry))


def _user_vision(folder: Path) -> Path:
    if not is_folder(folder):
        raise Misuse(f"There is no folder {folder}.", why="It was named as the vision tower.", fix="Correct the path.")
    if not is_vision_folder(folder):
        raise BadCheckpoint(
            f"{folder} is not an InternViT folder.",
            why="Its config.json is missing or its model_type does not start with intern_vit.",
            fix="Name the folder of InternViT-300M-448px.",
        )
    return folder
