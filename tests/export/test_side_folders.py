"""Where the folders that belong to a checkpoint are found, and how they are named when they are not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support.command import run
from support.spoil import linked_copy
from vita_edge.engines.errors import BadCheckpoint, Misuse
from vita_edge.engines.reading.file_kind import check_utf8
from vita_edge.export.checkpoint.open_checkpoint import Checkpoint

AUDIO = "audio-encoder-Qwen2-7B-1107-weight-base-11wh-tunning"
VISION = "InternViT-300M-448px"


@pytest.fixture
def snapshot(golden: Path, tmp_path: Path) -> Path:
    """The checkpoint as one repository of a hub cache."""
    return linked_copy(golden / "checkpoint", tmp_path / "hub" / "models--VITA-MLLM--VITA-1.5" / "snapshots" / "aa11")


def moved(folder: Path, name: str, repository: str) -> None:
    place = folder.parents[2] / f"models--{repository.replace('/', '--')}" / "snapshots" / "bb22"
    place.parent.mkdir(parents=True)
    shutil.move(folder / name, place)


@pytest.mark.parametrize("repository", [VISION, f"OpenGVLab/{VISION}", "somebody/else"])
def test_the_vision_folder_is_found_in_the_same_hub_cache(repository: str, snapshot: Path) -> None:
    moved(snapshot, VISION, repository)
    assert Checkpoint.open(snapshot).config.vision.layers == 2


def test_the_audio_folder_is_found_in_the_same_hub_cache(snapshot: Path) -> None:
    moved(snapshot, AUDIO, "VITA-MLLM/VITA-1.5_AudioEnc")
    assert Checkpoint.open(snapshot).config.audio.layers == 2


def test_an_audio_folder_elsewhere_can_be_named(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = linked_copy(golden / "checkpoint", tmp_path / "checkpoint")
    shutil.move(folder / AUDIO, tmp_path / "ears")
    with pytest.raises(BadCheckpoint, match="no audio folder") as raised:
        Checkpoint.open(folder)
    assert "--audio-encoder DIR" in raised.value.fix
    exported = run(capsys, "export", folder, "-o", tmp_path / "out", "--audio-encoder", tmp_path / "ears")
    assert exported.code == 0, exported.err
    with pytest.raises(BadCheckpoint, match="is not an audio folder"):
        Checkpoint.open(folder, audio_encoder=tmp_path)


def test_a_path_that_is_not_utf8_is_refused_before_anything_is_read(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strange = tmp_path / "gbk_\udcce\udcd2"
    with pytest.raises(Misuse, match="not in UTF-8"):
        check_utf8(strange)
    result = run(capsys, "export", golden / "checkpoint", "-o", strange)
    result.assert_explains("is not in UTF-8", code=2)
    assert "\udcce" not in result.err
    check_utf8(tmp_path / "模型 é")
