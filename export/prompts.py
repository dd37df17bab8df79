"""System prompts in our own words: the default that a bundle carries. `vita-edge export --prompts FILE` replaces them.

The released model was trained with the prompts of its authors; whoever has them gets the best of it by exporting with
them. The shape is ``{style: {name: text}}``, as :data:`DEFAULT_PROMPTS` shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vita_edge.engines.errors import BadInput
from vita_edge.engines.reading.file_kind import FileKind
from vita_edge.engines.reading.json_file import read_json

__all__ = ["DEFAULT_PROMPTS", "read_prompts"]

PROMPTS_FILE = FileKind(
    BadInput,
    "the prompts",
    fix='The file holds {"command_line": {"image", "video", "lang"}, "live": {"audio", "image", "video"}}.',
)

_WHO = "You are VITA, a helpful assistant that hears, sees and speaks."
_HOW = (
    "Answer in the language of the user, briefly and truthfully, in sentences that sound natural when spoken. "
    "When the user corrects you, think again and say what is right."
)
_IMAGE = "Answer from what the picture shows; it is a still picture, not a video."
_VIDEO = "Answer from what the video shows; its frames are given in order."

_STYLE = {
    "lang": f"{_WHO} {_HOW}",
    "audio": f"{_WHO} {_HOW}",
    "image": f"{_WHO} {_HOW} {_IMAGE}",
    "video": f"{_WHO} {_HOW} {_VIDEO}",
}
NAMES = {"command_line": ("image", "video", "lang"), "live": ("audio", "image", "video")}
DEFAULT_PROMPTS = {style: {name: _STYLE[name] for name in names} for style, names in NAMES.items()}


def read_prompts(path: Path) -> dict[str, dict[str, str]]:
    """Prompts from a JSON file of the shape of :data:`DEFAULT_PROMPTS`.

    Raises:
        BadInput: the file cannot be read, or a prompt is missing.
    """
    data: Any = read_json(path, PROMPTS_FILE)
    missing = [
        f"{style}.{name}"
        for style, names in NAMES.items()
        for name in names
        if not isinstance(data, Mapping)
        or not isinstance(data.get(style), Mapping)
        or not isinstance(data[style].get(name), str)
    ]
    if missing:
        raise BadInput(
            f"The prompts {path} are not complete.", why=f"Missing: {', '.join(missing)}.", fix=PROMPTS_FILE.fix
        )
    return {style: {name: data[style][name] for name in names} for style, names in NAMES.items()}
