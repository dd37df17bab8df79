"""An export writes a whole bundle or nothing, always the same one, and graphs that are what they say."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest

from support.open_graph import open_graph
from support.spoil import edit_json
from vita_edge.cli import main
from vita_edge.engines.bundle import atomic_folder
from vita_edge.engines.bundle.atomic_folder import whole_folder
from vita_edge.engines.bundle.component_spec import COMPONENTS
from vita_edge.engines.bundle.format import Bundle, sha256_of
from vita_edge.engines.errors import BadCheckpoint, Misuse, OutputFailed
from vita_edge.engines.tensors import TensorSpec
from vita_edge.export.bundle import LICENCE_NOTICE, export_bundle
from vita_edge.export.checkpoint.open_checkpoint import Checkpoint
from vita_edge.export.graphs.graph_builder import GraphBuilder
from vita_edge.export.lowerings.onnx_runtime import OnnxRuntime
from vita_edge.export.prompts import DEFAULT_PROMPTS


@pytest.fixture
def checkpoint(golden: Path) -> Path:
    return golden / "checkpoint"


def digests(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): sha256_of(file) for file in sorted(folder.rglob("*")) if file.is_file()}


# --- what is written


def test_the_manifest_names_every_file_with_its_length_and_digest(tiny_bundle: Bundle) -> None:
    written = digests(tiny_bundle.path)
    assert set(written) == {"manifest.json", *tiny_bundle.files}
    for name, (size, digest) in tiny_bundle.files.items():
        assert (size, digest) == ((tiny_bundle.path / name).stat().st_size, written[name])
    assert set(tiny_bundle.components) == set(COMPONENTS)
    assert {f"components/{name}{end}" for name in COMPONENTS for end in (".onnx", ".bin")} < set(written)


def test_the_same_checkpoint_gives_the_same_bytes(checkpoint: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    export_bundle(checkpoint, tmp_path / "again")
    assert digests(tmp_path / "again") == digests(tiny_bundle.path)


def test_the_report_counts_what_was_written(checkpoint: Path, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    report = export_bundle(checkpoint, tmp_path / "b", progress=lambda *step: steps.append(step))
    bundle = Bundle.open(tmp_path / "b")
    assert report.bundle == tmp_path / "b"
    assert report.bytes == bundle.bytes == sum((tmp_path / "b" / name).stat().st_size for name in bundle.files)
    assert report.parameters == {name: component.parameters for name, component in bundle.components.items()}
    assert any("never uses" in note for note in report.notes)
    assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)
    checked = sum(tensor.size for tensor in Checkpoint.open(checkpoint).tensors().values())
    assert steps[-1][1] == steps[-1][2] == checked + sum(report.parameters.values()) + 605 * 128
    assert {what for what, _, _ in steps} == {"checking values", "embeddings", *COMPONENTS}


COMPUTED_TABLES = ("rotary.cos", "rotary.sin", "frequency")
"""Nothing in them was learned, so they are no parameters."""


def test_the_weights_of_a_graph_are_the_parameters_that_are_counted(tiny_bundle: Bundle) -> None:
    for component in tiny_bundle.components.values():
        model = onnx.load(component.graph, load_external_data=False)
        sizes = {
            tensor.name: int(entry.value)
            for tensor in model.graph.initializer
            for entry in tensor.external_data
            if entry.key == "length"
        }
        computed = {name: size for name, size in sizes.items() if name.split("/")[-1] in COMPUTED_TABLES}
        assert (len(computed) > 0) == (component.name not in ("vision", "codec"))
        assert sum(sizes.values()) - sum(computed.values()) == 4 * component.parameters
        assert component.weights[0].stat().st_size < sum(sizes.values()) + 4096 * len(sizes)


def test_the_token_table_holds_the_rows_that_a_tokenizer_knows_as_they_were_stored(tiny_bundle: Bundle) -> None:
    assert tiny_bundle.embeddings == {"file": "embeddings.bin", "dtype": "bfloat16", "rows": 605, "columns": 128}
    assert (tiny_bundle.path / "embeddings.bin").stat().st_size == 605 * 128 * 2
    assert tiny_bundle.model.llm.vocab_size == 605


def test_a_bundle_carries_our_prompts_and_the_notice_unless_told_otherwise(
    checkpoint: Path, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    assert tiny_bundle.prompts == DEFAULT_PROMPTS
    assert tiny_bundle.notice == LICENCE_NOTICE
    prompts = {style: {name: f"{style} {name}" for name in names} for style, names in DEFAULT_PROMPTS.items()}
    export_bundle(checkpoint, tmp_path / "b", prompts=prompts, notice="Random weights.")
    bundle = Bundle.open(tmp_path / "b")
    assert bundle.prompts == prompts
    assert bundle.notice == "Random weights."


def test_the_notice_is_said_before_the_first_byte_is_written(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[str, list[Path]]] = []
    export_bundle(checkpoint, tmp_path / "b", reported=lambda notice: seen.append((notice, list(tmp_path.iterdir()))))
    assert seen == [(LICENCE_NOTICE, [])]
    assert main(["export", str(checkpoint), "-o", str(tmp_path / "c")]) == 0
    assert capsys.readouterr().err.startswith(LICENCE_NOTICE)


def test_prompts_come_from_a_file_on_the_command_line(checkpoint: Path, tmp_path: Path) -> None:
    prompts = {style: dict.fromkeys(names, "Be brief.") for style, names in DEFAULT_PROMPTS.items()}
    (tmp_path / "prompts.json").write_text(json.dumps(prompts))
    arguments = ["export", str(checkpoint), "-o", str(tmp_path / "b"), "--prompts", str(tmp_path / "prompts.json")]
    assert main(arguments) == 0
    assert Bundle.open(tmp_path / "b").prompts == prompts
    (tmp_path / "prompts.json").write_text(json.dumps({"live": prompts["live"]}))
    assert main([*arguments[:3], str(tmp_path / "c"), *arguments[4:]]) == 1
    assert not (tmp_path / "c").exists()


# --- the graphs

CACHE = {"llm": (3, 2, 16), "speech_decoder": (4, 4, 16)}
"""Layers, key heads and padded head width of the golden checkpoint (the speech decoder's heads are 8 wide)."""
AUDIO_PAST = (
    "0.key: float32 [1, {steps}, 4, 32]; 0.value: float32 [1, {steps}, 64]; "
    "1.key: float32 [1, {steps}, 4, 32]; 1.value: float32 [1, {steps}, 64]; encoded: float32 [1, {rows}, 64]"
)
"""What the audio encoder hands from piece to piece."""
FACE = {
    "vision": (["pixel_values: float32 [tiles, 3, 112, 112]"], ["image_embeds: float32 [tiles, 16, 128]"]),
    "audio": (
        [
            "fbank: float32 [1, frames, 80]",
            "begin: int64 []",
            "opening: bool [opening]",
            "ending: bool [ending]",
            *(f"past.{name}" for name in AUDIO_PAST.format(steps="past", rows="carried").split("; ")),
        ],
        [
            "audio_embeds: float32 [1, audio_tokens, 128]",
            *(f"present.{name}" for name in AUDIO_PAST.format(steps="kept", rows="left").split("; ")),
        ],
    ),
    "llm": (["inputs_embeds: float32 [1, tokens, 128]"], ["logits: float32 [1, 1, 605]"]),
    "speech_prefill": (
        ["text_embeds: float32 [1, vectors, 32]"],
        [
            f"present.{layer}.{part}: float32 [1, 4, vectors_and_bos, 16]"
            for layer in range(4)
            for part in ("key", "value")
        ],
    ),
    "speech_decoder": (["code: int64 [1, tokens]"], ["logits: float32 [1, 1, 1028]"]),
    "codec": (["codes: int64 [1, frames]"], ["waveform: float32 [1, samples]"]),
}
"""Inputs and outputs as docs/design has them, without KV cache and lengths."""


def face(model: onnx.ModelProto) -> tuple[list[str], list[str]]:
    def reported(value: onnx.ValueInfoProto) -> str:
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name
        axes = tuple(axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim)
        return str(TensorSpec(value.name, kind, axes))

    return [reported(value) for value in model.graph.input], [reported(value) for value in model.graph.output]


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_graph_has_exactly_the_inputs_and_outputs_of_the_design(name: str, tiny_bundle: Bundle) -> None:
    inputs, outputs = face(onnx.load(tiny_bundle.components[name].graph, load_external_data=False))
    expected_inputs, expected_outputs = (list(side) for side in FACE[name])
    if name in CACHE:
        layers, heads, width = CACHE[name]
        expected_inputs += ["seqlens_k: int32 [1]", "total_sequence_length: int32 [1]"]
        for layer in range(layers):
            for part in ("key", "value"):
                shape = f"float32 [1, {heads}, capacity, {width}]"
                expected_inputs.append(f"past_key_values.{layer}.{part}: {shape}")
                expected_outputs.append(f"present.{layer}.{part}: {shape}")
    assert sorted(inputs) == sorted(expected_inputs)
    assert sorted(outputs) == sorted(expected_outputs)


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_session_shows_the_same_without_cache_and_lengths(name: str, tiny_bundle: Bundle) -> None:
    with open_graph(tiny_bundle, name) as session:
        assert sorted(map(str, session.inputs.values())) == sorted(FACE[name][0])
        assert sorted(map(str, session.outputs.values())) == sorted(FACE[name][1])


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_graph_is_valid_and_uses_one_foreign_operator_at_most(name: str, tiny_bundle: Bundle) -> None:
    graph = tiny_bundle.components[name].graph
    model = onnx.load(graph, load_external_data=False)
    foreign = {node.op_type for node in model.graph.node if node.domain}
    assert foreign == ({"GroupQueryAttention"} if name in CACHE else set())
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == OnnxRuntime().opset
    if not foreign:
        onnx.checker.check_model(str(graph), full_check=True)
    else:  # shapes behind a foreign operator cannot be inferred
        onnx.checker.check_model(str(graph))
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)


def test_weights_begin_on_pages_so_that_they_are_mapped(tiny_bundle: Bundle) -> None:
    model = onnx.load(tiny_bundle.components["llm"].graph, load_external_data=False)
    for tensor in model.graph.initializer:
        reported = {entry.key: entry.value for entry in tensor.external_data}
        if reported:
            assert reported["location"] == "llm.bin"
            assert int(reported["offset"]) % (4096 if int(reported["length"]) >= 16384 else 64) == 0


# --- all or nothing


def nothing_at(target: Path) -> bool:
    return not target.exists() and not list(target.parent.glob(f".{target.name}.*"))


class Breaks:
    """Stands in for the method that writes a graph, and raises when it comes to the third."""

    def __init__(self, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
        save, self.calls = GraphBuilder.save, 0

        def breaking(graph: GraphBuilder, folder: Path, progress: object = None) -> list[Path]:
            self.calls += 1
            if self.calls == 3:
                assert any(folder.iterdir()), "this is meant to be in the middle"
                raise error
            return save(graph, folder, None)

        monkeypatch.setattr(GraphBuilder, "save", breaking)


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), MemoryError()])
def test_an_export_that_breaks_off_leaves_nothing(
    error: BaseException, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Breaks(error, monkeypatch)
    with pytest.raises(type(error)):
        export_bundle(checkpoint, tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()])
def test_a_forced_export_that_breaks_off_leaves_the_old_bundle(
    error: BaseException, checkpoint: Path, tiny_bundle: Bundle, bundle_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Breaks(error, monkeypatch)
    with pytest.raises(type(error)):
        export_bundle(checkpoint, bundle_copy, force=True)
    assert digests(bundle_copy) == digests(tiny_bundle.path)
    assert [path.name for path in bundle_copy.parent.iterdir()] == [bundle_copy.name]


def test_a_forced_export_that_cannot_take_the_name_leaves_the_old_bundle(
    checkpoint: Path, tiny_bundle: Bundle, bundle_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def refused(source: Path, target: Path) -> Path:
        if source.name.endswith(".partial"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", refused)
    monkeypatch.setattr(atomic_folder, "_exchange", lambda *_: False)
    with pytest.raises(OutputFailed):
        export_bundle(checkpoint, bundle_copy, force=True)
    assert digests(bundle_copy) == digests(tiny_bundle.path)
    assert [path.name for path in bundle_copy.parent.iterdir()] == [bundle_copy.name]


def test_what_a_killed_export_has_left_is_swept_away(checkpoint: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    for name in (".b.partial", ".b.0123abcd.partial"):
        left = tmp_path / name / "components"
        left.mkdir(parents=True)
        (left / "llm.bin").write_bytes(b"half")
        (left / "strange.bin").write_bytes(b"of another version")
    export_bundle(checkpoint, tmp_path / "b")
    assert digests(tmp_path / "b") == digests(tiny_bundle.path)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


KILLED = """
import os, pathlib, sys
from vita_edge.engines.bundle.atomic_folder import whole_folder
with whole_folder(pathlib.Path(sys.argv[1]), 0, what="bundle") as folder:
    (folder / "half").touch()
    os._exit(9)
"""


def test_two_that_write_to_one_name_do_not_disturb_each_other(tmp_path: Path) -> None:
    """The first to end has it; what it leaves is whole. One that was killed meanwhile is swept away."""
    target = tmp_path / "b"
    with pytest.raises(OutputFailed, match="Cannot write"), whole_folder(target, 0, what="bundle") as slow:
        (slow / "from").write_text("slow")
        assert subprocess.run([sys.executable, "-c", KILLED, str(target)]).returncode == 9
        assert len(list(tmp_path.iterdir())) == 2
        with whole_folder(target, 0, what="bundle") as quick:
            (quick / "from").write_text("quick")
            assert sorted(tmp_path.iterdir()) == sorted((slow, quick))
        assert (slow / "from").read_text() == "slow"
    assert (target / "from").read_text() == "quick"
    assert list(tmp_path.iterdir()) == [target]


def test_missing_folders_above_the_bundle_are_made(checkpoint: Path, tmp_path: Path) -> None:
    export_bundle(checkpoint, tmp_path / "new" / "folders" / "b")
    Bundle.open(tmp_path / "new" / "folders" / "b")


def test_a_bundle_is_not_replaced_unasked_and_is_replaced_with_force(
    checkpoint: Path, bundle_copy: Path, tiny_bundle: Bundle
) -> None:
    edit_json(bundle_copy / "manifest.json", lambda manifest: manifest.update(producer="of the bundle before"))
    with pytest.raises(Misuse, match="exists") as raised:
        export_bundle(checkpoint, bundle_copy)
    assert "--force" in raised.value.fix
    assert Bundle.open(bundle_copy).producer == "of the bundle before"
    export_bundle(checkpoint, bundle_copy, force=True)
    assert digests(bundle_copy) == digests(tiny_bundle.path)


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_that_is_no_bundle_is_never_touched(force: bool, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(Misuse, match="exists"):
        export_bundle(checkpoint, tmp_path, force=force)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    file = tmp_path / "thesis.tex"
    with pytest.raises(Misuse, match="exists"):
        export_bundle(checkpoint, file, force=force)
    assert file.read_text() == "years of work"


def test_an_empty_folder_may_be_filled(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    export_bundle(checkpoint, tmp_path / "b")
    Bundle.open(tmp_path / "b")


def test_a_bundle_may_be_named_from_inside_the_folder_that_it_goes_to(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    export_bundle(checkpoint, "b")
    Bundle.open(tmp_path / "b")


def test_a_link_to_a_bundle_stays_a_link_when_the_bundle_is_replaced(
    checkpoint: Path, bundle_copy: Path, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    edit_json(bundle_copy / "manifest.json", lambda manifest: manifest.update(producer="of the bundle before"))
    link = tmp_path / "links" / "current"
    link.parent.mkdir()
    link.symlink_to(bundle_copy, target_is_directory=True)
    assert export_bundle(checkpoint, link, force=True).bundle == link
    assert link.is_symlink()
    assert digests(bundle_copy) == digests(tiny_bundle.path)
    assert [path.name for path in link.parent.iterdir()] == ["current"]
    assert [path.name for path in bundle_copy.parent.iterdir() if path.name.startswith(".")] == []


def test_a_link_that_leads_to_itself_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(Misuse, match="link to itself"):
        export_bundle(checkpoint, tmp_path / "loop", force=True)


def test_the_folder_that_one_is_in_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in (".", tmp_path / "here"):
        with pytest.raises(Misuse, match="folder that you are in"):
            export_bundle(tmp_path / "no checkpoint", name)
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_a_mount_point_is_refused_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "disk")
    with pytest.raises(Misuse, match="where a disk is mounted"):
        export_bundle(tmp_path / "no checkpoint", tmp_path / "disk")


@pytest.mark.parametrize("force", [False, True])
def test_what_appears_under_the_name_meanwhile_is_not_replaced(force: bool, checkpoint: Path, tmp_path: Path) -> None:
    def appears(notice: str) -> None:
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "mine.txt").write_text("mine")

    with pytest.raises(OutputFailed):
        export_bundle(checkpoint, tmp_path / "b", reported=appears, force=force)
    assert [path.name for path in tmp_path.rglob("*")] == ["b", "mine.txt"]


# --- disks


def test_too_little_space_is_said_before_anything_is_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=1 << 40, used=0, free=70 << 20))
    with pytest.raises(OutputFailed, match="70 MiB are free") as raised:
        export_bundle(checkpoint, tmp_path / "b")
    assert raised.value.why == "Another 64 MiB are to stay free beside it. Nothing was written."
    assert nothing_at(tmp_path / "b")


@pytest.mark.parametrize(
    ("number", "fix"), [(errno.ENOSPC, "Free some space"), (errno.EACCES, "that you own"), (errno.EROFS, "elsewhere")]
)
def test_a_failed_write_is_told_in_plain_words_and_leaves_nothing(
    number: int, fix: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Breaks(OSError(number, os.strerror(number)), monkeypatch)
    with pytest.raises(OutputFailed, match="Cannot write") as raised:
        export_bundle(checkpoint, tmp_path / "b")
    assert os.strerror(number) in raised.value.why
    assert fix in raised.value.fix
    assert nothing_at(tmp_path / "b")


def test_a_disk_that_fills_up_at_the_last_moment_leaves_nothing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputFailed, match="Cannot write"):
        export_bundle(checkpoint, tmp_path / "b")
    assert nothing_at(tmp_path / "b")


def test_a_path_below_a_file_cannot_be_written_to(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputFailed, match="Cannot write"):
        export_bundle(checkpoint, tmp_path / "file" / "b")
    with pytest.raises(OutputFailed, match="Cannot write"):
        export_bundle(checkpoint, tmp_path / ("long" * 100))
    with pytest.raises(OutputFailed, match="Cannot write"):  # only the name that it is written under is too long
        export_bundle(checkpoint, tmp_path / ("l" * 250))


# --- misuse


def test_an_unknown_precision_is_misuse(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="no precision fp7") as raised:
        export_bundle(checkpoint, tmp_path / "b", precision="fp7")
    assert "fp32" in raised.value.why
    assert main(["export", str(checkpoint), "-o", str(tmp_path / "b"), "--precision", "fp7"]) == 2
    assert nothing_at(tmp_path / "b")


def test_a_checkpoint_that_is_none_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint):
        export_bundle(tmp_path / "nowhere", tmp_path / "b")
    assert main(["export", str(tmp_path / "nowhere"), "-o", str(tmp_path / "b")]) == 1
    assert nothing_at(tmp_path / "b")


def test_ctrl_c_ends_with_130_and_leaves_nothing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Breaks(KeyboardInterrupt(), monkeypatch)
    assert main(["export", str(checkpoint), "-o", str(tmp_path / "b")]) == 130
    assert nothing_at(tmp_path / "b")
