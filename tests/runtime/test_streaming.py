"""The contract of every streaming stage: in pieces equals whole, and after flush or reset a stage is as new."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from support.toy_codec import ToyCodec
from vita_edge.engines.bundle.facts import CodecFacts
from vita_edge.export.receptive_field import receptive_field
from vita_edge.runtime import Assistant
from vita_edge.runtime.audio_io.pcm import LeadingSilenceTrim
from vita_edge.runtime.audio_io.stream_resampler import StreamResampler
from vita_edge.runtime.speech.codec_stream import ExactCodecStream, ReferenceCodecStream
from vita_edge.runtime.streaming import StreamingStage
from vita_edge.runtime.text.clause_cutter import ClauseCutter
from vita_edge.runtime.text.stop_strings import StopStrings
from vita_edge.runtime.text.tokenizer import StreamDecoder

SHAPE = ((8, 10), (16, 20), (3, 5), ((1, 3), (1, 2)), "1")
TEXT = "Well, I see a circle. It is 3.14 cm wide; is that all? Yes: the rest 你好，世界。 is END of it"
RANDOM = np.random.default_rng(3)
WAVE = np.concatenate([np.zeros(3000), RANDOM.normal(0, 0.2, 9000)]).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """A stage, a whole input of it, and how its input is cut and its output joined."""

    make: Callable[[], StreamingStage[Any, Any]]
    whole: Any
    cut: Callable[[Any, Sequence[int]], list[Any]]
    join: Callable[[list[Any]], Any]

    def run(self, stage: StreamingStage[Any, Any], cuts: Sequence[int]) -> Any:
        return self.join([*(self.taken(stage.step(item)) for item in self.cut(self.whole, cuts)), self.ended(stage)])

    def ended(self, stage: StreamingStage[Any, Any]) -> Any:
        return self.taken(stage.flush())

    @staticmethod
    def taken(given: Any) -> Any:
        """What was given, before the stage goes on: some give it bit by bit."""
        return given if isinstance(given, (str, np.ndarray)) else list(given)


def sliced(whole: Any, cuts: Sequence[int]) -> list[Any]:
    ends = [*cuts, len(whole)]
    return [whole[begin:end] for begin, end in zip([0, *ends], ends)]


def one_by_one(whole: Sequence[int], cuts: Sequence[int]) -> list[int]:
    return list(whole)


def samples(parts: list[Any]) -> Any:
    return np.concatenate([np.atleast_1d(piece) for part in parts for piece in ([part] if _array(part) else part)])


def _array(part: Any) -> bool:
    return isinstance(part, np.ndarray)


def flat(parts: list[Any]) -> list[Any]:
    return [item for part in parts for item in part]


@pytest.fixture(scope="module")
def cases(assistant: Assistant) -> dict[str, Case]:
    codec = ToyCodec(*SHAPE, rng=np.random.default_rng(1))
    left, right = receptive_field(*SHAPE)
    facts = CodecFacts(24000, int(np.prod(SHAPE[0])), left, right, streams=1)
    codes = np.random.default_rng(2).integers(0, 1024, 120).tolist()
    ids = assistant.tokenizer.encode(TEXT)
    return {
        "resampler, down": Case(lambda: StreamResampler(48000, 16000), WAVE, sliced, samples),
        "resampler, up": Case(lambda: StreamResampler(16000, 44100), WAVE, sliced, samples),
        "silence trim": Case(LeadingSilenceTrim, WAVE, sliced, samples),
        "clause cutter": Case(ClauseCutter, TEXT, sliced, flat),
        "stop strings": Case(lambda: StopStrings(["END", "EN."]), TEXT, sliced, "".join),
        "ids to text": Case(lambda: StreamDecoder(assistant.tokenizer), ids, one_by_one, "".join),
        "exact codec stream": Case(lambda: ExactCodecStream(codec, facts, 3, 7), codes, one_by_one, samples),
        "reference codec stream": Case(lambda: ReferenceCodecStream(codec, facts, 40, 0.5), codes, one_by_one, samples),
    }


NAMES = (
    "resampler, down",
    "resampler, up",
    "silence trim",
    "clause cutter",
    "stop strings",
    "ids to text",
    "exact codec stream",
    "reference codec stream",
)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return bool(one.shape == other.shape and np.allclose(one, other, rtol=0, atol=1e-6))
    return bool(one == other)


def test_every_stage_is_here(cases: dict[str, Case]) -> None:
    assert tuple(cases) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_in_pieces_equals_whole(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    whole = case.run(case.make(), [])
    assert len(whole)
    chance = np.random.default_rng(0)
    for count in (1, 2, 7, 20):
        cuts = sorted(chance.integers(0, len(case.whole), count).tolist())
        assert same(case.run(case.make(), cuts), whole)
    assert same(case.run(case.make(), list(range(1, min(len(case.whole), 90)))), whole)


@pytest.mark.parametrize("name", NAMES)
def test_after_a_flush_a_stage_is_as_new(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    whole, stage = case.run(case.make(), [5]), case.make()
    assert same(case.run(stage, [5]), whole)
    assert same(case.run(stage, [5]), whole)
    assert not len(case.ended(stage))


@pytest.mark.parametrize("name", NAMES)
def test_after_a_reset_a_stage_is_as_new(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    whole = case.run(case.make(), [5])
    for taken in (1, 2, 60):
        stage = case.make()
        for item in case.cut(case.whole, [len(case.whole) // 3, len(case.whole) // 2])[:taken]:
            case.taken(stage.step(item))
        stage.reset()
        assert same(case.run(stage, [5]), whole)
        stage.reset()
        assert not len(case.ended(stage))


def test_the_exact_codec_stream_is_one_decode_of_the_whole(cases: dict[str, Case]) -> None:
    case = cases["exact codec stream"]
    codec = ToyCodec(*SHAPE, rng=np.random.default_rng(1))
    assert same(case.run(case.make(), []), codec(np.array([case.whole])))
