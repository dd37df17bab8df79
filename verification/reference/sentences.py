"""From a reply to the sentences that are spoken, as the published live demo cuts and rewrites them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .prompts import FIRST_SENTENCE_MARK

__all__ = ["Sentence", "cut_reply", "sentences", "spoken"]

ENDS = ",，.。?\n？!！、"
MIN_CHARACTERS = 5
NOT_SPOKEN = ("☞", "☟", "☜", "<unk>", "<|im_end|>")
SIGNS = (
    "sin= sine |cos= cosine |tan= tangent |cot= cotangent |sec= secant |csc= cosecant |log= logarithm |exp=e^"
    "|sqrt=根号 |abs=绝对值 |+=加|-=减|*=乘|/=除|==等于|>=大于|<=小于|α=alpha |β=beta |γ=gamma |δ=delta |ε=epsilon "
    "|ζ=zeta |η=eta |θ=theta |ι=iota |κ=kappa |λ=lambda |μ=mu |ν=nu |ξ=xi |ο=omicron |π=派 |ρ=rho |σ=sigma "
    "|τ=tau |υ=upsilon |φ=phi |χ=chi |ψ=psi |ω=omega "
)
"""Written before the first ``=`` behind it, spoken after it; replaced in this order."""


@dataclass(frozen=True)
class Sentence:
    """What is spoken in one go, and how its sound is streamed."""

    text: str
    chunk: int = 40
    """Codes that are decoded at once."""
    threshold: float = 0.015
    """Mean magnitude under which a stretch is quiet enough to be cut."""
    first: bool = False
    """Silence at the beginning of its segments is cut off."""


def cut_reply(reply: str) -> list[str]:
    """Pieces as they are handed over while the reply comes; what follows the last end is lost."""
    pieces, collected = [], ""
    for character in FIRST_SENTENCE_MARK + reply:
        collected = (collected + character).replace("☞ ", "").replace("☞", "")
        if character in ENDS:
            pieces.append(collected)
            collected = ""
    return pieces


def sentences(pieces: list[str]) -> list[Sentence]:
    """The sentences when all pieces are there."""
    found, text = [], ""
    for i, piece in enumerate(pieces):
        text += piece
        if len(text) < MIN_CHARACTERS and i + 1 < len(pieces):
            continue
        first = FIRST_SENTENCE_MARK in text
        if first:
            text = text.replace(FIRST_SENTENCE_MARK, "").replace("，", "。").replace(",", "。")
        said = spoken(text)
        if said.strip():
            found.append(Sentence(said, chunk=20, threshold=0.1, first=True) if first else Sentence(said))
        text = ""
    return found


def spoken(text: str) -> str:
    """Without hands and ends, formulas in words, lower case."""
    for gone in NOT_SPOKEN:
        text = text.replace(gone, "")
    return _formulas_in_words(text).lower()


def _formulas_in_words(text: str) -> str:
    text = re.sub(r"(?<![\d)])-(?=\d)", "负", text.replace("**", " "))
    for sign in SIGNS.split("|"):
        written, said = sign[: sign.index("=", 1)], sign[sign.index("=", 1) + 1 :]
        text = text.replace(written, said)
    text = re.sub(r"\(?(\d+)\)?\((\d+)\)", r"\1乘\2", text)
    return re.sub(r"\(?(\w+)\)?\^\(?(\w+)\)?", r"\1的\2次方", text)
