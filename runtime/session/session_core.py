"""What a session does inside, step by step, for whoever has threads of their own: a live session."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Generator, Sequence
from functools import partial

from vita_edge.engines.errors import Misuse

from ..decoding.logits_processors import LogitsProcessor
from ..events.turn_clock import TurnClock
from ..speech.clause_synthesis import Synthesizer
from ..text.prompt import encode_prompt, end_of_turn, system_prompt, user_opening
from .generate import Generation
from .history import History
from .opened_model import OpenedModel
from .options import SessionOptions
from .prompt_layout import ChronologicalLayout, PromptLayout
from .response import Response, StepGuard
from .response_table import ResponseMachine
from .turn_inputs import TurnInputs

__all__ = ["SessionCore"]

MIN_READ_TOKENS = 8
"""Tokens worth reading while the user speaks: 0.64 s of audio. The language model's weights are read for it."""


class SessionCore(TurnInputs):
    """One history over an opened model, with the steps that a session and a live session are made of.

    Args:
        model: what all sessions share.
        options: how it is held.
        instructions: text of the system prompt; None takes the one that the model was trained to see.
        layout: how the conversation is written out; None is in the order in which it happened.
    """

    def __init__(
        self,
        model: OpenedModel,
        options: SessionOptions,
        *,
        instructions: str | None = None,
        layout: PromptLayout | None = None,
    ) -> None:
        super().__init__(model.encoders, options.style, options.max_tiles)
        self._model, self.options = model, options
        self.instructions = instructions
        """Text of the system prompt from the next response on. Another one is read together with the whole history."""
        self._synthesizer = model.new_synthesizer()
        if options.speak:
            self._synthesizer.check()
        capacity_tokens = model.context_tokens(options.context_tokens, options.max_new_tokens)
        self._history = History(  # no method of this session: nothing waits for the garbage collector
            partial(model.new_language_model, capacity_tokens),
            layout or ChronologicalLayout(model.tokenizer, options.style),
            spare_tokens=self._spare_tokens,
        )
        self._guard = StepGuard()
        self._responses = 0
        self._generation: Generation | None = None
        """The newest response's."""
        self._response: weakref.ref[Response] | None = None

    def prefill(self) -> bool:
        """Do one step of what can be done before the user has finished, in spare time; False when there is nothing.

        Encodes frames and the audio that cannot change any more, and reads them into the KV cache. A response after it
        has less to do, and is the same.

        Raises:
            BadInput, ContextOverflow: what was appended cannot be used.
        """
        return self.encode_ahead() or self.read_ahead()

    def encode_ahead(self, clock: TurnClock | None = None) -> bool:
        """The first half of :meth:`prefill`: encode a frame, or a piece of audio.

        Args:
            clock: is told how long that took.
        """
        with self._guard.entered(), self._input, self._model.scheduler.step("language"):
            return not self._answering and self._turn.encode_ahead(clock or TurnClock())

    def read_ahead(self, min_tokens: int = MIN_READ_TOKENS, clock: TurnClock | None = None) -> bool:
        """The second half: read what was encoded, if it is ``min_tokens`` or more."""
        history = self._history
        with self._guard.entered():
            if self._answering:
                return False
            with self._input:  # not while it is read: who appends does not wait for a graph
                content = self._turn.content(ended=False)
            if not history.turns:
                history.trained_instructions = system_prompt(self._model.prompts, self.options.style, content.counted)
            history.instructions = history.trained_instructions if self.instructions is None else self.instructions
            missing = history.missing(content)
            if 0 < missing < min_tokens:
                return False
            if not history.fits(content) and self.options.when_full == "drop_oldest":
                history.drop_turns()
            timeline = history.timeline
            steps = history.read_ahead(content)
            for _ in (clock or TurnClock()).timed("prefill", self._lane(steps), lambda: timeline.tokens_read):
                pass
            return missing > 0

    def start(
        self,
        options: SessionOptions,
        instructions: str | None = None,
        *,
        speech: bool = True,
        logits_processors: Sequence[LogitsProcessor] = (),
        clock: TurnClock | None = None,
    ) -> Response:
        """:meth:`create_response` for who speaks the clauses themselves, as a live session does.

        Args:
            speech: make the audio; else :meth:`Response.step` hands out each :class:`ReadyClause`.
            clock: is told where the time goes.
        """
        with self._guard.entered():
            self._end_other()
            with self._input:
                self._turn.commit()
                turn, self._turn = self._turn, self._new_turn()
            generation = Generation(
                self._model,
                self._history,
                self._synthesizer if speech else None,
                options,
                turn,
                self.next_index,
                self.instructions if instructions is None else instructions,
                logits_processors,
                clock,
            )
            return self._respond(generation, resumed=False)

    @property
    def next_index(self) -> int:
        """Turns that were remembered before the next response: with the seed it makes what is drawn."""
        before = self._generation
        return 0 if before is None else before.index + (before.settled is not None)

    def reopen(self) -> None:
        """The user goes on with what they said last: the response to it leaves no trace, and the turn is open again."""
        with self._guard.entered():
            self._end_current()
            generation = self._generation
            if generation is None:
                return
            with self._input:
                self._turn = generation.turn
                self._turn.reopen()
            content = self._turn.content(ended=False)
            if generation.settled is not None and self._history.newest(generation.settled):
                self._history.reopen_settled(generation.settled, content)
            generation.settled = None

    def discard(self) -> None:
        """The newest turn leaves no trace, whatever became of its response."""
        with self._guard.entered():
            self._end_current()
            generation = self._generation
            if generation is not None and generation.settled is not None:
                if self._history.newest(generation.settled):
                    self._history.discard(generation.settled)
                generation.settled = None

    def compact(self, tokens: int, *, above: float = 0.5, keep: float = 0.25) -> int | None:
        """Do a step of letting old turns leave, once the context behind the system prompt is full to ``above``.

        The newest turns, as many as take ``keep`` of it, are read again into a second cache, which then takes over.

        Args:
            tokens: how many are read at most.

        Returns:
            tokens that were read; None when there is nothing to do.
        """
        history = self._history
        with self._guard.entered(), self._model.scheduler.step("language"):
            if self._answering:
                return None
            if not history.compacting:
                full = history.fullness >= above and history.begin_compaction(keep)
                return 0 if full else None
            return history.compact(tokens)

    @property
    def synthesizer(self) -> Synthesizer:
        """What speaks for it; belongs to the thread that speaks."""
        return self._synthesizer

    @property
    def model(self) -> OpenedModel:
        """What all sessions share."""
        return self._model

    @property
    def history(self) -> History:
        """What it remembers; belongs to the thread that is inside."""
        return self._history

    @property
    def _answering(self) -> bool:
        return self._generation is not None and not self._generation.machine.ended

    def _can_go_on(self, generation: Generation) -> bool:
        return generation.settled is not None and self._history.newest(generation.settled)

    def _lane(self, steps: Generator[None, None, None]) -> Generator[None, None, None]:
        """Each step when it is this session's turn."""
        while True:
            with self._model.scheduler.step("language"):
                try:
                    next(steps)
                except StopIteration:
                    return
            yield

    @property
    def _spare_tokens(self) -> int:
        """What ends a reply and opens the next turn must fit behind it, where a session goes on for ever."""
        if self.options.when_full == "refuse":
            return 0
        return len(encode_prompt([*end_of_turn(), *user_opening()], self._model.tokenizer))

    def _end_current(self) -> None:
        response = self._response() if self._response else None
        if response is not None and not response.ended:
            response.end()

    def _end_other(self) -> None:
        """End the response before, unless another thread is at it."""
        response = self._response() if self._response else None
        if response is None or response.ended:
            return
        if response.reader not in (None, threading.get_ident()) and not response.cancelled:
            raise Misuse(
                f"Response {response.id} is still going on in another thread.",
                why="A session makes one response at a time.",
                fix="cancel() it first, or open a session for each thread.",
            )
        response.end()

    def _respond(self, generation: Generation, *, resumed: bool) -> Response:
        self._responses += 1
        self._generation = generation
        if resumed:
            generation.machine = ResponseMachine()  # that of the response before has ended
        steps = generation.go_on() if resumed else generation.steps()
        response = Response(self._responses, generation, steps, self._guard, self._model.scheduler)
        self._response = weakref.ref(response)  # weak, so that leaving a loop over it ends it at once
        return response
