"""How long a silence ends a turn: a function of the probability that the turn is complete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["EAGERNESS", "WITHDRAW_MS", "Eagerness", "EndpointPolicy"]

Eagerness: TypeAlias = Literal["low", "medium", "high"]


WITHDRAW_MS = 500
"""Who goes on so soon after the first sound had not finished: the answer was too eager, and is withdrawn."""


@dataclass(frozen=True)
class EndpointPolicy:
    """Silence in milliseconds from the end of the voice to the endpoint.

    From ``sure`` on it is ``complete_ms``, up to ``unsure`` it is ``incomplete_ms``; between the two it falls in a
    straight line from ``open_ms`` to ``complete_ms``.
    """

    complete_ms: int
    open_ms: int
    incomplete_ms: int
    sure: float
    unsure: float

    def __post_init__(self) -> None:
        if not 0 < self.complete_ms <= self.open_ms <= self.incomplete_ms or not 0 <= self.unsure < self.sure <= 1:
            raise ValueError(f"the times of {self} do not rise, or its probabilities do not")

    def silence_ms(self, complete: float) -> float:
        """The silence for a turn that is ``complete`` with this probability."""
        if complete >= self.sure:
            return self.complete_ms
        if complete <= self.unsure:
            return self.incomplete_ms
        share = (self.sure - complete) / (self.sure - self.unsure)
        return self.complete_ms + share * (self.open_ms - self.complete_ms)


EAGERNESS: dict[Eagerness, EndpointPolicy] = {
    "low": EndpointPolicy(complete_ms=320, open_ms=704, incomplete_ms=1200, sure=0.95, unsure=0.25),
    "medium": EndpointPolicy(complete_ms=320, open_ms=640, incomplete_ms=1200, sure=0.93, unsure=0.1),
    "high": EndpointPolicy(complete_ms=224, open_ms=512, incomplete_ms=1200, sure=0.95, unsure=0.1),
}
"""Settings that a person understands; chosen on the tuning voices of ``benchmarks/turn_set.py``, where medium cuts as
many turns as a fixed silence of 500 ms, low three quarters of them, and high a third more."""
