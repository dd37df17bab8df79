"""Prompts: from the turns of a conversation to token ids with markers where pictures and sounds go.

A prompt is built from parts, never by searching a string: what a user types cannot become a media mark, a role line or
an end of turn. ``<image>`` typed by a user is seven characters of text, and so is ``<|im_end|>`` (see
:meth:`~.tokenizer.Tokenizer.fragments`). Everything else is tokenised as the reference does: each run of text between
two media marks on its own, so that no merge spans a mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Literal, TypeAlias

from vita_edge.engines.errors import BadBundle

from .tokenizer import Tokenizer

__all__ = [
    "AUDIO",
    "FIRST_SENTENCE_MARK",
    "IMAGE",
    "Mark",
    "PastTurn",
    "PromptPart",
    "Style",
    "TextSpan",
    "UserTurn",
    "continuation",
    "encode_prompt",
    "end_of_turn",
    "live_demo_prompt",
    "opening",
    "system_prompt",
    "system_turn",
    "user_closing",
    "user_content",
    "user_opening",
    "user_turn",
]

Style: TypeAlias = Literal["command_line", "live"]


FIRST_SENTENCE_MARK = "$$FIRST_SENTENCE_MARK$$"
"""The live demo's internal marker, which leaks into its prompt."""


class Mark(IntEnum):
    """Placeholders in a list of ids. They lie outside every vocabulary, unlike the live demo's 51000 and 51001."""

    IMAGE = -200
    """One tile or one frame."""
    AUDIO = -500
    """One clip."""


IMAGE = Mark.IMAGE
AUDIO = Mark.AUDIO


@dataclass(frozen=True)
class TextSpan:
    """Text of a prompt. Added tokens such as ``<|im_end|>`` are matched in it only when it is ``control`` text."""

    text: str
    control: bool = False


PromptPart: TypeAlias = TextSpan | Mark


@dataclass(frozen=True)
class UserTurn:
    """What the user hands over at once, counted in media marks."""

    text: str = ""
    tiles: int = 0
    """Tiles of still pictures, thumbnails included."""
    frames: int = 0
    """Frames of a video or of the camera."""
    clips: int = 0
    """Sound clips."""


@dataclass(frozen=True)
class PastTurn:
    """A finished turn. ``reply`` holds its hand and no ``<|im_end|>``."""

    user: UserTurn
    reply: str


def system_prompt(prompts: Mapping[str, Mapping[str, str]], style: Style, turn: UserTurn) -> str:
    """Choose the system prompt (style → name → text) that the model was trained to see before ``turn``.

    Command line: image before video before lang, which also serves sound alone. Live: video for frames *and* pictures
    (the reference never selects its own live.image), else audio.

    Raises:
        BadBundle: ``prompts`` lacks the one that is needed.
    """
    if style == "live":
        name = "video" if turn.frames or turn.tiles else "audio"
    else:
        name = "image" if turn.tiles else "video" if turn.frames else "lang"
    try:
        return prompts[style][name]
    except KeyError as error:
        raise BadBundle(
            f"The bundle has no system prompt {style}.{name}.",
            why="The model answers well only after the prompts that it was trained with.",
            fix="Export the bundle again.",
        ) from error


def system_turn(text: str) -> list[PromptPart]:
    """The system's turn, with which a conversation begins."""
    return [TextSpan("<|im_start|>system\n", control=True), TextSpan(text), _END_OF_TURN]


def user_turn(turn: UserTurn, style: Style) -> list[PromptPart]:
    """The user's turn and the role line of the reply.

    Pictures, a newline (command line style only, and only after pictures), the text, and the sounds directly after it.
    """
    return [*user_opening(), *user_content(turn, style), *user_closing()]


def user_opening() -> list[PromptPart]:
    """The role line before what the user hands over. It may be tokenised, and read, before there is anything else."""
    return [_USER]


def user_content(turn: UserTurn, style: Style) -> list[PromptPart]:
    """What the user hands over, between its role line and its end: pictures, text, sounds."""
    pictures: list[PromptPart] = [*[IMAGE] * (turn.tiles + turn.frames)]
    if pictures and style == "command_line":
        pictures.append(TextSpan("\n"))
    return [*pictures, TextSpan(turn.text), *[AUDIO] * turn.clips]


def user_closing() -> list[PromptPart]:
    """What follows the last sound of the user: the end of the turn, and the role line of the reply."""
    return [_END_OF_TURN, _ASSISTANT]


def end_of_turn() -> list[PromptPart]:
    """What follows the last token of a reply."""
    return [_END_OF_TURN]


def opening(system: str, turn: UserTurn, style: Style) -> list[PromptPart]:
    """The whole prompt of a first turn."""
    return system_turn(system) + user_turn(turn, style)


def continuation(turn: UserTurn, style: Style) -> list[PromptPart]:
    """What follows the last token of a reply when the conversation goes on: the end of the reply, then ``turn``.

    Everything before it may stay in the KV cache, pictures included: special tokens cut text before it is tokenised, so
    ids of the opening + ids of the reply + ids of this equal the ids of the conversation written out.
    """
    return [_END_OF_TURN, *user_turn(turn, style)]


def live_demo_prompt(
    system: str, turn: UserTurn, past: PastTurn | None = None, *, stray_marker: bool = True
) -> list[PromptPart]:
    """The prompt of the published live demo, defects included, to reproduce its replies. New code wants `continuation`.

    The demo remembers one turn, without its pictures; puts the new pictures at the very front, into the *past* user
    turn; loses the role line of the new one; takes the space from behind ☞ and ☟; and stores replies with its internal
    first-sentence marker in front (``stray_marker=False`` leaves only that out).
    """
    segments: list[PromptPart] = [*system_turn(system), _USER, *[IMAGE] * (turn.tiles + turn.frames)]
    if past is not None:
        reply = FIRST_SENTENCE_MARK + past.reply if stray_marker else past.reply
        segments += [*user_content(_without_pictures(past.user), "live"), _END_OF_TURN]
        segments += [_ASSISTANT, TextSpan(reply), _END_OF_TURN]
    segments += [*user_content(_without_pictures(turn), "live"), _END_OF_TURN, _ASSISTANT]
    return [replace(s, text=_bare_hands(s.text)) if isinstance(s, TextSpan) else s for s in segments]


def encode_prompt(segments: Iterable[PromptPart], tokenizer: Tokenizer) -> list[int]:
    """Tokenise a prompt: ids, with -200 for every picture tile or frame and -500 for every clip.

    Neighbouring texts are one run: a text that begins with a newline merges with the newline of its role line, as it
    would in the written-out prompt.
    """
    ids: list[int] = []
    run = [""]
    for segment in segments:
        if isinstance(segment, Mark):
            ids += [*_encode_run(run, tokenizer), int(segment)]
            run = [""]
        else:
            first, *rest = [segment.text] if segment.control else tokenizer.fragments(segment.text)
            run[-1] += first
            run += rest
    return ids + _encode_run(run, tokenizer)


_USER = TextSpan("<|im_start|>user\n", control=True)
_ASSISTANT = TextSpan("<|im_start|>assistant\n", control=True)
_END_OF_TURN = TextSpan("<|im_end|>\n", control=True)


def _without_pictures(turn: UserTurn) -> UserTurn:
    return replace(turn, tiles=0, frames=0)


def _bare_hands(text: str) -> str:
    return text.replace("☞ ", "☞").replace("☟ ", "☟")


def _encode_run(fragments: list[str], tokenizer: Tokenizer) -> list[int]:
    return [i for fragment in fragments for i in tokenizer.encode(fragment)]
