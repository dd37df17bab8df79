"""How far a code reaches, as computed from the generator's shape and as seen in a generator of that shape."""

from __future__ import annotations

import numpy as np
import pytest

from support.toy_codec import RELEASE, TINY_A, ToyCodec
from vita_edge.export.receptive_field import receptive_field


def test_the_release_and_the_tiny_codec_have_the_published_reach():
    assert receptive_field(*RELEASE) == (13, 13)
    assert receptive_field(*TINY_A) == (10, 10)


def test_one_plain_stage_by_hand():
    # conv_post reaches 3 samples, 3 codes of 1 sample; conv_pre another 3 codes; the stage and block nothing.
    assert receptive_field((1,), (1,), (1,), ((1,),), "1") == (6, 6)
    # kernel 3, dilation 2: the dilated convolution adds 2, and type "1" follows it by an undilated one: 1 more.
    assert receptive_field((1,), (1,), (3,), ((2,),), "2") == (8, 8)
    assert receptive_field((1,), (1,), (3,), ((2,),), "1") == (9, 9)


def touched(shape: tuple) -> tuple[int, int, int]:
    """Disturb one code: first and last sample that move, relative to the code's first and last, and samples a code."""
    codec = ToyCodec(*shape)
    frames, middle = 81, 40
    disturbance = np.zeros(frames)
    disturbance[middle] = 1.0
    moved = np.flatnonzero(codec.generate(disturbance))
    rate = codec.samples_per_code
    return int(middle * rate - moved[0]), int(moved[-1] - (middle * rate + rate - 1)), rate


def test_a_disturbed_code_of_the_release_moves_at_least_the_samples_that_moved_in_the_reference():
    # Spec 8.7 saw 7321 and 7333: in float32 the outermost samples move by less than a rounding.
    before, after, rate = touched(RELEASE)
    assert (before, after, rate) == (7798, 7798, 600)
    assert 12 * rate < 7321 <= before <= 13 * rate and 7333 <= after <= 13 * rate


def random_shapes(count: int) -> list[tuple]:
    rng = np.random.default_rng(7)
    shapes = []
    for _ in range(count):
        stages = int(rng.integers(1, 4))
        rates = [int(u) for u in rng.integers(1, 6, stages)]
        kernels = [u + 2 * int(rng.integers(0, 4)) for u in rates]
        block_kernels = [int(k) for k in rng.choice([1, 3, 5, 7], int(rng.integers(1, 4)))]
        dilations = [[int(d) for d in rng.integers(1, 5, 2)] for _ in block_kernels]
        shapes.append((rates, kernels, block_kernels, dilations, str(rng.integers(1, 3))))
    return shapes


@pytest.mark.parametrize("shape", [RELEASE, TINY_A, *random_shapes(30)])
def test_the_reach_is_what_a_disturbed_code_shows(shape):
    before, after, rate = touched(shape)
    left, right = receptive_field(*shape)
    assert right == -(-before // rate)  # samples before the code listen to its right
    assert left == -(-after // rate)


def test_shapes_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="neither"):
        receptive_field((2,), (4,), (3,), ((1,),), "3")
    with pytest.raises(ValueError, match="needs a kernel"):
        receptive_field((2, 2), (4,), (3,), ((1,),), "1")
