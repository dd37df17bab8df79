"""The folder of recorded arrays while it is written: arrays by file, what the manifest says about each, documents."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.errors import BadInput

__all__ = ["RecordedArrays"]

MAX_BYTES = 768 << 20
"""Of all arrays of a recording, before they are compressed."""

MEANING = {
    "wave": "samples",
    "fbank": "80 log mel energies per 10 ms frame",
    "embeds": "what is spliced into the prompt, or the whole spliced prompt",
    "pixels": "normalised tiles, N x 3 x S x S",
    "logits": "raw logits of each step",
    "tokens": "greedy tokens, not stopping",
    "stop_tokens": "greedy tokens with stopping on",
    "n_llm": "number of language model positions for this audio, prompt rows not counted",
}


class RecordedArrays:
    """Arrays in the types of the folder: float32, int32; uint8 and int16 as they are."""

    def __init__(self, how: str, max_bytes: int = MAX_BYTES) -> None:
        self.how = how
        self.source: dict[str, Any] = {}
        """What is known about the weights and about what ran them."""
        self._room_bytes = max_bytes
        self.files: dict[str, dict[str, NDArray[Any]]] = {}
        self.notes: dict[str, dict[str, Any]] = {}

    def put(self, file: str, name: str, value: Any, **notes: Any) -> None:
        """Take over one array, for ``file``.npz; ``notes`` go into its entry of the manifest.

        Raises:
            BadInput: all arrays together take more than their room.
        """
        array = np.asarray(value)
        if array.dtype.kind == "f":
            array = array.astype(np.float32)
        elif array.dtype not in (np.int16, np.uint8):
            array = array.astype(np.int32)
        self._room_bytes -= array.nbytes
        if self._room_bytes < 0:
            raise BadInput(
                "The arrays of these inputs take too much room.",
                why=f"At {file}: {name} they are larger than the {MAX_BYTES >> 20} MiB that one recording may take.",
                fix="Give fewer or shorter inputs, or smaller pictures.",
            )
        self.files.setdefault(file, {})[name] = array
        if notes:
            self.notes[f"{file}:{name}"] = notes

    def get(self, file: str, name: str) -> NDArray[Any]:
        return self.files[file][name]

    def manifest(self) -> dict[str, Any]:
        return {
            "produced": self.how,
            "source": self.source,
            "arrays": [self._entry(file, name) for file, arrays in self.files.items() for name in arrays],
        }

    def write(self, folder: Path, documents: Mapping[str, Any]) -> None:
        """Write ``*.npz``, ``manifest.json`` and the documents, by their names without ``.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        for file, arrays in self.files.items():
            named: dict[str, Any] = dict(arrays)
            np.savez_compressed(folder / f"{file}.npz", **named)
        for name, content in {"manifest": self.manifest(), **documents}.items():
            (folder / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", "utf-8")

    def _entry(self, file: str, name: str) -> dict[str, Any]:
        array = self.files[file][name]
        stage = name.split(".")[1]
        entry: dict[str, Any] = {
            "file": f"{file}.npz",
            "name": name,
            "shape": list(array.shape),
            "dtype": str(array.dtype),
            "meaning": MEANING.get(stage, stage),
            "how": self.how,
        }
        if array.dtype == np.float32 and array.size:
            entry |= {"scale": float(np.abs(array).max()), "std": float(array.std())}
        return entry | self.notes.get(f"{file}:{name}", {})
