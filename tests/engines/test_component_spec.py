"""The table of components is what the graphs of a bundle are, and what their engines are built from."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import onnx
import pytest

from vita_edge.engines.bundle.component_spec import (
    COMPONENT_SPECS,
    COMPONENTS,
    LLM,
    LLM_PREFILL,
    SPEECH_DECODER,
    SPEECH_PREFILL,
    STREAMS,
    ComponentSpec,
)
from vita_edge.engines.bundle.facts import ModelFacts
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.bundle.work import Parts
from vita_edge.engines.tensorrt.build.profiles import EngineLimits, axis_lengths, fixed_lengths

PRODUCT = ("engines", "runtime", "export", "calibration", "estimate", "verification", "src/vita_edge/cli")


def axes_of(value: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    return tuple(axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim)


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_graph_has_the_inputs_and_the_output_of_its_row(tiny_bundle: Bundle, name: str) -> None:
    graph = onnx.load(str(tiny_bundle.components[name].graph), load_external_data=False).graph
    spec = COMPONENT_SPECS[name]
    inputs = {value.name: value for value in graph.input}
    for row in spec.inputs:
        declared = inputs[row.name]
        assert onnx.helper.tensor_dtype_to_np_dtype(declared.type.tensor_type.elem_type) == row.dtype
        assert len(axes_of(declared)) == len(row.axes)
        variable = [axis for axis in axes_of(declared) if isinstance(axis, str)]
        assert variable and set(variable) <= set(row.axes)
    assert any(value.name.split(".")[0] == spec.output for value in graph.output)
    assert spec.cached == any(name.startswith("past_key_values.") for name in inputs)


def test_an_axis_that_is_a_number_of_the_model_is_given_and_one_that_is_not_is_refused() -> None:
    assert SPEECH_PREFILL.input("text_embeds", width=8) == ("text_embeds", "float32", (1, "vectors", 8))
    with pytest.raises(ValueError, match="no axis height"):
        SPEECH_PREFILL.input("text_embeds", height=8)


def test_the_graph_that_fills_a_cache_runs_on_the_stream_of_the_graph_that_reads_it() -> None:
    assert SPEECH_DECODER.filled_by == SPEECH_PREFILL.name
    assert SPEECH_DECODER.stream == SPEECH_PREFILL.stream != LLM.stream == LLM_PREFILL.stream
    assert {spec.stream for spec in COMPONENT_SPECS.values()} == set(STREAMS)


def test_the_weights_of_every_part_lie_in_a_component_but_for_the_token_table() -> None:
    held = {part for name in COMPONENTS for part in COMPONENT_SPECS[name].work}
    assert held == {field.name for field in dataclasses.fields(Parts)} - {"embedding"}


def test_profiles_know_the_axes_of_every_component_and_fix_those_of_caches(tiny_bundle: Bundle) -> None:
    facts: ModelFacts = tiny_bundle.model
    for name in COMPONENTS:
        spec: ComponentSpec = COMPONENT_SPECS[name]
        assert bool(fixed_lengths(name, facts, EngineLimits.of(facts))) == spec.cached
        for lengths in axis_lengths(name, facts, EngineLimits.of(facts)).values():
            variable = {axis for row in spec.inputs for axis in row.axes if isinstance(axis, str)}
            assert variable & set(lengths)


def test_the_name_of_a_component_is_written_once_in_the_product() -> None:
    root = Path(__file__).parents[2]
    quoted = re.compile(r'"speech_prefill"')
    files = [
        file for folder in PRODUCT for file in (root / folder).rglob("*.py") if quoted.search(file.read_text("utf-8"))
    ]
    assert [file.name for file in files] == ["component_spec.py"]
