"""Record what a bundle computes, for comparing another bundle, or the same on another backend. Needs no PyTorch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.bundle.atomic_folder import free_place, whole_folder
from vita_edge.engines.bundle.component_spec import AUDIO, CODEC, SPEECH_PREFILL, VISION
from vita_edge.engines.bundle.format import Bundle, sha256_of
from vita_edge.engines.errors import Misuse
from vita_edge.runtime import Assistant, read_image, read_sound
from vita_edge.runtime.decoding.logits_processors import RepetitionPenalty
from vita_edge.runtime.decoding.sampling import make_speech_sampler
from vita_edge.runtime.decoding.segments import splice
from vita_edge.runtime.decoding.top_k_logits import row_of
from vita_edge.runtime.encoders.audio_frontend import AudioFrontEnd
from vita_edge.runtime.encoders.streaming_audio_encoder import piece_feeds
from vita_edge.runtime.encoders.video import read_frames, sample_positions
from vita_edge.runtime.encoders.vision_frontend import VisionFrontEnd, command_line_facts
from vita_edge.runtime.text.prompt import Style, UserTurn, encode_prompt, opening, system_prompt

from .recorder.arrays import MAX_BYTES, RecordedArrays
from .recorder.inputs import built_in_inputs, plan_for, prepare_inputs
from .recorder.plan import Conversation, Plan

__all__ = ["record_bundle"]

Rows = NDArray[np.float32]
RANDOM_FRAMES = 64


def record_bundle(
    bundle: Bundle,
    folder: Path,
    *,
    inputs: Path | None = None,
    max_tokens: int = 16,
    threads: int = 0,
    backend: str = "cpu",
    engine_dir: Path | None = None,
    progress: Callable[[str], object] = lambda _: None,
) -> None:
    """Write what ``bundle`` computes on ``backend`` into a new ``folder``, which appears whole or not at all.

    Args:
        inputs: sounds, pictures and lists of frames; None takes those that come along.
        max_tokens: tokens of each reply.
        engine_dir: folder of TensorRT engines; None takes the user's cache.

    Raises:
        BadInput: the inputs cannot be used.
        Misuse: ``folder`` holds something, or the backend does not run this bundle.
        EngineUnavailable: the backend cannot run here.
        OutputFailed: the disk is full.
    """
    taken = Misuse(f"{folder} exists and is not empty.", why="Nothing is ever overwritten.", fix="Name a new folder.")
    with whole_folder(free_place(folder, lambda _: taken), MAX_BYTES, what="recording") as target:
        prepare_inputs(inputs or built_in_inputs(), target / "inputs")
        plan = plan_for(target / "inputs", max_tokens=max_tokens)
        with Assistant(bundle, threads=threads, backend=backend, engine_dir=engine_dir) as assistant:
            recorder = _Recorder(assistant, target / "inputs", plan, progress)
            recorder.arrays.source = {
                "bundle": str(bundle.path),
                "model": bundle.model.name,
                "manifest_sha256": sha256_of(bundle.path / "manifest.json"),
                "precision": {name: part.precision for name, part in bundle.components.items()},
                "backend": backend,
            }
            recorder.record()
        cases = {
            name: reported.case([], pad=bundle.model.vision.pad_frames) for name, reported in plan.conversations.items()
        }
        recorder.arrays.write(target, {"cases": {"conversations": cases, "speech": dict(plan.sentences)}})
        (target / "prompts.json").write_text(json.dumps(dict(bundle.prompts), ensure_ascii=False, indent=1) + "\n")


class _Recorder:
    def __init__(self, assistant: Assistant, inputs: Path, plan: Plan, progress: Callable[[str], object]) -> None:
        self.arrays = RecordedArrays("bundle, greedy")
        self._assistant, self._bundle = assistant, assistant.bundle
        self._inputs, self._plan, self._progress = inputs, plan, progress

    def record(self) -> None:
        self._record_audio()
        self._record_vision()
        for name, reported in self._plan.conversations.items():
            self._progress(f"language model: {name}")
            self._record_conversation(name, reported)
        self._record_speech()
        self._record_random_codes()

    def _session(self, component: str) -> Any:
        engines = self._assistant.backend
        return engines.session(component, taps=self._bundle.components[component].taps if engines.taps else ())

    def _record_audio(self) -> None:
        front_end = AudioFrontEnd(self._bundle.model.audio)
        with self._session(AUDIO.name) as session:
            for name in self._plan.sounds:
                self._progress(f"audio encoder: {name}")
                wave = front_end.wave(read_sound(self._inputs / f"{name}.wav"))
                fbank = front_end.fbank(wave)
                got = session.infer(piece_feeds(session, fbank))
                embeds = got["audio_embeds"][0]
                stages = {stage: got[stage][0] for stage in ("cmvn", "sub", "embed", "enc", "adapter") if stage in got}
                for stage, value in {"wave": wave, "fbank": fbank, **stages, "embeds": embeds}.items():
                    self.arrays.put("audio", f"{name}.{stage}", value.copy())
                self.arrays.put("audio", f"{name}.n_llm", len(embeds) - self._bundle.model.audio.prompt_rows)

    def _record_vision(self) -> None:
        front_end = VisionFrontEnd(command_line_facts(self._bundle.model.vision))
        with self._session(VISION.name) as session:
            for name in self._plan.pictures:
                self._progress(f"vision tower: {name}")
                image = read_image(self._inputs / f"{name}.png")
                tiles = front_end.tiles(image)
                pixels = front_end.normalise(tiles)
                runs = [
                    {k: v.copy() for k, v in session.infer({"pixel_values": tile[None]}).items()} for tile in pixels
                ]
                grid = front_end.grid(image.shape[1], image.shape[0])
                for stage, value in {"grid": grid, "tiles_u8": tiles, "pixels": pixels}.items():
                    self.arrays.put("vision", f"{name}.{stage}", value)
                for stage, output in {"vit": "vit", "tower": "tower", "proj": "image_embeds"}.items():
                    if output in runs[0]:
                        self.arrays.put("vision", f"{name}.{stage}", np.concatenate([run[output] for run in runs]))

    def _record_conversation(self, name: str, reported: Conversation) -> None:
        assistant, llm = self._assistant, self._bundle.model.llm
        pictures = self._seen(reported)
        clips = [assistant.encoders.hear(read_sound(self._inputs / file)) for file in reported.sounds]
        frames = len(pictures) if reported.clip else 0
        turn = UserTurn(reported.text, len(pictures) - frames, frames, len(clips))
        style: Style = "live" if reported.live else "command_line"
        prompt = opening(system_prompt(self._bundle.prompts, style, turn), turn, style)
        ids = encode_prompt(prompt, assistant.tokenizer)
        rows = splice(ids, assistant.embeddings.rows, pictures, clips)[: llm.prompt_limit_tokens]
        tokens, logits, prefill = self._decode(rows)
        stop = {*self._bundle.model.tokens.stop} - ({self._bundle.model.tokens.im_start} if reported.live else set())
        end = next((i + 1 for i, token in enumerate(tokens) if token in stop), len(tokens))
        recorded = {"ids": ids, "embeds": rows, "prefill_pos": [len(rows) - 1], "prefill_logits": prefill}
        recorded |= {"tokens": tokens, "logits": logits}
        if reported.spoken:
            recorded["stop_tokens"] = tokens[:end]
        for stage, value in recorded.items():
            self.arrays.put("llm", f"{name}.{stage}", value)

    def _seen(self, reported: Conversation) -> list[Rows]:
        encoders = self._assistant.encoders
        if reported.picture:
            return encoders.see(read_image(self._inputs / reported.picture), "command_line")
        if not reported.clip:
            return []
        frames, _ = read_frames(self._inputs / reported.clip, sample_positions)
        return encoders.encode_tiles(VisionFrontEnd(self._bundle.model.vision).frame_tiles(frames))

    def _decode(self, rows: Rows) -> tuple[list[int], Rows, Rows]:
        """Greedy tokens, the logits of every step, and those of the prompt's last position."""
        model, penalty = self._assistant.language_model(), self._bundle.model.llm.repetition_penalty
        tokens: list[int] = []
        steps = [row_of(model.prefill(rows)).copy()]
        while True:
            row = steps[-1].copy()
            RepetitionPenalty(penalty)(tokens, row)
            tokens.append(int(row.argmax()))
            if len(tokens) == self._plan.max_tokens:
                return tokens, np.stack(steps), steps[0][None]
            steps.append(row_of(model.step(tokens[-1])).copy())

    def _record_speech(self) -> None:
        assistant, decoder = self._assistant, self._assistant.voice.decoder
        sample = make_speech_sampler(self._bundle.model.speech)
        with self._session(SPEECH_PREFILL.name) as session:
            for name, text in self._plan.sentences.items():
                self._progress(f"speech decoder: {name}")
                ids = assistant.tokenizer.encode(text)
                rows = assistant.embeddings.rows(ids)
                vectors = rows.reshape(-1, self._bundle.model.speech.width)
                prefix = session.infer({"text_embeds": vectors[None]})
                codes = list(decoder.codes(rows, sample, self._plan.max_codes))
                logits = [row_of(decoder.start(rows)).copy()]
                logits += [row_of(decoder.step(code)).copy() for code in codes[: self._plan.logit_steps - 1]]
                recorded: dict[str, Any] = {"ids": ids, "hidden": vectors, "logits": np.stack(logits)}
                if "pre_nn" in prefix:
                    recorded["pre_nn"] = prefix["pre_nn"][0]
                for stage, value in recorded.items():
                    self.arrays.put("tts", f"{name}.{stage}", value)
                self.arrays.put("tts", f"{name}.codes", codes, limit=self._plan.max_codes)
                if codes and self._bundle.model.codec.streams == 1:
                    wave = assistant.voice.decode(np.array([codes], np.int64))
                    self.arrays.put("tts", f"{name}.wave", wave.copy())

    def _record_random_codes(self) -> None:
        """All codes that the speech decoder makes are known to the codec, or to its first streams."""
        streams = self._bundle.model.codec.streams
        codes = np.random.default_rng(7).integers(0, self._bundle.model.speech.codes, (streams, RANDOM_FRAMES))
        with self._session(CODEC.name) as session:
            got = session.infer({"codes": codes})
            self.arrays.put("tts", "fixed.codes", codes[0] if streams == 1 else codes)
            for stage in (*self._bundle.components[CODEC.name].taps, "waveform"):
                if stage in got:
                    name = "wave" if stage == "waveform" else stage
                    self.arrays.put("tts", f"fixed.{name}", got[stage][0].copy())
