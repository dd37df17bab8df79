"""Record what the reference computes of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vita_edge.verification.reference import Reference
from vita_edge.verification.reference.decoding import Decoded, Draft, decode
from vita_edge.verification.reference.pictures import (
    frame_tile,
    live_positions,
    normalised,
    picture_tiles,
    read_clip,
    read_picture,
    sampled_positions,
    tile_grid,
)
from vita_edge.verification.reference.prompts import FIRST_SENTENCE_MARK, live_second_turn, one_turn, prompt_ids
from vita_edge.verification.reference.sounds import fbank, read_wave

from .arrays import RecordedArrays
from .plan import Conversation, Plan
from .record_speech import SpeechRecorder, margin, put

__all__ = ["ReferenceRecorder"]

MIN_TILES, MAX_TILES = 1, 12
"""Of the published command line program, whatever the checkpoint says."""
Progress = Callable[[str], object]


class ReferenceRecorder:
    """Runs the reference on the inputs of a plan; ``arrays`` and the documents fill as it goes.

    Args:
        inputs: folder with the sounds, pictures and lists of frames that the plan names.
        prompts: system prompts by style (``command_line``, ``live``) and name.
        draft: guesses of the replies, by the name of the conversation; they save passes and change nothing.
        progress: hears what is computed next.
    """

    def __init__(
        self,
        reference: Reference,
        inputs: Path,
        prompts: Mapping[str, Mapping[str, str]],
        plan: Plan,
        *,
        draft: Callable[[str, Tensor, list[int], int], list[int]] | None = None,
        progress: Progress = lambda _: None,
    ) -> None:
        self.reference, self.inputs, self.prompts, self.plan = reference, inputs, prompts, plan
        self.arrays = RecordedArrays(f"PyTorch reference, {str(reference.dtype).removeprefix('torch.')}, greedy")
        self.replies: dict[str, str] = {}
        self.talk: dict[str, Any] = {}
        self._draft, self._progress = draft, progress
        self._speech = SpeechRecorder(reference, self.arrays)
        self._config = reference.config
        self._sounds: dict[str, Tensor] = {}
        self._pictures: dict[str, Tensor] = {}

    def record(self) -> None:
        """All of the plan."""
        self.record_audio()
        self.record_vision()
        self.record_language()
        self.record_speech()
        self.record_talk()

    def write(self, folder: Path) -> None:
        """Write arrays and documents into ``folder``, whose ``inputs`` are those that were used."""
        self.arrays.write(folder, {"cases": self.cases(), "text": self.text(), "e2e": self.talk})
        if not (folder / "inputs").exists():
            (folder / "inputs").symlink_to(self.inputs.resolve())

    # --- sound and pictures

    @torch.inference_mode()
    def record_audio(self) -> None:
        for name in self.plan.sounds:
            self._progress(f"audio encoder: {name}")
            wave = read_wave(self.inputs / f"{name}.wav")
            features = fbank(wave, self._config.audio)
            stages = self.reference.audio.stages(features)
            self._sounds[f"{name}.wav"] = stages["embeds"]
            for stage, value in {"wave": wave, "fbank": features, **stages}.items():
                self._put("audio", f"{name}.{stage}", value)
            self._put("audio", f"{name}.n_llm", len(stages["adapter"]))
            if name in self.plan.full_attention:
                full = self.reference.audio.stages(features, full_attention=True)
                for stage in ("enc", "adapter"):
                    self._put("audio", f"{name}.{stage}_full", full[stage])

    @torch.inference_mode()
    def record_vision(self) -> None:
        for name in self.plan.pictures:
            self._progress(f"vision tower: {name}")
            grid, tiles = self._picture(f"{name}.png")
            pixels = normalised(tiles, self._config.vision)
            for stage, value in {"grid": grid, "tiles_u8": tiles, "pixels": pixels}.items():
                self._put("vision", f"{name}.{stage}", value)
            stages = self._tiles(pixels)
            self._pictures[f"{name}.png"] = stages["proj"]
            for stage, value in stages.items():
                self._put("vision", f"{name}.{stage}", value)
        if not self.plan.sampled_clip:
            return
        for name, pad in {"clip_crop": False, "clip_pad": True}.items():
            self._progress(f"vision tower: {name}")
            positions, pixels = self._sampled(self.plan.sampled_clip, pad=pad)
            proj = self._tiles(pixels)["proj"]
            for stage, value in {"positions": positions, "pixels": pixels, "proj": proj}.items():
                self._put("vision", f"{name}.{stage}", value)

    def _tiles(self, pixels: Tensor) -> dict[str, Tensor]:
        """A tile at a time: attention over one is all that has to be in memory."""
        each = [self.reference.vision.stages(tile[None]) for tile in pixels]
        return {stage: torch.cat([stages[stage] for stages in each]) for stage in each[0]}

    def _picture(self, name: str) -> tuple[tuple[int, int], NDArray[np.uint8]]:
        picture, size = read_picture(self.inputs / name), self._config.vision.image_size
        height, width = picture.shape[:2]
        return tile_grid(width, height, size, MIN_TILES, MAX_TILES), picture_tiles(picture, size, MIN_TILES, MAX_TILES)

    def _sampled(self, name: str, *, pad: bool) -> tuple[list[int], Tensor]:
        clip, vision = read_clip(self.inputs / name), self._config.vision
        positions = sampled_positions(len(clip.frames), clip.fps)
        return positions, normalised(np.stack([frame_tile(clip.frames[i], vision, pad=pad) for i in positions]), vision)

    def _live_frames(self, name: str) -> tuple[list[int], Tensor]:
        """Each frame stretched to one tile."""
        clip, vision = read_clip(self.inputs / name), self._config.vision
        positions = live_positions(len(clip.frames))
        tiles = [picture_tiles(clip.frames[i], vision.image_size, 1, 1) for i in positions]
        return positions, normalised(np.concatenate(tiles), vision)

    # --- conversations

    @torch.inference_mode()
    def record_language(self) -> None:
        """First the conversations without a past, then those whose history holds a reply of the first."""
        first = {name: reported for name, reported in self.plan.conversations.items() if not reported.past}
        for names in (first, {n: reported for n, reported in self.plan.conversations.items() if reported.past}):
            if names:
                self._converse(list(names))

    def _converse(self, names: list[str]) -> None:
        """A group of conversations, each layer read once for all of them."""
        prompts = []
        for name in names:
            self._progress(f"prompt: {name}")
            reported = self.plan.conversations[name]
            images, sounds = self._seen(name, reported), [self._heard(file) for file in reported.sounds]
            ids = prompt_ids(self.reference.tokenizer, self._prompt(reported, len(images)))
            prompts.append(self.reference.splice(ids, images, sounds))
            self._put("llm", f"{name}.ids", ids)
            self._put("llm", f"{name}.embeds", prompts[-1])
        self._progress(f"language model: {', '.join(names)}")
        answers = decode(self.reference.language, prompts, self.plan.max_tokens, draft=self._drafts(names, prompts))
        for name, answer in zip(names, answers):
            self._put_answer(name, answer)
            self._put_reply(name, answer)

    def _drafts(self, names: list[str], prompts: list[Tensor]) -> Draft:
        draft = self._draft
        if draft is None:
            return lambda prompt, tokens, count: []
        return lambda prompt, tokens, count: draft(names[prompt], prompts[prompt], tokens, count)

    def _put_answer(self, name: str, answer: Decoded) -> None:
        assert answer.prefill_logits is not None
        logits = torch.stack(answer.logits)
        self._put("llm", f"{name}.prefill_pos", answer.prefill_positions)
        prefill = answer.prefill_logits
        self._put("llm", f"{name}.prefill_logits", prefill, min_top2_margin=margin(prefill))
        self._put("llm", f"{name}.tokens", answer.tokens)
        self._put("llm", f"{name}.logits", logits, min_top2_margin=margin(logits))

    def _put_reply(self, name: str, answer: Decoded) -> None:
        """What is shown and spoken: up to a token that ends the reply."""
        reported = self.plan.conversations[name]
        stop = set(self.reference.stop_tokens)
        if not reported.live:
            stop.add(self.reference.token_id("<|im_start|>"))
        tokens = answer.tokens[: self.plan.max_reply_tokens]
        end = next((i for i, token in enumerate(tokens) if token in stop), len(tokens))
        if reported.spoken:
            self._put("llm", f"{name}.stop_tokens", tokens[: end + 1])
        self.replies[name] = self.reference.tokenizer.decode(tokens[:end], skip_special_tokens=False)

    def _prompt(self, reported: Conversation, tiles: int) -> str:
        system = self.prompts["live" if reported.live else "command_line"][reported.system]
        user = "<image>" * tiles + ("\n" if tiles and not reported.live else "") + (reported.text or "<audio>")
        if not reported.past:
            return one_turn(system, user)
        mark = FIRST_SENTENCE_MARK if reported.stray_mark else ""
        return live_second_turn(system, "<audio>", mark + self.replies[reported.past], user)

    def _seen(self, name: str, reported: Conversation) -> list[Tensor]:
        """Rows of the picture's tiles or of the frames."""
        if reported.picture:
            rows = self._pictures.get(reported.picture)
            if rows is None:
                rows = self._tiles(normalised(self._picture(reported.picture)[1], self._config.vision))["proj"]
            return list(rows)
        if not reported.clip:
            return []
        if not reported.live:
            return list(self._tiles(self._sampled(reported.clip, pad=self._config.vision.pad_frames)[1])["proj"])
        pixels = self._live_frames(reported.clip)[1]
        if reported.stray_mark:
            self._put("vision", f"{name}.pixels", pixels)
        return list(self._tiles(pixels)["proj"])

    def _heard(self, file: str) -> Tensor:
        if file not in self._sounds:
            features = fbank(read_wave(self.inputs / file), self._config.audio)
            self._sounds[file] = self.reference.audio.stages(features)["embeds"]
        return self._sounds[file]

    # --- speech

    @torch.inference_mode()
    def record_speech(self) -> None:
        for name, text in self.plan.sentences.items():
            self._progress(f"speech decoder: {name}")
            self._speech.record_sentence(name, text, self.plan)
        self._speech.record_random_codes()

    @torch.inference_mode()
    def record_talk(self) -> None:
        """Replies as what is sent to the listener."""
        for name, reported in self.plan.conversations.items():
            if reported.spoken and self._config.codec.streams == 1:
                self._progress(f"talk: {name}")
                ids = self.arrays.get("llm", f"{name}.ids").tolist()
                self.talk[name] = {**self._speech.record_reply(name, self.replies[name]), "prompt_ids": ids}
        past = next((reported.past for reported in self.plan.conversations.values() if reported.past), None)
        if past is not None:
            self.talk["live_history_response"] = FIRST_SENTENCE_MARK + self.replies[past]

    # --- documents

    def cases(self) -> dict[str, Any]:
        """What was asked: ``cases.json``."""
        pad = self._config.vision.pad_frames
        recorded = self.arrays.files.get("llm", {})
        reported = {name: c for name, c in self.plan.conversations.items() if f"{name}.ids" in recorded}
        conversations = {
            name: c.case(live_positions(len(read_clip(self.inputs / c.clip).frames)) if c.clip else [], pad=pad)
            for name, c in reported.items()
        }
        return {"conversations": conversations, "speech": dict(self.plan.sentences)}

    def text(self) -> dict[str, Any]:
        """What the tokenizer does: ``text.json``."""
        tokenizer, encode = self.reference.tokenizer, self.reference.encode
        draws = np.random.default_rng(3).integers(0, self.reference.language.words, (12, 12)).tolist()

        def decoded(ids: list[int], *, skip: bool = False) -> str:
            return str(tokenizer.decode(ids, skip_special_tokens=skip))

        return {
            "info": {"len": tokenizer.get_vocab_size(), "hands": {hand: encode(hand) for hand in "☜☞☟"}},
            "encode": [{"text": t, "ids": encode(t), "decoded": decoded(encode(t))} for t in self.plan.texts],
            "decode": [
                {"ids": ids, "decoded": decoded(ids), "decoded_skip_special": decoded(ids, skip=True)} for ids in draws
            ],
        }

    def _put(self, file: str, name: str, value: Any, **notes: Any) -> None:
        put(self.arrays, file, name, value, **notes)
