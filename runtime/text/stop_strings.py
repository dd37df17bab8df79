"""Stop strings: texts that end a reply, found while it streams."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["StopStrings"]


class StopStrings:
    """Lets text through until a stop string is complete; neither that nor anything behind it comes out.

    However the text is cut into pieces, the same text comes out. What may still become a stop string is held back. Of
    stop strings that end at the same character the longest counts.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = sorted(stop, key=len, reverse=True)
        self._held, self._ended = "", False
        self.found: str | None = None
        """The stop string that ended the text."""

    def step(self, piece: str) -> str:
        """Take the next piece of the text; returns what is certain to belong to the reply."""
        if not self._stop:
            return piece
        if self._ended:
            self.reset()
        released = []
        for character in piece:
            if self.found is None:
                released.append(self._take(character))
        return "".join(released)

    def flush(self) -> str:
        """The text has ended: what was held back. What was found stays known until the next text begins."""
        held, self._held, self._ended = self._held, "", True
        return held

    def reset(self) -> None:
        """As new."""
        self._held, self.found, self._ended = "", None, False

    def _take(self, character: str) -> str:
        text = self._held + character
        self.found = next((stop for stop in self._stop if text.endswith(stop)), None)
        if self.found is not None:
            self._held = ""
            return text[: -len(self.found)]
        begin = next(at for at in range(len(text) + 1) if any(stop.startswith(text[at:]) for stop in self._stop))
        self._held = text[begin:]
        return text[:begin]
