"""The one decode loop: logits to a token, the token to the next logits, until something ends it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator

from .sampling import Sampler
from .top_k_logits import Logits

__all__ = ["decode_tokens"]


def decode_tokens(
    logits: Logits, sample: Sampler, step: Callable[[int], Logits], max_tokens: int, stop: Collection[int] = ()
) -> Generator[int, None, None]:
    """Yield tokens, beginning with the one that ``logits`` ask for; leave the loop to end it.

    Args:
        step: appends a token, and returns the logits that follow it. It is called when the next token is asked for, so
            the token that was yielded last is not appended yet.
        max_tokens: how many are yielded at most.
        stop: a token of these is yielded, and ends the loop.
    """
    for produced in range(1, max_tokens + 1):
        token = sample(logits)
        yield token
        if token in stop or produced == max_tokens:
            return
        logits = step(token)
