"""The optimisation profiles of a component: for which lengths of its axes TensorRT is to choose kernels.

A graph has fixed axes and named ones. A profile gives every named axis a smallest, a usual and a largest length;
kernels are tuned for the usual one. Decoding has a profile of its own with exactly one token: only there TensorRT takes
the kernels that read weights and cache once and keep nothing. Prompts and clips have two: what is left to hear and to
read of a question when it ends, which somebody is waiting for, is much shorter than a whole recording or a prompt with
a picture, and wants other kernels. Pure functions of the bundle's facts; no TensorRT here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vita_edge.engines.errors import EngineUnavailable, Misuse
from vita_edge.engines.session import GPU_ROWS
from vita_edge.engines.tensors import TensorSpec

from ...bundle.component_spec import AUDIO, CODEC, LLM, SPEECH_DECODER, SPEECH_PREFILL, VISION
from ...bundle.facts import ModelFacts, SpeechFacts
from ...cache_layout import SEEN_STEP

__all__ = [
    "CAPACITY",
    "EngineLimits",
    "Profile",
    "ProfileRange",
    "axis_lengths",
    "component_profiles",
    "fixed_lengths",
    "speech_capacity",
    "usual_context",
]

CAPACITY = "capacity"
"""The axis of a KV cache that is written in place. TensorRT wants it fixed before it reads the graph."""
USUAL_REST, LONGEST_REST = 32, 128
"""Positions left of a spoken question at its end: 20 or 21 in live talks (docs/lab/2026-11-24-live-talk.md)."""
USUAL_LONGEST_SENTENCE = 256
"""Tokens."""
LONGEST_CODES = 1000
"""Codes of the longest sentence: 25 s."""
USUAL_PIECE, LONGEST_PIECE = 4 * 12 + 3, 4 * 32 + 3
"""Frames under 12 and 32 steps of the audio encoder: 12 are left of a question at its end, 8 come at once before."""
USUAL_AUDIO_S = 4
USUAL_SENTENCE_TOKENS = 24
USUAL_CODES = 48
"""A piece of a stream with its context on both sides."""
MIN_FRAMES = 7
"""Frames of the filter bank under one encoder step."""


@dataclass(frozen=True)
class ProfileRange:
    """Smallest, usual and largest shape of one input."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]

    def __str__(self) -> str:
        return " × ".join(
            str(low) if low == high else f"{low}..{high}" for low, high in zip(self.min, self.max, strict=True)
        )


@dataclass(frozen=True)
class Profile:
    """One optimisation profile; ``name`` is ``step`` (one token), ``rest`` (a few) or ``prefill`` (many) over a KV
    cache, else ``piece`` (of a clip) or ``whole``."""

    name: str
    ranges: Mapping[str, ProfileRange]
    """Input → its shapes; inputs without a named axis are left out."""

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "ranges": {name: [list(r.min), list(r.opt), list(r.max)] for name, r in self.ranges.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Profile:
        """Raises KeyError, TypeError or ValueError for anything that :meth:`to_json` has not written."""
        ranges = {
            str(name): ProfileRange(*(tuple(int(length) for length in shape) for shape in shapes))
            for name, shapes in data["ranges"].items()
        }
        return cls(str(data["name"]), ranges)


@dataclass(frozen=True)
class EngineLimits:
    """How far an engine has to reach; see :meth:`of`."""

    max_context: int
    """Positions of the language model's KV cache."""
    audio_s: int
    """Seconds of the longest clip."""
    sentence_tokens: int
    """Tokens of the longest sentence that is spoken in one part."""
    codes: int
    """Codes that are made sound at once: a piece of a stream with its context on both sides."""

    def speech_context(self, facts: SpeechFacts) -> int:
        """Positions of the speech decoder's KV cache."""
        return speech_capacity(facts.vectors_per_token, facts.context_tokens, self.sentence_tokens)

    @classmethod
    def of(
        cls,
        facts: ModelFacts,
        *,
        max_context: int | None = None,
        audio_s: int = 60,
        sentence_tokens: int | None = None,
        codes: int = 128,
    ) -> EngineLimits:
        """The limits of a talk with this model, where the user has not said otherwise.

        Args:
            max_context: default: the longest prompt and room for a reply, in steps of 1024.
            sentence_tokens: default: 256, or what the speech decoder has room for.

        Raises:
            Misuse: less than 1, or more than the model was made for.
        """
        llm, speech = facts.llm, facts.speech
        longest = _longest_sentence(speech.vectors_per_token, speech.context_tokens)
        limits = cls(
            max_context=(
                usual_context(llm.prompt_limit_tokens, llm.context_tokens) if max_context is None else max_context
            ),
            audio_s=audio_s,
            sentence_tokens=min(USUAL_LONGEST_SENTENCE, longest) if sentence_tokens is None else sentence_tokens,
            codes=codes,
        )
        for name, value, maximum in (
            ("--context", limits.max_context, llm.context_tokens),
            ("--audio-seconds", limits.audio_s, 200),
            ("--codes", limits.codes, LONGEST_CODES),
            ("--sentence-tokens", limits.sentence_tokens, longest),
        ):
            if not 0 < value <= maximum:
                raise Misuse(f"{name} is {value}.", why=f"It can be 1 to {maximum:,}.", fix="Give another number.")
        return limits


def usual_context(prompt_limit_tokens: int, context_tokens: int) -> int:
    """Positions of the language model's KV cache: the longest prompt and room for a reply, in steps of 1024."""
    return min(context_tokens, -(-(prompt_limit_tokens + 1024) // 1024) * 1024)


def speech_capacity(vectors_per_token: int, context_tokens: int, sentence_tokens: int | None = None) -> int:
    """Positions of the speech decoder's KV cache: a sentence and its codes, in steps of 256. A step reads the whole
    cache, so it is no longer than it has to be.

    Args:
        context_tokens: positions that the decoder can address.
        sentence_tokens: of the longest sentence that is spoken in one part.
    """
    longest = min(USUAL_LONGEST_SENTENCE, _longest_sentence(vectors_per_token, context_tokens))
    needed = (sentence_tokens or longest) * vectors_per_token + LONGEST_CODES + 2
    return min(-(-needed // 256) * 256, context_tokens)


def fixed_lengths(component: str, facts: ModelFacts, limits: EngineLimits) -> dict[str, int]:
    """Axes of the graph that are given one length before TensorRT reads it."""
    return {
        LLM.name: {CAPACITY: limits.max_context},
        SPEECH_DECODER.name: {CAPACITY: limits.speech_context(facts.speech)},
    }.get(component, {})


def component_profiles(
    component: str, inputs: Mapping[str, TensorSpec], facts: ModelFacts, limits: EngineLimits
) -> tuple[Profile, ...]:
    """The profiles of a component, in TensorRT's order; none for a graph without named axes.

    Args:
        inputs: of the graph, as its file declares them.

    Raises:
        EngineUnavailable: the graph has an axis that nothing is known about; a bundle from another version.
    """
    fixed = fixed_lengths(component, facts, limits)
    named = {
        name: [fixed.get(axis, axis) if isinstance(axis, str) else axis for axis in spec.axes]
        for name, spec in inputs.items()
    }
    named = {name: axes for name, axes in named.items() if any(isinstance(axis, str) for axis in axes)}
    profiles = []
    for profile, lengths in axis_lengths(component, facts, limits).items():
        ranges = {}
        for name, axes in named.items():
            unknown = [axis for axis in axes if isinstance(axis, str) and axis not in lengths]
            if unknown:
                raise EngineUnavailable(
                    f"No profile can be made for {component}.",
                    why=f"Its input {name} has the axis {unknown[0]}, of which no length is known.",
                    fix="Export the bundle with this version of vita-edge.",
                )
            low, usual, high = zip(*((axis,) * 3 if isinstance(axis, int) else lengths[axis] for axis in axes))
            ranges[name] = ProfileRange(low, usual, high)
        profiles.append(Profile(profile, ranges))
    if not named and len(profiles) > 1:
        raise EngineUnavailable(
            f"No profile can be made for {component}.",
            why="Its graph takes one length only, where single tokens and whole prompts are needed.",
            fix="Export the bundle with this version of vita-edge.",
        )
    return tuple(profiles) if named else ()


_Lengths = Mapping[str, tuple[int, int, int]]
"""Named axis → smallest, usual, largest length."""


def axis_lengths(component: str, facts: ModelFacts, limits: EngineLimits) -> dict[str, _Lengths]:
    """Profile → smallest, usual and largest length of every axis that the component may have, whatever the target."""
    speech = facts.speech
    if component == LLM.name:
        context, past = limits.max_context, limits.max_context - 1
        rows = min(GPU_ROWS, context)
        usual_cache = {
            "past": (0, min(rows, past), past),
            "seen": (min(SEEN_STEP, context), min(2 * SEEN_STEP, context), context),
        }
        few = {"rest": {"tokens": (1, USUAL_REST, LONGEST_REST), **usual_cache}}
        return {
            "step": {"tokens": (1, 1, 1), "past": (0, past // 2, past), "seen": (context,) * 3},
            **(few if rows > LONGEST_REST else {}),
            "prefill": {"tokens": (1, rows, rows), **usual_cache},
        }
    if component == SPEECH_DECODER.name:
        context, past = limits.speech_context(speech), limits.speech_context(speech) - 1
        return {"step": {"tokens": (1, 1, 1), "past": (0, min(256, past), past), "seen": (context,) * 3}}
    if component == SPEECH_PREFILL.name:
        usual = min(USUAL_SENTENCE_TOKENS, limits.sentence_tokens)
        tokens = (1, usual, limits.sentence_tokens)
        return {"whole": {"vectors": _scaled(tokens, speech.vectors_per_token)}}
    if component == VISION.name:
        return {"whole": {"tiles": (1, 1, 1)}}  # a talk reads one after the other; scratch memory is for the largest
    if component == CODEC.name:
        return {"whole": {"frames": (1, min(USUAL_CODES, limits.codes), limits.codes)}}
    if component == AUDIO.name:
        return _audio_lengths(facts, limits)
    raise EngineUnavailable(
        f"No profile is known for the component {component}.",
        why="A bundle for TensorRT has no such component.",
        fix="Export the checkpoint again with --target tensorrt.",
    )


def _audio_lengths(facts: ModelFacts, limits: EngineLimits) -> dict[str, _Lengths]:
    """A whole clip has no past; a piece sees as many steps of it as the attention reaches back."""
    audio = facts.audio
    frames = max(int(limits.audio_s * 1000 / audio.frame_shift_ms), MIN_FRAMES)
    steps = audio.encoder_steps(frames)
    seen = min(audio.left_chunks * audio.chunk_size, steps) if audio.left_chunks >= 0 else steps
    past = seen if audio.chunk_size > 0 else 0  # with full attention nothing is settled before the end
    carried = max(audio.adapter_kernel - 1, 0)

    def lengths(usual: int, maximum: int, usual_past: int) -> _Lengths:
        return {
            "frames": (MIN_FRAMES, min(usual, maximum), maximum),
            "past": (0, usual_past, past),
            "carried": (0, carried if usual_past else 0, carried),
            "opening": (0, 0 if usual_past else 1, 1),
            "ending": (0, 1, 1),
        }

    few = {"piece": lengths(USUAL_PIECE, LONGEST_PIECE, past)} if past and frames > LONGEST_PIECE else {}
    return few | {"whole": lengths(int(USUAL_AUDIO_S * 1000 / audio.frame_shift_ms), frames, 0)}


def _scaled(lengths: tuple[int, int, int], factor: int) -> tuple[int, int, int]:
    low, usual, high = lengths
    return low * factor, usual * factor, high * factor


def _longest_sentence(vectors_per_token: int, context_tokens: int) -> int:
    """Tokens that leave room for the codes."""
    return max((context_tokens - LONGEST_CODES - 2) // vectors_per_token, 1)
