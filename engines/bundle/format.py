"""A bundle on disk: manifest, graphs, token table, tokenizer. Opened, checked, and described; never written here.

bundle/
  manifest.json        version, model facts, prompts, component table, bytes and sha256 of every file
  components/*.onnx    graphs, with their weights beside them
  embeddings.bin       the token table, memory-mapped
  tokenizer.json
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BadBundle
from ..reading.file_kind import FileKind, beside, check_utf8, is_file, is_folder
from ..reading.json_file import read_json
from ..reading.table import Table, as_table
from .atomic_folder import restore
from .component_spec import COMPONENTS
from .facts import ModelFacts
from .facts_check import check_facts, check_prompts
from .work import ModelWork

__all__ = ["FORMAT", "FORMAT_VERSION", "Bundle", "Component", "EmbeddingTable", "sha256_of"]

FORMAT = "vita-edge-bundle"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"

EMBEDDING_DTYPES = ("float32", "float16", "bfloat16")

_EXPORT_AGAIN = "Export the checkpoint again with this version: vita-edge export CHECKPOINT -o BUNDLE"
MANIFEST_FILE = FileKind(BadBundle, "the manifest", fix=_EXPORT_AGAIN)


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
    onnxruntime: str = ""
    """First version of ONNX Runtime that runs its graphs; empty in bundles whose export did not say it yet."""
    work: ModelWork | None = None
    """How much its graphs have to do; None in bundles whose export did not say it yet."""

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Read the manifest of the bundle at ``path`` and check that every file is there in full length.

        Raises:
            BadBundle: not a bundle, damaged, incomplete, or written by a newer version.
            Misuse: the path is not in UTF-8.
        """
        folder = Path(path)
        check_utf8(folder)
        restore(Path(os.path.realpath(folder)))
        manifest = _read_manifest(folder)
        components = {name: _component(name, entry) for name, entry in manifest.sections("components")}
        embeddings = manifest.section("embeddings")
        if embeddings.text("dtype") not in EMBEDDING_DTYPES:
            raise embeddings.refusal("dtype", f"Known: {', '.join(EMBEDDING_DTYPES)}.")
        try:
            model = ModelFacts.from_json(manifest.section("model").values)
            check_facts(model, embeddings.integer("rows"), embeddings.integer("columns"))
            prompts = check_prompts(manifest.values.get("prompts"))
            work = ModelWork.from_json(manifest.values["work"]) if "work" in manifest else None
        except ValueError as error:
            raise MANIFEST_FILE.refusal(manifest.file, f"{error}.") from error
        bundle = cls(
            path=folder,
            precision=manifest.text("precision"),
            target=manifest.text("target", "onnxruntime"),  # bundles from before targets
            producer=manifest.text("producer"),
            model=model,
            prompts=prompts,
            components=components,
            files={
                name: (entry.integer("bytes", minimum=0), entry.text("sha256"))
                for name, entry in manifest.sections("files")
            },
            embeddings=embeddings.values,
            notice=manifest.text("notice"),
            onnxruntime=manifest.text("onnxruntime", ""),
            work=work,
        )
        bundle._check_names(manifest)
        absent = [name for name in COMPONENTS if name not in components]
        if absent:
            raise BadBundle(
                f"The bundle {folder} has no {', '.join(absent)}.", why="A part is missing.", fix=_EXPORT_AGAIN
            )
        bundle._check_lengths()
        return bundle

    def embedding_table(self) -> EmbeddingTable:
        entry = self.embeddings
        return EmbeddingTable(self.path / entry["file"], entry["dtype"], int(entry["rows"]), int(entry["columns"]))

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

    def _check_names(self, manifest: Table) -> None:
        """Every file that is used must be one whose checksum is known, inside the bundle."""
        used = {manifest.section("embeddings").text("file"), self.tokenizer_file.name}
        for _, entry in manifest.sections("components"):
            used |= {entry.text("graph"), *entry.texts("weights")}
        for name in self.files:
            beside(manifest.file, name, MANIFEST_FILE)
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
            if not is_file(file):
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


def _component(name: str, entry: Table) -> Component:
    return Component(
        name=name,
        graph=beside(entry.file, entry.text("graph"), MANIFEST_FILE),
        weights=tuple(beside(entry.file, file, MANIFEST_FILE) for file in entry.texts("weights")),
        parameters=entry.integer("parameters", minimum=0),
        precision=entry.text("precision"),
        taps=entry.texts("taps"),
    )


def _read_manifest(folder: Path) -> Table:
    file = folder / MANIFEST
    if not os.path.lexists(file):
        raise BadBundle(
            f"{folder} is not a bundle.",
            why=f"It has no {MANIFEST}."
            if is_folder(folder)
            else "It is a file."
            if is_file(folder)
            else "There is no such folder.",
            fix="Give the folder that `vita-edge export` has written.",
        )
    manifest = read_json(file, MANIFEST_FILE)
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
    return as_table(file, manifest, MANIFEST_FILE)
