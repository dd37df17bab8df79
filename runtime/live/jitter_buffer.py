"""How much of a reply must be there before it starts, so that it does not run dry later: pure arithmetic on rates."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Pace", "StartBuffer", "smoothed", "start_buffer"]

SUSTAINED = 0.9
"""Work for a second of sound, in seconds, up to which a machine keeps up with playing; the rest is for its noise."""
MARGIN = 1.25
"""A next clause may take longer than the usual one."""


def smoothed(old: float, new: float) -> float:
    """A new figure replaces a quarter of the old one, so that a pace follows heat and neighbours within a few turns."""
    return old + (new - old) / 4 if old else new


@dataclass
class Pace:
    """How fast this machine decodes and speaks, learned from what it did; seconds."""

    token_s: float = 0.0
    """To decode a token."""
    sound_s: float = 0.0
    """To make a second of sound: the real-time factor of the voice."""
    first_piece_s: float = 0.0
    """From a clause to its first sound."""
    next_piece_s: float = 0.0
    """From there to its second."""
    clause_tokens: float = 10.0
    """Tokens of a clause."""
    token_sound_s: float = 0.3
    """Sound of a token."""

    def learn(self, name: str, value: float) -> None:
        """Take in a new figure for the field ``name``."""
        setattr(self, name, smoothed(getattr(self, name), value))


@dataclass(frozen=True)
class StartBuffer:
    """What a reply waits for before it starts."""

    seconds: float
    """Sound that must be there; infinite while that cannot be known yet."""
    why: str


def start_buffer(pace: Pace, *, unspoken_tokens: int, written: bool, clause_s: float = 0.0) -> StartBuffer:
    """What has to be there before a reply starts.

    Args:
        unspoken_tokens: tokens that are decoded and have no sound yet.
        written: the text is complete.
        clause_s: sound that is still to be made of the clause that is being spoken, as far as can be guessed.

    On a machine that makes sound faster than it is played, what is there has to last until the next piece of a clause,
    and what its rest gains has to last until the next clause. On a slower one, what is still to come takes longer than
    it plays: with ``r`` seconds of work for a second of sound and ``s`` seconds still to be made, ``s (r - 1)`` seconds
    must be there; they are known when the text is.
    """
    thinking = 0.0 if written else pace.token_s
    load = pace.sound_s + thinking / pace.token_sound_s
    to_come = unspoken_tokens * pace.token_sound_s
    if written and not unspoken_tokens:
        return StartBuffer(0.0, "nothing more is to come")
    next_clause = MARGIN * (thinking * pace.clause_tokens + pace.first_piece_s)
    if load <= SUSTAINED:
        if not clause_s:
            return StartBuffer(next_clause, "until the next clause can be heard")
        gained = max(1 - pace.sound_s, 0.0) * clause_s
        return StartBuffer(
            max(MARGIN * pace.next_piece_s, next_clause - gained), "until more of the clause can be heard"
        )
    if not written:
        return StartBuffer(
            math.inf, f"a second of speech takes {load:.1f} s to make: the text is awaited, to know how much"
        )
    wait = next_clause + to_come * max(load / SUSTAINED - 1, 0.0)
    return StartBuffer(wait, f"a second of speech takes {load:.1f} s to make, and {to_come:.1f} s are still to be made")
