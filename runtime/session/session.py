"""A session: one conversation over an opened model, whatever feeds it and whatever plays it.

``ask`` is a session without a transport, a live session is one with a microphone, a server puts a socket before it: the
verbs are the same. Weights are shared; the history with its KV cache, and the cache of the speech decoder, are its own.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vita_edge.engines.errors import Misuse

from ..audio_io.pcm import float_samples
from ..audio_io.sound import Sound
from ..decoding.logits_processors import LogitsProcessor
from ..decoding.segments import Rows
from ..events.reply_events import Reply
from ..events.turn_clock import TurnClock
from ..speech.clause_synthesis import Synthesizer
from ..text.prompt import UserTurn, encode_prompt, end_of_turn, system_prompt, user_opening
from .generate import Generation
from .history import History
from .open_turn import OpenTurn
from .opened_model import OpenedModel
from .options import SessionOptions
from .prompt_layout import ChronologicalLayout, PromptLayout
from .response import Response, StepGuard
from .turn import Turn

__all__ = ["Session"]

MIN_READ_TOKENS = 8
"""Tokens worth reading while the user speaks: 0.64 s of audio. The language model's weights are read for it."""


class Session:
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

    def __init__(
        self,
        model: OpenedModel,
        options: SessionOptions,
        *,
        instructions: str | None = None,
        layout: PromptLayout | None = None,
    ) -> None:
        self._model, self.options = model, options
        self.instructions = instructions
        """Text of the system prompt from the next response on. Another one is read together with the whole history."""
        self._synthesizer = model.new_synthesizer()
        if options.speak:
            self._synthesizer.check()
        self._history = History(
            lambda: model.new_language_model(self._capacity_tokens),
            layout or ChronologicalLayout(model.tokenizer, options.style),
            spare_tokens=self._spare_tokens,
        )
        self._guard = StepGuard()
        self._input = threading.Lock()
        """Held while something is appended."""
        self._turn = self._new_turn()
        self._responses = 0
        self._generation: Generation | None = None
        """The newest response's."""
        self._response: weakref.ref[Response] | None = None

    # --- what the user hands over

    def append_text(self, text: str) -> None:
        """Add text to the turn.

        Raises:
            BadInput: it is not valid Unicode.
        """
        with self._input:
            self._turn.append_text(text)

    def append_image(self, pixels: NDArray[np.uint8]) -> None:
        """Add a still picture, uint8 [H, W, 3] RGB, which is cut into tiles; gray and RGBA are converted.

        Raises:
            BadInput: it is no picture.
        """
        with self._input:
            self._turn.append_image(pixels)

    def append_frame(self, pixels: NDArray[np.uint8]) -> None:
        """Add a frame of a video or a camera, uint8 [H, W, 3] RGB: one tile, cheaper than a picture.

        Raises:
            BadInput: it is no picture.
        """
        with self._input:
            self._turn.append_frame(pixels)

    def append_encoded_frame(self, rows: Rows) -> None:
        """Add a frame that is encoded already: float32 [tokens, hidden]."""
        with self._input:
            self._turn.append_encoded_frame(rows)

    def append_audio(self, block: ArrayLike, sample_rate_hz: int) -> None:
        """Add a block of what the user says: int16 [n] or floats [n] with full scale 1.0, mono, of any rate.

        Blocks follow each other without gaps. They are one utterance until :meth:`commit`.

        Raises:
            BadInput: it is no audio.
            Misuse: the rate is another one than that of the blocks before.
        """
        samples = float_samples(block, sample_rate_hz)
        with self._input:
            self._turn.append_audio(samples, sample_rate_hz)

    def append_sound(self, sound: Sound) -> None:
        """Add a whole utterance, for example a file. It is resampled as the reference resamples."""
        with self._input:
            self._turn.append_sound(sound)

    def append_turn(self, turn: Turn) -> None:
        """Add all of ``turn``, or nothing.

        Raises:
            BadInput: some of it cannot be used.
        """
        with self._input:
            try:
                for image in turn.images:
                    self._turn.append_image(image)
                for frame in turn.frames:
                    self._turn.append_frame(frame)
                self._turn.append_text(turn.text)
                for sound in turn.sounds:
                    self._turn.append_sound(sound)
            except BaseException:
                self._turn = self._new_turn()
                raise

    def commit(self) -> bool:
        """The utterance is over; False when there is none.

        Raises:
            BadInput: it is too short or too long to be heard; it is dropped.
        """
        with self._input:
            return self._turn.commit()

    def clear_audio(self) -> None:
        """Drop the audio that was appended since the last :meth:`commit`."""
        with self._input:
            self._turn.clear_audio()

    def clear(self) -> None:
        """Drop all that was appended since the last response."""
        with self._input:
            self._turn = self._new_turn()

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
        with self._guard.entered(), self._input:
            if self._answering:
                return False
            content = self._turn.content(ended=False)
            if self.instructions is not None or not history.turns:
                history.instructions = self._instructions_for(content.counted)
            missing = history.missing(content)
            if 0 < missing < min_tokens:
                return False
            if missing > history.timeline.room and self.options.when_full == "drop_oldest":
                history.drop_turns()
            timeline = history.timeline
            steps = history.read_ahead(content)
            for _ in (clock or TurnClock()).timed("prefill", self._lane(steps), lambda: timeline.tokens_read):
                pass
            return missing > 0

    def hear(self, samples: NDArray[np.float32]) -> None:
        """All that the user has said so far, float32 [n] at 16 kHz, in place of :meth:`append_audio`."""
        with self._input:
            self._turn.hear(samples)

    @property
    def frames(self) -> int:
        """Frames of the turn."""
        return self._turn.frames

    # --- what it answers

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
        self.append_turn(turn)
        return self.create_response(**options)

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
        if self._guard.inside:
            self._forget()
        else:
            with self._guard.entered():
                self._forget()

    # --- old turns leave while nobody waits

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

    # --- how far it is

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

    # --- inside

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

    @property
    def _capacity_tokens(self) -> int:
        return self._model.context_tokens(self.options.context_tokens, self.options.max_new_tokens)

    def _instructions_for(self, turn: UserTurn) -> str:
        if self.instructions is not None:
            return self.instructions
        return system_prompt(self._model.prompts, self.options.style, turn)

    def _new_turn(self) -> OpenTurn:
        return OpenTurn(self._model.encoders, self.options.style, self.options.max_tiles)

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
        steps = generation.go_on() if resumed else generation.steps()
        response = Response(self._responses, generation, steps, self._guard, self._model.scheduler)
        self._response = weakref.ref(response)  # weak, so that leaving a loop over it ends it at once
        return response

    def _forget(self) -> None:
        self._generation = self._response = None
        self._turn = self._new_turn()
        self._history.clear()
