"""From a reply that is still being written to the clauses that the speech decoder reads aloud."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .clause_ends import Limits, cut_before, ends_at, weight
from .spoken.reading import read_aloud
from .spoken.rules import Language, language_of

__all__ = ["Clause", "ClauseCutter"]


@dataclass(frozen=True)
class Clause:
    """One clause to be spoken, with the way in which the reference's live demo streams it."""

    text: str
    """What the speech decoder reads: lower-case, and in words."""
    written: str
    """The characters of the reply up to here since the last clause: what the listener has heard then."""
    first: bool
    """The first of a reply: short chunks, so that sound starts early."""
    chunk: int
    """Codes decoded at a time."""
    threshold: float
    """Mean magnitude below which a chunk may be cut (1.0 is full scale); high for an early start."""
    trim: bool
    """Silence before the first sound is dropped."""
    padding: int = 10
    """Codes decoded on either side and thrown away."""

    @classmethod
    def of(cls, text: str, written: str, first: bool) -> Clause:
        """A clause with the chunks of a first or of a later one."""
        chunk, threshold = (20, 0.1) if first else (40, 0.015)
        return cls(text, written, first, chunk, threshold, trim=first)


FIRST = Limits(soft=38, hard=64, absolute=200, last=300)
"""A first clause is cut early, after some seven words, since nothing is heard before it is complete."""
LATER = Limits(soft=110, hard=150, absolute=200, last=300)
"""A later one has at most about 14 s of the 25 s that the speech decoder can say at once."""
MAX_SPOKEN = 220
"""Weight of what is handed to the speech decoder at once; figures and addresses grow when they are put into words."""
MIN_CHARACTERS = 5
"""Of a clause; shorter ones are spoken together with the next, but for the first of a reply."""


class ClauseCutter:
    """Pieces of a reply in, clauses out, the same ones however the reply is split into pieces.

    A clause ends behind a mark (:func:`~.clause_ends.ends_at`), or between two words when it has grown long. One
    without a letter or a digit is not spoken; what was written is then part of the next.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """As before the first piece of a reply."""
        self._first = self._line_start = True
        self._language: Language = "en"
        self._text = self._written = ""
        self._at = 0

    def step(self, piece: str) -> Iterator[Clause]:
        """Take the next piece of the reply, of any length."""
        self._text += piece
        yield from self._cut(final=False)

    def flush(self) -> Iterator[Clause]:
        """The reply has ended: hand over what is left, then be ready for the next reply."""
        yield from self._cut(final=True)
        yield from self._close(len(self._text))
        self.reset()

    def _cut(self, *, final: bool) -> Iterator[Clause]:
        """Close every clause whose end is known; ``_at`` is the first character that is still to be judged."""
        while self._at < len(self._text):
            cut = cut_before(self._text, self._at, FIRST if self._first else LATER, final=final)
            if cut is None:
                return
            if cut:
                yield from self._close(self._at)
                continue
            ends = ends_at(self._text, self._at, line_start=self._line_start, final=final)
            if ends is None:
                return
            self._at += 1
            if ends and (self._first or self._at >= MIN_CHARACTERS):
                yield from self._close(self._at)

    def _close(self, end: int) -> Iterator[Clause]:
        """Speak the text before ``end``."""
        raw, self._text, self._at = self._text[:end], self._text[end:], 0
        self._written += raw
        self._language = language_of(raw, self._language)
        spoken = read_aloud(raw, self._language, self._line_start)
        self._line_start = raw.endswith("\n") or (self._line_start and not raw.strip())
        if not spoken:
            return
        cut = bool(self._text) and raw[-1:] not in _MARKS
        for text, written in _parts(_shaped(raw, spoken, self._first, cut), self._written):
            yield Clause.of(text, written, self._first)
            self._first = False
        self._written = ""


def _shaped(raw: str, spoken: str, first: bool, cut: bool) -> str:
    """``spoken`` with the space before it and the mark behind it that the speech decoder knows.

    A comma would make the voice of a first clause go on; it has nothing to go on with yet.
    """
    if raw.rstrip()[-1:] not in _COMMAS:
        spoken = spoken.rstrip(_COMMAS)
    if spoken[-1] not in _MARKS and (cut or raw.endswith("\n")):
        wide = spoken[-1] >= "\u2e80"
        spoken += ("。" if wide else ".") if raw.endswith("\n") else ("，" if wide else ",")
    if first:
        spoken = re.sub(r"[,，:：;；—]$", "。", spoken)
    return f" {spoken}" if raw[:1].isspace() else spoken


def _parts(spoken: str, written: str) -> Iterator[tuple[str, str]]:
    """A clause that has become too long in words, in parts, each with its share of what was written."""
    begin = said = 0
    while weight(spoken[begin:]) > MAX_SPOKEN:
        end = _room(spoken, begin)
        until = len(written) * end // len(spoken)
        yield spoken[begin:end], written[said:until]
        begin, said = end, until
    yield spoken[begin:], written[said:]


def _room(spoken: str, begin: int) -> int:
    """The end of as many whole words from ``begin`` on as can be said at once."""
    end = begin
    while weight(spoken[begin : end + 1]) <= MAX_SPOKEN:
        end += 1
    space = spoken.rfind(" ", begin + 1, end)
    return space if space > begin + (end - begin) // 2 else end


_COMMAS = ",， "
_MARKS = ",.:;!?\n，。：；！？、…—"
