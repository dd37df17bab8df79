"""``--force`` replaces a bundle of ours, and nothing else of anybody's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vita_edge.calibration.calibrate import calibrate
from vita_edge.engines.bundle.format import FORMAT, Bundle
from vita_edge.engines.bundle.replace import refusal
from vita_edge.engines.errors import Misuse
from vita_edge.export.bundle import export_bundle


def web_project(folder: Path) -> None:
    folder.mkdir()
    (folder / "manifest.json").write_text('{"name": "app"}')
    (folder / "thesis.txt").write_text("years")


def recording(folder: Path) -> None:
    folder.mkdir()
    (folder / "manifest.json").write_text('{"format": "vita-edge-feeds", "files": {}}')
    (folder / "hours.npz").touch()


def files_of_another(folder: Path) -> None:
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"format": FORMAT, "files": ["thesis.txt"]}))


def broken(folder: Path) -> None:
    folder.mkdir()
    (folder / "manifest.json").write_bytes(b"[" * 100_000)


def without_manifest(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.txt").touch()


@pytest.mark.parametrize("make", [web_project, recording, files_of_another, broken, without_manifest])
def test_what_is_no_bundle_is_never_replaced(make: Callable[[Path], None], golden: Path, tmp_path: Path) -> None:
    make(tmp_path / "b")
    before = sorted((tmp_path / "b").rglob("*"))
    with pytest.raises(Misuse, match="exists") as refused:
        export_bundle(golden / "checkpoint", tmp_path / "b", force=True)
    assert "not a bundle" in refused.value.why
    assert sorted((tmp_path / "b").rglob("*")) == before


@pytest.mark.parametrize("name", ["thesis.txt", "components/notes.md", ".git/HEAD"])
def test_a_bundle_with_foreign_files_is_not_replaced(name: str, bundle_copy: Path, golden: Path) -> None:
    (bundle_copy / name).parent.mkdir(exist_ok=True)
    (bundle_copy / name).write_text("mine")
    with pytest.raises(Misuse, match="holds files that are none of it") as refused:
        export_bundle(golden / "checkpoint", bundle_copy, force=True)
    assert name.split("/")[0] in refused.value.why
    assert (bundle_copy / name).read_text() == "mine"


def test_a_bundle_with_an_empty_foreign_folder_is_not_replaced(bundle_copy: Path) -> None:
    (bundle_copy / "later").mkdir()
    refused = refusal(bundle_copy, force=True, sources={})
    assert refused and "later" in refused.why


def test_a_bundle_of_another_version_is_replaced(bundle_copy: Path) -> None:
    manifest = json.loads((bundle_copy / "manifest.json").read_text())
    (bundle_copy / "manifest.json").unlink()
    (bundle_copy / "manifest.json").write_text(json.dumps({**manifest, "format_version": 99}))
    assert refusal(bundle_copy, force=True, sources={}) is None


def test_the_folder_that_is_read_is_not_written(golden: Path, tmp_path: Path) -> None:
    checkpoint = Path(shutil.copytree(golden / "checkpoint", tmp_path / "checkpoint"))
    for place in (checkpoint, checkpoint / "vita_tts_ckpt", tmp_path):
        with pytest.raises(Misuse) as refused:
            export_bundle(checkpoint, place, force=True)
        assert "is read from there" in refused.value.what
    assert (checkpoint / "config.json").exists()


def test_a_calibration_replaces_neither_its_bundle_nor_its_recording(tiny_bundle: Bundle, tmp_path: Path) -> None:
    from vita_edge.runtime import Assistant, Turn

    bundle = Path(shutil.copytree(tiny_bundle.path, tmp_path / "b"))
    with Assistant(bundle, record=tmp_path / "feeds") as assistant:
        assistant.session().ask(Turn("hello"))
    for place in (bundle, tmp_path / "feeds"):
        with pytest.raises(Misuse, match="is read from there"):
            calibrate(bundle, tmp_path / "feeds", place, components=["llm"], force=True)
    assert (tmp_path / "feeds" / "manifest.json").exists()
