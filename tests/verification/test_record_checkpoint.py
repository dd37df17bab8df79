"""`vita-edge verify BUNDLE --checkpoint CHECKPOINT`: the reference on the user's own weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the reference needs PyTorch")

from vita_edge.cli import main
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import BadInput
from vita_edge.export.bundle import export_bundle
from vita_edge.export.practice.write_practice import write_practice_checkpoint
from vita_edge.verification.record_checkpoint import record_checkpoint

pytestmark = pytest.mark.integration


def report(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> Any:
    assert main(["verify", *map(str, arguments), "--json"]) == status
    return json.loads(capsys.readouterr().out)


def test_a_bundle_is_held_to_its_checkpoint(
    golden: Path, tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, retained = tmp_path / "certificate", tmp_path / "kept"
    options = ("--tokens", 6, "--record", retained, "--certificate", name)
    reported = report(capsys, tiny_bundle.path, "--checkpoint", golden / "checkpoint", *options)
    assert [check for check in reported["checks"] if check["skipped"]] == []
    stages = {row["stage"] for row in reported["stages"]}
    assert stages >= {"tokenizer", "audio front end", "audio encoder", "vision tower", "llm", "speech decoder", "talk"}
    facts = json.loads(name.with_name("certificate.json").read_text("utf-8"))
    assert facts["held_to"]["model"] == tiny_bundle.model.name
    assert len(facts["held_to"]["weights_sha256"]) == 64
    assert "PyTorch" in facts["held_to"]["reference"]
    assert set(facts["held_to"]["inputs"]) >= {"english.wav", "chinese.wav", "picture.png", "clip.json"}
    again = report(capsys, tiny_bundle.path, "--golden", retained)  # without the checkpoint, as on the device
    assert again["passed"]


def test_one_wrong_weight_of_the_checkpoint_shows(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bundle of other weights of the same shapes."""
    for name, seed in (("a", 1), ("b", 2)):
        write_practice_checkpoint(tmp_path / name, "tiny", seed=seed)
    export_bundle(tmp_path / "a", tmp_path / "bundle")
    reported = report(capsys, tmp_path / "bundle", "--checkpoint", tmp_path / "b", "--tokens", 2, status=1)
    failed = {row["stage"] for row in reported["stages"] if row["failed"]}
    assert failed >= {"audio encoder", "vision tower", "llm", "speech prefix", "codec"}


def test_guesses_of_a_rounded_bundle_do_not_change_what_the_reference_says(golden: Path, tmp_path: Path) -> None:
    import numpy as np

    said = []
    for precision in ("fp32", "int4"):
        export_bundle(golden / "checkpoint", tmp_path / precision, precision=precision)
        folder = tmp_path / f"recorded-{precision}"
        record_checkpoint(Bundle.open(tmp_path / precision), golden / "checkpoint", folder, max_tokens=10)
        with np.load(folder / "llm.npz") as arrays:
            said.append({name: arrays[name] for name in arrays.files if name.endswith(("tokens", "logits"))})
    for name, want in said[0].items():
        assert np.allclose(said[1][name], want, atol=1e-4), name


def test_a_checkpoint_of_other_sizes_is_named(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_practice_checkpoint(tmp_path / "other", "tiny")
    assert main(["verify", str(tiny_bundle.path), "--checkpoint", str(tmp_path / "other")]) == 1
    reported = capsys.readouterr().err
    assert "was not made from the checkpoint" in reported
    assert "llm.hidden_size: 128 in the bundle, 64 in the checkpoint" in reported


def shorten(folder: Path) -> None:
    file = next(iter(sorted(folder.glob("*.safetensors"))))
    file.write_bytes(file.read_bytes()[:-1000])


def put_pointer(folder: Path) -> None:
    file = folder / "vita_tts_ckpt" / "decoder" / "final.pt"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


def lose_shard(folder: Path) -> None:
    next(iter(sorted(folder.glob("*.safetensors")))).unlink()


@pytest.mark.parametrize(
    ("damage", "named"), [(shorten, "cut off"), (put_pointer, "LFS pointer"), (lose_shard, "shards")]
)
def test_a_checkpoint_that_is_not_whole_is_named(
    damage: Callable[[Path], None],
    named: str,
    golden: Path,
    tiny_bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(golden / "checkpoint", tmp_path / "damaged")
    damage(tmp_path / "damaged")
    assert main(["verify", str(tiny_bundle.path), "--checkpoint", str(tmp_path / "damaged")]) == 1
    assert named in capsys.readouterr().err


def test_a_failed_recording_leaves_nothing_behind(golden: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        record_checkpoint(tiny_bundle, golden / "checkpoint", tmp_path / "kept", inputs=tmp_path / "nowhere")
    assert not (tmp_path / "kept").exists()
