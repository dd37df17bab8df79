"""The best few of a row choose what the whole row would have chosen, and ask for it when they cannot tell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from vita_edge.engines.errors import VitaEdgeError
from vita_edge.engines.outputs import DeviceOutputs
from vita_edge.runtime.decoding.logits_processors import AllowedTokens, BannedTokens, RepetitionPenalty
from vita_edge.runtime.decoding.sampling import TokenSampler, make_sampler
from vita_edge.runtime.decoding.top_k_logits import TopKLogits, logits_of, row_of

Row = NDArray[np.float32]


class Device:
    """A row that lies elsewhere: hands out the best of it, and counts who fetches all of it."""

    def __init__(self, row: Sequence[float] | Row, k: int) -> None:
        self.row = np.array(row, np.float32)
        self.fetched = 0
        best = np.argsort(-self.row, kind="stable")[:k]
        self.list = TopKLogits(best, self.row[best], self._fetch)

    def _fetch(self) -> Row:
        self.fetched += 1
        return self.row


def test_greedy_needs_no_more_than_the_best() -> None:
    device = Device([1, 7, 3, 5], 2)
    assert make_sampler()(device.list) == 1
    assert device.fetched == 0


def test_equals_that_reach_out_of_the_list_are_settled_by_the_row() -> None:
    """An id outside may have the same logit and come first."""
    row = [4.0, 9, 9, 9]
    listed = TopKLogits(np.array([3, 2]), np.array([9, 9], np.float32), lambda: np.array(row, np.float32))
    assert make_sampler()(listed) == 1


def test_a_penalty_that_pushes_the_best_below_the_list_is_settled_by_the_row() -> None:
    device = Device([8, 7.9, 7.8, 1], 2)
    assert make_sampler(processors=[RepetitionPenalty(2.0)])(device.list, [0, 1]) == 2
    assert device.fetched == 1
    np.testing.assert_array_equal(device.row, np.array([8, 7.9, 7.8, 1], np.float32))  # fetched, not changed


def test_a_reward_may_raise_what_is_outside() -> None:
    device = Device([8, 7, 6, 1], 2)
    assert make_sampler(processors=[RepetitionPenalty(0.5)])(device.list, [2]) == 2


def test_all_banned_in_the_list_is_settled_by_the_row() -> None:
    device = Device([8, 7, 6, 1], 2)
    assert make_sampler(processors=[BannedTokens([0, 1])])(device.list) == 2


def test_a_grammar_is_served_by_the_list_while_it_allows_something_of_it() -> None:
    device = Device([8, 7, 6, 1], 2)
    rules = {(): [1, 3], (1,): [3], (1, 3): None}
    sample = make_sampler(processors=[AllowedTokens(lambda said: rules[tuple(said)])])
    assert sample(device.list) == 1
    assert device.fetched == 1  # a fourth may equal the worst of the list
    device = Device([8, 7, 6, 1], 3)
    assert sample(device.list) == 1
    assert device.fetched == 0
    assert sample(device.list, [1]) == 3
    assert device.fetched == 1
    assert sample(device.list, [1, 3]) == 0


def test_a_processor_that_is_any_function_sees_the_whole_row() -> None:
    device = Device([8, 7, 6, 1], 2)

    def bias(token_ids: Sequence[int], logits: Row) -> None:
        logits[3] += 10 * len(token_ids)

    sample = make_sampler(processors=[bias])
    assert [sample(device.list, said) for said in ([], [0])] == [0, 3]
    np.testing.assert_array_equal(device.row, np.array([8, 7, 6, 1], np.float32))


def test_min_p_is_served_by_the_list_even_when_all_may_be_drawn() -> None:
    device = Device([9, 8, 3, 2, 1, 0], 4)
    sample = make_sampler(top_k=0, min_p=0.05, seed=0)
    assert {sample(device.list) for _ in range(60)} == {0, 1}
    assert device.fetched == 0
    wider = make_sampler(top_k=0, min_p=0.0001, seed=0)
    wider(device.list)
    assert device.fetched == 1


def test_drawing_from_all_looks_at_all() -> None:
    device = Device(np.zeros(9), 4)
    make_sampler(top_k=0, seed=1)(device.list)
    assert device.fetched == 1


def test_a_row_of_nan_is_noticed() -> None:
    device = Device(np.full(9, np.nan), 4)
    with pytest.raises(VitaEdgeError, match="best logit is nan"):
        make_sampler()(device.list)


@pytest.mark.parametrize("top_k", [0, 1, 2, 5, 64, 100])
@pytest.mark.parametrize("factor", [0.9, 1.0, 1.05, 1.5])
@pytest.mark.parametrize(("top_p", "min_p"), [(1.0, 0.0), (0.5, 0.0), (1.0, 0.1), (0.9, 0.02)])
def test_the_list_chooses_as_the_row_does(top_k: int, factor: float, top_p: float, min_p: float) -> None:
    random = np.random.default_rng(top_k)

    def sampler() -> TokenSampler:
        return make_sampler(
            top_k,
            0.7,
            seed=3,
            top_p=top_p,
            min_p=min_p,
            processors=[
                RepetitionPenalty(factor),
                BannedTokens([2, 5]),
                AllowedTokens(lambda said: None if len(said) % 3 else range(0, 300, 1 + len(said) % 4)),
            ],
        )

    whole, short = sampler(), sampler()
    for step in range(60):
        row = random.normal(size=300).astype(np.float16).astype(np.float32)  # with equals among them
        said = random.integers(0, 300, step).tolist() + np.argsort(-row)[:3].tolist()
        assert short(Device(row, 64).list, said) == whole(row, said)


def test_the_row_is_rarely_asked_for() -> None:
    """With the checkpoint's own penalty: that is what the list is for."""
    random, fetched = np.random.default_rng(0), 0
    sample = make_sampler(processors=[RepetitionPenalty(1.05)])
    for _ in range(200):
        device = Device(random.normal(size=5000), 64)
        sample(device.list, random.integers(0, 5000, 100).tolist())
        fetched += device.fetched
    assert fetched == 0


def test_outputs_of_a_device_are_copied_when_they_are_looked_at_and_once() -> None:
    copied: list[str] = []

    def reader(name: str) -> Row:
        copied.append(name)
        return np.arange(4, dtype=np.float32).reshape(1, 1, 4)

    values = {"logits": lambda: reader("logits"), "top_values": lambda: reader("top_values")}
    outputs = DeviceOutputs({**values, "top_ids": lambda: np.arange(4).reshape(1, 1, 4)})
    logits = logits_of(outputs)
    assert isinstance(logits, TopKLogits)
    assert copied == ["top_values"]
    assert make_sampler()(logits) == 3
    assert copied == ["top_values"]
    assert row_of(logits).tolist() == row_of(logits).tolist() == [0, 1, 2, 3]
    assert copied == ["top_values", "logits"]
    assert set(outputs) == {"logits", "top_values", "top_ids"}
    assert len(outputs) == 3
