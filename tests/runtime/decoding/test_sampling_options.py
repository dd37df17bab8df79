"""Options of sampling: what they refuse, and what they take from the checkpoint."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vita_edge.engines.bundle.facts import LlmFacts, SamplingFacts, SpeechFacts
from vita_edge.engines.errors import Misuse
from vita_edge.runtime.decoding.sampling import speech_sampler, text_sampler
from vita_edge.runtime.decoding.sampling_options import SamplingOptions

LLM = LlmFacts(2, 32, 1, 16, 100, 512, 512, repetition_penalty=2.0)
SPEECH = SpeechFacts(width=32, vectors_per_token=4, layers=4, heads=4, head_dim=8, codes=1024, context_tokens=2048)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_new_tokens": 0},
        {"temperature": -1.0},
        {"temperature": float("inf")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_p": float("nan")},
        {"min_p": -0.1},
        {"min_p": float("nan")},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": float("nan")},
        {"stop": ("a", "")},
        {"stop": "END"},
        {"seed": -1},
        {"speech_top_k": -1},
    ],
)
def test_a_value_out_of_its_range_is_refused_by_its_name(wrong: dict[str, object]) -> None:
    with pytest.raises(Misuse, match=f"{next(iter(wrong))} is"):
        SamplingOptions(**wrong)  # type: ignore[arg-type]


def test_options_do_not_change_and_have_a_value_of_their_own() -> None:
    options = SamplingOptions(stop=["a"])  # type: ignore[arg-type]
    assert options == SamplingOptions(stop=("a",))
    assert hash(options) == hash(SamplingOptions(stop=("a",)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.seed = 3  # type: ignore[misc]


def test_the_checkpoints_repetition_penalty_holds_unless_another_is_given() -> None:
    logits = np.array([4, 3, 1], np.float32)
    chosen = [
        text_sampler(LLM, SamplingOptions(repetition_penalty=penalty))(logits, [0]) for penalty in (None, 1.0, 1.1)
    ]
    assert chosen == [1, 0, 0]


def test_the_checkpoint_advises_and_the_caller_changes() -> None:
    facts = dataclasses.replace(LLM, sampling=SamplingFacts(0.7, 20, 0.8))
    options = SamplingOptions.advised(facts, top_p=0.5)
    assert (options.temperature, options.top_k, options.top_p) == (0.7, 20, 0.5)
    assert SamplingOptions.advised(LLM) == SamplingOptions()


def test_what_is_drawn_depends_on_the_seed_and_the_number_of_the_response() -> None:
    logits = np.zeros(1028, np.float32)

    def drawn(seed: int, response: int) -> list[int]:
        options = SamplingOptions(temperature=1.0, seed=seed, speech_top_k=0)
        text, speech = text_sampler(LLM, options, response), speech_sampler(SPEECH, options, response)
        return [text(logits) for _ in range(20)] + [speech(logits) for _ in range(20)]

    assert drawn(3, 0) == drawn(3, 0)
    assert len({tuple(drawn(seed, response)) for seed in (3, 4) for response in (0, 1)}) == 4
