"""Read recorded feeds, and make of each what its graph takes for a whole clip or a whole sequence in one go."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vita_edge.engines.bundle.component_spec import SPEECH_PREFILL
from vita_edge.engines.bundle.feeds_format import FEEDS_FORMAT, FEEDS_VERSION, model_identity
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import BadInput
from vita_edge.engines.reading.file_kind import FileKind, beside
from vita_edge.engines.reading.json_file import read_json
from vita_edge.engines.reading.npz_file import read_npz
from vita_edge.engines.reading.table import as_table
from vita_edge.engines.tensors import Array, TensorSpec

__all__ = ["PREFIX", "Feeds", "Sample", "whole_feeds"]

Sample = dict[str, Array]

PREFIX = SPEECH_PREFILL.inputs[0].name
"""What the cache of the speech decoder is filled with before its first code."""
PAST = ("past.", "past_key_values.")
_RECORD = "Record again: vita-edge record BUNDLE -o FEEDS"
RECORDING = FileKind(BadInput, "the recording", fix=_RECORD)


@dataclass(frozen=True)
class Feeds:
    """An opened recording; no array has been read."""

    path: Path
    model: Mapping[str, Any]
    files: Mapping[str, Sequence[Path]]

    @classmethod
    def open(cls, path: str | Path) -> Feeds:
        """Read the manifest of the recording at ``path``.

        Raises:
            BadInput: it is no recording, or it cannot be read.
        """
        folder = Path(path)
        file = folder / "manifest.json"
        manifest = as_table(file, read_json(file, RECORDING), RECORDING)
        found = manifest.values.get("format"), manifest.values.get("format_version")
        if found != (FEEDS_FORMAT, FEEDS_VERSION):
            raise RECORDING.refusal(folder, f"Its format is {found[0]!r} {found[1]!r}.")
        files = {
            name: tuple(beside(file, each, RECORDING) for each in part.texts("files"))
            for name, part in manifest.sections("components")
        }
        return cls(folder, manifest.section("model").values, files)

    def check(self, bundle: Bundle) -> None:
        """Refuse feeds of another model: ranges of one say nothing about the other.

        Raises:
            BadInput: they were recorded with a bundle of another checkpoint.
        """
        requested = json.loads(json.dumps(model_identity(bundle)))
        if requested == self.model:
            return
        different = [key for key in requested if requested[key] != self.model.get(key)]
        raise BadInput(
            f"The feeds {self.path} are those of another model than {bundle.path}.",
            why=f"They were recorded with {self.model.get('name')}, this is {bundle.model.name}; "
            f"different: {', '.join(different)}.",
            fix="Record with a bundle of the same checkpoint; its precision does not matter.",
        )

    def samples(
        self, component: str, limit: int, inputs: Sequence[TensorSpec], beside: Sequence[TensorSpec] = ()
    ) -> list[Sample]:
        """At most ``limit`` samples of a component, spread evenly over its recording.

        Args:
            inputs: of its graph; each sample must hold all but lengths and what is past.
            beside: what a sample may hold for another graph.

        Raises:
            BadInput: there are none, or one cannot be read, does not fit the graph, or holds what is no number.
        """
        files = self.files.get(component, ())
        if not files:
            raise BadInput(
                f"The feeds {self.path} hold nothing of {component}.",
                why="It was not used while they were recorded.",
                fix="Record a turn that uses it, or leave it out with --component.",
            )
        count = min(limit, len(files))
        picked = [files[i * len(files) // count] for i in range(count)]
        return [_checked(file, _read(file), inputs, beside) for file in picked]


def _read(file: Path) -> Sample:
    return read_npz(file, RECORDING)


def _checked(file: Path, sample: Sample, inputs: Sequence[TensorSpec], beside: Sequence[TensorSpec]) -> Sample:
    """``sample``, of which :func:`whole_feeds` can make what the graph takes."""
    known = {spec.name: spec for spec in (*inputs, *beside)}
    requested = [s.name for s in inputs if s.name not in _lengths(0, 0) and not s.name.startswith(PAST)]
    problems = [f"{name} is missing" for name in requested if name not in sample]
    problems += [f"{name} is not one of its inputs" for name in sample if name not in known]
    problems += [
        reported for name, array in sample.items() if name in known and (reported := known[name].mismatch(array))
    ]
    if problems:
        raise BadInput(
            f"The feeds {file} do not fit the graph.",
            why=f"{'; '.join(problems)}. It takes {', '.join(requested)}.",
            fix="Record again with this version of vita-edge.",
        )
    for name, array in sample.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BadInput(
                f"The feeds {file} hold NaN or infinity.",
                why=f"{name} has {np.count_nonzero(~np.isfinite(array))} NaN or infinite values of {array.size}.",
                fix=f"Leave out the turn that gave them, or the file. {_RECORD}",
            )
    return sample


def digest(samples: Sequence[Sample]) -> str:
    """sha256 of names, types, shapes and values, whatever files they lay in."""
    known = hashlib.sha256()
    for sample in samples:
        for name, array in sample.items():
            known.update(f"{name} {array.dtype} {array.shape}".encode())
            known.update(np.ascontiguousarray(array).tobytes())
    return known.hexdigest()


def _lengths(held: int, new: int) -> dict[str, Array]:
    """What graphs are told beside a sample: of ``new`` positions after ``held`` ones, all in one go."""
    return {
        "begin": np.array(0, np.int64),
        "opening": np.ones(1, bool),
        "ending": np.ones(1, bool),
        "last": np.array(True),  # of bundles from before both
        "past_length": np.array([held], np.int64),
        "seen": np.zeros(held + new, bool),
        "seqlens_k": np.array([held + new - 1], np.int32),
        "total_sequence_length": np.array([held + new], np.int32),
    }


def whole_feeds(inputs: Sequence[TensorSpec], sample: Sample, prefix: Mapping[str, Array] | None = None) -> Sample:
    """What a graph is fed for the whole of ``sample``, from an empty cache or one that ``prefix`` has filled.

    Args:
        inputs: of the graph, those of its KV cache among them.
        prefix: outputs of the speech decoder's prefill graph.
    """
    names = {spec.name for spec in inputs}
    fixed = bool(names & {"past_length", "seqlens_k"})  # a cache with a capacity; else it grows by concatenation
    new = next((array.shape[1] for name, array in sample.items() if name in names and array.ndim > 1), 0)
    held = next(iter(prefix.values())).shape[2] if prefix else 0
    lengths = _lengths(held, new)
    feeds: Sample = {}
    for spec in inputs:
        if spec.name in sample:
            feeds[spec.name] = sample[spec.name]
        elif spec.name in lengths:
            feeds[spec.name] = lengths[spec.name]
        else:  # what is past: nothing, or the prefix
            cached = spec.name.startswith("past_key_values.")
            room = (held + new if fixed else held) if cached else 0
            past = np.zeros([axis if isinstance(axis, int) else room for axis in spec.axes], spec.dtype)
            if cached and prefix:
                past[:, :, :held] = prefix[f"present.{spec.name[len('past_key_values.') :]}"]
            feeds[spec.name] = past
    return feeds
