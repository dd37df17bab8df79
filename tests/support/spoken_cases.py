"""The tables in tests/data/spoken_text: what is written, and how it is read aloud."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from vita_edge.runtime.text.spoken.rules import Language

__all__ = ["SpokenCase", "heard", "spoken_cases"]

FOLDER = Path(__file__).parents[1] / "data" / "spoken_text"
HAN = "\u4e00-\u9fff"


@dataclass(frozen=True)
class SpokenCase:
    """One line of a table."""

    kind: str
    """en, zh or mixed."""
    written: str
    spoken: str

    @property
    def language(self) -> Language:
        """Of the talk that it stands in."""
        return "zh" if self.kind == "zh" else "en"


def spoken_cases(name: str) -> list[SpokenCase]:
    """The cases of ``name``.tsv; ⏎ stands for a new line."""
    lines = (FOLDER / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if "\t" in line and not line.startswith("# language")]
    return [SpokenCase(kind, written.replace("⏎", "\n"), spoken) for kind, written, spoken in rows]


def heard(text: str) -> str:
    """The words alone: no marks, no capitals, and no spaces beside Chinese characters."""
    text = re.sub(r"[^\w'\s]|_|(?<!\w)'|'(?!\w)", " ", text.lower())
    text = re.sub(r"\s+", " ", text).strip()
    return re.sub(rf"(?<=[{HAN}]) | (?=[{HAN}])", "", text)
