"""One row of logits to one token."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from vita_edge.engines.bundle.facts import SpeechFacts
from vita_edge.engines.errors import Misuse, VitaEdgeError
from vita_edge.runtime.decoding import sampling
from vita_edge.runtime.decoding.logits_processors import BannedTokens, RepetitionPenalty, speech_penalty
from vita_edge.runtime.decoding.sampling import make_sampler, make_speech_sampler

DATA = Path(__file__).parents[4] / "shared" / "golden" / "tiny-a" / "data"
golden = pytest.mark.skipif(not DATA.is_dir(), reason="the golden data are not here")

SPEECH = SpeechFacts(width=32, vectors_per_token=4, layers=4, heads=4, head_dim=8, codes=1024, context_tokens=2048)


def row(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


@golden
def test_greedy_choice_gives_the_golden_tokens_and_codes():
    greedy, speak = make_sampler(), make_speech_sampler(SPEECH)
    with np.load(DATA / "llm.npz") as llm, np.load(DATA / "tts.npz") as tts:
        for name in ("text", "live2"):
            logits, tokens = llm[f"{name}.logits"], llm[f"{name}.tokens"]
            assert [greedy(step) for step in logits] == tokens[: len(logits)].tolist()
        for name in ("s0", "s1", "s2"):
            codes = [*tts[f"{name}.codes"].tolist(), SPEECH.end]
            logits = tts[f"{name}.logits"]
            assert [speak(step) for step in logits] == codes[: len(logits)]


@golden
def test_penalised_choice_follows_the_golden_codes_to_where_they_leave_the_plain_ones():
    speak = make_speech_sampler(SPEECH)
    with np.load(DATA / "tts.npz") as tts:
        for name in ("s0", "s1", "s2"):
            plain, penalised = tts[f"{name}.codes"], [*tts[f"{name}.codes_penalty"].tolist(), SPEECH.end]
            history = [SPEECH.sos]
            for step, logits in enumerate(tts[f"{name}.logits"].copy()):
                speech_penalty(logits, history, window=20, factor=1.1)
                history.append(speak(logits))
                assert history[-1] == penalised[step]
                if step == len(plain) or history[-1] != plain[step]:
                    break
            assert len(history) > 2


def test_greedy_takes_the_first_of_equals_and_leaves_the_logits_alone():
    logits = row(1, 5, 5, 2)
    assert make_sampler()(logits) == 1
    assert make_sampler(temperature=0)(logits) == 1
    assert make_sampler(processors=[BannedTokens([1])])(logits) == 2
    assert logits.tolist() == [1, 5, 5, 2]


def test_the_speech_sampler_never_takes_bos_sos_or_padding_but_may_end():
    logits = np.zeros(1028, np.float32)
    logits[1024:] = 9
    assert make_speech_sampler(SPEECH)(logits) == SPEECH.end == 1026
    draw = make_speech_sampler(SPEECH, top_k=4, seed=1)
    assert {draw(logits) for _ in range(50)} == {1026}


def test_draws_are_repeated_by_their_seed():
    logits = np.random.default_rng(0).normal(size=50).astype(np.float32)
    runs = [[draw(logits) for _ in range(40)] for draw in (make_sampler(5, seed=3), make_sampler(5, seed=3))]
    assert runs[0] == runs[1]
    other = make_sampler(5, seed=4)
    assert [other(logits) for _ in range(40)] != runs[0]


@pytest.mark.parametrize("top_k", [0, 2, 3, 100])
def test_draws_come_as_often_as_the_softmax_says(top_k):
    logits = row(2, 0, 1, -1)
    weights = np.exp(logits / 0.7)
    if 0 < top_k < 4:
        weights[np.argsort(-logits)[top_k:]] = 0
    draw = make_sampler(top_k, temperature=0.7, seed=0)
    counts = np.bincount([draw(logits) for _ in range(4000)], minlength=4)
    assert np.abs(counts / 4000 - weights / weights.sum()).max() < 0.03
    assert not counts[weights == 0].any()


def test_of_equal_logits_at_the_edge_the_first_are_kept():
    draw = make_sampler(2, seed=0)
    assert {draw(row(1, 1, 1, 0)) for _ in range(60)} == {0, 1}


def test_a_tiny_temperature_is_greedy_without_overflow():
    draw = make_sampler(0, temperature=0.001, seed=0)
    assert {draw(row(-90, 80, 79, 3)) for _ in range(20)} == {1}


def test_logits_that_are_not_numbers_are_an_error():
    for sampler in (
        make_sampler(),
        make_sampler(2, seed=0),
        make_sampler(0, seed=0),
        make_sampler(processors=[BannedTokens([0])]),
    ):
        for bad in (row(0, np.nan, 3), row(0, np.inf, 3), row(*[-np.inf] * 3)):
            with pytest.raises(VitaEdgeError, match="best logit"):
                sampler(bad)


def test_options_that_make_no_sense_are_refused():
    for options in ({"top_k": -1}, {"temperature": -0.1}, {"temperature": float("nan")}, {"top_p": 0}, {"min_p": 2}):
        with pytest.raises(Misuse, match=f"{next(iter(options))} is"):
            make_sampler(**options)


def test_the_language_models_penalty_counts_an_id_once_and_lowers_it_whatever_its_sign():
    logits = row(2, -2, 4, 0)
    RepetitionPenalty(2.0)([0, 0, 1, 0, 3], logits)
    assert logits.tolist() == [1, -4, 4, 0]
    RepetitionPenalty(2.0)([], logits)
    RepetitionPenalty(1.0)([2], logits)
    assert logits.tolist() == [1, -4, 4, 0]


def test_the_speech_penalty_divides_once_per_occurrence_and_raises_negative_logits():
    logits = row(8, -8, 8, 8)
    speech_penalty(logits, [3, 0, 1, 0], window=3, factor=2.0)
    assert logits.tolist() == [2, -4, 8, 8]
    speech_penalty(logits, [0], window=-1, factor=2.0)
    speech_penalty(logits, [], window=5, factor=2.0)
    assert logits.tolist() == [2, -4, 8, 8]


@pytest.mark.parametrize("top_k", [2, 20, 50])
@pytest.mark.parametrize("kind", ["spread", "ties", "best in the remainder"])
def test_of_a_large_vocabulary_the_same_tokens_are_drawn_as_by_sorting_all(
    monkeypatch: pytest.MonkeyPatch, top_k: int, kind: str
) -> None:
    size = 151_665
    logits = np.random.default_rng(0).standard_normal((30, size)).astype(np.float32)
    if kind == "ties":
        logits = np.round(logits)
    if kind == "best in the remainder":
        logits[:, -30:] += 9

    def drawn() -> list[int]:
        sample = make_sampler(top_k, 0.8, seed=1)
        return [sample(row) for row in logits]

    quickly = drawn()
    monkeypatch.setattr(sampling, "PART", size)
    assert quickly == drawn()


def test_of_a_large_vocabulary_the_best_few_are_found_without_a_copy() -> None:
    logits = np.random.default_rng(0).standard_normal(151_665).astype(np.float32)
    sample = make_sampler(20, 0.8, seed=1)
    sample(logits)
    tracemalloc.start()
    sample(logits)
    largest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert largest < logits.nbytes // 4


def test_a_logit_that_is_not_a_number_is_found_wherever_it_is() -> None:
    logits = np.zeros(100_000, np.float32)
    for at in (0, 70_000, 99_999):
        spoiled = logits.copy()
        spoiled[at] = np.nan
        with pytest.raises(VitaEdgeError, match="best logit is nan"):
            make_sampler(5, 0.8, seed=1)(spoiled)


def softmax(logits: np.ndarray, temperature: float) -> np.ndarray:
    weights = np.exp((logits - logits.max()) / temperature)
    return weights / weights.sum()


def drawn_from(logits: np.ndarray, **options: float) -> dict[int, float]:
    """By the definitions, one after the other: id to probability."""
    share = softmax(logits.astype(np.float64), options.get("temperature", 1.0))
    order = list(np.argsort(-share, kind="stable"))[: int(options.get("top_k", 0)) or None]
    chosen, total = [], sum(share[at] for at in order)
    for at in order:
        chosen.append(at)
        if options.get("top_p", 1.0) < 1 and sum(share[i] for i in chosen) >= options["top_p"] * total:
            break
    chosen = [at for at in chosen if share[at] >= options.get("min_p", 0.0) * share.max()]
    return {int(at): share[at] / sum(share[i] for i in chosen) for at in chosen}


@pytest.mark.parametrize(
    "options",
    [
        {"top_p": 0.6},
        {"top_p": 0.01},
        {"min_p": 0.2},
        {"min_p": 1.0},
        {"top_p": 0.8, "min_p": 0.3, "temperature": 0.5},
        {"top_k": 3, "top_p": 0.7},
        {"top_k": 5, "min_p": 0.1, "temperature": 2.0},
        {"top_k": 4, "top_p": 0.9, "min_p": 0.25},
    ],
)
def test_top_p_and_min_p_draw_from_what_their_definitions_leave(options: dict[str, float]) -> None:
    logits = np.random.default_rng(5).normal(scale=2, size=12).astype(np.float32)
    expected = drawn_from(logits, **options)
    sample = make_sampler(**{"top_k": 0, **options}, seed=7)
    counts = np.bincount([sample(logits) for _ in range(4000)], minlength=12) / 4000
    assert set(np.flatnonzero(counts)) == set(expected)
    assert all(abs(counts[at] - share) < 0.03 for at, share in expected.items())
