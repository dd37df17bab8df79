"""Run every graph of a bundle on the same made-up feeds, whatever its target, in ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]

DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}


def outputs_of(bundle: Path, *, tokens: tuple[int, ...] = (17, 1, 1, 5, 1)) -> Arrays:
    """What each component gives, float32.

    Args:
        tokens: how many rows the language model is fed in each call; the same rows in all.
    """
    folder, random = bundle / "components", np.random.default_rng(0)
    normal = random.standard_normal
    vision = opened(folder / "vision.onnx")
    pixels = normal((2, *vision.get_inputs()[0].shape[1:])).astype(np.float32)
    audio = opened(folder / "audio.onnx")
    fbank = (3 * normal((1, 203, audio.get_inputs()[0].shape[2])) + 12).astype(np.float32)
    llm = opened(folder / "llm.onnx")
    rows = (0.5 * normal((1, sum(tokens), llm.get_inputs()[0].shape[2]))).astype(np.float32)
    prefill, speech = opened(folder / "speech_prefill.onnx"), opened(folder / "speech_decoder.onnx")
    text = (0.5 * normal((1, 12, prefill.get_inputs()[0].shape[2]))).astype(np.float32)
    codes, codec = random.integers(0, 200, (1, 40)), opened(folder / "codec.onnx")
    return {
        "vision": vision.run(["image_embeds"], {"pixel_values": pixels})[0],
        "audio": audio.run(["audio_embeds"], {"fbank": fbank, **_whole_clip(audio)})[0],
        "llm": decoded(llm, "inputs_embeds", rows, tokens),
        "speech_prefill": np.stack(prefill.run(None, {"text_embeds": text})).astype(np.float32),
        "speech_decoder": decoded(speech, "code", codes[:, :12], (9, 1, 1, 1)),
        "codec": codec.run(["waveform"], {"codes": codes})[0],
    }


def opened(graph: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 2
    return ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def decoded(
    session: ort.InferenceSession, name: str, rows: NDArray[Any], calls: tuple[int, ...], capacity: int = 64
) -> NDArray[np.float32]:
    """Logits [calls, vocab] of a decoder that is fed ``rows`` in so many at a call, from an empty cache."""
    inputs = {value.name: value for value in session.get_inputs()}
    grows = not {"past_length", "seqlens_k"} & set(inputs)
    cache: Arrays = {}
    for past in (past for past in inputs if past.startswith("past_key_values.")):
        _, heads, _, width = inputs[past].shape
        cache[past] = np.zeros((1, heads, 0 if grows else capacity, width), DTYPES[inputs[past].type])
    names, position, logits = [value.name for value in session.get_outputs()], 0, []
    for count in calls:
        feeds = {name: rows[:, position : position + count], **cache}
        if "past_length" in inputs:
            feeds |= {"past_length": np.array([position]), "seen": np.zeros(position + count, bool)}
        elif "seqlens_k" in inputs:
            feeds["seqlens_k"] = np.array([position + count - 1], np.int32)
            feeds["total_sequence_length"] = np.array([position + count], np.int32)
        got = dict(zip(names, session.run(names, feeds)))
        cache = {past: got[past.replace("past_key_values", "present")] for past in cache}
        position += count
        logits.append(got["logits"][0, 0])
    return np.stack(logits)


def signal_to_noise_db(want: NDArray[Any], got: NDArray[Any]) -> float:
    exact = want.astype(np.float64)
    noise = float(((got - exact) ** 2).sum())
    return float(10 * np.log10((exact**2).sum() / noise)) if noise else float("inf")


def _whole_clip(session: ort.InferenceSession) -> Arrays:
    feeds: Arrays = {}
    for value in session.get_inputs()[1:]:
        made_up = {"begin": np.array(0), "opening": np.ones(1, bool), "ending": np.ones(1, bool)}
        empty = [axis if isinstance(axis, int) else 0 for axis in value.shape]
        feeds[value.name] = made_up.get(value.name, np.zeros(empty, np.float32))
    return feeds
