"""Inputs of a recording: those that come along, or a user's own; and the plan that follows from what is there."""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from pathlib import Path

import soundfile
from PIL import Image

from vita_edge.engines.errors import BadInput
from vita_edge.engines.reading.file_kind import beside
from vita_edge.engines.reading.json_file import read_json
from vita_edge.engines.reading.table import as_table
from vita_edge.runtime import read_image, read_sound
from vita_edge.runtime.encoders.video import FRAMES

from .plan import Conversation, Plan

__all__ = ["SENTENCES", "built_in_inputs", "plan_for", "prepare_inputs"]

SOUNDS = (".wav", ".flac", ".ogg", ".mp3")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
MIN_SECONDS = 0.1
MAX_FILES = 24
"""Of each kind; every one is computed by the reference."""
SENTENCES = {"english": "It looks like a simple drawing.", "chinese": "这是一张简单的图画。"}
QUESTION, ABOUT_PICTURE = "Hello, how are you today?", "What do you see in this image?"
TEXTS: tuple[str, ...] = (
    "Hello, world!",
    "你好，世界！",
    "☞你好",
    "☜ Hi",
    "a  b\n\nc\t d",
    "3.14159 and 2024年",
    "it's we're I'LL",
)
TEXTS += ("<|im_start|>user\nhi<|im_end|>\n", "café cafe\u0301", "🙂 emoji", "", " ", "\n", "<image>", "1,234,567.89%")


def built_in_inputs() -> Path:
    """Speech in English and Chinese, a picture, and the frames of a clip; made for this project."""
    return Path(str(files("vita_edge.verification"))) / "inputs"


def prepare_inputs(source: Path, target: Path) -> None:
    """Copy sounds, pictures and lists of frames into ``target``, as .wav, .png and .json files.

    Raises:
        BadInput: the folder holds nothing of the kind, too many files, or one that cannot be read.
    """
    if not source.is_dir():
        raise BadInput(f"There is no folder {source}.", why="It should hold the inputs.", fix="Correct the path.")
    found = sorted(file for file in source.iterdir() if file.is_file() and not file.name.startswith("."))
    kinds = {"sounds": SOUNDS, "pictures": PICTURES, "lists of frames": (".json",)}
    chosen = {kind: [file for file in found if file.suffix.lower() in ends] for kind, ends in kinds.items()}
    if not any(chosen.values()):
        raise BadInput(
            f"{source} holds no inputs.",
            why=f"None of its {len(found)} files is a sound, a picture or a list of frames.",
            fix=f"Put in files that end in {', '.join((*SOUNDS, *PICTURES))}, or JSON lists of frames.",
        )
    for kind, those in chosen.items():
        if len(those) > MAX_FILES:
            raise BadInput(
                f"{source} holds {len(those)} {kind}.",
                why=f"The reference computes every one of them; at most {MAX_FILES} are taken.",
                fix="Give a folder with fewer.",
            )
    target.mkdir(parents=True, exist_ok=True)
    names: dict[str, Path] = {}
    for kind, those in chosen.items():
        for file in those:
            name = _name(file, names)
            {"sounds": _copy_sound, "pictures": _copy_picture, "lists of frames": _copy_clip}[kind](file, target, name)


def plan_for(inputs: Path, *, max_tokens: int = 16, max_codes: int = 120) -> Plan:
    """What a folder of prepared inputs allows: every file by itself, and conversations of every kind."""
    sounds, pictures, clips = (sorted(file.name for file in inputs.glob(f"*.{end}")) for end in ("wav", "png", "json"))
    conversations = {"text": Conversation("lang", text=QUESTION)}
    if pictures and not sounds:
        conversations["image_text"] = Conversation("image", text=ABOUT_PICTURE, picture=pictures[0])
    if sounds:
        conversations["audio"] = Conversation("lang", sounds=(sounds[-1],))
        conversations["live1"] = Conversation("audio", sounds=(sounds[0],), live=True, spoken=True)
    if sounds and pictures:
        conversations["image_audio"] = Conversation("image", picture=pictures[0], sounds=(sounds[0],), spoken=True)
    if clips and sounds:
        conversations["video_audio"] = Conversation("video", clip=clips[0], sounds=(sounds[-1],))
    elif clips:
        conversations["video_text"] = Conversation("video", text=ABOUT_PICTURE, clip=clips[0])
    return Plan(
        sounds=tuple(Path(name).stem for name in sounds),
        pictures=tuple(Path(name).stem for name in pictures),
        conversations=conversations,
        sentences=SENTENCES,
        max_tokens=max_tokens,
        max_reply_tokens=max_tokens,
        max_codes=max_codes,
        texts=TEXTS,
    )


def _name(file: Path, taken: dict[str, Path]) -> str:
    """The stem without dots, which part the names of arrays."""
    name = file.stem.replace(".", "-")
    if name in taken and taken[name].suffix.lower() != ".json" and file.suffix.lower() != ".json":
        raise BadInput(
            f"{file.name} and {taken[name].name} have the same name.",
            why="Recorded arrays are named after them.",
            fix="Rename one of them.",
        )
    taken[name] = file
    return name


def _copy_sound(file: Path, target: Path, name: str) -> None:
    sound = read_sound(file)
    seconds = sound.samples.shape[1] / sound.sample_rate_hz
    if seconds < MIN_SECONDS:
        raise BadInput(
            f"{file} lasts {1000 * seconds:.0f} ms.",
            why=f"The audio encoder makes nothing of less than {1000 * MIN_SECONDS:.0f} ms.",
            fix="Give a longer recording.",
        )
    if file.suffix.lower() == ".wav":
        shutil.copyfile(file, target / f"{name}.wav")
    else:
        soundfile.write(target / f"{name}.wav", sound.samples.T, sound.sample_rate_hz, subtype="FLOAT")


def _copy_picture(file: Path, target: Path, name: str) -> None:
    """Upright and without transparency, so that everybody who reads it sees the same."""
    Image.fromarray(read_image(file)).save(target / f"{name}.png")


def _copy_clip(file: Path, target: Path, name: str) -> None:
    """The list, with its frames beside it."""
    clip = as_table(file, read_json(file, FRAMES), FRAMES)
    frames, fps = [beside(file, frame, FRAMES) for frame in clip.texts("frames")], clip.number("fps")
    folder = target / f"{name}-frames"
    folder.mkdir(exist_ok=True)
    names = [f"{name}-frames/{i:04}.png" for i in range(len(frames))]
    for frame, copy in zip(frames, names):
        Image.fromarray(read_image(frame)).save(target / copy)
    (target / f"{name}.json").write_text(json.dumps({"fps": fps, "frames": names}) + "\n", "utf-8")
