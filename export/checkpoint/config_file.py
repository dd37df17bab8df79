"""One JSON or YAML file of settings: values by key, of the right kind, or an error that names file and key."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from vita_edge.engines.errors import BadCheckpoint, VitaEdgeError
from vita_edge.engines.reading.file_kind import FileKind, read_text
from vita_edge.engines.reading.json_file import MAX_DEPTH
from vita_edge.engines.reading.json_file import read_json as read_any_json
from vita_edge.engines.reading.table import REQUIRED, Table

__all__ = ["CONFIG", "REQUIRED", "ConfigFile", "as_table", "read_json", "read_yaml"]

CONFIG = FileKind(
    BadCheckpoint,
    "",
    fix="Download this file again.",
    absent="Download the whole release, and name its main folder (the one with config.json).",
)


class ConfigFile(Table):
    """A table of settings of a checkpoint."""

    def __init__(self, file: Path, values: Mapping[str, Any], kind: FileKind = CONFIG, section: str = "") -> None:
        super().__init__(file, values, kind, section)

    def section(self, *keys: str) -> ConfigFile:
        found = super().section(*keys)
        assert isinstance(found, ConfigFile)
        return found

    def _fix_of_values(self) -> str:
        return "Use the release's own file; if this is another model than VITA-1.5, it cannot be exported."

    def _absent(self, key: str) -> VitaEdgeError:
        return BadCheckpoint(
            f"{self.file} has no {self._section}{key}.",
            why="Sizes and options are read from the checkpoint's own files; none is guessed.",
            fix="Use the release's own file, unchanged.",
        )


def read_json(file: Path) -> Any:
    return read_any_json(file, CONFIG, finite=False)


def read_yaml(file: Path) -> ConfigFile:
    text = read_text(file, CONFIG)
    try:
        values = yaml.load(text, _Loader)
    except RecursionError as error:
        raise CONFIG.refusal(file, f"It is not valid YAML: it is nested in more than {MAX_DEPTH} levels.") from error
    except Exception as error:  # the constructors of dates, numbers and keys raise whatever they stumble over
        raise CONFIG.refusal(file, f"It is not valid YAML: {error}.") from error
    return as_table(file, values)


def as_table(file: Path, values: Any) -> ConfigFile:
    if not isinstance(values, dict):
        raise CONFIG.refusal(file, "Its outermost level has to be a table: keys and values.")
    return ConfigFile(file, values)


class _Loader(yaml.SafeLoader):
    """Runs nothing: tags of Python are lists and texts where they stand for such, and nothing at all elsewhere."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        if twice := [key for i, key in enumerate(keys) if key in keys[:i]]:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice[0]!r} stands in it twice")
        return super().construct_mapping(node, deep)

    def construct_python(self, suffix: str, node: yaml.Node) -> Any:
        if suffix in ("tuple", "list") and isinstance(node, yaml.SequenceNode):
            return self.construct_sequence(node, deep=True)
        if suffix in ("str", "unicode") and isinstance(node, yaml.ScalarNode):
            return self.construct_scalar(node)
        return None


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", _Loader.construct_python)
_Loader.add_implicit_resolver(  # PyYAML takes 1e-5, as trainers write it, for a text
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)
