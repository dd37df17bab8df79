"""Conversations to learn from: what is asked, how, and the ids and marks that the runtime would make of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from noises import babble
from vita_edge.export.prompts import DEFAULT_PROMPTS
from vita_edge.runtime.text.prompt import (
    AUDIO,
    IMAGE,
    PromptPart,
    Style,
    UserTurn,
    continuation,
    encode_prompt,
    system_prompt,
    system_turn,
    user_turn,
)
from vita_edge.runtime.text.tokenizer import Tokenizer
from world import COLOURS, NUMBERS, PLACES, SHAPES, UNKNOWN, Asked, Scene, any_question, follow_up

__all__ = ["Drawn", "Example", "Talk", "Writer", "draw_talk", "typed"]

SPEECH, TEXT, NOISE = "☞", "☜", "☟"
ROWS_OF_PICTURE = 16
HARD = 0.5
"""Share of the questions about a picture that name a shape or a place or seek in vain, beside those that do by chance:
which of two things is meant, and whether it is there at all, is learnt last."""


Sought = tuple[int, int, int]
"""Numbers of shape, colour and place of the thing that a question is about; zeros if it is not there."""


@dataclass
class Drawn:
    """One turn of a conversation that was drawn."""

    asked: str
    """Words of the question; of a sound that is not meant for the assistant what it is: babble, foreign, noise."""
    way: str
    """``typed``, ``spoken`` or ``noise``."""
    reply: str
    """With its hand."""
    pictures: int = 0
    sought: Sought | None = None


@dataclass
class Talk:
    style: Style
    scene: Scene | None
    """Of the picture, if there is one."""
    turns: list[Drawn]


@dataclass
class Example:
    """A conversation as ids; -200 and -500 stand once for every row of a picture or a sound."""

    ids: list[int] = field(default_factory=list)
    learnt: list[bool] = field(default_factory=list)
    """Whether the id is one that the model says."""
    pictures: int = 0
    sounds: list[int] = field(default_factory=list)
    sought: list[tuple[int, Sought]] = field(default_factory=list)
    """With the position of the reply's hand, which has to know it."""


def draw_talk(
    rng: random.Random, kind: str, scenes: list[Scene], pick: Callable[[], int], spoken: float = 0.7
) -> tuple[Talk, int | None]:
    """A conversation that begins with the system prompt ``kind``: lang, image or video; and its picture's number.

    ``spoken``: share of the questions that are.
    """
    index = pick() if kind != "lang" else None
    scene = scenes[index] if index is not None else None
    style: Style = (
        "command_line" if kind == "image" else "live" if kind == "video" else rng.choice(("command_line", "live"))
    )
    camera = style == "live" and scene is not None
    frames = rng.choice((1, 1, 1, 1, 1, 1, 2)) if camera else 1
    turns: list[Drawn] = []
    past: Asked | None = None
    for number in range(rng.choice((1, 2, 2, 3))):
        shown = frames if scene is not None and (number == 0 or camera) else 0
        drawn = rng.random()
        if drawn < 0.2 * spoken:
            what = rng.choice(("babble", "babble", "babble", "foreign", "noise", "noise"))
            turns.append(Drawn(what, "noise", NOISE, shown))
            break  # what was not meant for the assistant leaves no trace, so nothing follows it
        if drawn < 0.2 * spoken + 0.03:
            turns.append(Drawn(babble(rng), "typed", TEXT + UNKNOWN, shown))
            past = None
            continue
        further = follow_up(rng, scene, past) if scene and past and rng.random() < 0.7 else None
        asked = further or any_question(rng, scene)
        if scene and rng.random() < HARD:
            while not _hard(asked):
                asked = any_question(rng, scene)
        way = "spoken" if rng.random() < spoken else "typed"
        hand = SPEECH if way == "spoken" else TEXT
        turns.append(Drawn(asked.question, way, hand + asked.answer, shown, _sought(asked) if scene else None))
        past = asked
    return Talk(style, scene, turns), index


def _hard(asked: Asked) -> bool:
    return _in_vain(asked) or any(name in asked.question for name in (*SHAPES, *PLACES))


def _in_vain(asked: Asked) -> bool:
    return any(words in asked.answer for words in ("I see no", "There is nothing"))


def _sought(asked: Asked) -> Sought | None:
    if _in_vain(asked):
        return 0, 0, 0
    if asked.thing is None:
        return None
    thing = asked.thing
    return SHAPES.index(thing.shape) + 1, COLOURS.index(thing.colour) + 1, PLACES.index(thing.place) + 1


def typed(question: str, rng: random.Random) -> str:
    """The question as somebody might type it."""
    text = question
    if rng.random() < 0.5:
        text = text.replace("colour", "color")
    if rng.random() < 0.4:
        for number in range(20, -1, -1):
            words = text.split()
            text = " ".join(str(number) if word == NUMBERS[number] and _reckons(words) else word for word in words)
        if rng.random() < 0.4:
            text = text.replace("plus", "+").replace("minus", "-")
            if rng.random() < 0.5:
                text = text.replace(" + ", "+").replace(" - ", "-")
    text = text.replace(" i ", " I ")
    if rng.random() < 0.6:
        text = text[0].upper() + text[1:]
        text = text.replace("vita", "Vita").replace("english", "English")
    return text + rng.choice(("?", "?", "", ".", "!")) if rng.random() < 0.7 else text


def _reckons(words: list[str]) -> bool:
    return any(word in words for word in ("plus", "minus", "after"))


class Writer:
    """Writes conversations down as the runtime does."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._end = tokenizer.encode("<|im_end|>")

    def system(self, kind: str) -> list[int]:
        turn = {"lang": UserTurn("?"), "image": UserTurn("?", tiles=1), "video": UserTurn("?", frames=1)}[kind]
        text = system_prompt(DEFAULT_PROMPTS, "command_line", turn)
        return encode_prompt(system_turn(text), self._tokenizer)

    def write(self, talk: Talk, rng: random.Random, sound: Callable[[Drawn], tuple[int, int]]) -> Example:
        """All behind the system prompt. ``sound`` chooses one for a turn: its number and how many rows it has."""
        example = Example()
        for number, drawn in enumerate(talk.turns):
            tiles, frames = (drawn.pictures, 0) if talk.style == "command_line" else (0, drawn.pictures)
            text = typed(drawn.asked, rng) if drawn.way == "typed" else ""
            turn = UserTurn(text, tiles, frames, int(drawn.way != "typed"))
            parts = continuation(turn, talk.style) if number else user_turn(turn, talk.style)
            self._read(example, parts, drawn, sound)
            reply = self._tokenizer.encode(drawn.reply[0]) + self._tokenizer.encode(drawn.reply[1:])
            if drawn.sought:
                example.sought.append((len(example.ids), drawn.sought))
            example.ids += reply
            example.learnt += [True] * len(reply)
            if number == len(talk.turns) - 1:
                example.ids += self._end
                example.learnt.append(True)
        return example

    def _read(
        self, example: Example, parts: list[PromptPart], drawn: Drawn, sound: Callable[[Drawn], tuple[int, int]]
    ) -> None:
        ids = encode_prompt(parts, self._tokenizer)
        for place, token in enumerate(ids):
            count = 1
            if token == IMAGE:
                count = ROWS_OF_PICTURE
                example.pictures += 1
            elif token == AUDIO:
                chosen, count = sound(drawn)
                example.sounds.append(chosen)
            # the end of the reply before is what the model says, too
            said = place == 0 and token == self._end[0] and bool(example.ids)
            example.ids += [token] * count
            example.learnt += [said] * count
