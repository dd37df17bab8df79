"""Golden data for any checkpoint folder, in the format of `shared/golden/tiny-a/data`.

python -m tests.oracle.golden CHECKPOINT OUT [--inputs DIR] [--prompts FILE] [--full]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from . import front
from .model import Audio, Codec, LanguageModel, Speech, Vision
from .reader import Array, load

SHARED = Path(__file__).resolve().parents[3] / "shared" / "golden"
CLIPS = ("en_look", "zh_ask", "en_short", "en_long", "stereo_44k", "mono_8k")
PICTURES = ("square", "wide", "tall", "odd")
SENTENCES = {
    "s0": "it looks like a simple drawing.",
    "s1": "maybe we should go for a walk.",
    "s2": "please describe the image.",
}
HELLO, SEE = "Hello, how are you today?", "What do you see in this image?"
TEXTS: tuple[str, ...] = (
    "Hello, world!",
    "你好，世界！",
    "☞你好",
    "☜ Hi",
    "a  b\n\nc\t d",
    "3.14159 and 2024年",
    "it's we're I'LL",
)
TEXTS += ("<|im_start|>user\nhi<|im_end|>\n", "café cafe\u0301", "🙂 emoji", "", " ", "\n", "x" * 40, "<image>")
TEXTS += ("tool <tool_call> x", "1,234,567.89%", "ＡＢＣ①②", "The quick brown fox.")
CONVERSATIONS: dict[str, dict[str, Any]] = {
    "text": {"system": "lang", "user": HELLO},
    "image_text": {"system": "image", "user": f"<image> x tiles, newline, {SEE}", "picture": "square.png"},
    "audio": {"system": "lang", "user": "<audio>", "audio": ["en_look.wav"]},
    "image_audio": {
        "system": "image",
        "user": "<image> x tiles, newline, <audio>",
        "picture": "wide.png",
        "audio": ["zh_ask.wav"],
    },
    "video_audio": {
        "system": "video",
        "user": "<image> x frames, newline, <audio>",
        "clip": "clip_2.json",
        "audio": ["en_short.wav"],
    },
    "video_text": {"system": "video", "user": f"<image> x frames, newline, {SEE}", "clip": "clip_2.json"},
    "live1": {"style": "live", "system": "audio", "user": "<audio>", "audio": ["zh_ask.wav"]},
    "live2": {
        "style": "live, second turn",
        "system": "video",
        "user": "<image> x 4, <audio>",
        "clip": "clip_20.json",
        "audio": ["zh_ask.wav", "en_short.wav"],
        "note": "history holds the first reply with the stray first-sentence marker, and the second user turn has no "
        "role line, as the live demo does",
    },
    "live2_clean": {
        "style": "live, second turn",
        "system": "video",
        "user": "<image> x 4, <audio>",
        "clip": "clip_20.json",
        "audio": ["zh_ask.wav", "en_short.wav"],
        "note": "as live2 but the marker is left out of the history",
    },
}
MEANING = {
    "wave": "samples",
    "fbank": "80 log mel energies per 10 ms frame",
    "embeds": "what is spliced into the prompt, or the whole spliced prompt",
    "pixels": "normalised tiles, N x 3 x S x S",
    "logits": "raw logits of each step",
    "tokens": "greedy tokens, not stopping",
    "stop_tokens": "greedy tokens with stopping on, at most 40",
    "n_llm": "number of language model positions for this audio, prompt rows not counted",
}


def margin(logits: Array) -> float:
    """The smallest gap between the two best logits of a row."""
    top = np.sort(logits, -1)[:, -2:]
    return float((top[:, 1] - top[:, 0]).min())


class Golden:
    """Computes and writes golden data; `arrays` maps a file to its named arrays."""

    def __init__(
        self,
        checkpoint: Path | str,
        inputs: Path | str,
        prompts: Path | str | dict[str, Any],
        quick: bool = True,
        dtype: Any = np.float64,
    ) -> None:
        self.ck, self.inputs, self.quick = load(checkpoint), Path(inputs), quick
        self.prompts = prompts if isinstance(prompts, dict) else json.loads(Path(prompts).read_text("utf-8"))
        self.audio, self.vision = Audio(self.ck, dtype), Vision(self.ck, dtype)
        self.llm, self.speech, self.codec = LanguageModel(self.ck, dtype), Speech(self.ck, dtype), Codec(self.ck, dtype)
        self.tokenizer, self.dtype = self.ck.tokenizer, dtype
        size = self.ck.pixels["crop_size"]
        self.size = size["height"] if isinstance(size, dict) else size
        self.pad = self.ck.config.get("image_aspect_ratio") == "pad"
        self.count = 16 if quick else 48
        self.arrays: dict[str, dict[str, Array]] = {f: {} for f in ("audio", "vision", "llm", "tts", "e2e")}
        self.notes: dict[str, dict[str, Any]] = {}
        self.replies: dict[str, str] = {}
        self.talk: dict[str, Any] = {}

    def put(self, file: str, name: str, value: Any) -> None:
        """Keep an array in the type of the golden files."""
        value = np.asarray(value)
        small = {"f": np.float32, "i": np.int32}.get(value.dtype.kind, value.dtype)
        self.arrays[file][name] = value if value.dtype in (np.int16, np.uint8) else value.astype(small)

    # --- media ----------------------------------------------------------------------------------------------------

    def clip_rows(self, name: str) -> Array:
        """The prompt rows of a sound file (spec 5)."""
        return self.audio.stages(front.fbank(front.read_wave(self.inputs / name)))["embeds"]

    def normalise(self, tiles: Array) -> Array:
        """Pixels with the checkpoint's own mean and deviation (spec 6.4)."""
        return front.normalise(tiles, self.ck.pixels["image_mean"], self.ck.pixels["image_std"])

    def picture_tiles(self, name: str) -> tuple[tuple[int, int], Array]:
        """Grid and tiles with the command line's limits, 1 to 12 (spec 6.1)."""
        return front.cut_tiles(front.read_picture(self.inputs / name), self.size, 12)

    def frames(self, name: str) -> tuple[float, list[Array]]:
        """Frame rate and all frames of a clip."""
        clip = json.loads((self.inputs / name).read_text())
        return clip["fps"], [front.read_picture(self.inputs / f) for f in clip["frames"]]

    def sampled(self, name: str, pad: bool) -> tuple[list[int], Array]:
        """Command line frames: their positions and pixels (spec 6.4, 6.5)."""
        fps, frames = self.frames(name)
        positions = front.sample_frames(len(frames), fps)
        colour = [int(255 * m) for m in self.ck.pixels["image_mean"]] if pad else None
        return positions, self.normalise(
            np.stack([front.frame_square(frames[i], self.size, colour) for i in positions])
        )

    def live_frames(self, name: str) -> Array:
        """The live demo's four frames, each stretched to one tile (spec 6.4, 6.5)."""
        frames = self.frames(name)[1]
        picked = [frames[i] for i in front.spread(len(frames) - 1, 4)]
        return self.normalise(np.concatenate([front.cut_tiles(f, self.size, 1)[1] for f in picked]))

    # --- stages ---------------------------------------------------------------------------------------------------

    def make_audio(self) -> None:
        """audio.npz (spec 5)."""
        clips = ("zh_ask", "stereo_44k") if self.quick else CLIPS
        for name in clips:
            wave = front.read_wave(self.inputs / f"{name}.wav")
            fbank = front.fbank(wave)
            stages = self.audio.stages(fbank)
            for key, value in {"wave": wave, "fbank": fbank, **stages, "n_llm": [len(stages["adapter"])]}.items():
                self.put("audio", f"{name}.{key}", value)
            if name in (clips[0], "en_long"):
                full = self.audio.stages(fbank, full=True)
                self.put("audio", f"{name}.enc_full", full["enc"])
                self.put("audio", f"{name}.adapter_full", full["adapter"])

    def make_vision(self) -> None:
        """vision.npz (spec 6)."""
        for name in PICTURES[:2] if self.quick else PICTURES:
            grid, tiles = self.picture_tiles(f"{name}.png")
            pixels = self.normalise(tiles)
            for key, value in {"grid": grid, "tiles_u8": tiles, "pixels": pixels, **self.vision.stages(pixels)}.items():
                self.put("vision", f"{name}.{key}", value)
        for name, pad in {"clip_crop": False, "clip_pad": True}.items():
            positions, pixels = self.sampled("clip_2.json", pad)
            proj = self.vision.stages(pixels)["proj"]
            for key, value in {"positions": positions, "pixels": pixels, "proj": proj}.items():
                self.put("vision", f"{name}.{key}", value)

    def visual(self, case: dict[str, Any]) -> Array | None:
        """The pixels of a conversation's picture or frames."""
        if "picture" in case:
            return self.normalise(self.picture_tiles(case["picture"])[1])
        if "clip" not in case:
            return None
        return self.live_frames(case["clip"]) if "style" in case else self.sampled(case["clip"], self.pad)[1]

    def prompt(self, name: str, tiles: int) -> str:
        """The whole prompt of a conversation (spec 4)."""
        case = CONVERSATIONS[name]
        live = "style" in case
        system = self.prompts["live" if live else "command_line"][case["system"]]
        question = "<audio>" if "audio" in case else SEE if tiles else HELLO
        user = "<image>" * tiles + ("\n" if tiles and not live else "") + question
        if name not in ("live2", "live2_clean"):
            return front.chat(system, user)
        mark = front.MARK if name == "live2" else ""
        return front.live_chat(system, "<audio>", mark + self.replies["live1"], user)

    def splice(self, ids: list[int], images: Array, sounds: list[Array]) -> Array:
        """Embedding rows with media put in, cut at the length limit (spec 6.6)."""
        pictures, clips = iter(images), iter(sounds)
        rows = []
        for i in ids:
            one = self.llm.rows[[i]] if i >= 0 else None
            rows.append(one if one is not None else next(pictures if i == front.IMAGE else clips))
        limit = self.ck.config.get("tokenizer_model_max_length")
        return np.concatenate(rows)[: int(limit) if limit else None]

    def make_llm(self) -> None:
        """llm.npz, and the replies that e2e speaks (spec 4, 7)."""
        chosen = ("text", "image_audio", "live1") if self.quick else tuple(CONVERSATIONS)
        for name in chosen:
            case = CONVERSATIONS[name]
            pixels = self.visual(case)
            if name == "live2":
                self.put("vision", "live2.pixels", pixels)
            images = np.zeros((0, 0, 0)) if pixels is None else self.vision.stages(pixels)["proj"]
            sounds = [self.clip_rows(f) for f in case.get("audio", ())]
            ids = front.prompt_ids(self.tokenizer, self.prompt(name, len(images)))
            embeds = self.splice(ids, images, sounds)
            n = len(embeds)
            prefill, tokens, logits = self.llm.generate(embeds, self.count)
            at = [0, 1, n // 3, n // 2, n - 2, n - 1]
            made = {"ids": ids, "embeds": embeds, "prefill_pos": at, "prefill_logits": prefill[at]}
            for key, value in {**made, "tokens": tokens, "logits": logits}.items():
                self.put("llm", f"{name}.{key}", value)
            for key, value in {"prefill_logits": prefill[at], "logits": logits}.items():
                self.notes[f"{name}.{key}"] = {"min_top2_margin": margin(value)}
            if name in ("image_audio", "live1", "live2"):
                stop = self.llm.stop | ({self.tokenizer.token_to_id("<|im_start|>")} if "style" not in case else set())
                stopped = self.llm.generate(embeds, 40, stop)[1]
                self.put("llm", f"{name}.stop_tokens", stopped)
                said = stopped[:-1] if stopped[-1] in stop else stopped
                self.replies[name] = self.tokenizer.decode(said, skip_special_tokens=False)

    def sentence_codes(self, text: str) -> list[int]:
        """All greedy codes of a sentence, the end code left out (spec 8.3)."""
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        return self.plain(c for c, _ in self.speech.codes(self.speech.pre_nn(self.speech.hidden(ids))))

    def plain(self, codes: Any) -> list[int]:
        """Codes without the end code (spec 8.3)."""
        return [c for c in codes if c < self.speech.odim]

    def stream(self, codes: list[int], chunk: int, threshold: float) -> tuple[list[Array], list[list[int]], bool]:
        """Segments, cut rows, and whether noise of 5e-7 leaves the cuts alone (spec 8.5)."""
        parts = front.windows_of(codes, chunk, self.codec.hop, lambda c: self.codec.wave(c).astype(np.float32))
        segments, rows = front.cut_stream(parts, threshold)
        random, stable = np.random.default_rng(1), True
        for _ in range(4):
            noisy = [p + random.uniform(-5e-7, 5e-7, len(p)).astype(np.float32) for p in parts]
            stable &= [len(s) for s in front.cut_stream(noisy, threshold)[0]] == [len(s) for s in segments]
        return segments, rows, stable

    def make_tts(self) -> None:
        """tts.npz (spec 8.3 to 8.5)."""
        for name, text in SENTENCES.items():
            ids = self.tokenizer.encode(text, add_special_tokens=False).ids
            hidden = self.speech.hidden(ids)
            pre = self.speech.pre_nn(hidden)
            steps = list(self.speech.codes(pre))
            codes, logits = self.plain(c for c, _ in steps), np.stack([row for _, row in steps[:60]])
            penalty = self.plain(c for c, _ in self.speech.codes(pre, 60, 20, 1.1))
            made = {"ids": ids, "hidden": hidden, "pre_nn": pre, "logits": logits, "codes": codes}
            made |= {"codes_max40": codes[:40], "codes_penalty": penalty}
            for key, value in made.items():
                self.put("tts", f"{name}.{key}", np.array(value, int) if "codes" in key or key == "ids" else value)
            self.notes[f"{name}.logits"] = {"min_top2_margin": margin(logits)}
            if not codes or self.codec.streams > 1:
                continue
            self.put("tts", f"{name}.wave", self.codec.wave(np.array(codes)))
            for key, chunk, threshold in (("first", 20, 0.1), ("rest", 40, 0.015)):
                segments, rows, stable = self.stream(codes, chunk, threshold)
                self.put("tts", f"{name}.{key}_wave", np.concatenate(segments))
                self.put("tts", f"{name}.{key}_lens", [len(s) for s in segments])
                self.put("tts", f"{name}.{key}_cuts", np.array(rows, int).reshape(-1, 5))
                self.notes[f"{name}.{key}_lens"] = {"stable_under_5e-7_noise": stable}
        shape = (64, self.codec.streams) if self.codec.streams > 1 else 64
        fixed = np.random.default_rng(7).integers(0, self.ck.codec["n_codes"], shape)
        wanted = ("global", "quant", "conv_pre", "up0", "up1", "wave")
        self.put("tts", "fixed.codes", fixed)
        for key, value in self.codec.stages(fixed).items():
            if key in wanted:
                self.put("tts", f"fixed.{key}", value)

    def make_e2e(self) -> None:
        """e2e.json and e2e.npz, from the replies of `make_llm` (spec 8.1 to 8.6)."""
        for name, reply in self.replies.items():
            if self.codec.streams > 1 or (self.quick and name != "live1"):
                continue
            pieces = front.cut_reply(reply)
            sent, said, all_stable = [], [], True
            for sentence in front.sentences(pieces):
                codes = self.sentence_codes(sentence.text)
                segments, _, stable = self.stream(codes, sentence.chunk, sentence.threshold)
                sent += [front.to_int16(front.trim(s) if sentence.first else s) for s in segments]
                said += [sentence.text] * len(segments)
                all_stable &= stable
            self.talk[name] = {"text": reply, "pieces": pieces, "sentence_of_each_pcm_piece": said}
            if name != "image_audio":
                self.talk[name]["prompt_ids"] = self.arrays["llm"][f"{name}.ids"].tolist()
            self.put("e2e", f"{name}.pcm", np.concatenate([np.zeros(0, np.int16), *sent]))
            self.put("e2e", f"{name}.pcm_lens", np.array([len(s) for s in sent], int))
            self.notes[f"{name}.pcm_lens"] = {"stable_under_5e-7_noise": all_stable}

    # --- files ----------------------------------------------------------------------------------------------------

    def text(self) -> dict[str, Any]:
        """text.json (spec 3, 4)."""
        encode, decode = (lambda t: self.tokenizer.encode(t, add_special_tokens=False).ids), self.tokenizer.decode
        draws = np.random.default_rng(3).integers(0, self.llm.words, (12, 12)).tolist()
        names = ("im_start", "im_end", "endoftext")
        questions = {"text": HELLO, "image_text": f"<image><image>\n{SEE}", "audio": "<audio>"}
        system = {name: self.prompts["command_line"][CONVERSATIONS[name]["system"]] for name in questions}
        return {
            "info": {
                "len": self.tokenizer.get_vocab_size(),
                **{n: self.tokenizer.token_to_id(f"<|{n}|>") for n in names},
                "hands": {h: encode(h) for h in "☜☞☟"},
            },
            "encode": [
                {"text": t, "ids": (i := encode(t)), "decoded": decode(i, skip_special_tokens=False)} for t in TEXTS
            ],
            "decode": [
                {"ids": i, "decoded": decode(i, skip_special_tokens=False), "decoded_skip_special": decode(i)}
                for i in draws
            ],
            "prompt_ids": {
                k: front.prompt_ids(self.tokenizer, front.chat(system[k], user)) for k, user in questions.items()
            },
            "prompt_questions": questions,
        }

    def cases(self) -> dict[str, Any]:
        """cases.json."""
        mode, found = "pad" if self.pad else "square", {}
        for name, case in CONVERSATIONS.items():
            if f"{name}.ids" not in self.arrays["llm"]:
                continue
            case = {"style": "command line", **case}
            if name.startswith("live2"):
                frames = front.spread(len(self.frames(case["clip"])[1]) - 1, 4)
                case["clip"] = {"file": case["clip"], "frames": frames, "mode": "one tile per frame"}
                case["audio"] = ["zh_ask.wav (from the first turn)", "en_short.wav"]
            elif "clip" in case:
                case["clip"] = {"file": case["clip"], "frames": "sampled one per second, at least 4", "mode": mode}
            found[name] = case
        return {"conversations": found, "speech": SENTENCES}

    def manifest(self, name: str) -> dict[str, Any]:
        """manifest.json."""
        rows = []
        for file, arrays in self.arrays.items():
            for key, value in arrays.items():
                meaning = MEANING.get(key.split(".")[1], key.split(".")[1])
                row = {
                    "file": f"{file}.npz",
                    "name": key,
                    "shape": [] if key.endswith("n_llm") else list(value.shape),
                    "dtype": str(value.dtype),
                }
                row |= {"meaning": meaning, "how": "numpy oracle"}
                if value.dtype == np.float32 and value.size:
                    row = row | {"scale": float(np.abs(value).max()), "std": float(value.std())}
                rows.append(row | self.notes.get(key, {}))
        return {"config": name, "produced": f"numpy oracle, {np.dtype(self.dtype)}, greedy", "arrays": rows}

    def write(self, out: Path, name: str) -> None:
        """All files of the golden folder."""
        out.mkdir(parents=True, exist_ok=True)
        for file, arrays in self.arrays.items():
            np.savez(out / f"{file}.npz", **arrays)
        if "live2" in self.replies:
            self.talk["live_frames"] = front.spread(len(self.frames("clip_20.json")[1]) - 1, 4)
            self.talk["live_history_response"] = front.MARK + self.replies["live1"]
        documents = {"manifest": self.manifest(name), "cases": self.cases(), "text": self.text(), "e2e": self.talk}
        for file, content in documents.items():
            (out / f"{file}.json").write_text(json.dumps(content, ensure_ascii=False, indent=1), "utf-8")
        if not (out / "inputs").exists():
            (out / "inputs").symlink_to(self.inputs.resolve())


def make_golden(
    checkpoint_dir: Path | str,
    out_dir: Path | str,
    inputs_dir: Path | str = SHARED / "tiny-a" / "data" / "inputs",
    prompts: Path | str | dict[str, Any] = SHARED / "prompts.json",
    quick: bool = True,
    dtype: Any = np.float64,
) -> Golden:
    """Write golden data of a checkpoint into a folder (golden README)."""
    golden = Golden(checkpoint_dir, inputs_dir, prompts, quick, dtype)
    for make in (golden.make_audio, golden.make_vision, golden.make_llm, golden.make_tts, golden.make_e2e):
        make()
    golden.write(Path(out_dir), Path(checkpoint_dir).resolve().name)
    return golden


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("out")
    parser.add_argument("--inputs", default=SHARED / "tiny-a" / "data" / "inputs")
    parser.add_argument("--prompts", default=SHARED / "prompts.json")
    parser.add_argument("--full", action="store_true", help="every clip, picture and conversation")
    args = parser.parse_args()
    made = make_golden(args.checkpoint, args.out, args.inputs, args.prompts, quick=not args.full)
    print(f"{sum(map(len, made.arrays.values()))} arrays in {args.out}")


if __name__ == "__main__":
    main()
