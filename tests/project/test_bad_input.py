"""Bad input: an error that says what, why and what to do, or a sound result; no traceback, nothing half-written."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from support.command import Result, run
from support.spoil import edit_json, linked_copy, rewrite
from vita_edge.engines.bundle import atomic_file
from vita_edge.engines.bundle.format import Bundle

Ask = Callable[..., Result]
QUIET = ("--max-new-tokens", 4, "--no-speech")


@pytest.fixture
def ask(tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> Ask:
    return lambda *arguments: run(capsys, "ask", tiny_bundle.path, *arguments, *QUIET)


def assert_sound(result: Result) -> None:
    assert result.code == 0
    assert result.out.strip()
    assert "Warning" not in result.err


# --- sounds


def wav(seconds: float = 1.0, channels: int = 1, subtype: str = "PCM_16") -> bytes:
    noise = np.random.default_rng(0).uniform(-0.2, 0.2, (int(16000 * seconds), channels))
    file = io.BytesIO()
    soundfile.write(file, noise, 16000, format="WAV", subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is not a sound that can be read"),
        (b"This is a text.", "is not a sound that can be read"),
        (wav()[:30], "is not a sound that can be read"),
        (wav(0), "holds no samples"),
        (wav(0.05), "too short"),
        (wav(201, subtype="PCM_U8"), "too long"),
    ],
    ids=["empty", "a text", "half a header", "no samples", "50 ms", "201 s"],
)
def test_a_sound_that_cannot_be_heard_is_explained(ask: Ask, tmp_path: Path, content: bytes, what: str) -> None:
    file = tmp_path / "question.wav"
    file.write_bytes(content)
    ask("--audio", file).assert_explains(what)


@pytest.mark.parametrize(
    "content",
    [
        wav(subtype="PCM_U8"),
        wav(subtype="PCM_24"),
        wav(subtype="FLOAT"),
        wav(channels=8),
        wav()[:20001],
        wav(0.1),
    ],
    ids=["8 bits", "24 bits", "floats", "8 channels", "cut short", "100 ms"],
)
def test_an_odd_sound_is_heard(ask: Ask, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "question.wav"
    file.write_bytes(content)
    assert_sound(ask("--audio", file))


def test_silence_and_the_loudest_sound_are_answered(ask: Ask, tmp_path: Path) -> None:
    for level in (0.0, 1.0, -1.0):
        soundfile.write(tmp_path / "question.wav", np.full(16000, level), 16000)
        assert_sound(ask("--audio", tmp_path / "question.wav"))


def test_a_sound_of_nan_is_explained(ask: Ask, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "question.wav", np.full(16000, np.nan), 16000, subtype="FLOAT")
    ask("--audio", tmp_path / "question.wav").assert_explains("The clip is damaged.")


def test_files_that_are_missing_or_folders_are_explained(ask: Ask, tmp_path: Path) -> None:
    for option in ("--audio", "--image", "--video"):
        for path in (tmp_path / "none", tmp_path):
            ask(option, path).assert_explains(str(path))


# --- pictures and videos


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)  # the same reply every time
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "content", [b"", b"This is a text.", png(300, 300)[:4000]], ids=["empty", "a text", "cut short"]
)
def test_a_picture_that_cannot_be_seen_is_explained(ask: Ask, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "photo.png"
    file.write_bytes(content)
    result = ask("--image", file)
    result.assert_explains("cannot be decoded")
    assert "object at" not in result.err


@pytest.mark.parametrize(("width", "height"), [(1, 1), (10000, 20), (20, 3000), (1, 100)])
def test_a_picture_of_any_shape_is_seen(ask: Ask, tmp_path: Path, width: int, height: int) -> None:
    (tmp_path / "photo.png").write_bytes(png(width, height))
    assert_sound(ask("--image", tmp_path / "photo.png"))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{}", "has no fps"),
        ("nothing", "Cannot read the list of frames"),
        ('{"fps": 2, "frames": []}', "lists no frames"),
        ('{"fps": 0, "frames": ["a.png"]}', "fps is 0"),
        ('{"fps": 2, "frames": ["none.png"]}', "none.png cannot be read"),
    ],
)
def test_a_list_of_frames_that_cannot_be_used_is_explained(ask: Ask, tmp_path: Path, content: str, what: str) -> None:
    file = tmp_path / "clip.json"
    file.write_text(content)
    ask("--video", file, "--text", "What?").assert_explains(what)


def test_a_video_of_garbage_is_explained(ask: Ask, tmp_path: Path) -> None:
    file = tmp_path / "clip.mp4"
    file.write_bytes(np.random.default_rng(0).bytes(5000))
    ask("--video", file).assert_explains(f"Cannot read the video {file}.")  # no frames in it, or no OpenCV


# --- texts


def test_a_text_of_100_000_characters_is_explained(ask: Ask) -> None:
    ask("--text", "word " * 20_000).assert_explains("a prompt may have 6,200")


def test_a_text_that_is_not_unicode_is_explained(ask: Ask) -> None:
    ask("--text", "caf\udce9").assert_explains("The text is not valid Unicode.")


@pytest.mark.parametrize("text", ["\x00", "<|im_end|>", "☟", "\u202e\ufeff", "🦆" * 300, "<image><audio>"])
def test_an_odd_text_is_answered(ask: Ask, text: str) -> None:
    assert ask("--text", text).code == 0


def test_more_pictures_than_fit_are_explained(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(png(400, 300))
    ask("--image", *[tmp_path / "photo.png"] * 40).assert_explains("a prompt may have 6,200")


# --- bundles


def spoiled(bundle: Path, name: str, change: Callable[[bytes], bytes]) -> Path:
    rewrite(bundle / name, change((bundle / name).read_bytes()))
    return bundle


@pytest.fixture
def hear(bundle_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[], Result]:
    """Ask everything of the bundle's copy."""
    (tmp_path / "question.wav").write_bytes(wav())
    (tmp_path / "photo.png").write_bytes(png(30, 30))
    question = ("--audio", tmp_path / "question.wav", "--image", tmp_path / "photo.png")
    return lambda: run(capsys, "ask", bundle_copy, *question, "--max-new-tokens", 4, "--greedy")


@pytest.mark.parametrize("name", ["vision", "audio", "llm", "speech_prefill", "speech_decoder", "codec"])
def test_a_damaged_graph_is_explained(bundle_copy: Path, hear: Callable[[], Result], name: str) -> None:
    spoiled(bundle_copy, f"components/{name}.onnx", lambda graph: graph[:100] + b"\xff" * 20 + graph[120:])
    hear().assert_explains(f"components/{name}.onnx")


def test_a_damaged_tokenizer_is_explained(bundle_copy: Path, hear: Callable[[], Result]) -> None:
    spoiled(bundle_copy, "tokenizer.json", lambda content: content[:-9] + b" " * 9)
    hear().assert_explains("tokenizer.json")


@pytest.mark.parametrize("name", ["vision", "audio", "llm", "speech_prefill", "speech_decoder", "codec"])
def test_weights_that_are_not_numbers_are_explained(bundle_copy: Path, hear: Callable[[], Result], name: str) -> None:
    spoiled(bundle_copy, f"components/{name}.bin", lambda weights: b"\xff" * len(weights))
    result = hear()
    assert result.code == 1
    assert "error: The " in result.err
    assert "mistake in vita-edge" not in result.err and "Warning" not in result.err


@pytest.mark.parametrize("name", ["components/llm.bin", "components/codec.bin", "embeddings.bin"])
def test_a_few_wrong_bytes_in_weights_do_not_crash_and_are_found_by_inspect(
    bundle_copy: Path, hear: Callable[[], Result], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    spoiled(bundle_copy, name, lambda weights: weights[:1000] + b"\x00\x01\x02\x03" * 50 + weights[1200:])
    result = hear()
    assert result.code in (0, 1)
    assert "mistake in vita-edge" not in result.err and "Traceback" not in result.err
    inspected = run(capsys, "inspect", bundle_copy, "--check")
    assert inspected.code == 1
    assert f"error: 1 of {len(Bundle.open(bundle_copy).files)} files are damaged: {name}." in inspected.err


@pytest.mark.parametrize("name", ["components/llm.bin", "components/codec.onnx", "embeddings.bin", "tokenizer.json"])
def test_a_file_cut_short_or_missing_is_explained(bundle_copy: Path, hear: Callable[[], Result], name: str) -> None:
    spoiled(bundle_copy, name, lambda content: content[:-1])
    result = hear()
    result.assert_explains("is damaged")
    assert name in result.err
    (bundle_copy / name).unlink()
    result = hear()
    result.assert_explains("is damaged")
    assert f"{name} is missing" in result.err


def test_a_bundle_of_a_newer_version_is_explained(bundle_copy: Path, hear: Callable[[], Result]) -> None:
    edit_json(bundle_copy / "manifest.json", lambda manifest: manifest.update(format_version=99))
    result = hear()
    result.assert_explains("has format 99")
    assert "Upgrade vita-edge." in result.err


@pytest.mark.parametrize("key", ["model", "components", "files", "prompts", "embeddings", "notice"])
def test_a_manifest_without_a_key_is_explained(bundle_copy: Path, hear: Callable[[], Result], key: str) -> None:
    edit_json(bundle_copy / "manifest.json", lambda manifest: manifest.pop(key))
    hear().assert_explains("manifest")


def test_a_manifest_that_is_not_json_is_explained(bundle_copy: Path, hear: Callable[[], Result]) -> None:
    rewrite(bundle_copy / "manifest.json", b"{")
    hear().assert_explains("Cannot read the manifest")


def test_a_path_that_is_no_bundle_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], golden: Path
) -> None:
    for path in (tmp_path / "none", tmp_path, golden / "checkpoint", golden / "checkpoint" / "config.json"):
        for command in (("ask", path, "--text", "a"), ("inspect", path), ("verify", path, "--golden", golden)):
            run(capsys, *command).assert_explains(str(path))


def test_a_bundle_of_garbage_weights_never_takes_the_interpreter_down(bundle_copy: Path) -> None:
    """In a process of its own, since a crash would take the tests with it."""
    random = np.random.default_rng(1)
    for file in bundle_copy.rglob("*.bin"):
        rewrite(file, random.bytes(file.stat().st_size))
    command = [sys.executable, "-m", "vita_edge.cli", "ask", bundle_copy, "--text", "a", "--max-new-tokens", "8"]
    code = f"import sys; from vita_edge.cli import main; sys.exit(main({[str(part) for part in command[3:]]!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr and "mistake in vita-edge" not in done.stderr


# --- writing


def test_a_full_disk_is_explained_and_leaves_nothing_half_written(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(beside: Path, content: bytes, mode: int) -> None:
        beside.write_bytes(bytes(content[:100]))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(beside))

    target = tmp_path / "reply.wav"
    target.write_bytes(b"an older reply")
    monkeypatch.setattr(atomic_file, "_write_synced", full)
    result = run(capsys, "ask", tiny_bundle.path, "--text", "a", "--max-new-tokens", 6, "-o", target, "--force")
    assert result.code == 1
    assert result.err.splitlines()[-3:] == [
        f"error: Cannot write {target}.",
        "No space left on device.",
        "Free some space, or write to another disk.",
    ]
    assert list(tmp_path.iterdir()) == [target]
    assert target.read_bytes() == b"an older reply"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_device_is_explained(tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, "ask", tiny_bundle.path, "--text", "a", "--max-new-tokens", 6, "-o", "/dev/full")
    assert result.code == 1
    assert "error: Cannot write /dev/full.\nNo space left on device.\n" in result.err


def test_no_permission_to_write_is_explained(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(beside: Path, content: bytes, mode: int) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(beside))

    monkeypatch.setattr(atomic_file, "_write_synced", denied)
    target = tmp_path / "reply.wav"
    result = run(capsys, "ask", tiny_bundle.path, "--text", "a", "--max-new-tokens", 6, "-o", target)
    assert result.code == 1
    assert "Permission denied.\nWrite to a folder that you own" in result.err
    assert list(tmp_path.iterdir()) == []


# --- checkpoints


@pytest.fixture
def checkpoint(golden: Path, tmp_path: Path) -> Path:
    """A copy of the golden checkpoint to spoil."""
    return linked_copy(golden / "checkpoint", tmp_path / "checkpoint")


def assert_export_explains(capsys: pytest.CaptureFixture[str], checkpoint: Path, what: str) -> None:
    target = checkpoint.parent / "bundle"
    before = set(checkpoint.parent.iterdir())
    run(capsys, "export", checkpoint, "-o", target).assert_explains(what)
    assert set(checkpoint.parent.iterdir()) == before  # neither a bundle nor a part of one


def test_a_missing_checkpoint_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_export_explains(capsys, tmp_path / "none", "There is no checkpoint folder")
    (tmp_path / "empty").mkdir()
    assert_export_explains(capsys, tmp_path / "empty", "config.json.")


def test_a_truncated_shard_is_explained(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard = checkpoint / "model-00001-of-00002.safetensors"
    rewrite(shard, shard.read_bytes()[:-1000])
    assert_export_explains(capsys, checkpoint, shard.name)


def test_a_missing_shard_is_explained(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard = checkpoint / "model-00002-of-00002.safetensors"
    shard.unlink()
    assert_export_explains(capsys, checkpoint, shard.name)


def test_weights_of_another_shape_are_explained(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_json(checkpoint / "config.json", lambda config: config.update(intermediate_size=64))
    result = run(capsys, "export", checkpoint, "-o", checkpoint.parent / "bundle")
    assert (result.code, result.out) == (1, "")
    what, *why, fix = result.err.splitlines()
    assert what.endswith("does not hold the model that its config files describe.")
    assert len(why) == 6  # more than the first
    assert (
        why[0].strip() == "main weights: model.layers.0.mlp.gate_proj.weight has shape [256, 128], expected [64, 128]"
    )
    assert fix.startswith("Download the release again")
    assert not (checkpoint.parent / "bundle").exists()


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "vocab_size"])
def test_a_missing_config_key_is_explained(checkpoint: Path, capsys: pytest.CaptureFixture[str], key: str) -> None:
    edit_json(checkpoint / "config.json", lambda config: config.pop(key))
    assert_export_explains(capsys, checkpoint, key)


def test_an_export_never_replaces_a_folder_unasked(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "precious").write_text("mine")
    for force in ((), ("--force",)):
        run(capsys, "export", checkpoint, "-o", bundle, *force).assert_explains("exists", code=2)
    assert (bundle / "precious").read_text() == "mine"
    shutil.rmtree(bundle)

    assert run(capsys, "export", checkpoint, "-o", bundle).code == 0
    run(capsys, "export", checkpoint, "-o", bundle).assert_explains("exists", code=2)
    assert run(capsys, "export", checkpoint, "-o", bundle, "--force").code == 0
    assert json.loads((bundle / "manifest.json").read_text())["format_version"] == 1


def test_an_export_below_a_file_or_of_an_unknown_precision_is_explained(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "export", checkpoint, "-o", checkpoint / "config.json" / "b").assert_explains("Cannot write")
    target = checkpoint.parent / "b"
    run(capsys, "export", checkpoint, "-o", target, "--precision", "fp7").assert_explains("fp7", code=2)
    assert not target.exists()
