"""A bundle on disk: manifest, graphs, token table, tokenizer. Opened, checked, and described; never written here.

bundle/
  manifest.json        version, model facts, prompts, component table, bytes and sha256 of every file
  components/*.onnx    graphs, with their weights beside them
  embeddings.bin       the token table, memory-mapped
  tokenizer.json
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BadBundle
from ..onnxruntime.cpu import OnnxCpuSession
from ..session import Session
from .atomic_folder import restore
from .facts import ModelFacts
from .work import ModelWork

__all__ = ["COMPONENTS", "FORMAT", "FORMAT_VERSION", "PREFILL", "Bundle", "Component", "EmbeddingTable", "sha256_of"]

FORMAT = "vita-edge-bundle"
FORMAT_VERSION = 1
COMPONENTS = ("vision", "audio", "llm", "speech_prefill", "speech_decoder", "codec")
PREFILL = "llm_prefill"
"""A seventh component that some precisions have: prompts are read by a graph of their own."""
MANIFEST = "manifest.json"

_EXPORT_AGAIN = "Export the checkpoint again with this version: vita-edge export CHECKPOINT -o BUNDLE"


@dataclass(frozen=True)
class Component:
    """One graph of a bundle."""

    name: str
    graph: Path
    weights: tuple[Path, ...]
    parameters: int
    precision: str
    taps: tuple[str, ...]
    """Inner tensors that a comparison may ask for."""

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.graph, *self.weights)


@dataclass(frozen=True)
class Bundle:
    """An opened bundle; nothing but the manifest has been read."""

    path: Path
    precision: str
    target: str
    """The backend whose operators the graphs use: onnxruntime, tensorrt or tensorrt-10.3."""
    producer: str
    model: ModelFacts
    prompts: Mapping[str, Mapping[str, str]]
    """``prompts[style][name]``: styles ``command_line`` (image, video, lang) and ``live`` (audio, image, video)."""
    components: Mapping[str, Component]
    files: Mapping[str, tuple[int, str]]
    """Relative path → (bytes, sha256)."""
    embeddings: Mapping[str, Any]
    notice: str
    """What the user should know about these weights (licence, or that they are random)."""
    work: ModelWork | None = None
    """How much its graphs have to do; None in bundles whose export did not say it yet."""

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Read the manifest of the bundle at ``path`` and check that every file is there in full length.

        Raises:
            BadBundle: not a bundle, damaged, incomplete, or written by a newer version.
        """
        folder = Path(path)
        restore(Path(os.path.realpath(folder)))
        manifest = _read_manifest(folder)
        try:
            components = {
                name: Component(
                    name=name,
                    graph=folder / entry["graph"],
                    weights=tuple(folder / file for file in entry["weights"]),
                    parameters=int(entry["parameters"]),
                    precision=str(entry["precision"]),
                    taps=tuple(entry["taps"]),
                )
                for name, entry in manifest["components"].items()
            }
            bundle = cls(
                path=folder,
                precision=manifest["precision"],
                target=str(manifest.get("target", "onnxruntime")),  # bundles from before targets
                producer=manifest["producer"],
                model=ModelFacts.from_json(manifest["model"]),
                prompts=manifest["prompts"],
                components=components,
                files={name: (int(f["bytes"]), str(f["sha256"])) for name, f in manifest["files"].items()},
                embeddings=manifest["embeddings"],
                notice=manifest["notice"],
                work=ModelWork.from_json(manifest["work"]) if "work" in manifest else None,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            missing = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
            raise BadBundle(
                f"The manifest of {folder} cannot be understood.", why=f"{missing}.", fix=_EXPORT_AGAIN
            ) from error
        bundle._check_names()
        absent = [name for name in COMPONENTS if name not in components]
        if absent:
            raise BadBundle(
                f"The bundle {folder} has no {', '.join(absent)}.", why="A part is missing.", fix=_EXPORT_AGAIN
            )
        bundle._check_lengths()
        return bundle

    def session(self, component: str, *, threads: int = 0, **options: Any) -> Session:
        """Open the graph of ``component`` on the backend of this device."""
        return OnnxCpuSession(self.components[component].graph, threads=threads, **options)

    def embedding_table(self) -> EmbeddingTable:
        entry = self.embeddings
        try:
            return EmbeddingTable(self.path / entry["file"], entry["dtype"], int(entry["rows"]), int(entry["columns"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise BadBundle(
                f"The manifest of {self.path} does not describe a token table.",
                why=f"{type(error).__name__}: {error}.",
                fix=_EXPORT_AGAIN,
            ) from error

    @property
    def tokenizer_file(self) -> Path:
        return self.path / "tokenizer.json"

    @property
    def bytes(self) -> int:
        return sum(size for size, _ in self.files.values())

    def damaged_files(self, progress: Callable[[int], object] | None = None) -> Iterable[str]:
        """Yield the relative path of every file whose sha256 is not the manifest's; ``progress`` gets bytes read."""
        for name, (_, digest) in self.files.items():
            if sha256_of(self.path / name, progress) != digest:
                yield name

    def _check_names(self) -> None:
        """Every file that is used must be one whose checksum is known, inside the bundle."""
        used = {file.relative_to(self.path).as_posix() for part in self.components.values() for file in part.files}
        used |= {str(self.embeddings.get("file")), self.tokenizer_file.name}
        strange = sorted(used - set(self.files)) + [
            n for n in self.files if Path(n).is_absolute() or ".." in Path(n).parts
        ]
        if strange:
            raise BadBundle(
                f"The manifest of {self.path} names files that it does not describe.",
                why=f"{', '.join(strange)}.",
                fix=_EXPORT_AGAIN,
            )

    def _check_lengths(self) -> None:
        problems = []
        for name, (size, _) in self.files.items():
            file = self.path / name
            if not file.is_file():
                problems.append(f"{name} is missing")
            elif file.stat().st_size != size:
                problems.append(f"{name} has {file.stat().st_size} bytes, expected {size}")
        if problems:
            raise BadBundle(
                f"The bundle {self.path} is damaged.",
                why="; ".join(problems) + ".",
                fix="Copy the bundle again, or export the checkpoint again.",
            )


class EmbeddingTable:
    """The token table of the language model, memory-mapped: only the rows in use are ever read.

    Args:
        dtype: ``float32``, ``float16`` or ``bfloat16`` (numpy has no bfloat16: its two bytes are the upper half of a
            float32).
    """

    def __init__(self, path: Path, dtype: str, rows: int, columns: int) -> None:
        self._bfloat16 = dtype == "bfloat16"
        stored = np.uint16 if self._bfloat16 else np.dtype(dtype)
        try:
            self._table = np.memmap(path, stored, mode="r", shape=(rows, columns))
        except (OSError, ValueError) as error:
            raise BadBundle(f"The token table {path} cannot be read.", why=f"{error}.", fix=_EXPORT_AGAIN) from error

    @property
    def columns(self) -> int:
        return int(self._table.shape[1])

    def rows(self, ids: NDArray[np.int64] | list[int]) -> NDArray[np.float32]:
        """Embedding rows of ``ids``: float32 [len(ids), hidden]."""
        picked = self._table[np.asarray(ids, np.int64)]
        if self._bfloat16:
            return (picked.astype(np.uint32) << 16).view(np.float32)
        return picked.astype(np.float32)


def sha256_of(path: Path, progress: Callable[[int], object] | None = None) -> str:
    """Digest of a file, read in pieces of 4 MiB."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 22):
                digest.update(piece)
                if progress:
                    progress(len(piece))
    except OSError as error:
        raise BadBundle(
            f"{path} cannot be read.", why=f"{error.strerror}.", fix="Check its permissions and the disk."
        ) from error
    return digest.hexdigest()


def _read_manifest(folder: Path) -> dict[str, Any]:
    file = folder / MANIFEST
    try:
        manifest = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise BadBundle(
            f"{folder} is not a bundle.",
            why=f"It has no {MANIFEST}." if folder.is_dir() else "There is no such folder.",
            fix="Give the folder that `vita-edge export` has written.",
        ) from error
    except NotADirectoryError as error:
        raise BadBundle(
            f"{folder} is not a bundle.",
            why="It is a file.",
            fix="Give the folder that `vita-edge export` has written.",
        ) from error
    except OSError as error:
        raise BadBundle(
            f"{file} cannot be read.", why=f"{error.strerror}.", fix="Check the path and its permissions."
        ) from error
    except ValueError as error:
        raise BadBundle(f"{file} is damaged.", why=f"It is not JSON: {error}.", fix=_EXPORT_AGAIN) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BadBundle(f"{file} is not the manifest of a bundle.", why="Its format is not named.", fix=_EXPORT_AGAIN)
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        newer = isinstance(version, int) and version > FORMAT_VERSION
        raise BadBundle(
            f"The bundle {folder} has format {version}; this version reads format {FORMAT_VERSION}.",
            why="It was written by a newer vita-edge." if newer else "It was written by an older vita-edge.",
            fix="Upgrade vita-edge." if newer else _EXPORT_AGAIN,
        )
    return manifest
