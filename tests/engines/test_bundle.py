"""A bundle opens whole, or says in words what is wrong with it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.open_graph import open_graph
from support.spoil import edit_json, flip_byte, rewrite
from vita_edge.cli import main
from vita_edge.engines.bundle.component_spec import COMPONENTS
from vita_edge.engines.bundle.facts import AudioFacts, ModelFacts
from vita_edge.engines.bundle.format import FORMAT_VERSION, Bundle, EmbeddingTable, sha256_of
from vita_edge.engines.errors import BadBundle
from vita_edge.runtime import Assistant


def refused(folder: Path, what: str) -> BadBundle:
    with pytest.raises(BadBundle, match=what) as raised:
        Bundle.open(folder)
    assert raised.value.why
    assert raised.value.fix
    return raised.value


def test_an_opened_bundle_tells_what_it_is(tiny_bundle: Bundle) -> None:
    assert tiny_bundle.precision == "fp32"
    assert tiny_bundle.producer.startswith("vita-edge ")
    assert set(tiny_bundle.components) == set(COMPONENTS)
    assert tiny_bundle.model.llm.hidden_size == 128
    assert tiny_bundle.model.vision.tile_size == 112
    assert tiny_bundle.model.codec.samples_per_code == 600
    assert tiny_bundle.bytes == sum((tiny_bundle.path / name).stat().st_size for name in tiny_bundle.files)
    assert all(file.is_file() for component in tiny_bundle.components.values() for file in component.files)


# --- the folder


def test_a_folder_that_is_none_is_no_bundle(tmp_path: Path) -> None:
    assert "no such folder" in refused(tmp_path / "nowhere", "is not a bundle").why
    assert "manifest.json" in refused(tmp_path, "is not a bundle").why
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", "is not a bundle")


def test_a_bundle_is_whole_wherever_it_is_moved(bundle_copy: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(bundle_copy.rename(tmp_path / "moved ☞ 箱"))
    with open_graph(bundle, "codec") as session:
        assert session.infer({"codes": np.zeros((1, 3), np.int64)})["waveform"].shape == (1, 1800)


@pytest.mark.parametrize("name", ["tokenizer.json", "embeddings.bin", "components/llm.onnx", "components/codec.bin"])
def test_a_missing_file_is_named(name: str, bundle_copy: Path) -> None:
    (bundle_copy / name).unlink()
    assert refused(bundle_copy, "is damaged").why == f"{name} is missing."


@pytest.mark.parametrize("name", ["tokenizer.json", "embeddings.bin", "components/llm.bin", "components/vision.onnx"])
def test_a_shortened_file_is_named_with_both_lengths(name: str, bundle_copy: Path) -> None:
    content = (bundle_copy / name).read_bytes()
    rewrite(bundle_copy / name, content[:-1])
    why = refused(bundle_copy, "is damaged").why
    assert why == f"{name} has {len(content) - 1} bytes, expected {len(content)}."


def test_all_that_is_missing_is_named_at_once(bundle_copy: Path) -> None:
    (bundle_copy / "tokenizer.json").unlink()
    (bundle_copy / "components" / "audio.bin").unlink()
    why = refused(bundle_copy, "is damaged").why
    assert "tokenizer.json is missing" in why
    assert "components/audio.bin is missing" in why


# --- the manifest


@pytest.mark.parametrize(
    ("text", "why"),
    [("", "empty"), ("{", "not valid JSON"), ("not json", "not valid JSON"), ("\xff", "not valid JSON")],
)
def test_a_manifest_that_is_not_json_is_told(text: str, why: str, bundle_copy: Path) -> None:
    rewrite(bundle_copy / "manifest.json", text.encode("latin-1"))
    assert why in refused(bundle_copy, "Cannot read the manifest").why


@pytest.mark.parametrize("text", ["[]", "{}", "3", '{"format": "something else", "format_version": 1}'])
def test_json_that_is_no_manifest_is_told(text: str, bundle_copy: Path) -> None:
    rewrite(bundle_copy / "manifest.json", text.encode())
    refused(bundle_copy, "is not the manifest of a bundle")


@pytest.mark.parametrize(
    ("version", "fix"),
    [(FORMAT_VERSION + 1, "Upgrade"), (0, "Export the checkpoint again"), ("x", "Export"), (None, "Export")],
)
def test_a_bundle_of_another_version_says_which_side_is_old(version: object, fix: str, bundle_copy: Path) -> None:
    edit_json(bundle_copy / "manifest.json", lambda manifest: manifest.update(format_version=version))
    assert fix in refused(bundle_copy, f"has format {version}").fix


KEYS = ("precision", "producer", "model", "prompts", "components", "files", "embeddings", "notice")


@pytest.mark.parametrize("key", KEYS)
def test_a_missing_key_is_named(key: str, bundle_copy: Path) -> None:
    edit_json(bundle_copy / "manifest.json", lambda manifest: manifest.pop(key))
    error = refused(bundle_copy, "manifest.json")
    assert key in error.what + error.why


@pytest.mark.parametrize("key", ["model", "components", "files"])
@pytest.mark.parametrize("value", [None, 3, "x", [1]])
def test_a_value_of_another_kind_is_refused(key: str, value: object, bundle_copy: Path) -> None:
    edit_json(bundle_copy / "manifest.json", lambda manifest: manifest.update({key: value}))
    refused(bundle_copy, f"manifest.json.* {key}")


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_missing_component_is_named(component: str, bundle_copy: Path) -> None:
    edit_json(bundle_copy / "manifest.json", lambda manifest: manifest["components"].pop(component))
    refused(bundle_copy, f"has no {component}")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda model: model["llm"].update(hidden_size="128"), "model.llm.hidden_size is '128', expected int"),
        (lambda model: model["llm"].update(hidden_size=True), "model.llm.hidden_size is True, expected int"),
        (lambda model: model["llm"].update(hidden_size=128.5), "model.llm.hidden_size is 128.5, expected int"),
        (lambda model: model["llm"].pop("layers"), "model.llm.layers is missing"),
        (lambda model: model.update(audio=[]), "model.audio is not an object"),
        (lambda model: model["vision"].update(use_thumbnail=1), "model.vision.use_thumbnail is 1, expected bool"),
        (lambda model: model["vision"].update(image_mean=0.5), "model.vision.image_mean is 0.5, expected a list"),
        (lambda model: model["vision"].update(image_mean=[0.5, "x"]), "model.vision.image_mean[1] is 'x'"),
        (lambda model: model["tokens"].update(stop=[1, None]), "model.tokens.stop[1] is None, expected int"),
        (lambda model: model["tokens"].update(state_text="☜"), "model.tokens.state_text is '☜', expected int"),
    ],
)
def test_a_wrong_fact_is_named_with_its_place(change: Callable[[Any], object], why: str, bundle_copy: Path) -> None:
    edit_json(bundle_copy / "manifest.json", lambda manifest: change(manifest["model"]))
    assert why in refused(bundle_copy, "Cannot read the manifest").why


# --- damage that a manifest does not show


def test_checksums_find_a_flipped_byte_in_any_file(bundle_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(Bundle.open(bundle_copy).damaged_files()) == []
    assert main(["inspect", str(bundle_copy), "--check"]) == 0
    spoilt = ["components/llm.bin", "embeddings.bin", "tokenizer.json"]
    for name in spoilt:
        flip_byte(bundle_copy / name, 100)
    bundle = Bundle.open(bundle_copy)
    read: list[int] = []
    assert sorted(bundle.damaged_files(read.append)) == spoilt
    assert sum(read) == bundle.bytes
    assert main(["inspect", str(bundle_copy), "--check"]) == 1
    assert "components/llm.bin" in capsys.readouterr().err


def test_a_digest_is_that_of_the_whole_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256_of(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("damage", ["zeros", "halved", "text"])
def test_a_damaged_graph_of_the_right_length_is_refused_when_it_is_opened(
    component: str, damage: str, bundle_copy: Path
) -> None:
    file = bundle_copy / "components" / f"{component}.onnx"
    content = file.read_bytes()
    half = len(content) // 2
    spoilt = {"zeros": bytes(len(content)), "halved": content[:half] + b"\xff" * (len(content) - half)}
    rewrite(file, spoilt.get(damage, b"not a graph ".ljust(len(content))))
    with pytest.raises(BadBundle, match=f"{component}.onnx cannot be opened") as raised:
        open_graph(Bundle.open(bundle_copy), component)
    assert "--check" in raised.value.fix


def test_an_assistant_that_cannot_open_one_graph_opens_none(bundle_copy: Path) -> None:
    rewrite(bundle_copy / "components" / "codec.onnx", bytes((bundle_copy / "components/codec.onnx").stat().st_size))
    with pytest.raises(BadBundle, match=r"codec\.onnx"):
        Assistant(bundle_copy)


# --- facts


def test_facts_survive_the_manifest(tiny_bundle: Bundle) -> None:
    facts = tiny_bundle.model
    assert ModelFacts.from_json(json.loads(json.dumps(facts.to_json()))) == facts
    assert isinstance(facts.tokens.stop, tuple)
    without = dataclasses.replace(facts, tokens=dataclasses.replace(facts.tokens, state_noise=None, stop=()))
    assert ModelFacts.from_json(json.loads(json.dumps(without.to_json()))) == without


def test_facts_with_a_default_may_be_left_out_and_unknown_ones_are_ignored(tiny_bundle: Bundle) -> None:
    data = tiny_bundle.model.to_json()
    del data["llm"]["repetition_penalty"]
    data["llm"]["of_a_later_version"] = 1
    assert ModelFacts.from_json(data) == tiny_bundle.model


def test_a_whole_number_may_stand_for_a_fraction(tiny_bundle: Bundle) -> None:
    data = tiny_bundle.model.to_json()
    data["audio"]["frame_shift_ms"] = 10
    shift = ModelFacts.from_json(data).audio.frame_shift_ms
    assert isinstance(shift, float)
    assert shift == 10.0


@pytest.mark.parametrize(
    ("frames", "steps", "positions"),
    [(0, 0, 0), (6, 0, 0), (7, 1, 1), (10, 1, 1), (11, 2, 1), (15, 3, 2), (164, 40, 20), (367, 91, 46)],
)
def test_a_clip_costs_what_the_strides_leave_of_it(frames: int, steps: int, positions: int) -> None:
    facts = AudioFacts(16000, 80, 25.0, 10.0, 5, 0, 4, 16)
    assert facts.encoder_steps(frames) == steps
    assert facts.positions(frames) == positions
    assert dataclasses.replace(facts, prompt_rows=3).positions(frames) == (positions + 3 if positions else 0)


# --- the token table

ROWS = np.array([[0.0, 1.0, -2.0], [0.5, 3.0, 1e-3], [100.0, -0.25, 7.0]], np.float32)


def bfloat16_bits(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)


@pytest.mark.parametrize(
    ("dtype", "stored", "tolerance"),
    [("float32", ROWS, 0.0), ("float16", ROWS.astype(np.float16), 1e-3), ("bfloat16", bfloat16_bits(ROWS), 1e-2)],
)
def test_rows_of_the_token_table_come_as_float32_in_the_order_asked_for(
    dtype: str, stored: np.ndarray[Any, Any], tolerance: float, tmp_path: Path
) -> None:
    stored.tofile(tmp_path / "table")
    table = EmbeddingTable(tmp_path / "table", dtype, 3, 3)
    assert table.columns == 3
    rows = table.rows([2, 0, 2])
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, ROWS[[2, 0, 2]], rtol=tolerance)
    np.testing.assert_array_equal(rows[1], ROWS[0])  # these are exact in every type
    assert table.rows(np.zeros(0, np.int64)).shape == (0, 3)
    rows[:] = 9.0
    np.testing.assert_array_equal(table.rows([0])[0], ROWS[0])


def test_a_token_that_the_table_does_not_have_is_an_error(tmp_path: Path) -> None:
    ROWS.tofile(tmp_path / "table")
    with pytest.raises(IndexError):
        EmbeddingTable(tmp_path / "table", "float32", 3, 3).rows([3])


def test_a_token_table_that_is_too_short_or_missing_is_refused(tmp_path: Path) -> None:
    ROWS.tofile(tmp_path / "table")
    with pytest.raises(BadBundle, match="cannot be read"):
        EmbeddingTable(tmp_path / "table", "float32", 4, 3)
    with pytest.raises(BadBundle, match="cannot be read"):
        EmbeddingTable(tmp_path / "nothing", "float32", 3, 3)


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: entry.update(dtype="float7"),
        lambda entry: entry.update(rows="many"),
        lambda entry: entry.update(rows=-1),
        lambda entry: entry.update(rows=1 << 40),
        lambda entry: entry.pop("columns"),
        lambda entry: entry.pop("file"),
    ],
)
def test_a_wrong_description_of_the_token_table_is_a_damaged_bundle(
    change: Callable[[Any], object], bundle_copy: Path
) -> None:
    edit_json(bundle_copy / "manifest.json", lambda manifest: change(manifest["embeddings"]))
    with pytest.raises(BadBundle):
        Bundle.open(bundle_copy).embedding_table()
