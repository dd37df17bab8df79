"""Prompts, prefill and decoding against their recordings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.bundle.component_spec import AUDIO, LLM, VISION
from vita_edge.engines.bundle.format import Bundle
from vita_edge.runtime.audio_io.sound_files import read_sound
from vita_edge.runtime.decoding.decode_loop import decode_tokens
from vita_edge.runtime.decoding.language_model import LanguageModel
from vita_edge.runtime.decoding.logits_processors import RepetitionPenalty
from vita_edge.runtime.decoding.segments import splice
from vita_edge.runtime.decoding.top_k_logits import Logits, row_of
from vita_edge.runtime.encoders.vision_frontend import read_image
from vita_edge.runtime.session.assistant import Assistant
from vita_edge.runtime.text.prompt import (
    FIRST_SENTENCE_MARK,
    IMAGE,
    PastTurn,
    PromptPart,
    Style,
    UserTurn,
    encode_prompt,
    live_demo_prompt,
    opening,
    system_prompt,
)

from .compare import LIMITS, Check, Comparison, judged_as
from .encoders import clip_tiles
from .folder import GoldenFolder

__all__ = ["language_checks"]

FILE = "llm.npz"


@dataclass(frozen=True)
class _Case:
    """A conversation of ``cases.json``, its inputs read and encoded."""

    style: Style
    turn: UserTurn
    past: PastTurn | None
    stray_marker: bool
    pictures: list[NDArray[np.float32]]
    clips: list[NDArray[np.float32]]

    def segments(self, prompts: Any) -> list[PromptPart]:
        system = system_prompt(prompts, self.style, self.turn)
        if self.style == "command_line":
            return opening(system, self.turn, self.style)
        return live_demo_prompt(system, self.turn, self.past, stray_marker=self.stray_marker)


def language_checks(golden: GoldenFolder, bundle: Bundle, assistant: Assistant) -> Iterator[Check]:
    """Every recorded conversation: prompt ids, spliced rows, prefill logits, step logits, greedy tokens."""
    precision = judged_as(bundle, LLM.name)
    encoders = max((judged_as(bundle, name) for name in (AUDIO.name, VISION.name)), key=_coarseness)
    prompt, rows = Comparison("prompt ids"), Comparison("prompt rows", encoders)
    recorded, whole = (
        Comparison("llm", precision),
        Comparison("llm from the files", max(precision, encoders, key=_coarseness)),
    )
    model = assistant.language_model()
    penalty = bundle.model.llm.repetition_penalty
    for name in dict.fromkeys([*golden.names(FILE, "ids"), *golden.names(FILE, "embeds")]):
        ids, embeds = golden.get(FILE, f"{name}.ids"), golden.get(FILE, f"{name}.embeds")
        if embeds is not None:
            yield from _logits_checks(golden, recorded, name, model, embeds, penalty)
        if ids is None:
            continue
        case = _case(golden, name, assistant, bundle)
        if case is None:
            yield prompt.skip(f"{name}.ids", "what was asked is not told in cases.json, or its inputs are not here")
        elif golden.prompts is None:
            yield prompt.skip(f"{name}.ids", "no prompts.json beside the folder: the recorded ids are taken")
        else:
            got = encode_prompt(case.segments(golden.prompts), assistant.tokenizer)
            yield prompt.equal(f"{name}.ids", got, ids)
        if case is None:
            continue
        try:
            ours = splice(ids.tolist(), assistant.embeddings.rows, case.pictures, case.clips)
            ours = ours[: bundle.model.llm.prompt_limit_tokens]  # the reference cuts the end off; a talk refuses
        except ValueError as error:
            yield Check("prompt rows", f"{name}.embeds", False, detail=str(error))
            continue
        if embeds is not None:
            yield rows.close(f"{name}.embeds", ours, embeds, "whole")
        yield from _whole_checks(golden, whole, name, model, ours, bundle, penalty)
    yield from _prompt_texts(golden, prompt)


def _logits_checks(
    golden: GoldenFolder,
    judge: Comparison,
    name: str,
    model: LanguageModel,
    embeds: NDArray[np.float32],
    penalty: float,
) -> Iterator[Check]:
    """From the recorded rows: logits at some positions of the prompt, then of every step along the recorded tokens."""
    model.rewind(0)
    positions = golden.get(FILE, f"{name}.prefill_pos")
    marks = [int(p) for p in positions] if positions is not None else []
    if any(not 0 <= mark < len(embeds) for mark in marks):
        yield Check(judge.stage, f"{name}.prefill_pos", False, detail=f"{marks} of {len(embeds)} rows")
        return
    ends = sorted({*(mark + 1 for mark in marks), len(embeds)})
    after: dict[int, NDArray[np.float32]] = {}
    for start, stop in zip([0, *ends], ends):
        after[stop - 1] = row_of(model.prefill(embeds[start:stop]))
    logits = after[len(embeds) - 1]
    want = golden.get(FILE, f"{name}.prefill_logits")
    if want is not None and marks:
        yield judge.close(f"{name}.prefill_logits", np.stack([after[mark] for mark in marks]), want, "logits")
    tokens, steps = golden.get(FILE, f"{name}.tokens"), golden.get(FILE, f"{name}.logits")
    if tokens is None or steps is None or not len(steps):
        return
    got = [logits]
    for token in tokens[: len(steps) - 1]:
        got.append(row_of(model.step(int(token))))
    ours = np.stack(got)
    yield judge.close(f"{name}.logits", ours, steps, "logits")
    yield _tokens_check(judge, f"{name}.tokens", ours, steps, tokens, penalty)


def _tokens_check(
    judge: Comparison,
    name: str,
    ours: NDArray[np.float32],
    recorded: NDArray[np.float32],
    tokens: NDArray[Any],
    penalty: float,
) -> Check:
    """Greedy tokens along the recorded path; two best closer than twice the measured error are a tie."""
    ours, recorded, tokens = ours.copy(), recorded.copy(), tokens[: len(recorded)]
    for i in range(len(tokens)):
        for logits in (ours[i], recorded[i]):
            RepetitionPenalty(penalty)(tokens[:i].tolist(), logits)
    chosen = ours.argmax(axis=1)
    wrong = np.flatnonzero(chosen[: len(tokens)] != tokens)
    agree = len(tokens) - len(wrong)
    agreement, share = f"{agree} of {len(tokens)} tokens agree", agree / len(tokens)
    if not len(wrong):
        return Check(judge.stage, name, True, detail=agreement, agreement=share)
    first = int(wrong[0])
    judged = partial(Check, judge.stage, name, agreement=share, first_difference=first)
    if judge.precision != "fp32":  # the distance of logits judges a quantised model; tokens are told, not judged
        return judged(True, detail=f"{agreement}, first differs at {first}")
    best = np.sort(recorded[first])
    error = float(np.abs(ours[first] - recorded[first]).max())
    tie = float(best[-1] - best[-2]) < 2 * error and judge.close(name, ours[first], recorded[first], "logits").passed
    reported = f"first differs at {first}: {int(chosen[first])}, recorded {int(tokens[first])}"
    return judged(tie, detail=f"{reported}{' (a tie)' if tie else ''}")


def _whole_checks(
    golden: GoldenFolder,
    judge: Comparison,
    name: str,
    model: LanguageModel,
    rows: NDArray[np.float32],
    bundle: Bundle,
    penalty: float,
) -> Iterator[Check]:
    """Everything from the input files, choosing our own tokens."""
    model.rewind(0)
    logits = model.prefill(rows)
    last = golden.get(FILE, f"{name}.prefill_logits")
    if last is not None:
        yield judge.close(f"{name}.prefill_logits[-1]", row_of(logits), last[-1], "whole")
    tokens, steps = golden.get(FILE, f"{name}.tokens"), golden.get(FILE, f"{name}.logits")
    if tokens is None or steps is None:
        return
    ours: list[NDArray[np.float32]] = []
    chosen: list[int] = []

    def greedy(current: Logits) -> int:
        row = row_of(current)
        ours.append(row.copy())
        RepetitionPenalty(penalty)(chosen, row)
        return int(row.argmax())

    stopped = golden.get(FILE, f"{name}.stop_tokens")
    for token in decode_tokens(
        logits, greedy, model.step, max(len(tokens), len(stopped) if stopped is not None else 0)
    ):
        chosen.append(token)
    same = next((i for i, (a, b) in enumerate(zip(chosen, tokens)) if a != b), len(tokens))
    upto = min(same + 1, len(tokens), len(steps))
    yield judge.close(f"{name}.logits", np.stack(ours[:upto]), steps[:upto], "whole")
    check = _tokens_check(judge, f"{name}.tokens", np.stack(ours[:upto]), steps[:upto], tokens[:upto], penalty)
    yield replace(check, agreement=None)  # behind the first difference the paths are different ones
    if stopped is not None and same == len(tokens):
        end = next((i + 1 for i, token in enumerate(chosen) if token == bundle.model.tokens.im_end), len(chosen))
        others = {*bundle.model.tokens.stop} - {bundle.model.tokens.im_start}
        if len(stopped) < end and len(stopped) and int(stopped[-1]) in others:
            end = len(stopped)  # the program that was recorded stopped at another of the model's ends as well
        yield judge.equal(f"{name}.stop_tokens", chosen[: min(end, len(stopped))], stopped)


def _prompt_texts(golden: GoldenFolder, judge: Comparison) -> Iterator[Check]:
    """Prompt ids that are recorded a second time must be the same, up to the number of tiles."""
    texts, e2e = golden.json("text.json") or {}, golden.json("e2e.json") or {}
    again = dict(texts.get("prompt_ids", {}))
    again.update({name: entry["prompt_ids"] for name, entry in e2e.items() if "prompt_ids" in entry})
    for name, ids in again.items():
        want = golden.get(FILE, f"{name}.ids")
        if want is not None:
            yield judge.equal(f"{name}.prompt_ids", _one_mark(ids), _one_mark(want.tolist()))


def _case(golden: GoldenFolder, name: str, assistant: Assistant, bundle: Bundle) -> _Case | None:
    conversations = golden.cases.get("conversations", {})
    reported = conversations.get(name)
    if reported is None:
        return None
    if "user" not in reported:  # a variation of another one, told in words
        base = name.rsplit("_", 1)[0]
        reported = {**conversations.get(base, {}), **reported}
        if "user" not in reported:
            return None
    live = reported["style"].startswith("live")
    sounds = [golden.inputs / file.split()[0] for file in reported.get("audio", [])]
    files = [*sounds, *(golden.inputs / reported[key] for key in ("picture",) if key in reported)]
    if not all(file.is_file() for file in files):
        return None
    clips = [assistant.encoders.hear(read_sound(file)) for file in sounds]
    pictures: list[NDArray[np.float32]] = []
    tiles = frames = 0
    if "picture" in reported:
        pictures = assistant.encoders.see(read_image(golden.inputs / reported["picture"]), "command_line")
        tiles = len(pictures)
    elif "clip" in reported:
        sampled = clip_tiles(
            golden, name if name in conversations and "clip" in conversations[name] else base, bundle.model.vision
        )
        if sampled is None:
            return None
        pictures = assistant.encoders.encode_tiles(sampled[1])
        frames = len(pictures)
    text = re.sub(r"^<image> x (tiles|frames|\d+)(, newline)?, ", "", reported["user"])
    spoken = text == "<audio>"
    past = None
    if live and reported["style"] != "live":
        e2e = golden.json("e2e.json") or {}
        near = [e2e.get(name), e2e.get(name.rsplit("_", 1)[0]), *_entries(golden)]  # its own first
        reply = next((e["live_history_response"] for e in near if e and "live_history_response" in e), None)
        if reply is None:
            return None
        past = PastTurn(UserTurn(clips=1), reply.removeprefix(FIRST_SENTENCE_MARK))
    now = UserTurn("" if spoken else text, tiles, frames, len(clips) - (1 if past else 0))
    return _Case("live" if live else "command_line", now, past, not name.endswith("_clean"), pictures, clips)


def _one_mark(ids: list[int]) -> list[int]:
    """Runs of picture marks shortened to one."""
    return [i for i, before in zip(ids, [None, *ids]) if not i == before == IMAGE]


def _entries(golden: GoldenFolder) -> list[dict[str, Any]]:
    e2e = golden.json("e2e.json") or {}
    return [entry for entry in e2e.values() if isinstance(entry, dict)] + [e2e]


def _coarseness(precision: str) -> int:
    return list(LIMITS).index(precision)
