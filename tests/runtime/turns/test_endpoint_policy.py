"""The silence that ends a turn: short for a complete one, long for an incomplete one, never in between by jumps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from vita_edge.runtime.turns.endpoint_policy import EAGERNESS, EndpointPolicy


@pytest.mark.parametrize("policy", EAGERNESS.values())
def test_the_silence_falls_with_the_probability(policy: EndpointPolicy) -> None:
    silences = [policy.silence_ms(float(p)) for p in np.linspace(0, 1, 101)]
    assert silences[0] == policy.incomplete_ms and silences[-1] == policy.complete_ms
    assert all(a >= b for a, b in itertools.pairwise(silences))


def test_who_is_more_eager_never_waits_longer() -> None:
    for p in np.linspace(0, 1, 101):
        low, medium, high = (EAGERNESS[name].silence_ms(float(p)) for name in ("low", "medium", "high"))
        assert low >= medium >= high >= 160


def test_between_sure_and_unsure_it_falls_in_a_line() -> None:
    policy = EndpointPolicy(complete_ms=200, open_ms=600, incomplete_ms=1000, sure=0.9, unsure=0.1)
    assert [policy.silence_ms(p) for p in (0.05, 0.1, 0.5, 0.9, 0.95)] == [1000, 1000, 400, 200, 200]


@pytest.mark.parametrize(
    "facts",
    [(0, 500, 900, 0.9, 0.1), (500, 400, 900, 0.9, 0.1), (200, 500, 400, 0.9, 0.1), (200, 500, 900, 0.1, 0.9)],
)
def test_times_that_do_not_rise_are_refused(facts: tuple[int, int, int, float, float]) -> None:
    with pytest.raises(ValueError, match="do not"):
        EndpointPolicy(*facts)
