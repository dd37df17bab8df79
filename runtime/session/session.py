"""A session: one conversation over an opened model, whatever feeds it and whatever plays it.

``ask`` is a session without a transport, a live session is one with a microphone, a server puts a socket before it: the
verbs are the same. Weights are shared; the history with its KV cache, and the cache of the speech decoder, are its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vita_edge.engines.errors import Misuse, VitaEdgeError

from ..decoding.logits_processors import LogitsProcessor
from ..events.reply_events import Reply
from .response import Response
from .session_core import SessionCore
from .turn import Turn

__all__ = ["Session"]


class Session(SessionCore):
    """One conversation; made by :meth:`Assistant.session`.

    Hand over what the user says and shows with the ``append_…`` verbs, in any order and from any thread, then
    :meth:`create_response`. :meth:`ask` and :meth:`answer` do both for a whole turn. One thread at a time iterates over
    a response; :meth:`cancel` and :meth:`reset` may come from any thread at any moment.

    Args:
        model: what all sessions share.
        options: how it is held.
        instructions: text of the system prompt; None takes the one that the model was trained to see.
        layout: how the conversation is written out; None is in the order in which it happened.
    """

    def create_response(
        self,
        *,
        instructions: str | None = None,
        max_tokens: int | None = None,
        logits_processors: Sequence[LogitsProcessor] = (),
        **sampling: Any,
    ) -> Response:
        """Answer what was appended. Computes nothing yet: iterate over the response.

        A response that is still going on ends here, unless another thread iterates over it.

        Args:
            instructions: system prompt of this response alone; costs a reading of the whole history, twice.
            max_tokens: longest reply, in place of the option ``max_new_tokens``.
            logits_processors: change the logits [vocab] before every choice of a token, in place: a grammar, or tokens
            that are forced. They see the tokens of this reply.
            sampling: other fields of :class:`SamplingOptions` in place of the session's.

        Raises:
            Misuse: another thread is inside of the session, or still iterates over a response; or an option is wrong.
            BadInput: what was said last is too short or too long.
        """
        if max_tokens is not None:
            sampling["max_new_tokens"] = max_tokens
        options = replace(self.options, **sampling)
        return self.start(options, instructions, logits_processors=logits_processors)

    def resume(self, response: Response | None = None) -> Response:
        """Go on with the newest reply after it was cancelled or truncated, with the same words and the same voice.

        What was handed out is not handed out again.

        Args:
            response: whose reply it is, where others that left no trace came after it; else the newest one's.

        Raises:
            Misuse: there is no reply that could go on.
        """
        with self._guard.entered():
            self._end_other()
            generation = response.generation if response else self._generation
            if generation is None or not self._can_go_on(generation):
                raise Misuse(
                    "There is no reply to go on with.",
                    why="The newest turn has none that was remembered.",
                    fix="Ask something first.",
                )
            return self._respond(generation, resumed=True)

    def answer(self, turn: Turn, **options: Any) -> Response:
        """Answer ``turn``: :meth:`append_turn` and :meth:`create_response`; see there for ``options``."""
        with self._input:
            asked, before = self._turn, self._turn.mark()
        self.append_turn(turn)
        try:
            return self.create_response(**options)
        except VitaEdgeError:
            with self._input:
                if self._turn is asked:  # else what is asked next would begin with this turn
                    asked.rewind(before)
            raise

    def ask(self, turn: Turn, **options: Any) -> Reply:
        """Answer ``turn`` and return when all of it is there."""
        return self.answer(turn, **options).result()

    def cancel(self) -> bool:
        """End the response that is going on, from any thread; False when there is none. See :meth:`Response.cancel`."""
        response = self._response() if self._response else None
        if response is None or response.ended:
            return False
        response.cancel()
        return True

    def truncate(self, *, heard_s: float | None = None, tokens: int | None = None) -> int:
        """The user has heard only a part of the newest reply: the history keeps no more than that.

        Ends the response if it is still going on.

        Args:
            heard_s: seconds of the audio that was handed out.
            tokens: or tokens of the reply.

        Returns:
            tokens of the reply that the history keeps.

        Raises:
            Misuse: neither or both were given, or there is no reply to truncate.
        """
        if (heard_s is None) == (tokens is None):
            raise Misuse("truncate() takes heard_s or tokens.", why="It was given neither or both.", fix="Give one.")
        self.cancel()
        with self._guard.entered():
            generation = self._generation
            if generation is None or not self._can_go_on(generation):
                raise Misuse(
                    "There is no reply to truncate.",
                    why="The newest turn has none that was remembered.",
                    fix="Truncate after a response.",
                )
            if heard_s is not None:
                tokens = generation.tokens_heard(round(heard_s * self._synthesizer.sample_rate_hz))
            assert tokens is not None
            assert generation.settled is not None
            settled = generation.settled = self._history.cut_reply(generation.settled, max(tokens, 0))
            return len(settled.turn.reply)

    def reset(self) -> None:
        """Forget everything, as before the first turn; from any thread, at any moment, within one step."""
        self.cancel()
        if self._guard.inside:  # a step is being made: behind it
            self._guard.on_leaving(self._forget)
        else:
            with self._guard.entered():
                self._forget()

    @property
    def turns(self) -> int:
        """Turns that are remembered."""
        return self._history.turns

    @property
    def tokens(self) -> int:
        """Positions of the context in use."""
        return self._history.timeline.position

    @property
    def capacity_tokens(self) -> int:
        """Positions that the context has room for."""
        return self._history.capacity_tokens

    @property
    def cache_bytes(self) -> int:
        """Memory that this session takes beside the weights: its two KV caches when they are full."""
        return self._history.cache_bytes + self._synthesizer.decoder.cache_bytes

    def _forget(self) -> None:
        self._end_current()
        self._generation = self._response = None
        self._turn = self._new_turn()
        self._history.clear()
