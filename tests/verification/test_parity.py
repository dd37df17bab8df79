"""`vita-edge verify` passes what is right, and one wrong number anywhere fails it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from support.spoil import edit_json, flip_byte, rewrite
from vita_edge.cli import main
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import BadInput
from vita_edge.export.bundle import export_bundle
from vita_edge.export.prompts import read_prompts
from vita_edge.verification.parity import Check, GoldenFolder, verify
from vita_edge.verification.parity.compare import compare_arrays, compare_equal

Array = np.ndarray[Any, Any]
Report = dict[str, Any]


def failed(checks: list[Check]) -> list[Check]:
    return [check for check in checks if not check.passed]


def every_array(golden: Path) -> set[str]:
    manifest = json.loads((golden / "data" / "manifest.json").read_text("utf-8"))
    return {f"{entry['file']}:{entry['name']}" for entry in manifest["arrays"]}


# --- what is right passes


def test_the_compact_selection_passes_and_every_array_of_it_is_compared(golden: Path, tiny_bundle: Bundle) -> None:
    folder = GoldenFolder(golden)
    checks = list(verify(tiny_bundle, folder))
    assert failed(checks) == []
    assert [check for check in checks if check.skipped] == []
    assert folder.compared == every_array(golden)
    assert len(checks) > 150


def test_the_selection_is_a_part_of_the_recordings(golden: Path, shared_golden: Path) -> None:
    assert {key for key in every_array(golden) if not key.startswith("llm.npz")} < every_array(shared_golden / "tiny-a")
    for file in ("audio.npz", "vision.npz", "tts.npz", "e2e.npz"):
        ours, theirs = np.load(golden / "data" / file), np.load(shared_golden / "tiny-a" / "data" / file)
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours.files), file


def test_the_repository_does_not_carry_the_prompts_of_the_reference(golden: Path, shared_golden: Path) -> None:
    prompts = json.loads((shared_golden / "prompts.json").read_text("utf-8"))
    sentences = {text[:60] for style in prompts.values() for text in style.values()}
    for file in golden.rglob("*.json"):
        assert not any(sentence in file.read_text("utf-8") for sentence in sentences), file
    ids = np.load(golden / "data" / "llm.npz")
    theirs = np.load(shared_golden / "tiny-a" / "data" / "llm.npz")
    assert not any(np.array_equal(ids[name][:60], theirs[name][:60]) for name in ids.files if name.endswith(".ids"))


def test_all_recordings_pass_with_the_prompts_of_the_reference(shared_golden: Path, tmp_path: Path) -> None:
    export_bundle(
        shared_golden / "tiny-a" / "checkpoint",
        tmp_path / "bundle",
        prompts=read_prompts(shared_golden / "prompts.json"),
    )
    folder = GoldenFolder(shared_golden / "tiny-a")
    checks = list(verify(Bundle.open(tmp_path / "bundle"), folder))
    assert failed(checks) == []
    assert [check for check in checks if check.skipped] == []
    assert folder.compared == every_array(shared_golden / "tiny-a")
    assert len(checks) >= 300


# --- what is wrong fails

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "tiny-a"
ALSO = ("llm.npz:live1.stop_tokens", "vision.npz:clip_pad.pixels", "vision.npz:live2.pixels", "audio.npz:mono_8k.fbank")
"""Compared in another way than the others of their kind."""


def one_of_each_kind() -> list[str]:
    """The smallest array of every kind: ids, logits, wave, ..."""
    kinds: dict[tuple[str, str], tuple[int, str]] = {}
    for entry in json.loads((GOLDEN / "data" / "manifest.json").read_text("utf-8"))["arrays"]:
        file, name = entry["file"], entry["name"]
        size = int(np.prod(entry["shape"]))
        kind = file, name.split(".")[1] + (".fixed" if name.startswith("fixed") else "")
        if size and size < kinds.get(kind, (1 << 62, ""))[0]:
            kinds[kind] = size, f"{file}:{name}"
    return [key for _, key in kinds.values()]


ARRAYS = sorted({*one_of_each_kind(), *ALSO})
STEMS = sorted({key.rsplit(".", 1)[0] for key in ARRAYS})


def spoil(name: str, array: Array) -> None:
    """Change one value, well beyond every limit."""
    if name.endswith("_cuts"):
        array[0, 4] += 1000  # the quietest mean of the stretch, in millionths
        return
    flat = array.reshape(-1)
    middle = flat.size // 2
    if array.dtype.kind == "f":
        flat[middle] += max(0.1 * np.abs(flat).max(), 1.0 if name.endswith("fbank") else 0.0)
    elif name.endswith((".pcm", ".tiles_u8")):
        flat[middle] ^= 0x40
    else:
        flat[middle] += 1


def part_of(golden: Path, target: Path, key: str, change: Callable[[str, Array], None] | None = None) -> Path:
    """A golden folder with nothing but the arrays that belong to the one named ``key``, which ``change`` may change."""
    file, name = key.split(":")
    requested = {file: name.split(".")[0]}
    if name.startswith("image_audio."):  # the recorded talk: tokens in one file, sound in another
        requested = {"llm.npz": "image_audio", "e2e.npz": "image_audio"}
    (target / "data").mkdir(parents=True)
    (target / "data" / "inputs").symlink_to(golden / "data" / "inputs")
    entries = []
    manifest = json.loads((golden / "data" / "manifest.json").read_text("utf-8"))
    for part, stem in requested.items():
        with np.load(golden / "data" / part) as archive:
            arrays = {name: archive[name] for name in archive.files if name.split(".")[0] == stem}
        entries += [e for e in manifest["arrays"] if e["file"] == part and e["name"] in arrays]
        if change and part == file:
            change(name, arrays[name])
        np.savez(target / "data" / part, **arrays)
    (target / "data" / "manifest.json").write_text(json.dumps({"arrays": entries}))
    for document in ("data/cases.json", "data/e2e.json", "prompts.json"):
        (target / document).write_bytes((golden / document).read_bytes())
    return target


def report_of(bundle: Path, golden: Path, capsys: pytest.CaptureFixture[str], status: int) -> Report:
    assert main(["verify", str(bundle), "--golden", str(golden), "--json"]) == status
    report: Report = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert report["passed"] == (status == 0)
    return report


def off(report: Report) -> list[str]:
    return [f"{check['stage']}: {check['name']}" for check in report["checks"] if not check["passed"]]


@pytest.mark.parametrize("stem", STEMS)
def test_a_part_of_the_recordings_passes_by_itself(
    stem: str, golden: Path, tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = report_of(tiny_bundle.path, part_of(golden, tmp_path / "golden", f"{stem}."), capsys, 0)
    assert sum(not check["skipped"] for check in report["checks"]) > 0


@pytest.mark.parametrize("key", ARRAYS)
def test_one_wrong_value_of_one_array_fails(
    key: str, golden: Path, tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = report_of(tiny_bundle.path, part_of(golden, tmp_path / "golden", key, spoil), capsys, 1)
    stem = key.split(":")[1].split(".")[0]
    assert [name for name in off(report) if f": {stem}." in name] != []


@pytest.mark.parametrize("document", ["text.json", "e2e.json"])
def test_one_wrong_text_fails(
    document: str, golden: Path, tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = part_of(golden, tmp_path / "golden", "e2e.npz:image_audio.pcm")
    (folder / "data" / "text.json").write_bytes((golden / "data" / "text.json").read_bytes())
    assert off(report_of(tiny_bundle.path, folder, capsys, 0)) == []

    def change(data: Any) -> None:
        if document == "text.json":
            data["encode"][3]["ids"][0] += 1
        else:
            data["image_audio"]["text"] += "!"

    edit_json(folder / "data" / document, change)
    expected = "tokenizer: encode[3]" if document == "text.json" else "talk: image_audio.text"
    assert expected in off(report_of(tiny_bundle.path, folder, capsys, 1))


def test_an_array_that_the_manifest_lists_and_the_files_lack_fails(
    golden: Path, tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = part_of(golden, tmp_path / "golden", "tts.npz:fixed.codes")
    with np.load(folder / "data" / "tts.npz") as archive:
        arrays = {name: archive[name] for name in archive.files if name != "fixed.wave"}
    np.savez(folder / "data" / "tts.npz", **arrays)
    assert off(report_of(tiny_bundle.path, folder, capsys, 1)) == ["recorded arrays: tts.npz:fixed.wave"]


def test_an_array_that_nothing_is_compared_with_is_told(golden: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    folder = part_of(golden, tmp_path / "golden", "tts.npz:fixed.codes")
    with np.load(folder / "data" / "tts.npz") as archive:
        np.savez(folder / "data" / "tts.npz", **archive, **{"fixed.taste": np.zeros(3)})
    reported = {check.name: check.detail for check in verify(tiny_bundle, folder) if check.skipped}
    assert reported["tts.npz:fixed.taste"] == "nothing to compare it with"


# --- one wrong weight fails

WEIGHTS = {
    "vision": ("layers.0/attn.qkv.bias", "vision.npz:square.proj"),
    "audio": ("transformer/layers.0/pos_bias_v", "audio.npz:en_short.embeds"),
    "llm": ("layers.1/attn.qkv.bias", "llm.npz:text.logits"),
    "speech_prefill": ("layers.0/post_norm.weight", "tts.npz:s2.logits"),
    "speech_decoder": ("layers.3/attn.qkv.weight", "tts.npz:s2.logits"),
    "codec": ("generator/conv_pre.bias", "tts.npz:fixed.wave"),
}
"""One weight of each graph, and an array that depends on it."""


def with_weight(folder: Path, component: str, name: str, value: float) -> None:
    """Change the first value of a weight."""
    model = onnx.load(folder / "components" / f"{component}.onnx", load_external_data=False)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    place = next(int(entry.value) for entry in tensor.external_data if entry.key == "offset")
    file = folder / "components" / f"{component}.bin"
    content = bytearray(file.read_bytes())
    content[place : place + 4] = np.float32(value).tobytes()
    rewrite(file, bytes(content))


@pytest.mark.parametrize("component", WEIGHTS)
def test_one_wrong_weight_fails(
    component: str, golden: Path, bundle_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, seen_by = WEIGHTS[component]
    with_weight(bundle_copy, component, name, 3.0)
    assert off(report_of(bundle_copy, part_of(golden, tmp_path / "golden", seen_by), capsys, 1)) != []


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_that_are_no_numbers_fail_and_are_null_in_json(
    value: float, golden: Path, bundle_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_weight(bundle_copy, "vision", "layers.1/norm1.bias", value)
    folder = part_of(golden, tmp_path / "golden", "vision.npz:square.proj")
    report = report_of(bundle_copy, folder, capsys, 1)
    assert "vision tower: square.proj" in off(report)
    assert next(check for check in report["checks"] if check["name"] == "square.proj")["relative"] is None
    assert main(["verify", str(bundle_copy), "--golden", str(folder)]) == 1
    assert "OFF  vision tower: square.proj" in capsys.readouterr().out


def test_one_wrong_row_of_the_token_table_fails(
    golden: Path, bundle_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = Bundle.open(bundle_copy)
    row = bundle.model.tokens.im_start
    flip_byte(bundle_copy / "embeddings.bin", 2 * bundle.embeddings["columns"] * row + 1)
    folder = part_of(golden, tmp_path / "golden", "llm.npz:text.embeds")
    assert "prompt rows: text.embeds" in off(report_of(bundle_copy, folder, capsys, 1))


# --- what cannot be read is refused


def test_a_folder_without_a_manifest_is_refused(golden: Path, tiny_bundle: Bundle) -> None:
    with pytest.raises(BadInput, match="no recorded arrays"):
        next(verify(tiny_bundle, golden / "checkpoint"))
    assert main(["verify", str(tiny_bundle.path), "--golden", str(golden / "nowhere")]) == 1


@pytest.mark.parametrize("manifest", ["not json", "[]", "{}", '{"arrays": [{"name": "a"}]}', '{"arrays": 3}'])
def test_a_manifest_that_is_none_is_refused(manifest: str, golden: Path, tmp_path: Path) -> None:
    folder = part_of(golden, tmp_path / "golden", "tts.npz:fixed.codes")
    (folder / "data" / "manifest.json").write_text(manifest)
    with pytest.raises(BadInput, match=r"manifest\.json"):
        GoldenFolder(folder)


def damages() -> Iterator[tuple[str, Callable[[bytes], bytes]]]:
    yield "shortened", lambda data: data[: len(data) // 2]
    yield "empty", lambda data: b""
    yield "no archive", lambda data: b"no archive" * 100
    yield "one byte is wrong", lambda data: data[:2000] + bytes([data[2000] ^ 0xFF]) + data[2001:]


@pytest.mark.parametrize("damage", [pytest.param(change, id=name) for name, change in damages()])
@pytest.mark.parametrize("compressed", [True, False])
def test_damaged_arrays_are_refused(
    compressed: bool, damage: Callable[[bytes], bytes], golden: Path, tmp_path: Path
) -> None:
    folder = part_of(golden, tmp_path / "golden", "tts.npz:fixed.codes")
    file = folder / "data" / "tts.npz"
    with np.load(file) as archive:
        (np.savez_compressed if compressed else np.savez)(file, **archive)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(BadInput, match=r"Cannot read the recorded arrays .*tts\.npz"):
        GoldenFolder(folder)


# --- by hand


def test_the_relative_error_is_the_largest_difference_by_the_largest_recorded_value() -> None:
    check = compare_arrays("stage", "name", np.array([1.0, 2.5]), np.array([1.0, -2.0]), limit=1.0)
    assert check.max_error == 4.5
    assert check.relative == 2.25
    assert not check.passed
    assert check.detail == "worst at [1]"
    assert compare_arrays("stage", "name", np.array([1.0, -2.1]), np.array([1.0, -2.0]), limit=0.051).passed
    assert not compare_arrays("stage", "name", np.array([1.0, -2.1]), np.array([1.0, -2.0]), limit=0.049).passed


@pytest.mark.parametrize("got", [np.array([1.0, np.nan]), np.array([1.0, np.inf]), np.array([[1.0, 2.0]])])
def test_what_is_no_number_or_has_another_shape_fails(got: Array) -> None:
    assert not compare_arrays("stage", "name", got, np.array([1.0, 2.0]), limit=1e9).passed


def test_an_error_spread_over_everything_fails_by_its_signal_to_noise() -> None:
    want = np.concatenate([np.full(999, 0.01), [1.0]])
    assert not compare_arrays("stage", "name", want + 0.009, want, limit=0.01, smallest_snr_db=20).passed


def test_sequences_differ_in_their_first_other_item_or_in_length() -> None:
    assert compare_equal("stage", "name", np.array([1, 2]), [1, 2]).passed
    assert "first differs at 1: 3, recorded 2" in compare_equal("stage", "name", [1, 3], np.array([1, 2])).detail
    assert "1 items, recorded 2" in compare_equal("stage", "name", [1], (1, 2)).detail
    assert not compare_equal("stage", "name", "a", "b").passed


@pytest.mark.parametrize("column", range(5))
def test_a_wrong_cut_is_found_in_every_column(tiny_bundle: Bundle, golden: Path, tmp_path: Path, column: int) -> None:
    folder = shutil.copytree(golden, tmp_path / "golden")
    file = folder / "data" / "tts.npz"
    with np.load(file) as archive:
        arrays = dict(archive)
    name = next(name for name in arrays if name.endswith("_cuts") and len(arrays[name]))
    arrays[name] = arrays[name].copy()
    arrays[name][0, column] += 1 if column == 0 else 700
    np.savez_compressed(file, **arrays)
    assert any(not check.passed and check.name == name for check in verify(tiny_bundle, folder))


def test_nothing_to_compare_is_no_pass(tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "manifest.json").write_text('{"arrays": []}')
    assert main(["verify", str(tiny_bundle.path), "--golden", str(tmp_path)]) == 1
    assert "Nothing was compared" in capsys.readouterr().err


def test_recordings_of_another_model_are_explained(
    golden: Path, random_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(random_bundle), "--golden", str(golden)]) == 1
    assert "not of this model" in capsys.readouterr().err


def test_inputs_that_are_missing_are_told_and_the_rest_is_judged(
    tiny_bundle: Bundle, golden: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(golden, tmp_path / "golden")
    for file in (*(folder / "data" / "inputs").glob("*.wav"), *(folder / "data" / "inputs").glob("*.png")):
        file.unlink()
    checks = list(verify(tiny_bundle, folder))
    assert all(check.passed for check in checks)
    assert any("not among the inputs" in check.detail for check in checks)
    assert any(check.stage == "audio encoder" and not check.skipped for check in checks)


def test_the_worst_of_a_stage_takes_most_of_its_limit_or_is_off(
    tiny_bundle: Bundle, golden: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Limits differ within a stage, and what has no limit is off or equal."""
    loose, tight = Check("llm", "loose", True, 0.1, 0.1, 20, 0.5), Check("llm", "tight", True, 0.01, 0.01, 40, 0.02)
    off = Check("ids", "off", False, detail="first differs at 0")
    quiet = Check("codec", "quiet", False, 0.1, 0.1, 2, 0.2)
    reported = [loose, tight, Check("ids", "same", True), off, Check("codec", "loud", True, 0.15, 0.15, 30, 0.2), quiet]
    reported.append(Check("rows", "same", True))
    monkeypatch.setattr("vita_edge.verification.parity.verify", lambda *_, **__: iter(reported))
    assert main(["verify", str(tiny_bundle.path), "--golden", str(golden), "--json"]) == 1
    stages = json.loads(capsys.readouterr().out)["stages"]
    assert [stage["worst"] for stage in stages] == ["tight", "off", "quiet", None]
    assert main(["verify", str(tiny_bundle.path), "--golden", str(golden)]) == 1
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:5]]
    assert rows[0][3:6] == ["tight", "1.00e-02", "1.00e-02"]
    assert rows[1] == ["ids", "2", "1", "off", "differs"]
    assert rows[3] == ["rows", "1", "0", "equal"]
