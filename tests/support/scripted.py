"""A language model that is told what to say, and a conversation written out in full."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vita_edge.runtime import Assistant, Session, SessionOptions, Turn
from vita_edge.runtime.decoding.language_model import LanguageModel
from vita_edge.runtime.decoding.sampling import Logits
from vita_edge.runtime.decoding.segments import splice
from vita_edge.runtime.text.prompt import Style, UserTurn, continuation, encode_prompt, opening, system_prompt

__all__ = ["ScriptedModel", "conversation", "rows_of"]


class ScriptedModel(LanguageModel):
    """Says the tokens of ``script`` before it says what it wants, and keeps the logits that followed each prompt."""

    script: list[int]
    prompt_logits: list[Logits]

    def prefill_steps(self, rows: NDArray[np.float32], chunk: int | None = None) -> Generator[None, None, Logits]:
        logits = yield from super().prefill_steps(rows, chunk)
        self.prompt_logits.append(logits.copy())
        return self._scripted(logits)

    def step(self, token: int) -> Logits:
        return self._scripted(super().step(token))

    def _scripted(self, logits: Logits) -> Logits:
        if self.script:
            logits = np.zeros_like(logits)
            logits[self.script.pop(0)] = 1e4
        return logits


def conversation(
    assistant: Assistant, script: Sequence[int] = (), options: SessionOptions | None = None
) -> tuple[Session, ScriptedModel]:
    """A session as ``Assistant.session`` makes it, over a scripted model."""
    options = options or SessionOptions(max_new_tokens=12, speak=False)
    model = assistant.language_model(options.context_tokens or 2000)
    model.__class__ = ScriptedModel
    assert isinstance(model, ScriptedModel)
    model.script, model.prompt_logits = list(script), []
    return Session(replace(assistant.model, new_language_model=lambda tokens: model), options), model


def rows_of(
    assistant: Assistant,
    past: Sequence[tuple[Turn, Sequence[int]]],
    turn: Turn,
    style: Style = "command_line",
    prompts: Mapping[str, Mapping[str, str]] | None = None,
) -> NDArray[np.float32]:
    """A whole conversation as one prompt: turns with the ids of their replies, then the turn to be answered."""
    ids: list[int] = []
    pictures: list[NDArray[np.float32]] = []
    clips: list[NDArray[np.float32]] = []
    for number, (each, reply) in enumerate([*past, (turn, ())]):
        tiles = [rows for image in each.images for rows in assistant.encoders.see(image, style)]
        frames = assistant.encoders.watch(each.frames, style) if each.frames else []
        user = UserTurn(each.text, len(tiles), len(frames), len(each.sounds))
        if number:
            segments = continuation(user, style)
        else:
            segments = opening(system_prompt(prompts or assistant.bundle.prompts, style, user), user, style)
        ids += [*encode_prompt(segments, assistant.tokenizer), *reply]
        pictures += [*tiles, *frames]
        clips += [assistant.encoders.hear(sound) for sound in each.sounds]
    return splice(ids, assistant.embeddings.rows, pictures, clips)
