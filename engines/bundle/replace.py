"""What may be replaced: a bundle of ours with nothing of anybody else's in it, never a folder that is being read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import Misuse
from .format import FORMAT, MANIFEST

__all__ = ["refusal"]

SHOWN = 3


def refusal(target: Path, *, force: bool, sources: Mapping[str, Path]) -> Misuse | None:
    """Why the folder ``target`` may not be replaced by a new bundle; None when it may.

    Args:
        target: the real path of a folder that holds something.
        force: the user has asked to replace a bundle.
        sources: folders that are read to write the new bundle, by what they are called in a message.
    """
    for what, source in sources.items():
        real = Path(os.path.realpath(source))
        if target == real or target in real.parents or real in target.parents:
            return Misuse(
                f"{target} cannot be written: the {what} {source} is read from there.",
                why="What is read must not be replaced by what is made from it.",
                fix="Give another name.",
            )
    manifest = _manifest(target)
    if manifest is None:
        return Misuse(f"{target} exists.", why="It is not a bundle, so it is never replaced.", fix="Give another name.")
    if foreign := _foreign(target, manifest):
        more = f" and {len(foreign) - SHOWN} more" if len(foreign) > SHOWN else ""
        return Misuse(
            f"{target} is a bundle, and holds files that are none of it.",
            why=f"Replacing it would delete {', '.join(foreign[:SHOWN])}{more}.",
            fix="Move them elsewhere, or give another name.",
        )
    if not force:
        return Misuse(
            f"{target} exists.",
            why="It is a bundle, and a bundle is never replaced unasked.",
            fix="Give --force to replace it, or another name.",
        )
    return None


def _manifest(folder: Path) -> Mapping[str, Any] | None:
    """The manifest of a bundle of ours, of any version; None when it is not one."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        return None
    return manifest if isinstance(manifest.get("files"), dict) else None


def _foreign(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Files, links and empty folders below ``folder`` that the manifest does not name."""
    ours = {MANIFEST, *manifest["files"]}
    parents = {parent.as_posix() for name in ours for parent in Path(name).parents}
    found = (path for path in folder.rglob("*"))
    names = sorted(path.relative_to(folder).as_posix() for path in found)
    return [name for name in names if name not in ours and name not in parents]
