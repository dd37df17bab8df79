"""The command that installs what an extra brings. It works before a release, when no index knows vita-edge."""

from __future__ import annotations

import json
import shlex
import sys
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["install_fix"]

NAME = "vita-edge"
CLONE = Path(__file__).resolve().parents[1]
"""The checkout that this file belongs to; a folder of other packages where a wheel was installed."""


def install_fix(extra: str) -> str:
    """``Install it with: …``, for this interpreter and from where vita-edge was installed.

    That is the clone or the wheel, while it is there; else the packages of the extra are named one by one.
    """
    source = _source()
    if source is not None:
        editable = ["-e"] if source.is_dir() else []
        what = [*editable, f"{source}[{extra}]"]
    else:
        what = _requirements(extra) or [f"vita_edge-VERSION-py3-none-any.whl[{extra}]"]
    return f"Install it with: {shlex.join([_interpreter(), '-m', 'pip', 'install', *what])}"


def _source() -> Path | None:
    """The folder or the wheel that vita-edge was installed from, or runs from."""
    if (CLONE / "pyproject.toml").is_file() and (CLONE / "src" / "vita_edge").is_dir():
        return CLONE
    distribution = _distribution()
    reported = distribution.read_text("direct_url.json") if distribution else None
    try:
        address = urlsplit(str(json.loads(reported or "{}").get("url", "")))
    except (ValueError, AttributeError):
        return None
    path = Path(unquote(address.path))
    return path if address.scheme == "file" and path.exists() else None


def _requirements(extra: str) -> list[str]:
    """What the installed metadata ask for with ``extra``: ``sounddevice>=0.5`` …"""
    distribution = _distribution()
    listed = (distribution.requires or []) if distribution else []
    found = (line.partition(";") for line in listed)
    requested = (f"extra == '{extra}'", f'extra == "{extra}"')
    return [name.strip() for name, _, when in found if when.strip() in requested and not name.startswith(f"{NAME}[")]


def _distribution() -> Distribution | None:
    try:
        return Distribution.from_name(NAME)
    except PackageNotFoundError:  # run from a clone
        return None


def _interpreter() -> str:
    """As the user would type it, from any folder."""
    return sys.executable or "python3"
