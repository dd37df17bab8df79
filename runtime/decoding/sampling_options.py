"""How the tokens and the speech codes of a reply are chosen, and how many."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from vita_edge.engines.bundle.facts import LlmFacts
from vita_edge.engines.errors import Misuse

__all__ = ["SamplingOptions"]


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """The defaults choose as the reference does: the most likely token, the checkpoint's repetition penalty.

    Raises:
        Misuse: a value is out of its range.
    """

    max_new_tokens: int = 1024
    """Longest reply, in tokens."""
    temperature: float = 0.0
    """Divides the logits before the softmax; 0 takes the most likely token."""
    top_k: int = 0
    """Draws from so many tokens; 0 draws from all, 1 takes the most likely."""
    top_p: float = 1.0
    """Draws from the most likely tokens whose probabilities first reach this sum; 1 draws from all."""
    min_p: float = 0.0
    """Leaves out tokens less likely than this share of the most likely token's probability; 0 leaves out none."""
    repetition_penalty: float | None = None
    """Makes the tokens of the reply less likely to come again; 1 is off, None takes the checkpoint's."""
    stop: tuple[str, ...] = ()
    """Texts that end the reply; they do not become part of it."""
    seed: int = 0
    """Random seed: the same seed gives the same reply."""
    speech_top_k: int = 2
    """Draws from so many speech codes, 2 in the reference's demo; 1 takes the most likely code."""

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            raise Misuse("stop is one text.", why="It holds several.", fix=f"Give a tuple: ({self.stop!r},).")
        object.__setattr__(self, "stop", tuple(self.stop))
        penalty = self.repetition_penalty
        checks = (
            ("max_new_tokens", self.max_new_tokens >= 1, "1 or more"),
            ("temperature", self.temperature >= 0 and isfinite(self.temperature), "0 or more, and finite"),
            ("top_k", self.top_k >= 0, "0 or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0, and 1 at most"),
            ("min_p", 0 <= self.min_p <= 1, "from 0 to 1"),
            ("repetition_penalty", penalty is None or (penalty > 0 and isfinite(penalty)), "above 0, and finite"),
            ("stop", all(self.stop), "made of texts that are not empty"),
            ("seed", self.seed >= 0, "0 or more"),
            ("speech_top_k", self.speech_top_k >= 0, "0 or more"),
        )
        for name, holds, required in checks:
            if not holds:
                raise Misuse(
                    f"{name} is {getattr(self, name)!r}.",
                    why=f"It must be {required}.",
                    fix="Change it, or leave it out for the default.",
                )

    @classmethod
    def advised(cls, facts: LlmFacts, **changes: Any) -> SamplingOptions:
        """Draw as the checkpoint's ``generation_config.json`` advises, but for ``changes``."""
        return cls(**(asdict(facts.sampling) | changes))

    def penalty(self, facts: LlmFacts) -> float:
        """The repetition penalty that holds for this checkpoint."""
        return facts.repetition_penalty if self.repetition_penalty is None else self.repetition_penalty
