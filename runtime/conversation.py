"""A conversation: turns in; state, text and sound out, as they come.

The KV cache is the conversation's memory: it holds system prompt, questions and replies in the order in which they
happened, pictures and sounds included, and a new turn computes nothing but itself. A turn that fails, or that the model
takes for noise, is rewound and leaves no trace.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.errors import BadInput, ContextOverflow, Misuse
from vita_edge.engines.facts import ModelFacts

from .codec_stream import Samples
from .events import Event, Reply, SpeechPiece, State, StateDecided, TextPiece, TurnDone
from .language_model import LanguageModel
from .latency import TurnClock
from .pcm import LeadingSilenceTrim, to_pcm16, trim_leading_silence
from .prompt import Segment, UserTurn, continuation, encode_prompt, opening, system_prompt
from .sampling import Logits, Sampler, make_sampler, make_speech_sampler, repetition_penalty
from .senses import Senses
from .splice import splice
from .spoken_text import Clause, ClauseCutter
from .tokenizer import StreamDecoder, Tokenizer
from .turn import Options, Turn
from .voice import Voice

__all__ = ["Conversation"]


@dataclass
class _Draft:
    """A reply while it is made."""

    state: State
    """The kind of the question, until the first token says more."""
    marked: bool = False
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    pcm: list[NDArray[np.int16]] = field(default_factory=list)
    finished: bool = False


class Conversation:
    """One conversation; made by :meth:`Assistant.conversation`. Not for use by several threads at once."""

    def __init__(
        self,
        language_model: LanguageModel,
        senses: Senses,
        voice: Voice,
        tokenizer: Tokenizer,
        facts: ModelFacts,
        prompts: Mapping[str, Mapping[str, str]],
        options: Options,
    ) -> None:
        if options.speak:
            voice.check()
        self._lm, self._senses, self._voice = language_model, senses, voice
        self._tokenizer, self._facts, self._prompts, self._options = tokenizer, facts, prompts, options
        self._pending: list[int] = []
        """Ids that were said but are not in the cache yet: the last one of a reply that was cut off."""
        self.turns = 0
        """Turns in the cache."""
        self._answering: Callable[[], Generator[Event] | None] = lambda: None
        self._make_samplers()

    @property
    def tokens(self) -> int:
        """Positions of the context in use."""
        return self._lm.position + len(self._pending)

    @property
    def capacity_tokens(self) -> int:
        """Positions that the context has room for."""
        return self._lm.cache.capacity_tokens

    @property
    def cache_bytes(self) -> int:
        """Memory of a full context; pages are taken as positions are written."""
        return self._lm.cache.nbytes

    def reset(self) -> None:
        """Forget everything, as before the first turn."""
        self._stop_answering()
        self._return_to(0, [], 0)

    def ask(self, turn: Turn) -> Reply:
        """Answer ``turn`` and return when all of it is there."""
        for event in self.answer(turn):
            if isinstance(event, TurnDone):
                return event.reply
        raise AssertionError("a turn ends with TurnDone")

    def answer(self, turn: Turn) -> Generator[Event]:
        """Answer ``turn``, handing out state, text and sound as they come; the last event is :class:`TurnDone`.

        Leaving the loop early is fine: the conversation then remembers what had been decoded so far. A turn that is
        still being answered when the next one is asked ends there.

        Raises, when the first event is asked for:
            Misuse: the turn is empty.
            BadInput: a sound or picture cannot be used.
            ContextOverflow: the turn does not fit; the conversation is as it was.
        """
        self._stop_answering()
        events = self._answer(turn)
        self._answering = weakref.ref(events)  # weak, so that leaving a loop ends its turn at once
        return events

    def _answer(self, turn: Turn) -> Generator[Event]:
        clock = TurnClock()
        before = self._lm.position, self._pending, self.turns
        draft = _Draft(state="speech" if turn.sounds else "text")
        remembered = False
        try:
            rows = self._read(turn, clock)
            with clock.span("prefill"):
                logits = self._lm.prefill(rows)
            self._make_samplers()
            self._pending, self.turns, remembered = [], self.turns + 1, True
            yield from self._decode(logits, draft, clock)
        except Exception:
            remembered = False
            raise
        finally:
            if not remembered or draft.state == "noise":  # what was not meant for us is not remembered
                self._return_to(*before)
        clock.mark("total")
        pcm = np.concatenate(draft.pcm) if draft.pcm else np.zeros(0, np.int16)
        yield TurnDone(
            Reply(
                state=draft.state,
                state_marked=draft.marked,
                text=draft.text.strip(),
                token_ids=tuple(draft.token_ids),
                pcm=pcm,
                sample_rate_hz=self._facts.codec.sample_rate_hz,
                finished=draft.finished,
                prompt_tokens=len(rows),
                latency_ms=clock.latency_ms(),
            )
        )

    def _stop_answering(self) -> None:
        """End the turn whose events somebody still holds: it must not touch the cache of a later one."""
        if events := self._answering():
            events.close()

    def _return_to(self, position: int, pending: list[int], turns: int) -> None:
        self._lm.rewind(position)
        self._pending, self.turns = pending, turns

    def _make_samplers(self) -> None:
        """Anew for every turn, so that what is drawn depends on the seed and the turn's number and nothing else."""
        options = self._options
        seed = options.seed + (self.turns << 64)
        self._sample = make_sampler(options.top_k, options.temperature, seed)
        self._sample_code = make_speech_sampler(self._facts.speech, options.speech_top_k, seed)

    def _read(self, turn: Turn, clock: TurnClock) -> NDArray[np.float32]:
        """Everything of a turn as rows of the language model: float32 [positions, hidden].

        What it will take is known before anything is encoded, which takes time.
        """
        if not (turn.text.strip() or turn.sounds or turn.images or turn.frames):
            raise Misuse(
                "The turn is empty.", why="There is nothing to answer.", fix="Give a text, a sound or a picture."
            )
        _check_text(turn.text)
        senses, style, max_tiles = self._senses, self._options.style, self._options.max_tiles
        with clock.span("prompt"):
            tiles = sum(senses.tiles(image, style, max_tiles=max_tiles) for image in turn.images)
            counted = UserTurn(turn.text, tiles, len(turn.frames), len(turn.sounds))
            ids = [*self._pending, *encode_prompt(self._segments(counted), self._tokenizer)]
            positions = len(ids) + (tiles + len(turn.frames)) * (self._facts.vision.tokens_per_tile - 1)
            positions += sum(senses.clip_positions(sound) - 1 for sound in turn.sounds)
            self._check_length(positions)
        pictures: list[NDArray[np.float32]] = []
        clips: list[NDArray[np.float32]] = []
        for image in turn.images:
            with clock.span("vision"):
                pictures += senses.see(image, style, max_tiles=max_tiles)
        if turn.frames:
            with clock.span("vision"):
                pictures += senses.watch(turn.frames, style)
        for sound in turn.sounds:
            with clock.span("audio"):
                clips.append(senses.hear(sound))
        with clock.span("prompt"):
            return splice(ids, self._lm.embeddings.rows, pictures, clips)

    def _segments(self, turn: UserTurn) -> list[Segment]:
        if self.turns:
            return continuation(turn, self._options.style)
        return opening(system_prompt(self._prompts, self._options.style, turn), turn, self._options.style)

    def _check_length(self, positions: int) -> None:
        limit = self._facts.llm.prompt_limit_tokens
        if positions > limit:
            raise ContextOverflow(
                f"The turn takes {positions:,} positions; a prompt may have {limit:,}.",
                why="The model was trained for prompts of that length (the reference would cut off the end, unasked).",
                fix="Shorten the text or the sound, or give fewer pictures.",
            )
        self._lm.check_room(positions)

    def _decode(self, logits: Logits, draft: _Draft, clock: TurnClock) -> Iterator[Event]:
        tokens, options = self._facts.tokens, self._options
        # only the command line program stops where a next turn would begin
        stop = set(tokens.stop) - ({tokens.im_start} if options.style == "live" else set())
        decoder = StreamDecoder(self._tokenizer)
        cutter = ClauseCutter(whole_words=options.whole_words)
        trim = LeadingSilenceTrim()
        most = min(options.max_new_tokens, self._lm.room + 1)  # the last token need not be in the cache
        for token in clock.timed("decode", self._lm.generate(logits, self._choose(draft), most)):
            first = not draft.token_ids
            if first:
                self._decide(token, draft)
            if token in stop:
                self._pending, draft.finished = [], True
            else:
                self._pending = [token]
                draft.token_ids.append(token)
            if first:
                yield StateDecided(draft.state, draft.marked)
            if draft.finished:
                break
            is_state = first and draft.marked
            piece = "" if is_state else decoder.step(token)
            if piece:
                clock.mark("first_text")
                draft.text += piece
                yield TextPiece(piece)
                yield from self._speak(cutter.step(piece), draft, trim, clock)
        if rest := decoder.flush():
            draft.text += rest
            yield TextPiece(rest)
            yield from self._speak(cutter.step(rest), draft, trim, clock)
        yield from self._speak(cutter.finish(), draft, trim, clock)
        yield from self._hand_out(trim.finish(), "", draft, clock)

    def _choose(self, draft: _Draft) -> Sampler:
        factor = self._facts.llm.repetition_penalty

        def choose(logits: Logits) -> int:
            repetition_penalty(logits, draft.token_ids, factor)
            return self._sample(logits)

        return choose

    def _decide(self, token: int, draft: _Draft) -> None:
        """The first token says whether the model was addressed; otherwise the kind of the question stands."""
        tokens = self._facts.tokens
        meaning: dict[int | None, State] = {
            tokens.state_text: "text",
            tokens.state_speech: "speech",
            tokens.state_noise: "noise",
        }
        draft.marked = token in meaning
        draft.state = meaning.get(token, draft.state)

    def _speak(
        self, clauses: Iterator[Clause], draft: _Draft, trim: LeadingSilenceTrim, clock: TurnClock
    ) -> Iterator[Event]:
        if not self._options.speak or draft.state == "noise":
            return
        exact = self._options.streaming == "exact"
        for clause in clauses:
            for samples in self._voice.speak(clause, self._sample_code, self._options.streaming, clock):
                if exact:
                    samples = trim.step(samples)
                elif clause.trim:
                    samples = trim_leading_silence(samples)
                yield from self._hand_out(samples, clause.written, draft, clock)

    def _hand_out(self, samples: Samples, written: str, draft: _Draft, clock: TurnClock) -> Iterator[Event]:
        if len(samples):
            clock.mark("first_audio")
            pcm = to_pcm16(samples)
            draft.pcm.append(pcm)
            yield SpeechPiece(pcm, self._voice.sample_rate_hz, written)


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadInput(
            "The text is not valid Unicode.",
            why=f"Character {error.start + 1} is half of a pair, or a byte that is not UTF-8.",
            fix="Give the text as UTF-8.",
        ) from error
