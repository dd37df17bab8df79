"""What an engine depends on: everything that, when it changes, makes another engine of it. Its digest names the
engine."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..bundle.format import Bundle
from .build.profiles import Profile
from .device import host
from .library import Library

__all__ = ["EngineKey", "differences"]


@dataclass(frozen=True)
class EngineKey:
    """Two engines with the same key are interchangeable."""

    component: str
    files: Mapping[str, str]
    """Graph and weights in the bundle → sha256, from its manifest."""
    precision: str
    profiles: tuple[Profile, ...]
    fixed: Mapping[str, int]
    """Axes that were given one length before TensorRT read the graph."""
    library: str
    version: str
    sm: str
    """Compute capability: ``sm86``."""
    gpu: str
    """Model of the GPU, where kernels were timed on it; empty for engines that run on every GPU of the capability."""
    host: str
    """System and processor."""
    stripped: bool = False
    """The weights are not in the engine; they are put in from the bundle when it is opened."""

    def to_json(self) -> dict[str, Any]:
        data = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        data["files"], data["fixed"] = dict(self.files), dict(self.fixed)
        data["profiles"] = [profile.to_json() for profile in self.profiles]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EngineKey:
        """Raises KeyError, TypeError, ValueError or AttributeError for what :meth:`to_json` has not written."""
        plain = ("component", "precision", "library", "version", "sm", "gpu", "host")
        return cls(
            **{name: str(data[name]) for name in plain},
            files={str(name): str(digest) for name, digest in data["files"].items()},
            profiles=tuple(Profile.from_json(profile) for profile in data["profiles"]),
            fixed={str(axis): int(length) for axis, length in data["fixed"].items()},
            stripped=bool(data["stripped"]),
        )

    @property
    def digest(self) -> str:
        """sha256 of the key, as hexadecimal digits."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def folder(self) -> str:
        """Name of the engine's folder in a cache."""
        return f"{self.component}-{self.digest[:20]}"

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        component: str,
        library: Library,
        *,
        sm: str,
        gpu: str,
        profiles: tuple[Profile, ...] = (),
        fixed: Mapping[str, int] | None = None,
        stripped: bool = False,
    ) -> EngineKey:
        """The key of an engine that is wanted; ``gpu`` counts only where the library times kernels."""
        part = bundle.components[component]
        names = [file.relative_to(bundle.path).as_posix() for file in part.files]
        return cls(
            component=component,
            files={name: bundle.files[name][1] for name in names},
            precision=part.precision,
            profiles=profiles,
            fixed=fixed or {},
            library=library.name,
            version=library.version,
            sm=sm,
            gpu="" if library.rtx else gpu,
            host=host(),
            stripped=stripped,
        )


def differences(requested: EngineKey, found: EngineKey) -> list[str]:
    """Why the engine ``found`` cannot be opened where ``wanted`` is needed, in words; nothing when it can.

    Profiles and fixed lengths do not count: an engine for other lengths can be opened.
    """
    reasons = []
    if found.files != requested.files:
        reasons.append("the bundle has changed since it was built")
    if (found.library, found.version) != (requested.library, requested.version):
        reasons.append(f"it was built by {_reported(found)}, and here is {_reported(requested)}")
    if (found.sm, found.gpu) != (requested.sm, requested.gpu):
        there, here = (f"{key.gpu} ({key.sm})" if key.gpu else f"a GPU of {key.sm}" for key in (found, requested))
        reasons.append(f"it was built for {there}, and here is {here}")
    if found.host != requested.host:
        reasons.append(f"it was built on {found.host}, and this is {requested.host}")
    return reasons


def _reported(key: EngineKey) -> str:
    return f"{'TensorRT-RTX' if key.library == 'tensorrt_rtx' else 'TensorRT'} {key.version}"
