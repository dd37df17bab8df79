"""The closed world that the nano model talks about: scenes of shapes, questions about them, small talk and sums.

A scene is one or two things in three places. Every question is a sentence of a finite list, so that all of them can
be spoken beforehand; every answer is one short sentence without a comma, so that it is one clause for the voice.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = [
    "COLOURS",
    "HELD_OUT",
    "NUMBERS",
    "PLACES",
    "SHAPES",
    "UNKNOWN",
    "Asked",
    "Scene",
    "Thing",
    "all_answers",
    "all_questions",
    "any_question",
    "follow_up",
    "random_scene",
]

SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "moon", "diamond")
COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "black", "white")
PLACES = ("on the left", "in the middle", "on the right")
NUMBERS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
LARGEST = 10
"""Of the numbers that are spoken."""
RECKONED = 5
"""Of the numbers that are added and subtracted in conversations."""
HELD_OUT = frozenset(
    {("circle", "purple"), ("square", "yellow"), ("star", "green"), ("heart", "blue"), ("moon", "red")}
    | {("triangle", "white"), ("cross", "orange"), ("diamond", "black")}
)
"""Shapes in colours that no picture of the training shows."""
UNKNOWN = "I know only shapes and numbers."
"""To what is typed and lies outside of the world."""
NO_PICTURE = "Please show me a picture first."

SMALL_TALK: dict[str, tuple[str, ...]] = {
    "Hello there.": ("hello", "hi", "hello vita", "good morning", "good evening"),
    "My name is Vita.": ("what is your name", "who are you", "tell me your name"),
    "I am very well.": ("how are you", "how are you today", "are you well"),
    "You are welcome.": ("thank you", "thanks", "thank you very much"),
    "Goodbye and see you soon.": ("goodbye", "bye bye", "see you later"),
    "Ask me about shapes and numbers.": ("what can you do", "help me", "what can i ask you"),
    "I can hear you.": ("can you hear me", "do you hear me", "are you there"),
    "I am a very small robot mind.": ("are you a robot", "what are you", "are you a person"),
    "I am one day old.": ("how old are you", "what is your age"),
    "I speak only English.": ("do you speak english", "what languages do you speak"),
}
DESCRIBE = (
    *("what do you see", "what can you see", "what is in the picture", "what is in front of you"),
    *("describe the picture", "tell me what you see"),
)
COUNT = ("how many things are there", "how many things do you see", "how many shapes do you see")
AT = ("what is {place}", "what do you see {place}", "tell me what is {place}")
COLOUR_AT = ("what colour is the thing {place}", "which colour is {place}")
SHAPE_AT = ("what shape is {place}", "which shape is {place}")
COLOUR_OF = ("what colour is the {shape}", "which colour is the {shape}", "tell me the colour of the {shape}")
WHAT_IS = ("what is {colour}", "which thing is {colour}", "do you see something {colour}")
WHERE_SHAPE = ("where is the {shape}", "tell me where the {shape} is")
WHERE_COLOUR = ("where is the {colour} thing", "tell me where the {colour} thing is")
IS_THERE = ("is there a {shape}", "do you see a {shape}")
IS_THERE_BOTH = ("is there a {colour} {shape}", "do you see a {colour} {shape}")
ITS_COLOUR = ("and its colour", "what colour is it", "and what colour is it")
ITS_PLACE = ("where is it", "and where is it")
ITS_SHAPE = ("and its shape", "what shape is it", "and what shape is it")
AND_AT = ("and {place}", "and what is {place}")
AND_SHAPE = ("and the {shape}", "and what about the {shape}")
PLUS = ("what is {a} plus {b}", "how much is {a} plus {b}", "{a} plus {b}")
MINUS = ("what is {a} minus {b}", "how much is {a} minus {b}", "{a} minus {b}")
AFTER = ("what comes after {a}", "which number comes after {a}")


@dataclass(frozen=True)
class Thing:
    shape: str
    colour: str
    place: str

    @property
    def named(self) -> str:
        return f"{_article(self.colour)} {self.colour} {self.shape}"


Scene = tuple[Thing, ...]
"""One or two things from left to right, no shape, colour or place twice."""


@dataclass(frozen=True)
class Asked:
    question: str
    """In small letters and without punctuation, as it is spoken."""
    answer: str
    thing: Thing | None = None
    """What "it" is in the next question."""
    about: str = ""
    """``place`` or ``colour`` when the next question may leave that out: "and on the right", "and the star"."""


def random_scene(rng: random.Random, *, held_out: bool = False, count: int | None = None) -> Scene:
    """``held_out``: with at least one of the combinations that are kept out; otherwise with none of them."""
    while True:
        n = count or rng.choice((1, 2, 2))
        shapes, colours = rng.sample(SHAPES, n), rng.sample(COLOURS, n)
        places = sorted(rng.sample(PLACES, n), key=PLACES.index)
        if any(pair in HELD_OUT for pair in zip(shapes, colours)) == held_out:
            return tuple(map(Thing, shapes, colours, places))


def any_question(rng: random.Random, scene: Scene | None) -> Asked:
    """A question that can stand alone; with a scene mostly about it."""
    drawn = rng.random()
    if drawn < (0.1 if scene else 0.4):
        answer = rng.choice(list(SMALL_TALK))
        return Asked(rng.choice(SMALL_TALK[answer]), answer)
    if drawn < (0.2 if scene else 0.9):
        return _sum(rng)
    if scene is None:
        text = _filled(rng, rng.choice((*DESCRIBE, *COUNT, *AT, *COLOUR_OF, *WHERE_SHAPE, *IS_THERE, *WHAT_IS)))
        return Asked(text, NO_PICTURE)
    return rng.choice(_ABOUT)(rng, scene)


def follow_up(rng: random.Random, scene: Scene, past: Asked) -> Asked | None:
    """A question that is only understood after ``past``; None if there is none."""
    asked = [_its(rng, past.thing)] if past.thing else []
    if past.about == "place":
        place = rng.choice(PLACES)
        asked.append(_at(place, rng.choice(AND_AT).format(place=place), scene))
    if past.about == "colour":
        shape = _shape(rng, scene)
        asked.append(_colour_of(shape, rng.choice(AND_SHAPE).format(shape=shape), scene))
    return rng.choice(asked) if asked else None


def all_questions() -> list[str]:
    """Every question, each once, in a fixed order."""
    forms = (
        *(DESCRIBE, COUNT, AT, COLOUR_AT, SHAPE_AT, COLOUR_OF, WHAT_IS, WHERE_SHAPE, WHERE_COLOUR),
        *(IS_THERE, IS_THERE_BOTH, ITS_COLOUR, ITS_PLACE, ITS_SHAPE, AND_AT, AND_SHAPE),
    )
    found = [q for questions in SMALL_TALK.values() for q in questions]
    found += [q for group in forms for form in group for q in _every(form)]
    for a in range(LARGEST + 1):
        found += [form.format(a=NUMBERS[a]) for form in AFTER]
        for b in range(LARGEST + 1):
            found += [form.format(a=NUMBERS[a], b=NUMBERS[b]) for form in PLUS]
            found += [form.format(a=NUMBERS[a], b=NUMBERS[b]) for form in MINUS if a >= b]
    return list(dict.fromkeys(found))


def all_answers() -> list[str]:
    """Every answer but the longer descriptions, which are made of the shorter ones: what the voice has to say."""
    rng = random.Random(0)
    found = [*SMALL_TALK, UNKNOWN, NO_PICTURE]
    found += [f"{NUMBERS[a].capitalize()} plus {NUMBERS[b]} is {NUMBERS[a + b]}." for a, b in _pairs()]
    found += [f"{NUMBERS[a].capitalize()} minus {NUMBERS[b]} is {NUMBERS[a - b]}." for a, b in _pairs() if a >= b]
    found += [_after(a) for a in range(LARGEST + 1)]
    for _ in range(20000):
        scene = random_scene(rng, held_out=rng.random() < 0.3)
        asked = rng.choice(_ABOUT)(rng, scene)
        found.append(asked.answer)
        if further := follow_up(rng, scene, asked):
            found.append(further.answer)
    return list(dict.fromkeys(found))


def _pairs() -> Iterator[tuple[int, int]]:
    return ((a, b) for a in range(LARGEST + 1) for b in range(LARGEST + 1))


def _every(form: str) -> Iterator[str]:
    for shape in SHAPES if "{shape}" in form else ("",):
        for colour in COLOURS if "{colour}" in form else ("",):
            for place in PLACES if "{place}" in form else ("",):
                yield _grammar(form.format(shape=shape, colour=colour, place=place))


def _filled(rng: random.Random, form: str) -> str:
    return _grammar(
        form.format(shape=rng.choice(SHAPES), colour=rng.choice(COLOURS), place=rng.choice(PLACES), a="one", b="one")
    )


def _grammar(text: str) -> str:
    return text.replace(" a orange", " an orange")


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _describe(rng: random.Random, scene: Scene) -> Asked:
    answer = f"I see {' and '.join(thing.named for thing in scene)}."
    return Asked(rng.choice(DESCRIBE), answer, scene[0] if len(scene) == 1 else None)


def _count(rng: random.Random, scene: Scene) -> Asked:
    n = len(scene)
    answer = "There is one thing." if n == 1 else f"There are {NUMBERS[n]} things."
    return Asked(rng.choice(COUNT), answer, scene[0] if n == 1 else None)


def _at(place: str, question: str, scene: Scene) -> Asked:
    thing = next((thing for thing in scene if thing.place == place), None)
    if thing is None:
        return Asked(question, f"There is nothing {place}.", about="place")
    return Asked(question, f"{thing.named.capitalize()} is {place}.", thing, "place")


def _at_place(rng: random.Random, scene: Scene) -> Asked:
    place = rng.choice(PLACES)
    return _at(place, rng.choice(AT).format(place=place), scene)


def _part_at(rng: random.Random, scene: Scene) -> Asked:
    place = rng.choice((rng.choice(scene).place, rng.choice(PLACES)))
    thing = next((thing for thing in scene if thing.place == place), None)
    colour = rng.random() < 0.5
    question = rng.choice(COLOUR_AT if colour else SHAPE_AT).format(place=place)
    if thing is None:
        return Asked(question, f"There is nothing {place}.")
    answer = f"It is {thing.colour}." if colour else f"It is a {thing.shape}."
    return Asked(question, answer, thing)


def _colour_of(shape: str, question: str, scene: Scene) -> Asked:
    thing = next((thing for thing in scene if thing.shape == shape), None)
    if thing is None:
        return Asked(question, f"I see no {shape}.")
    return Asked(question, f"The {shape} is {thing.colour}.", thing, "colour")


def _colour_of_shape(rng: random.Random, scene: Scene) -> Asked:
    shape = _shape(rng, scene)
    return _colour_of(shape, rng.choice(COLOUR_OF).format(shape=shape), scene)


def _what_is(rng: random.Random, scene: Scene) -> Asked:
    colour = _colour(rng, scene)
    thing = next((thing for thing in scene if thing.colour == colour), None)
    question = rng.choice(WHAT_IS).format(colour=colour)
    answer = f"The {thing.shape} is {colour}." if thing else f"I see nothing {colour}."
    return Asked(question, answer, thing)


def _where(rng: random.Random, scene: Scene) -> Asked:
    if rng.random() < 0.5:
        shape = _shape(rng, scene)
        thing = next((thing for thing in scene if thing.shape == shape), None)
        question = rng.choice(WHERE_SHAPE).format(shape=shape)
        return Asked(question, f"The {shape} is {thing.place}." if thing else f"I see no {shape}.", thing)
    colour = _colour(rng, scene)
    thing = next((thing for thing in scene if thing.colour == colour), None)
    question = rng.choice(WHERE_COLOUR).format(colour=colour)
    answer = f"The {thing.shape} is {thing.place}." if thing else f"I see nothing {colour}."
    return Asked(question, answer, thing)


def _is_there(rng: random.Random, scene: Scene) -> Asked:
    if rng.random() < 0.4:
        shape = _shape(rng, scene)
        thing = next((thing for thing in scene if thing.shape == shape), None)
        question = rng.choice(IS_THERE).format(shape=shape)
        return Asked(question, f"I see {thing.named}." if thing else f"I see no {shape}.", thing)
    shape, colour = (rng.choice(scene).shape, _colour(rng, scene))
    if rng.random() < 0.5:
        thing = rng.choice(scene)
        shape, colour = thing.shape, thing.colour
    found = next((thing for thing in scene if (thing.shape, thing.colour) == (shape, colour)), None)
    question = _grammar(rng.choice(IS_THERE_BOTH).format(shape=shape, colour=colour))
    return Asked(question, f"I see {found.named}." if found else f"I see no {colour} {shape}.", found)


def _it(rng: random.Random, scene: Scene) -> Asked:
    """With a single thing "it" needs no turn before."""
    if len(scene) > 1:
        return _colour_of_shape(rng, scene)
    return _its(rng, scene[0])


def _its(rng: random.Random, thing: Thing) -> Asked:
    kind = rng.randrange(3)
    if kind == 0:
        return Asked(rng.choice(ITS_COLOUR), f"It is {thing.colour}.", thing)
    if kind == 1:
        return Asked(rng.choice(ITS_PLACE), f"It is {thing.place}.", thing)
    return Asked(rng.choice(ITS_SHAPE), f"It is a {thing.shape}.", thing)


def _sum(rng: random.Random) -> Asked:
    a, b = rng.randint(0, RECKONED), rng.randint(0, RECKONED)
    kind = rng.random()
    if kind < 0.15:
        a = rng.randint(0, LARGEST)
        return Asked(rng.choice(AFTER).format(a=NUMBERS[a]), _after(a))
    if kind < 0.65:
        question = rng.choice(PLUS).format(a=NUMBERS[a], b=NUMBERS[b])
        return Asked(question, f"{NUMBERS[a].capitalize()} plus {NUMBERS[b]} is {NUMBERS[a + b]}.")
    a, b = max(a, b), min(a, b)
    question = rng.choice(MINUS).format(a=NUMBERS[a], b=NUMBERS[b])
    return Asked(question, f"{NUMBERS[a].capitalize()} minus {NUMBERS[b]} is {NUMBERS[a - b]}.")


def _after(a: int) -> str:
    return f"{NUMBERS[a + 1].capitalize()} comes after {NUMBERS[a]}."


def _shape(rng: random.Random, scene: Scene) -> str:
    """Mostly one that is there."""
    return rng.choice(scene).shape if rng.random() < 0.75 else rng.choice(SHAPES)


def _colour(rng: random.Random, scene: Scene) -> str:
    return rng.choice(scene).colour if rng.random() < 0.75 else rng.choice(COLOURS)


_ABOUT = (_describe, _describe, _count, _at_place, _part_at, _colour_of_shape, _what_is, _where, _is_there, _it)
