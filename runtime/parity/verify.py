"""All stages of a bundle, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vita_edge.engines.bundle import Bundle

from ..assistant import Assistant
from .compare import Check
from .folder import GoldenFolder
from .language import language_checks
from .senses import audio_checks, text_checks, vision_checks
from .speech import fixed_checks, speech_checks, talk_checks

__all__ = ["verify"]


def verify(bundle: Bundle, golden: GoldenFolder | str | Path, *, threads: int = 0) -> Iterator[Check]:
    """Compare every stage of ``bundle`` with the recorded arrays; yields one verdict after the other.

    Raises:
        BadBundle, BadInput: the bundle or the recorded arrays cannot be read.
    """
    folder = golden if isinstance(golden, GoldenFolder) else GoldenFolder(golden)
    for key in folder.absent():
        yield Check("recorded arrays", key, False, detail="the manifest lists it, the files do not hold it so")
    with Assistant(bundle, threads=threads) as assistant:
        yield from text_checks(folder, assistant.tokenizer)
        yield from audio_checks(folder, bundle)
        yield from vision_checks(folder, bundle)
        yield from language_checks(folder, bundle, assistant)
        yield from fixed_checks(folder, bundle)
        yield from speech_checks(folder, bundle, assistant)
        yield from talk_checks(folder, bundle, assistant)
    for key in folder.left_over():
        yield Check("recorded arrays", key, True, detail="nothing to compare it with", skipped=True)
