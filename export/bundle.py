"""Write a bundle: the one place where a checkpoint becomes files. Atomic: written beside, renamed last."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vita_edge import __version__
from vita_edge.engines.bundle.atomic_folder import free_place, whole_folder
from vita_edge.engines.bundle.component_spec import COMPONENTS
from vita_edge.engines.bundle.file_limit import check_file_sizes
from vita_edge.engines.bundle.format import FORMAT, FORMAT_VERSION, MANIFEST, sha256_of
from vita_edge.engines.bundle.replace import refusal
from vita_edge.engines.onnxruntime.version import MIN_VERSIONS
from vita_edge.engines.reading.file_kind import check_utf8

from .checkpoint.check_values import check_values
from .checkpoint.open_checkpoint import Checkpoint
from .checkpoint.tensor import LazyTensor
from .facts import model_facts
from .graphs.audio import audio_graph
from .graphs.codec import codec_graph
from .graphs.graph_builder import GraphBuilder
from .graphs.llm import llm_graph, llm_prefill_graph
from .graphs.speech import speech_decoder_graph, speech_prefill_graph
from .graphs.vision import vision_graph
from .prompts import DEFAULT_PROMPTS
from .weights.half import held_by_half
from .weights.precision import PrecisionPlan, precision_plan
from .weights.weight import first_rows
from .work import model_work

__all__ = ["LICENCE_NOTICE", "ExportReport", "export_bundle"]

LICENCE_NOTICE = (
    "Weights of the released VITA-1.5 and bundles made from them are for academic, research and education use only."
)
RANDOM_NOTICE = "These weights are random: the bundle shows the way and the time, its words mean nothing."

Progress = Callable[[str, int, int], object]
"""Called with (what is being written, values done, values in all)."""


@dataclass(frozen=True)
class ExportReport:
    """What was written."""

    bundle: Path
    bytes: int
    parameters: Mapping[str, int]
    notice: str
    notes: tuple[str, ...]
    """What the user should know about how this checkpoint was read."""


def export_bundle(
    checkpoint_path: str | Path,
    bundle_path: str | Path,
    *,
    vision_tower: str | Path | None = None,
    audio_encoder: str | Path | None = None,
    precision: str | PrecisionPlan = "fp32",
    target: str = "onnxruntime",
    prompts: Mapping[str, Mapping[str, str]] | None = None,
    notice: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
    reported: Callable[[str], object] | None = None,
    check: Callable[[Path], object] | None = None,
) -> ExportReport:
    """Turn the checkpoint at ``checkpoint_path`` into a bundle at ``bundle_path``.

    Nothing appears at ``bundle_path`` before the bundle is whole; what an interrupted export has left beside it is
    swept away by the next one.

    Args:
        precision: a name, or a plan of your own.
        target: the backend that will run it: onnxruntime, tensorrt or tensorrt-10.3; a plan has its own.
        vision_tower: folder of the vision tower's two config files, when it is not beside the checkpoint.
        audio_encoder: folder with train.yaml and global_cmvn, when it is not in the checkpoint.
        prompts: system prompts to carry instead of our own.
        notice: what users of these weights should know; None says the licence of the release, or that practice
            weights are random.
        force: replace a bundle that is already there.
        told: called with the notice before the first byte is written.
        check: called with the folder when the bundle is whole, before it takes its name; what it raises leaves nothing.

    Raises:
        BadCheckpoint: keys missing, left over or of the wrong shape (all are listed), or options that are refused.
        Misuse: something is in the way at ``bundle_path``, or its name cannot be taken.
        OutputFailed: no space or no permission.
    """
    plan = precision_plan(precision, target=target) if isinstance(precision, str) else precision
    sources = {"checkpoint": Path(checkpoint_path)} | ({"vision tower": Path(vision_tower)} if vision_tower else {})
    place = free_place(bundle_path, lambda place: refusal(place, force=force, sources=sources))
    replace = force and (place / MANIFEST).is_file()
    check_utf8(place)
    checkpoint = Checkpoint.open(checkpoint_path, vision_tower=vision_tower, audio_encoder=audio_encoder)
    facts = model_facts(checkpoint)
    table = checkpoint.main["model.embed_tokens.weight"]
    notice = notice or (RANDOM_NOTICE if facts.name.startswith("practice/") else LICENCE_NOTICE)
    graphs = _graphs(checkpoint, facts.llm.vocab_size, plan)
    table_dtype = _table_dtype(table, facts.llm.vocab_size, plan)
    row_bytes = table.shape[1] * np.dtype(_stored(table_dtype)).itemsize
    needed = sum(graph.nbytes for graph in graphs) + facts.llm.vocab_size * row_bytes

    tensors = checkpoint.tensors()
    total = sum(graph.parameters for graph in graphs) + facts.llm.vocab_size * table.shape[1]
    total += sum(tensor.size for tensor in tensors.values())
    done = 0

    def advance(what: str) -> Callable[[int], None]:
        def step(values: int) -> None:
            nonlocal done
            done += values
            if progress:
                progress(what, done, total)

        return step

    check_file_sizes(place, {f"{graph.name}.bin": graph.nbytes for graph in graphs})
    if reported:
        reported(notice)
    check_values(tensors, facts.llm.vocab_size, checkpoint.notes, advance("checking values"))
    with whole_folder(place, needed, what="bundle", replace=replace) as folder:
        files = [_write_text(folder / "tokenizer.json", checkpoint.tokenizer_json())]
        files.append(
            _write_embeddings(
                folder / "embeddings.bin", table, facts.llm.vocab_size, table_dtype, advance("embeddings")
            )
        )
        (folder / "components").mkdir()
        entries: dict[str, Any] = {}
        for graph in graphs:
            written = graph.save(folder / "components", advance(graph.name))
            files += written
            entries[graph.name] = {
                "graph": f"components/{written[0].name}",
                "weights": [f"components/{file.name}" for file in written[1:]],
                "precision": graph.format.precision,
                "parameters": graph.parameters,
                "taps": graph.taps,
            }
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "producer": f"vita-edge {__version__}",
            "precision": plan.name,
            "target": plan.target,
            "onnxruntime": MIN_VERSIONS[plan.target],
            "notice": notice,
            "model": facts.to_json(),
            "work": model_work(checkpoint.config, facts.llm.vocab_size).to_json(),
            "prompts": prompts or DEFAULT_PROMPTS,
            "embeddings": {
                "file": "embeddings.bin",
                "dtype": table_dtype,
                "rows": facts.llm.vocab_size,
                "columns": table.shape[1],
            },
            "components": entries,
            "files": {
                str(file.relative_to(folder)): {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
                for file in sorted(files)
            },
        }
        _write_text(folder / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
        if check:
            check(folder)
    return ExportReport(
        bundle=Path(bundle_path),
        bytes=sum(entry["bytes"] for entry in manifest["files"].values()),
        notice=notice,
        parameters={graph.name: graph.parameters for graph in graphs},
        notes=tuple(checkpoint.notes),
    )


def _graphs(checkpoint: Checkpoint, vocab_size: int, plan: PrecisionPlan) -> list[GraphBuilder]:
    """All components, weights not yet read."""
    graphs = [
        vision_graph(checkpoint, plan.encoders, plan.lowering),
        audio_graph(checkpoint, plan.encoders, plan.lowering),
        llm_graph(checkpoint, vocab_size, plan.llm, plan.head, first=plan.llm_first, lowering=plan.lowering),
        speech_prefill_graph(checkpoint, plan.encoders, plan.lowering),
        speech_decoder_graph(checkpoint, plan.speech_decoder, plan.head, plan.lowering),
        codec_graph(checkpoint, plan.lowering),
    ]
    if tuple(graph.name for graph in graphs) != COMPONENTS:
        raise AssertionError("the graphs are not the components of a bundle")
    if plan.llm_prefill:
        graphs.append(llm_prefill_graph(checkpoint, plan.llm_prefill))
    return graphs


def _write_text(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def _stored(dtype: str) -> str:
    """numpy has no bfloat16: the table keeps its two bytes."""
    return "uint16" if dtype == "bfloat16" else dtype


def _table_dtype(table: LazyTensor, rows: int, plan: PrecisionPlan) -> str:
    """The checkpoint's, but half precision for float32 where the plan keeps tables so and it holds the values."""
    narrowed = table.dtype == "float32" and plan.lowering.stored == "float16" and held_by_half(first_rows(table, rows))
    return "float16" if narrowed else table.dtype


def _write_embeddings(path: Path, table: LazyTensor, rows: int, dtype: str, progress: Callable[[int], None]) -> Path:
    """The token table, without the rows that no id reaches."""
    block = max((1 << 22) // table.shape[1], 1)
    with path.open("wb") as file:
        for start in range(0, rows, block):
            piece = table.raw_rows(start, min(start + block, rows)).astype(_stored(dtype), copy=False)
            file.write(piece.data)
            progress(piece.size)
    return path
