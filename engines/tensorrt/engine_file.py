"""An engine on disk: what TensorRT has built, with a header that says for what. Checked before TensorRT sees it.

PLAN/
  engine.json     the header: key, bytes and sha256 of the engine, inputs and outputs, what building it took
  engine.bin      the engine
  kernels.bin   what TensorRT-RTX has compiled of it when it was used (:mod:`.kernel_cache`); may be missing
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path

from vita_edge.engines.errors import BadBundle, VitaEdgeError
from vita_edge.engines.tensors import TensorSpec

from ..bundle.format import sha256_of
from ..reading.file_kind import FileKind
from ..reading.json_file import read_json
from ..reading.typed import build_record
from .build.profiles import CAPACITY, Profile
from .engine_key import EngineKey

__all__ = ["HEADER", "PLAN", "BadEngine", "Built", "EngineFile", "read_engine"]

HEADER, PLAN, KERNELS = "engine.json", "engine.bin", "kernels.bin"
FORMAT, FORMAT_VERSION = "vita-edge-engine", 1
HEADER_FILE = FileKind(BadBundle, "the header", fix="Build it again: vita-edge build BUNDLE")


class BadEngine(Exception):
    """A folder of the cache is no whole engine; the text says why, in words."""


@dataclass(frozen=True)
class Built:
    """What building an engine took, and what it will take."""

    seconds: float
    estimated_s: float
    """What was expected from its size alone; how far off that was sets the pace of the next build."""
    peak_memory_bytes: int | None
    """Resident in the process that built it, mapped files included."""
    weights_bytes: int | None
    """In the memory of the device, as TensorRT reports it."""
    activation_bytes: tuple[int, ...]
    """Scratch memory of each profile, as TensorRT reports it."""
    driver: str
    """CUDA version of the driver it was built with; empty without one."""
    producer: str


@dataclass(frozen=True)
class EngineFile:
    """An engine whose header has been read; :meth:`check` compares the rest."""

    folder: Path
    key: EngineKey
    bytes: int
    sha256: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    """As the graph declares them, fixed lengths filled in."""
    built: Built

    @property
    def path(self) -> Path:
        return self.folder / PLAN

    @property
    def kernels(self) -> Path:
        return self.folder / KERNELS

    @property
    def library(self) -> str:
        return self.key.library

    @property
    def version(self) -> str:
        return self.key.version

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """In TensorRT's order; empty for a graph of fixed shapes."""
        return self.key.profiles

    @property
    def capacity(self) -> tuple[int, int] | None:
        """Smallest and largest capacity of the KV cache that can be bound; None for a component without one.

        A cache that is written in place has one capacity; one that grows by a copy has any up to the largest.
        """
        if CAPACITY in self.key.fixed:
            return self.key.fixed[CAPACITY], self.key.fixed[CAPACITY]
        pasts = [
            shapes.max[spec.axes.index("past")] + 1
            for profile in self.profiles
            for name, shapes in profile.ranges.items()
            if "past" in (spec := self.inputs[name]).axes and name.startswith("past_key_values.")
        ]
        return (1, min(pasts)) if pasts else None

    def check(self, progress: Callable[[int], object] | None = None) -> None:
        """Compare length and sha256 with the header; ``progress`` gets bytes read.

        Raises:
            BadEngine: they differ, or the engine cannot be read.
        """
        try:
            size = self.path.stat().st_size
            if size != self.bytes:
                raise BadEngine(f"{self.path} has {size} bytes, and its header says {self.bytes}")
            if sha256_of(self.path, progress) != self.sha256:
                raise BadEngine(f"{self.path} is damaged: its sha256 is not the one of its header")
        except OSError as error:
            raise BadEngine(f"{self.path} cannot be read: {error.strerror}") from error
        except VitaEdgeError as error:
            raise BadEngine(f"{self.path} cannot be read: {error.why}") from error

    def data(self) -> mmap:
        """The engine, mapped: it is read as TensorRT reads it."""
        with self.path.open("rb") as file:
            return mmap(file.fileno(), 0, access=ACCESS_READ)

    def header(self) -> str:
        """What ``engine.json`` holds."""
        header = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "key": self.key.to_json(),
            "engine": {"bytes": self.bytes, "sha256": self.sha256},
            "inputs": [[spec.name, spec.dtype, list(spec.axes)] for spec in self.inputs.values()],
            "outputs": [[spec.name, spec.dtype, list(spec.axes)] for spec in self.outputs.values()],
            "built": {**vars(self.built), "activation_bytes": list(self.built.activation_bytes)},
        }
        return json.dumps(header, indent=1) + "\n"


def read_engine(folder: Path) -> EngineFile:
    """Read the header of an engine.

    Raises:
        BadEngine: it is missing, damaged, or of another version of vita-edge.
    """
    file = folder / HEADER
    try:
        header = read_json(file, HEADER_FILE)
    except BadBundle as error:
        raise BadEngine(f"{file} cannot be read: {error.why}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise BadEngine(f"{file} is not the header of an engine")
    if header.get("format_version") != FORMAT_VERSION:
        raise BadEngine(f"{file} was written by another version of vita-edge")
    try:
        key = EngineKey.from_json(header["key"])
        inputs, outputs = (
            {str(name): TensorSpec(str(name), str(dtype), tuple(axes)) for name, dtype, axes in header[part]}
            for part in ("inputs", "outputs")
        )
        engine_file = EngineFile(
            folder=folder,
            key=key,
            bytes=int(header["engine"]["bytes"]),
            sha256=str(header["engine"]["sha256"]),
            inputs=inputs,
            outputs=outputs,
            built=build_record(Built, header["built"], "built"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadEngine(f"{file} is damaged: {type(error).__name__}: {error}") from error
    if strange := sorted({name for profile in key.profiles for name in profile.ranges} - set(inputs)):
        raise BadEngine(f"{file} is damaged: a profile names {', '.join(strange)}, and the engine has no such input")
    if folder.name != key.folder:
        raise BadEngine(f"{folder} bears the name of another engine")
    return engine_file
