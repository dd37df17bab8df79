"""All stages of a bundle, one after the other."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import BadInput, VitaEdgeError
from vita_edge.runtime.session.assistant import Assistant

from .compare import Check
from .encoders import audio_checks, text_checks, vision_checks
from .folder import GoldenFolder
from .language import language_checks
from .speech import fixed_checks, speech_checks, talk_checks

__all__ = ["verify"]

NOT_A_NUMBER = re.compile(r"\b(nan|inf|not numbers)\b")
"""In the words of samplers and of the codec."""


def verify(
    bundle: Bundle,
    golden: GoldenFolder | str | Path,
    *,
    threads: int = 0,
    backend: str = "cpu",
    engine_dir: Path | None = None,
) -> Iterator[Check]:
    """Compare every stage of ``bundle`` with the recorded arrays; yields one verdict after the other.

    Args:
        backend: what runs the graphs. Plans of TensorRT have no inner tensors to look at: those are skipped.
        engine_dir: folder of TensorRT engines; None takes the user's cache.

    Raises:
        BadBundle, BadInput: the bundle or the recorded arrays cannot be read.
        Misuse, EngineUnavailable: the backend does not run this bundle, or not here.
    """
    folder = golden if isinstance(golden, GoldenFolder) else GoldenFolder(golden)
    for key in folder.absent():
        yield Check("recorded arrays", key, False, detail="the manifest lists it, the files do not hold it so")
    _check_widths(bundle, folder)
    try:
        yield from _checks(bundle, folder, threads, backend, engine_dir)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(
            f"The recorded arrays {folder.path} are not of the form that is compared here.",
            why=f"{type(error).__name__}: {error}.",
            fix="Copy the folder again. If it is whole, run with --debug and report what is printed.",
        ) from error
    for key in folder.left_over():
        yield Check("recorded arrays", key, True, detail="nothing to compare it with", skipped=True)


def _checks(
    bundle: Bundle, folder: GoldenFolder, threads: int, backend: str, engine_dir: Path | None
) -> Iterator[Check]:
    with Assistant(bundle, threads=threads, backend=backend, engine_dir=engine_dir) as assistant:
        yield from text_checks(folder, assistant.tokenizer)
        yield from audio_checks(folder, bundle, assistant.backend)
        yield from vision_checks(folder, bundle, assistant.backend)
        yield from _to_its_end("llm", language_checks(folder, bundle, assistant))
        yield from _to_its_end("codec", fixed_checks(folder, bundle, assistant.backend))
        yield from _to_its_end("speech", speech_checks(folder, bundle, assistant))
        yield from _to_its_end("talk", talk_checks(folder, bundle, assistant))


def _to_its_end(stage: str, checks: Iterator[Check]) -> Iterator[Check]:
    """A stage that meets NaN refuses to go on: that is a comparison that failed, and the others are still made."""
    try:
        yield from checks
    except VitaEdgeError as error:
        if not NOT_A_NUMBER.search(error.what):
            raise
        yield Check(stage, "numbers", False, math.nan, math.nan, detail=error.what)


def _check_widths(bundle: Bundle, folder: GoldenFolder) -> None:
    """Refuse recordings of a model of another shape before a graph does."""
    llm, audio, vision = bundle.model.llm, bundle.model.audio, bundle.model.vision
    widths = [("llm.npz", "embeds", -1, llm.hidden_size), ("audio.npz", "fbank", -1, audio.mel_bins)]
    widths += [("vision.npz", "pixels", -1, vision.tile_size), ("llm.npz", "logits", -1, llm.vocab_size)]
    widths += [("tts.npz", "hidden", -1, bundle.model.speech.width)]
    for file, kind, axis, expected in widths:
        for name in folder.names(file, kind):
            array = folder.peek(file, f"{name}.{kind}")
            if array.ndim < 2 or array.shape[axis] != expected:
                raise BadInput(
                    f"The recorded arrays {folder.path} are not of this model.",
                    why=f"{file}: {name}.{kind} has shape {list(array.shape)}; its last axis should be {expected}.",
                    fix="Give the arrays that were recorded from the checkpoint of this bundle.",
                )
