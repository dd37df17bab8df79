"""Numbers for people, written the same way on a terminal, on a page and in a picture."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["number", "numbers", "signed"]


def numbers(values: Sequence[float]) -> list[str]:
    """The numbers of one row, all with as many decimals as the largest of them needs for three digits."""
    decimals = _decimals(values)
    return [_written(value, decimals) for value in values]


def number(value: float) -> str:
    """One number, with three digits."""
    return numbers([value])[0]


def signed(value: float) -> str:
    """The same, with a plus."""
    return f"+{number(value)}" if value > 0 else number(value)


def _decimals(values: Sequence[float]) -> int:
    if all(value == int(value) for value in values):
        return 0
    largest = max(abs(value) for value in values)
    return next((decimals for limit, decimals in ((99.95, 0), (9.995, 1), (0.9995, 2)) if largest >= limit), 3)


def _written(value: float, decimals: int) -> str:
    text = f"{abs(value):,.{decimals}f}"
    return f"−{text}" if value < 0 and float(text.replace(",", "")) else text
