"""Front ends, prompts and the rules of speech around the networks (specification 4 to 6, 8.1, 8.2, 8.5, 8.6)."""

from __future__ import annotations

import math
import re
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tokenizers import Tokenizer

from .reader import Array

MARK = "$$FIRST_SENTENCE_MARK$$"
ENDS = ",，.。?\n？!！、"
IMAGE, AUDIO = -200, -500


# --- audio (spec 5) ---------------------------------------------------------------------------------------------------


def resample(x: Array, old: int, new: int) -> Array:
    """Windowed sinc resampling of one channel (spec 5.1)."""
    o, n = old // math.gcd(old, new), new // math.gcd(old, new)
    base = 0.99 * min(o, n)
    width = math.ceil(6 * o / base)
    u = np.arange(-width, width + o)[None, :] / o - np.arange(n)[:, None] / n
    t = np.clip(base * u, -6, 6)
    kernel = base / o * np.cos(np.pi * t / 12) ** 2 * np.sinc(t)
    padded = np.pad(x.astype(np.float64), (width, width + o))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * width + o)[::o]
    return (windows @ kernel.T).ravel()[: math.ceil(n * len(x) / o)]


def read_wave(path: Path) -> Array:
    """First channel at 16 kHz in [-1, 1) (spec 5.1)."""
    with wave.open(str(path)) as file:
        raw, rate = file.readframes(file.getnframes()), file.getframerate()
        x = np.frombuffer(raw, "<i2").reshape(-1, file.getnchannels())[:, 0] / 32768
    return (resample(x, rate, 16000) if rate != 16000 else x).astype(np.float32)


def fbank(x: Array) -> Array:
    """80 log mel energies per 10 ms frame (spec 5.2)."""
    frames = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64) * 32768, 400)[::160]
    frames = frames - frames.mean(1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], 1)
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)) ** 0.85
    power = np.abs(np.fft.rfft((frames - 0.97 * before) * window, 512)) ** 2
    low, high = (1127 * math.log(1 + f / 700) for f in (20, 8000))
    step, m = (high - low) / 81, 1127 * np.log(1 + 16000 / 512 * np.arange(256) / 700)
    left = low + step * np.arange(80)[:, None]
    mel = np.maximum(0, np.minimum((m - left) / step, (left + 2 * step - m) / step))
    return np.log(np.maximum(power[:, :256] @ mel.T, 1.1920929e-07)).astype(np.float32)


# --- pictures (spec 6) ------------------------------------------------------------------------------------------------


def tile_grid(width: int, height: int, size: int, most: int, least: int = 1) -> tuple[int, int]:
    """Columns and rows for a picture (spec 6.1)."""
    pairs = [(c, r) for c in range(1, most + 1) for r in range(1, most + 1) if least <= c * r <= most]
    best, found = math.inf, (1, 1)
    for c, r in sorted(pairs, key=lambda p: p[0] * p[1]):
        off = abs(width / height - c / r)
        if off < best or (off == best and width * height > 0.5 * size * size * c * r):
            best, found = off, (c, r)
    return found


def resize_axis(x: Array, m: int) -> Array:
    """One pass of the 8-bit bicubic resize, along the first axis (spec 6.3)."""
    n = len(x)
    if n == m:
        return x
    f = max(n / m, 1.0)
    out = np.empty((m, *x.shape[1:]), np.uint8)
    for i in range(m):
        c = (i + 0.5) * (n / m)
        first, last = max(int(c - 2 * f + 0.5), 0), min(int(c + 2 * f + 0.5), n)
        t = np.abs((np.arange(first, last) - c + 0.5) / f)
        near, far = (1.5 * t - 2.5) * t * t + 1, (((t - 5) * t + 8) * t - 4) * -0.5
        weights = np.where(t < 1, near, np.where(t < 2, far, 0.0))
        scaled = weights / weights.sum() * 2**22
        whole = np.trunc(scaled + np.where(scaled < 0, -0.5, 0.5)).astype(np.int64)
        total = np.tensordot(whole, x[first:last].astype(np.int64), 1)
        out[i] = np.clip((total + 2**21) >> 22, 0, 255)
    return out


def resize(x: Array, width: int, height: int) -> Array:
    """Horizontal pass, then vertical (spec 6.3)."""
    return resize_axis(resize_axis(x.swapaxes(0, 1), width).swapaxes(0, 1), height)


def read_picture(path: Path) -> Array:
    """RGB rows x columns x 3."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def cut_tiles(x: Array, size: int, most: int) -> tuple[tuple[int, int], Array]:
    """The grid, and the tiles row by row with the thumbnail last (spec 6.1, 6.2)."""
    columns, rows = tile_grid(x.shape[1], x.shape[0], size, most)
    whole = resize(x, columns * size, rows * size)
    tiles = list(whole.reshape(rows, size, columns, size, 3).swapaxes(1, 2).reshape(-1, size, size, 3))
    if len(tiles) > 1:
        tiles.append(resize(x, size, size))
    return (columns, rows), np.stack(tiles)


def normalise(tiles: Array, mean: list[float], std: list[float]) -> Array:
    """8-bit N x S x S x 3 to float N x 3 x S x S (spec 6.4)."""
    return ((tiles / 255 - np.array(mean)) / np.array(std)).astype(np.float32).transpose(0, 3, 1, 2)


def frame_square(x: Array, size: int, pad_colour: list[int] | None) -> Array:
    """A frame that is not tiled: optionally padded, short side to S, centre crop (spec 6.4)."""
    height, width = x.shape[:2]
    if pad_colour is not None and height != width:
        side = max(height, width)
        square = np.empty((side, side, 3), np.uint8)
        square[:] = pad_colour
        top, left = (side - height) // 2, (side - width) // 2
        square[top : top + height, left : left + width] = x
        x, height, width = square, side, side
    short = min(height, width)
    long = int(size * max(height, width) / short)
    height, width = (size, long) if height == short else (long, size)
    x = resize(x, width, height)
    top, left = (height - size) // 2, (width - size) // 2
    return x[top : top + size, left : left + size]


def spread(last: int, count: int) -> list[int]:
    """int(linspace(0, last, count))."""
    return [int(v) for v in np.linspace(0, last, count)]


def sample_frames(frames: int, fps: float) -> list[int]:
    """Command line sampling: one a second, 4 to 16 (spec 6.5)."""
    positions = list(range(0, frames, round(fps)))
    if 4 <= len(positions) <= 16:
        return positions
    return [positions[i] for i in spread(len(positions) - 1, 16 if len(positions) > 16 else 4)]


# --- prompts (spec 4) -------------------------------------------------------------------------------------------------


def turn(role: str, text: str) -> str:
    """One turn (spec 4.1)."""
    return f"<|im_start|>{role}\n{text}<|im_end|>\n"


def chat(system: str, user: str) -> str:
    """A prompt of one question (spec 4.1)."""
    return turn("system", system) + turn("user", user) + "<|im_start|>assistant\n"


def live_chat(system: str, past_user: str, past_reply: str, user: str) -> str:
    """A prompt with one past turn, as the live demo assembles it (spec 4.3)."""
    rest = turn("user", past_user.replace("<image>", "")) + turn("assistant", past_reply) + turn("user", user)
    rest += "<|im_start|>assistant\n"
    marks = "<image>" * rest.count("<image>")
    rest = rest.replace("<image>", "").replace("<|im_start|>user\n", "")
    whole = turn("system", system) + "<|im_start|>user\n" + marks + rest
    return whole.replace("☞ ", "☞").replace("☟ ", "☟")


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """Text runs tokenised on their own, placeholders as markers (spec 4.1)."""
    ids: list[int] = []
    for part in re.split("(<image>|<audio>)", prompt):
        marker = {"<image>": IMAGE, "<audio>": AUDIO}.get(part)
        ids += [marker] if marker else tokenizer.encode(part, add_special_tokens=False).ids
    return ids


# --- from a reply to sentences (spec 8.1, 8.2) ------------------------------------------------------------------------

WORDS = (
    ("sin= sine |cos= cosine |tan= tangent |cot= cotangent |sec= secant |csc= cosecant |log= logarithm |exp=e^")
    + ("|sqrt=根号 |abs=绝对值 |+=加|-=减|*=乘|/=除|==等于|>=大于|<=小于|α=alpha |β=beta |γ=gamma |δ=delta |ε=epsilon ")
    + ("|ζ=zeta |η=eta |θ=theta |ι=iota |κ=kappa |λ=lambda |μ=mu |ν=nu |ξ=xi |ο=omicron |π=派 |ρ=rho |σ=sigma ")
    + ("|τ=tau |υ=upsilon |φ=phi |χ=chi |ψ=psi |ω=omega ")
)


def rewrite(text: str) -> str:
    """Formulas as words (spec 8.2)."""
    text = re.sub(r"(?<![\d)])-(?=\d)", "负", text.replace("**", " "))
    for pair in WORDS.split("|"):
        text = text.replace(pair[: pair.index("=", 1)], pair[pair.index("=", 1) + 1 :])
    text = re.sub(r"\(?(\d+)\)?\((\d+)\)", r"\1乘\2", text)
    return re.sub(r"\(?(\w+)\)?\^\(?(\w+)\)?", r"\1的\2次方", text)


def spoken(text: str) -> str:
    """Steps 2 to 4 of the consumer (spec 8.1)."""
    for gone in ("☞", "☟", "☜", "<unk>", "<|im_end|>"):
        text = text.replace(gone, "")
    return rewrite(text).lower()


def cut_reply(reply: str) -> list[str]:
    """The producer's pieces; a tail is lost (spec 8.1)."""
    pieces, collected = [], ""
    for character in MARK + reply:
        collected = (collected + character).replace("☞ ", "").replace("☞", "")
        if character in ENDS:
            pieces.append(collected)
            collected = ""
    return pieces


@dataclass
class Sentence:
    """A sentence with its streaming settings (spec 8.1)."""

    text: str
    chunk: int = 40
    threshold: float = 0.015
    first: bool = False


def sentences(pieces: list[str]) -> list[Sentence]:
    """The consumer's sentences when every piece is waiting (spec 8.1)."""
    found, text = [], ""
    for i, piece in enumerate(pieces):
        text += piece
        if len(text) < 5 and i + 1 < len(pieces):
            continue
        first = MARK in text
        if first:
            text = text.replace(MARK, "").replace("，", "。").replace(",", "。")
        said = spoken(text)
        if said.strip():
            found.append(Sentence(said, 20, 0.1, True) if first else Sentence(said))
        text = ""
    return found


# --- streaming (spec 8.5, 8.6) ----------------------------------------------------------------------------------------


def windows_of(codes: list[int], chunk: int, hop: int, decode: Callable[[Array], Array], pad: int = 10) -> list[Array]:
    """What each independent decode adds; the last one ends the sentence (spec 8.5)."""
    left, held, parts = 0, [], []
    for code in codes:
        held.append(code)
        if len(held) == left + chunk + pad:
            parts.append(decode(np.array(held))[hop * left : -hop * pad])
            left, held = pad, held[-2 * pad :]
    return [*parts, decode(np.array(held))[hop * left :]] if held else parts


def cut_stream(parts: list[Array], threshold: float) -> tuple[list[Array], list[list[int]]]:
    """The yielded segments and one row per full chunk: emitted, first, past last, cut, mean (spec 8.5)."""
    n, segments, rows = 2401, [], []
    buffer = np.zeros(0, np.float32)
    for y in parts[:-1]:
        a = np.abs(y).astype(np.float64)
        low = len(y) // 2 - 1200
        total = np.cumsum(np.concatenate([[0.0], a]))
        sums = total[n + low :] - total[low:-n]
        m = int(sums.argmin())
        b = m + low
        e = min(len(y), m + n + b)
        mean, cut = sums[m] / n, -1
        if mean < threshold:
            cut = b + int(a[b:e].argmin())
            segments.append(np.concatenate([buffer, y[:cut]]))
            buffer = y[cut:]
        else:
            buffer = np.concatenate([buffer, y])
        rows.append([int(cut >= 0), b, e, cut, round(mean * 1e6)])
    return [*segments, np.concatenate([buffer, *parts[-1:]])] if parts else [], rows


def trim(x: Array) -> Array:
    """Drop what comes before the first loud sample (spec 8.6)."""
    loud = np.flatnonzero(np.abs(x) > 0.03)
    return x[loud[0] :] if len(loud) else x


def to_int16(x: Array) -> Array:
    """Samples as they are sent (spec 8.6)."""
    return np.clip(np.trunc(x * np.float32(32768)), -32768, 32767).astype(np.int16)
