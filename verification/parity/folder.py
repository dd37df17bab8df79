"""A folder of recorded arrays: where its files lie, and what in it has been looked at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from vita_edge.engines.errors import BadInput
from vita_edge.engines.reading.file_kind import FileKind, is_file
from vita_edge.engines.reading.json_file import read_json
from vita_edge.engines.reading.npz_file import read_npz
from vita_edge.engines.reading.table import as_table

__all__ = ["GoldenFolder"]

RECORDED = FileKind(BadInput, "the recorded arrays", fix="Copy the folder again.")


class GoldenFolder:
    """Arrays of one checkpoint, as the reference computed them.

    Args:
        path: the folder with ``manifest.json``, or the one above its ``data``.

    Raises:
        BadInput: there are no recorded arrays at ``path``, or they cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        given = Path(path)
        self.path = given / "data" if (given / "data" / "manifest.json").is_file() else given
        self.inputs = self.path / "inputs"
        self.compared: set[str] = set()
        manifest = self.json("manifest.json")
        if manifest is None:
            raise BadInput(
                f"There are no recorded arrays in {given}.",
                why="It has no manifest.json, nor has its folder data.",
                fix="Give a folder with manifest.json, cases.json and *.npz.",
            )
        self.source: dict[str, Any] = (
            {"recorded": str(self.path), **dict(manifest.get("source", {}))} if isinstance(manifest, dict) else {}
        )
        """Where the arrays come from, as far as the manifest tells."""
        try:
            self._entries: dict[str, Mapping[str, Any]] = {
                f"{entry['file']}:{entry['name']}": {**entry, "shape": list(entry["shape"])}
                for entry in manifest["arrays"]
            }
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(
                f"{self.path / 'manifest.json'} does not list arrays.",
                why="Each of its arrays has a file, a name and a shape.",
                fix="Copy the folder again.",
            ) from error
        self._arrays: dict[str, dict[str, NDArray[Any]]] = {}
        for file in sorted(self.path.glob("*.npz")):
            self._arrays[file.name] = read_npz(file, RECORDED)
        cases = self.json("cases.json")
        self.cases: Mapping[str, Any] = (
            as_table(self.path / "cases.json", cases, RECORDED).values if cases is not None else {}
        )
        self.prompts: Mapping[str, Mapping[str, str]] | None = self._beside("prompts.json")

    def json(self, name: str) -> Any:
        """A JSON file of the folder, or None when it has none of that name."""
        file = self.path / name
        return read_json(file, RECORDED) if is_file(file) else None

    def get(self, file: str, name: str) -> NDArray[Any] | None:
        """An array, or None when the folder does not have it; it then counts as compared."""
        array = self._arrays.get(file, {}).get(name)
        if array is not None:
            self.compared.add(f"{file}:{name}")
        return array

    def peek(self, file: str, name: str) -> NDArray[Any]:
        """An array that is there; it does not count as compared."""
        return self._arrays[file][name]

    def names(self, file: str, suffix: str) -> list[str]:
        """What stands before ``.suffix`` in the names of ``file``, in their order."""
        ending = f".{suffix}"
        return [name[: -len(ending)] for name in self._arrays.get(file, {}) if name.endswith(ending)]

    def entry(self, file: str, name: str) -> Mapping[str, Any]:
        """What the manifest says about an array."""
        return self._entries.get(f"{file}:{name}", {})

    def stable(self, file: str, name: str) -> bool:
        """Whether a cut did not move when the reference was disturbed by rounding noise."""
        return bool(self.entry(file, name).get("stable_under_5e-7_noise", True))

    def absent(self) -> list[str]:
        """Arrays that the manifest lists and the files do not hold, or hold in another shape."""
        return [
            key
            for key, entry in self._entries.items()
            if (array := self._arrays.get(entry["file"], {}).get(entry["name"])) is None
            or (list(array.shape) != list(entry["shape"]) and array.size != 1)  # a number may be stored as a row of one
        ]

    def left_over(self) -> list[str]:
        """Arrays that nothing was compared with."""
        return sorted(
            key
            for file, arrays in self._arrays.items()
            for name in arrays
            if (key := f"{file}:{name}") not in self.compared
        )

    def _beside(self, name: str) -> Any:
        """System prompts: in the folder itself, or where one file serves several checkpoints."""
        for folder in (self.path, *list(self.path.resolve().parents)[:2]):
            prompts = self.json(str(folder / name))
            if isinstance(prompts, dict) and all(isinstance(texts, dict) for texts in prompts.values()):
                return prompts
        return None
