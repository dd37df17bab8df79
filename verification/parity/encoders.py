"""Text, hearing and sight against their recordings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vita_edge.engines.backends import Backend
from vita_edge.engines.bundle.component_spec import AUDIO, VISION
from vita_edge.engines.bundle.facts import VisionFacts
from vita_edge.engines.bundle.format import Bundle
from vita_edge.runtime.audio_io.sound_files import read_sound
from vita_edge.runtime.encoders.audio_frontend import AudioFrontEnd
from vita_edge.runtime.encoders.streaming_audio_encoder import piece_feeds
from vita_edge.runtime.encoders.video import live_positions, read_frames, sample_positions
from vita_edge.runtime.encoders.vision_frontend import VisionFrontEnd, command_line_facts, read_image
from vita_edge.runtime.text.tokenizer import Tokenizer

from .compare import Check, Comparison, compare_arrays, judged_as
from .folder import GoldenFolder

__all__ = ["NO_TAPS", "audio_checks", "clip_tiles", "text_checks", "vision_checks"]

NO_TAPS = "an engine does not expose inner tensors"
FLOOR = float(np.log(np.float32(1.1920929e-07)))
"""The filter bank of digital silence."""


def text_checks(golden: GoldenFolder, tokenizer: Tokenizer) -> Iterator[Check]:
    """Encoding and decoding."""
    judge = Comparison("tokenizer")
    recorded = golden.json("text.json")
    if recorded is None:
        yield judge.skip("text.json", "the folder has none")
        return
    yield judge.equal("info.len", len(tokenizer), recorded["info"]["len"])
    for hand, ids in recorded["info"]["hands"].items():
        yield judge.equal(f"hand {hand}", tokenizer.encode(hand), ids)
    for i, case in enumerate(recorded["encode"]):
        yield judge.equal(f"encode[{i}]", tokenizer.encode(case["text"]), case["ids"])
        yield judge.equal(f"encode[{i}].decoded", tokenizer.decode(case["ids"]), case["decoded"])
    for i, case in enumerate(recorded["decode"]):
        yield judge.equal(f"decode[{i}]", tokenizer.decode(case["ids"]), case["decoded"])
        if "decoded_skip_special" in case:
            text = tokenizer.decode(case["ids"], skip_special=True)
            yield judge.equal(f"decode[{i}] without special", text, case["decoded_skip_special"])


def audio_checks(golden: GoldenFolder, bundle: Bundle, engines: Backend) -> Iterator[Check]:
    """The audio path: front end from the files, encoder stages from the recorded filter bank."""
    component = bundle.components[AUDIO.name]
    front_end = AudioFrontEnd(bundle.model.audio)
    exact, encoder = Comparison("audio front end"), Comparison("audio encoder", judged_as(bundle, AUDIO.name))
    clips = golden.names("audio.npz", "fbank")
    with engines.session(AUDIO.name, taps=component.taps if engines.taps else ()) as session:
        for clip in clips:
            fbank = golden.get("audio.npz", f"{clip}.fbank")
            assert fbank is not None
            if (golden.inputs / f"{clip}.wav").is_file():
                yield from _front_end_checks(golden, exact, clip, front_end, fbank)
            else:
                yield exact.skip(f"{clip}.fbank", f"{clip}.wav is not among the inputs")
            yield from _encoder_checks(golden, encoder, clip, session.infer(piece_feeds(session, fbank)), fbank, bundle)
    if not (full := golden.names("audio.npz", "enc_full")):
        return
    if not engines.taps:
        yield encoder.skip("enc_full", NO_TAPS)
        return
    with engines.session(AUDIO.name, taps=component.taps, overrides=_no_mask(bundle)) as session:
        for clip in full:
            fbank = golden.get("audio.npz", f"{clip}.fbank")
            assert fbank is not None
            got = session.infer(piece_feeds(session, fbank))
            for stage in ("enc", "adapter"):
                want = golden.get("audio.npz", f"{clip}.{stage}_full")
                if want is not None:
                    yield encoder.close(f"{clip}.{stage}_full", got[stage][0], want)


def vision_checks(golden: GoldenFolder, bundle: Bundle, engines: Backend) -> Iterator[Check]:
    """The picture path: tiles and pixels from the files, tower and projector from the recorded pixels."""
    component = bundle.components[VISION.name]
    exact, tower = Comparison("vision front end"), Comparison("vision tower", judged_as(bundle, VISION.name))
    front_end = VisionFrontEnd(command_line_facts(bundle.model.vision))
    with engines.session(VISION.name, taps=component.taps if engines.taps else ()) as session:
        for picture in golden.names("vision.npz", "grid"):
            if not (golden.inputs / f"{picture}.png").is_file():
                yield exact.skip(f"{picture}.tiles_u8", f"{picture}.png is not among the inputs")
                yield from _pixel_checks(golden, exact, tower, picture, None, session)
                continue
            image = read_image(golden.inputs / f"{picture}.png")
            tiles = front_end.tiles(image)
            grid = front_end.grid(image.shape[1], image.shape[0])
            yield exact.equal(f"{picture}.grid", grid, golden.get("vision.npz", f"{picture}.grid"))
            if (want := golden.get("vision.npz", f"{picture}.tiles_u8")) is not None:
                yield compare_arrays("vision front end", f"{picture}.tiles_u8", tiles, want, 0.0)
            yield from _pixel_checks(golden, exact, tower, picture, front_end.normalise(tiles), session)
        for name in golden.names("vision.npz", "pixels"):
            if golden.get("vision.npz", f"{name}.grid") is not None:
                continue
            sampled = clip_tiles(golden, name, bundle.model.vision)
            if sampled is None:
                yield exact.skip(f"{name}.pixels", "no case says where these frames come from, or they are not here")
                yield from _pixel_checks(golden, exact, tower, name, None, session)
                continue
            positions, frames = sampled
            if (want := golden.get("vision.npz", f"{name}.positions")) is not None:
                yield exact.equal(f"{name}.positions", positions, want)
            yield from _pixel_checks(golden, exact, tower, name, front_end.normalise(frames), session)


def clip_tiles(golden: GoldenFolder, name: str, facts: VisionFacts) -> tuple[list[int], NDArray[np.uint8]] | None:
    """Sampled positions and tiles of a recorded clip: ``clip_crop``, ``clip_pad``, or the name of a conversation."""
    conversations = golden.cases.get("conversations", {})
    if name in conversations:
        case = conversations[name].get("clip")
    else:  # a clip by itself was sampled like that of the conversations
        case = next((c["clip"] for c in conversations.values() if c.get("clip", {}).get("mode") == "square"), None)
        if case is None and (lists := sorted(golden.inputs.glob("*.json"))):
            case = {"file": lists[0].name, "frames": "sampled one per second", "mode": "square"}
    if case is None or not (golden.inputs / case["file"]).is_file():
        return None
    live = isinstance(case["frames"], list)
    positions: list[int] = []

    def choose(count: int, fps: float) -> list[int]:
        positions[:] = live_positions(count) if live else sample_positions(count, fps)
        return positions

    frames, _ = read_frames(golden.inputs / case["file"], choose)
    if name in ("clip_crop", "clip_pad"):
        facts = dataclasses.replace(facts, pad_frames=name == "clip_pad")
    front_end = VisionFrontEnd(facts)
    stretched = case["mode"] == "one tile per frame"
    return positions, front_end.stretched(frames) if stretched else front_end.frame_tiles(frames)


def _front_end_checks(
    golden: GoldenFolder, exact: Comparison, clip: str, front_end: AudioFrontEnd, fbank: NDArray[Any]
) -> Iterator[Check]:
    sound = read_sound(golden.inputs / f"{clip}.wav")
    wave = front_end.wave(sound)
    if (want := golden.get("audio.npz", f"{clip}.wave")) is not None:
        yield exact.close(f"{clip}.wave", wave, want, "wave")
    resampled = sound.sample_rate_hz != front_end.facts.sample_rate_hz
    yield _fbank_check(f"{clip}.fbank", front_end.fbank(wave), fbank, resampled)


def _no_mask(bundle: Bundle) -> dict[str, int]:
    return {"chunk_size": 0} if bundle.model.audio.chunk_size > 0 else {}


def _encoder_checks(
    golden: GoldenFolder,
    judge: Comparison,
    clip: str,
    got: Mapping[str, NDArray[Any]],
    fbank: NDArray[Any],
    bundle: Bundle,
) -> Iterator[Check]:
    for stage in ("cmvn", "sub", "embed", "enc", "adapter"):
        if (want := golden.get("audio.npz", f"{clip}.{stage}")) is not None:
            yield (
                judge.close(f"{clip}.{stage}", got[stage][0], want)
                if stage in got
                else judge.skip(f"{clip}.{stage}", NO_TAPS)
            )
    embeds = got["audio_embeds"][0]
    if (want := golden.get("audio.npz", f"{clip}.embeds")) is not None:
        yield judge.close(f"{clip}.embeds", embeds, want[: len(embeds)])
    if (count := golden.get("audio.npz", f"{clip}.n_llm")) is not None:
        rows = bundle.model.audio.prompt_rows
        yield judge.equal(f"{clip}.n_llm", bundle.model.audio.positions(len(fbank)) - rows, int(count.item()))
        yield judge.equal(f"{clip}.n_llm of the graph", len(embeds) - rows, int(count.item()))


def _pixel_checks(
    golden: GoldenFolder,
    exact: Comparison,
    tower: Comparison,
    name: str,
    pixels: NDArray[np.float32] | None,
    session: Any,
) -> Iterator[Check]:
    recorded = golden.get("vision.npz", f"{name}.pixels")
    if recorded is not None:
        if pixels is not None:
            yield exact.close(f"{name}.pixels", pixels, recorded, "pixels")
        pixels = recorded
    requested = {stage: golden.get("vision.npz", f"{name}.{stage}") for stage in ("vit", "tower", "proj")}
    if pixels is None or all(want is None for want in requested.values()):
        return
    runs = [{k: v.copy() for k, v in session.infer({"pixel_values": tile[None]}).items()} for tile in pixels]
    for stage, want in requested.items():
        if want is not None:
            output = "image_embeds" if stage == "proj" else stage
            if output not in runs[0]:
                yield tower.skip(f"{name}.{stage}", NO_TAPS)
                continue
            yield tower.close(f"{name}.{stage}", np.concatenate([run[output] for run in runs]), want)


def _fbank_check(name: str, got: NDArray[Any], want: NDArray[Any], resampled: bool) -> Check:
    """Absolute limits that depend on the value: near the floor, rounding of the FFT is amplified."""
    stage = "audio front end"
    if got.shape != want.shape:
        return Check(stage, name, False, detail=f"shape {list(got.shape)}, recorded {list(want.shape)}")
    limit = np.where(want > 3, 0.03 if resampled else 0.02, 0.2)
    if not resampled:
        limit = np.where(np.abs(want - FLOOR) < 1e-3, 1e-4, limit)
    difference = np.abs(got - want)
    share = float((difference / limit).max()) if want.size else 0.0
    worst = float(difference.max()) if want.size else 0.0
    scale = float(np.abs(want).max()) or 1.0
    passed = bool(share <= 1)
    return Check(
        stage,
        name,
        passed,
        worst,
        worst / scale,
        limit=0.2 / scale,
        detail="" if passed else f"{share:.1f} × the limit",
    )
