"""How far a code's influence reaches in the codec's waveform, computed from the generator's shape."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["receptive_field"]


def receptive_field(
    rates: Sequence[int],
    kernels: Sequence[int],
    block_kernels: Sequence[int],
    dilations: Sequence[Sequence[int]],
    block_type: str,
) -> tuple[int, int]:
    """Count the codes on either side that the samples of one code depend on (spec 8.7).

    Args:
        rates: upsampling rate of every stage, first to last; their product is the samples of a code.
        kernels: kernel of every stage's transposed convolution, padded by ``(kernel - rate) // 2``.
        block_kernels: kernels of the residual blocks, which run side by side after every stage.
        dilations: for every block kernel the dilations of its convolutions.
        block_type: "1" (each dilated convolution is followed by an undilated one) or "2".

    Returns:
        (left, right) in codes. The release's generator gives (13, 13).

    Raises:
        ValueError: an unknown block type, or lists that do not belong together.
    """
    if block_type not in ("1", "2"):
        raise ValueError(f"residual block type {block_type!r} is neither '1' nor '2'")
    if len(rates) != len(kernels) or len(block_kernels) != len(dilations):
        raise ValueError("every rate needs a kernel, and every block kernel its dilations")
    undilated = 1 if block_type == "1" else 0
    reach = max(sum((k - 1) // 2 * (d + undilated) for d in ds) for k, ds in zip(block_kernels, dilations))
    samples_per_code = 1
    for rate in rates:
        samples_per_code *= rate

    # Follow the first and the last sample of code 0 from the output back to the input.
    first, last = -_OUTER_REACH, samples_per_code - 1 + _OUTER_REACH
    for rate, kernel in zip(reversed(rates), reversed(kernels)):
        padding = (kernel - rate) // 2
        first = -((kernel - 1 + reach - padding - first) // rate)  # ceil((first - reach + padding - (kernel-1)) / rate)
        last = (last + reach + padding) // rate
    return _OUTER_REACH - first, last + _OUTER_REACH


_OUTER_REACH = 3
"""Half width of conv_pre and conv_post, whose kernels are 7."""
