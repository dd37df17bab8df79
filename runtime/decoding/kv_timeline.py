"""The KV timeline: a conversation as a list of segments that lie one after the other in the KV cache.

The cache is a cache: :meth:`Timeline.read_to` is given what should lie in it, keeps the longest prefix that does
already, and reads the rest. Prefixes that stay, responses that are given up, and replies that are cut to what was heard
are all that one operation; forgetting costs nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence

from .decode_loop import decode_tokens
from .language_model import LanguageModel
from .sampling import Logits, Sampler
from .segments import Segment, common_prefix, cut, rows_of

__all__ = ["Timeline"]


class Timeline:
    """What the language model has before it, and where.

    What is said last is not in the cache yet (its logits are not needed before something follows it): it is *pending*,
    counts as a position, and is written with whatever comes next.
    """

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._segments: list[Segment] = []
        self._pending: list[int] = []

    @property
    def model(self) -> LanguageModel:
        """The model whose cache it is."""
        return self._model

    @property
    def position(self) -> int:
        """Positions in use: a mark to rewind to."""
        return self._model.position + len(self._pending)

    @property
    def tokens_read(self) -> int:
        """Positions that were read, not decoded, since the model was made."""
        return self._model.tokens_read

    @property
    def room(self) -> int:
        """Positions that are left."""
        return self._model.cache.capacity_tokens - self.position

    @property
    def segments(self) -> tuple[Segment, ...]:
        """What is held, from position 0 on, without gaps."""
        return tuple(self._segments)

    def missing(self, prompt: Sequence[Segment]) -> int:
        """Positions of ``prompt`` that are not held."""
        return sum(part.tokens for part in prompt) - common_prefix(self._segments, prompt)

    def check_room(self, prompt: Sequence[Segment]) -> None:
        """Raise ContextOverflow if ``prompt`` does not fit in place of what is held.

        The message counts what is missing against what is left behind the prefix that stays.
        """
        held = common_prefix(self._segments, prompt)
        total = sum(part.tokens for part in prompt)
        self._model.check_room(total - held, held)

    def read_to(self, prompt: Sequence[Segment]) -> Generator[None, None, Logits]:
        """Make the cache hold ``prompt`` and nothing else; one call of a graph for each step.

        Left in the middle, it holds the prefix that had stayed.

        Returns:
            the logits [vocab] that follow it, valid until the next call.

        Raises:
            ContextOverflow: there is no room; the timeline holds the prefix that had stayed.
        """
        total = sum(part.tokens for part in prompt)
        # the last position is read in any case, for what follows it
        held = min(common_prefix(self._segments, prompt), total - 1)
        steps = self._append(cut(prompt, held, total), held, logits=True)
        logits = yield from steps
        assert logits is not None
        return logits

    def read_ahead_to(self, prompt: Sequence[Segment]) -> Generator[None, None, None]:
        """As :meth:`read_to`, when more is to follow, so that nobody asks for logits yet."""
        held = common_prefix(self._segments, prompt)
        yield from self._append(cut(prompt, held, sum(part.tokens for part in prompt)), held, logits=False)

    def _append(self, parts: list[Segment], held: int, *, logits: bool) -> Generator[None, None, Logits | None]:
        self.rewind(held)
        if not parts:
            return None
        waiting = [Segment("reply", self._pending)] if self._pending else []
        rows = rows_of([*waiting, *parts], self._model.embeddings.rows)
        before = self._model.position
        try:
            if logits:
                result = yield from self._model.prefill_steps(rows)
            else:
                yield from self._model.read_steps(rows)
                result = None
        except BaseException:
            self._model.rewind(before)
            raise
        self._pending = []
        self._segments += parts
        return result

    def decode(
        self, logits: Logits, sample: Sampler, max_new_tokens: int, stop: Collection[int]
    ) -> Generator[int, None, None]:
        """Yield the tokens of a reply, beginning with the one that ``logits`` asks for; leave the loop to end it.

        A token of ``stop`` is yielded and ends it; it does not become part of the timeline. Once something else has
        been read or rewound, the loop must be left; a reply goes on by reading what was said and decoding anew.
        """
        said: list[int] = []
        self._segments.append(Segment("reply", said))
        for token in decode_tokens(logits, sample, self._step, max_new_tokens, stop):
            if token not in stop:
                said.append(token)
                self._pending = [token]
            yield token

    def _step(self, token: int) -> Logits:
        logits = self._model.step(token)
        self._pending = []
        return logits

    def rewind(self, position: int) -> None:
        """Forget everything from ``position`` on.

        Raises:
            ValueError: there is nothing there to go back to (a bug of the caller).
        """
        if not 0 <= position <= self.position:
            raise ValueError(f"cannot rewind a timeline of {self.position} positions to {position}")
        if position <= self._model.position:
            self._model.rewind(position)
            self._pending = []
        self._segments = cut(self._segments, 0, position)
