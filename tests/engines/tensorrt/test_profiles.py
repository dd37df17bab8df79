"""Optimisation profiles are computed from the facts of a model, by hand here, and leave no axis out."""

from __future__ import annotations

import dataclasses

import pytest

from vita_edge.engines.bundle.facts import (
    AudioFacts,
    CodecFacts,
    LlmFacts,
    ModelFacts,
    SpeechFacts,
    TokenFacts,
    VisionFacts,
)
from vita_edge.engines.errors import EngineUnavailable, InferenceFailed, Misuse
from vita_edge.engines.tensorrt.build.profiles import (
    EngineLimits,
    Profile,
    ProfileRange,
    axis_lengths,
    component_profiles,
    fixed_lengths,
)
from vita_edge.engines.tensorrt.shape_choice import choose_profile
from vita_edge.engines.tensors import TensorSpec

FACTS = ModelFacts(
    name="by hand",
    llm=LlmFacts(28, 3584, 4, 128, 152_000, context_tokens=32_768, prompt_limit_tokens=6200),
    vision=VisionFacts(448, 256, 1, 12, True, True, (0.5,) * 3, (0.5,) * 3),
    audio=AudioFacts(16_000, 80, 25.0, 10.0, 5, 0, chunk_size=16, left_chunks=4),
    speech=SpeechFacts(896, 4, 4, 14, 64, 1024, context_tokens=8192),
    codec=CodecFacts(24_000, 600, 13, 13, 1),
    tokens=TokenFacts(1, 2, None, None, None, (2,)),
)


def specs(*texts: str) -> dict[str, TensorSpec]:
    """``"x float32 1 tokens 4"`` for each input."""
    found = {}
    for text in texts:
        name, dtype, *axes = text.split()
        found[name] = TensorSpec(name, dtype, tuple(int(axis) if axis.isdigit() else axis for axis in axes))
    return found


def profiles(component: str, *inputs: str, **limits: int) -> dict[str, dict[str, ProfileRange]]:
    made = component_profiles(component, specs(*inputs), FACTS, EngineLimits.of(FACTS, **limits))
    return {profile.name: dict(profile.ranges) for profile in made}


def test_the_language_model_has_a_profile_of_one_token_one_of_a_few_and_one_of_many() -> None:
    inputs = ("inputs_embeds float32 1 tokens 3584", "past_length int64 1")
    found = profiles("llm", *inputs)
    assert found == {
        "step": {"inputs_embeds": ProfileRange((1, 1, 3584), (1, 1, 3584), (1, 1, 3584))},
        "rest": {"inputs_embeds": ProfileRange((1, 1, 3584), (1, 32, 3584), (1, 128, 3584))},
        "prefill": {"inputs_embeds": ProfileRange((1, 1, 3584), (1, 512, 3584), (1, 512, 3584))},
    }
    assert list(found) == ["step", "rest", "prefill"]  # TensorRT's order
    made = component_profiles("llm", specs(*inputs), FACTS, EngineLimits.of(FACTS))
    chosen = [choose_profile("llm", made, {"inputs_embeds": (1, n, 3584)}) for n in (1, 2, 20, 128, 129, 512)]
    assert chosen == [0, 1, 1, 1, 2, 2]


def test_a_context_of_a_few_positions_needs_one_profile_for_them() -> None:
    found = profiles("llm", "inputs_embeds float32 1 tokens 3584", max_context=128)
    assert {name: ranges["inputs_embeds"].max[1] for name, ranges in found.items()} == {"step": 1, "prefill": 128}


def test_a_cache_that_is_written_in_place_has_one_capacity_and_no_range() -> None:
    inputs = ("inputs_embeds float32 1 tokens 3584", "past_key_values.0.key float16 1 4 capacity 128")
    found = profiles("llm", *inputs, "seen bool seen", max_context=4096)
    assert "past_key_values.0.key" not in found["step"]
    # a step sees all of it, at the place where it lies; a prompt what is held, in steps of 256
    assert found["step"]["seen"] == ProfileRange((4096,), (4096,), (4096,))
    assert found["rest"]["seen"] == found["prefill"]["seen"] == ProfileRange((256,), (512,), (4096,))
    assert fixed_lengths("llm", FACTS, EngineLimits.of(FACTS, max_context=4096)) == {"capacity": 4096}
    assert fixed_lengths("vision", FACTS, EngineLimits.of(FACTS)) == {}


def test_a_cache_that_grows_by_a_copy_is_empty_at_first_and_leaves_room_for_one() -> None:
    inputs = ("inputs_embeds float32 1 tokens 3584", "past_key_values.0.key float16 1 4 past 128")
    found = profiles("llm", *inputs, max_context=2048)
    assert found["step"]["past_key_values.0.key"] == ProfileRange((1, 4, 0, 128), (1, 4, 1023, 128), (1, 4, 2047, 128))
    assert found["prefill"]["past_key_values.0.key"].max == (1, 4, 2047, 128)
    assert found["prefill"]["inputs_embeds"].opt == (1, 512, 3584)


def test_a_small_context_is_read_at_once_at_most() -> None:
    found = profiles("llm", "inputs_embeds float32 1 tokens 3584", max_context=100)
    assert found["prefill"]["inputs_embeds"].max == (1, 100, 3584)


def test_components_without_a_cache_are_fed_whole() -> None:
    assert profiles("vision", "pixel_values float32 tiles 3 448 448") == {
        "whole": {"pixel_values": ProfileRange((1, 3, 448, 448), (1, 3, 448, 448), (1, 3, 448, 448))}
    }
    assert profiles("codec", "codes int64 1 frames") == {"whole": {"codes": ProfileRange((1, 1), (1, 48), (1, 128))}}
    assert profiles("codec", "codes int64 1 frames", codes=20) == {
        "whole": {"codes": ProfileRange((1, 1), (1, 20), (1, 20))}
    }
    assert profiles("speech_prefill", "text_embeds float32 1 vectors 896") == {
        "whole": {"text_embeds": ProfileRange((1, 4, 896), (1, 96, 896), (1, 1024, 896))}
    }
    assert profiles("speech_decoder", "code int64 1 tokens") == {"step": {"code": ProfileRange((1, 1), (1, 1), (1, 1))}}


PIECE = (
    "fbank float32 1 frames 80",
    "begin int64",
    "opening bool opening",
    "ending bool ending",
    "past.0.key float32 1 past 16 128",
    "past.encoded float32 1 carried 1024",
)


def test_a_clip_comes_whole_or_in_pieces_that_bring_as_much_past_as_attention_sees() -> None:
    piece, whole = profiles("audio", *PIECE, audio_s=30).values()
    assert piece["fbank"] == ProfileRange((1, 7, 80), (1, 51, 80), (1, 131, 80))  # the rest of a question: 12 steps
    assert whole["fbank"] == ProfileRange((1, 7, 80), (1, 400, 80), (1, 3000, 80))
    # 4 chunks of 16 steps, and what lies under a kernel of 5
    assert piece["past.0.key"] == ProfileRange((1, 0, 16, 128), (1, 64, 16, 128), (1, 64, 16, 128))
    assert whole["past.0.key"] == ProfileRange((1, 0, 16, 128), (1, 0, 16, 128), (1, 64, 16, 128))
    assert piece["past.encoded"].max == whole["past.encoded"].max == (1, 4, 1024)
    for either in (piece, whole):  # any of them may be the first or the last
        assert {(either[flag].min, either[flag].max) for flag in ("opening", "ending")} == {((0,), (1,))}


def test_a_clip_that_no_profile_takes_is_told_without_what_fits() -> None:
    made = component_profiles("audio", specs(*PIECE), FACTS, EngineLimits.of(FACTS, audio_s=30))
    shapes = {"fbank": (1, 3001, 80), "opening": (1,), "ending": (1,), "past.0.key": (1, 0, 16, 128)}
    shapes["past.encoded"] = (1, 0, 1024)
    with pytest.raises(InferenceFailed) as raised:
        choose_profile("audio", made, shapes)
    assert raised.value.why == (
        "It is fbank [1, 3001, 80]; the engine takes fbank [1, 7..131, 80] or fbank [1, 7..3000, 80]."
    )
    assert "--audio-seconds" in raised.value.fix
    later = {"past.0.key": (1, 65, 16, 128), "past.11.key": (1, 65, 16, 128)}
    deeper = component_profiles(
        "audio", specs(*PIECE, "past.11.key float32 1 past 16 128"), FACTS, EngineLimits.of(FACTS)
    )
    with pytest.raises(InferenceFailed) as raised:
        choose_profile("audio", deeper, {**shapes, "fbank": (1, 51, 80), **later})
    assert "past.0.key [1, 65, 16, 128]" in raised.value.why and "past.11" not in raised.value.why
    chosen = [choose_profile("audio", made, {**shapes, "fbank": (1, n, 80)}) for n in (7, 131, 132, 3000)]
    assert chosen == [0, 0, 1, 1]


def test_pieces_have_a_profile_only_where_there_can_be_any() -> None:
    assert list(profiles("audio", *PIECE, audio_s=1)) == ["whole"]
    for chunks in ({"chunk_size": 0}, {"left_chunks": 0}):
        facts = dataclasses.replace(FACTS, audio=dataclasses.replace(FACTS.audio, **chunks))
        found = axis_lengths("audio", facts, EngineLimits.of(facts))
        assert [(name, axes["past"]) for name, axes in found.items()] == [("whole", (0, 0, 0))]
    endless = dataclasses.replace(FACTS, audio=dataclasses.replace(FACTS.audio, left_chunks=-1))
    assert axis_lengths("audio", endless, EngineLimits.of(endless, audio_s=30))["piece"]["past"] == (0, 749, 749)


def test_the_speech_cache_holds_a_sentence_and_its_codes_and_little_more() -> None:
    # 256 tokens of 4 vectors, begin of sentence, begin of sound, 1000 codes: 2026, in steps of 256
    assert fixed_lengths("speech_decoder", FACTS, EngineLimits.of(FACTS)) == {"capacity": 2048}
    assert fixed_lengths("speech_decoder", FACTS, EngineLimits.of(FACTS, sentence_tokens=1797)) == {"capacity": 8192}


def test_the_context_is_that_of_a_talk_unless_it_is_said() -> None:
    assert EngineLimits.of(FACTS).max_context == 8192  # 6200 + 1024 = 7224, in steps of 1024
    small = dataclasses.replace(
        FACTS, llm=dataclasses.replace(FACTS.llm, context_tokens=4096, prompt_limit_tokens=3072)
    )
    assert EngineLimits.of(small).max_context == 4096
    assert EngineLimits.of(FACTS, max_context=1000).max_context == 1000


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        ({"max_context": 0}, "--context is 0"),
        ({"max_context": 32_769}, "--context is 32769"),
        ({"codes": 1001}, "--codes is 1001"),
        ({"audio_s": 201}, "--audio-seconds is 201"),
        ({"sentence_tokens": 1798}, "--sentence-tokens is 1798"),
    ],
)
def test_limits_that_the_model_does_not_have_are_refused(limits: dict[str, int], named: str) -> None:
    with pytest.raises(Misuse, match=named):
        EngineLimits.of(FACTS, **limits)


def test_an_axis_that_nobody_knows_is_named() -> None:
    with pytest.raises(EngineUnavailable) as caught:
        profiles("vision", "pixel_values float32 tiles 3 height 448")
    assert "pixel_values has the axis height" in caught.value.why
    with pytest.raises(EngineUnavailable, match="nose"):
        profiles("nose", "smell float32 1 n")


def test_a_language_model_of_one_length_is_refused_and_another_graph_of_fixed_shapes_is_not() -> None:
    with pytest.raises(EngineUnavailable, match="No profile can be made for llm"):
        profiles("llm", "inputs_embeds float32 1 1 3584")
    assert profiles("vision", "pixel_values float32 1 3 448 448") == {}


def test_profiles_come_back_from_json() -> None:
    made = component_profiles("llm", specs("inputs_embeds float32 1 tokens 3584"), FACTS, EngineLimits.of(FACTS))
    assert tuple(Profile.from_json(profile.to_json()) for profile in made) == made
    assert [str(profile.ranges["inputs_embeds"]) for profile in made[1:]] == ["1 × 1..128 × 3584", "1 × 1..512 × 3584"]
