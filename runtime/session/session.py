"""A session: one conversation over an opened model, whatever feeds it and whatever plays it.

``ask`` is a session without a transport, a live session is one with a microphone, a server puts a socket before it: the
verbs are the same. Weights are shared; the history with its KV cache, and the cache of the speech decoder, are its own.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vita_edge.engines.errors import BadInput, Misuse

from ..audio_io.sound import Sound
from ..decoding.logits_processors import LogitsProcessor
from ..events.reply_events import Reply
from ..text.prompt import UserTurn, system_prompt
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

    def append_audio(self, block: ArrayLike, sample_rate_hz: int) -> None:
        """Add a block of what the user says: int16 [n] or floats [n] with full scale 1.0, mono, of any rate.

        Blocks follow each other without gaps. They are one utterance until :meth:`commit`.

        Raises:
            BadInput: it is no audio.
            Misuse: the rate is another one than that of the blocks before.
        """
        samples = _samples(block, sample_rate_hz)
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
        with self._guard.entered(), self._input, self._model.scheduler.step("language"):
            if self._generation and not self._generation.machine.ended:
                return False
            if self._turn.encode_ahead():
                return True
            content = self._turn.content(ended=False)
            if self.instructions is not None or not self._history.turns:
                self._history.instructions = self._instructions_for(content.counted)
            if self._history.missing(content) < MIN_READ_TOKENS:
                return False
            for _ in self._history.read_ahead(content):
                pass
            return True

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
        with self._guard.entered():
            self._end_other()
            with self._input:
                self._turn.commit()
                turn, self._turn = self._turn, self._new_turn()
            chosen = self.instructions if instructions is None else instructions
            before = self._generation
            index = 0 if before is None else before.index + (before.settled is not None)
            generation = Generation(
                self._model, self._history, self._synthesizer, options, turn, index, chosen, logits_processors
            )
            return self._respond(generation, resumed=False)

    def resume(self) -> Response:
        """Go on with the newest reply after it was cancelled or truncated, with the same words and the same voice.

        What was handed out is not handed out again.

        Raises:
            Misuse: there is no reply that could go on.
        """
        with self._guard.entered():
            self._end_other()
            generation = self._generation
            if generation is None or generation.settled is None or not self._history.newest(generation.settled):
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
            if generation is None or generation.settled is None or not self._history.newest(generation.settled):
                raise Misuse(
                    "There is no reply to truncate.",
                    why="The newest turn has none that was remembered.",
                    fix="Truncate after a response.",
                )
            if heard_s is not None:
                tokens = generation.tokens_heard(round(heard_s * self._synthesizer.sample_rate_hz))
            assert tokens is not None
            generation.settled = self._history.cut_reply(generation.settled, max(tokens, 0))
            return len(generation.settled.turn.reply)

    def reset(self) -> None:
        """Forget everything, as before the first turn; from any thread, at any moment, within one step."""
        self.cancel()
        if self._guard.inside:
            self._forget()
        else:
            with self._guard.entered():
                self._forget()

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
        if response.reader not in (None, threading.get_ident()):
            raise Misuse(
                f"Response {response.id} is still going on in another thread.",
                why="A session makes one response at a time.",
                fix="cancel() it first, or open a session for each thread.",
            )
        response._end()

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


def _samples(block: ArrayLike, sample_rate_hz: int) -> NDArray[np.float32]:
    """float32 [n]."""
    array = np.asarray(block)
    if array.ndim != 1 or array.dtype.kind not in "if" or sample_rate_hz <= 0:
        raise BadInput(
            f"A block of audio is {array.dtype} {list(array.shape)} at {sample_rate_hz} Hz.",
            why="It must be int16 or float, one axis, mono, at a rate above 0.",
            fix="Take one channel, and divide samples of other widths by their full scale.",
        )
    if array.dtype.kind == "i":
        if array.dtype != np.int16:
            raise BadInput(
                f"A block of audio is {array.dtype}.", why="Integers must be int16.", fix="Convert the samples."
            )
        return array.astype(np.float32) / np.float32(32768)
    return array.astype(np.float32)
