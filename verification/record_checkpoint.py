"""Record what the reference computes with a user's own weights, for comparing a bundle of them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vita_edge.engines.bundle.atomic_folder import free_place, whole_folder
from vita_edge.engines.bundle.format import Bundle, sha256_of
from vita_edge.engines.errors import BadInput, Misuse
from vita_edge.export.checkpoint.open_checkpoint import Checkpoint
from vita_edge.export.facts import model_facts
from vita_edge.runtime import Assistant

from .recorder.arrays import MAX_BYTES
from .recorder.bundle_draft import BundleDraft
from .recorder.inputs import built_in_inputs, plan_for, prepare_inputs
from .recorder.record_reference import ReferenceRecorder
from .reference import Reference

__all__ = ["record_checkpoint"]


def record_checkpoint(
    bundle: Bundle,
    checkpoint: Path,
    folder: Path,
    *,
    inputs: Path | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    max_tokens: int = 16,
    threads: int = 0,
    progress: Callable[[str], object] = lambda _: None,
) -> None:
    """Write the recorded arrays of ``checkpoint`` into a new ``folder``; they appear whole or not at all.

    The bundle guesses what the reference will say, on the processor; it decides nothing.

    Args:
        inputs: sounds, pictures and lists of frames; None takes those that come along.
        dtype, device: what the reference computes in, and where.
        max_tokens: tokens of each reply.

    Raises:
        BadInput: bundle and checkpoint are of different models, or the inputs cannot be used.
        BadCheckpoint: the weights cannot be read.
        Misuse: ``folder`` holds something, or there is no such dtype or device.
        OutputFailed: the disk is full.
    """
    opened = Checkpoint.open(checkpoint)
    _check_same_model(bundle, opened)
    taken = Misuse(f"{folder} exists and is not empty.", why="Nothing is ever overwritten.", fix="Name a new folder.")
    with whole_folder(free_place(folder, lambda _: taken), MAX_BYTES, what="recording") as target:
        prepare_inputs(inputs or built_in_inputs(), target / "inputs")
        reference = Reference(opened, dtype, device)
        with Assistant(bundle, threads=threads) as assistant:
            guess = BundleDraft(assistant)

            def draft(prompt: str, rows: Tensor, tokens: list[int], count: int) -> list[int]:
                return guess(prompt, np.asarray(rows.float().cpu().numpy(), np.float32), tokens, count)

            plan = plan_for(target / "inputs", max_tokens=max_tokens)
            recorder = ReferenceRecorder(
                reference, target / "inputs", bundle.prompts, plan, draft=draft, progress=progress
            )
            recorder.arrays.source = {
                "checkpoint": str(checkpoint),
                "model": opened.config.name,
                "weights_sha256": _weights_digest(opened, progress),
                "reference": f"PyTorch {torch.__version__}, {dtype} on {device}",
                "inputs": _inputs_digest(target / "inputs"),
            }
            recorder.record_audio()
            recorder.record_vision()
            recorder.record_language()
        recorder.record_speech()
        recorder.record_talk()
        recorder.write(target)
        (target / "prompts.json").write_text(json.dumps(dict(bundle.prompts), ensure_ascii=False, indent=1) + "\n")


def _weights_digest(checkpoint: Checkpoint, progress: Callable[[str], object]) -> str:
    """sha256 over the names and digests of the files that hold weights in use."""
    tensors = [*checkpoint.main.values(), *checkpoint.speech.values(), *checkpoint.codec.values()]
    digest = hashlib.sha256()
    for file in sorted({tensor.file for tensor in tensors}):
        progress(f"sha256 of {file.name}")
        digest.update(f"{file.name} {sha256_of(file)}\n".encode())
    return digest.hexdigest()


def _inputs_digest(inputs: Path) -> dict[str, str]:
    return {f.relative_to(inputs).as_posix(): sha256_of(f) for f in sorted(inputs.rglob("*")) if f.is_file()}


def _check_same_model(bundle: Bundle, checkpoint: Checkpoint) -> None:
    """Refuse weights of other sizes or options than the bundle was made from, naming each."""
    ours, theirs = (dataclasses.asdict(facts) for facts in (bundle.model, model_facts(checkpoint)))
    different = [
        f"{part}.{name}: {value!r} in the bundle, {theirs[part].get(name)!r} in the checkpoint"
        for part, facts in ours.items()
        if isinstance(facts, dict)
        for name, value in facts.items()
        if _plain(value) != _plain(theirs[part].get(name))
    ]
    if different:
        raise BadInput(
            f"The bundle {bundle.path} was not made from the checkpoint {checkpoint.path}.",
            why="\n".join(f"  {line}" for line in different),
            fix="Give the checkpoint that the bundle was exported from.",
        )


def _plain(value: object) -> object:
    return list(value) if isinstance(value, (list, tuple)) else value
