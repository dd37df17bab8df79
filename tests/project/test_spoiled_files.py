"""Files that nobody has written on purpose: each is laid over a whole folder, and a command reads it as a user would.

Every one ends in words of the product: what happened, why, what to do. None in a traceback, none in "a mistake in
vita-edge". Each row was a fault once; the kinds are fuzzed in test_fuzz.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.bench_results import bench_result, turns
from support.command import Result, run
from support.spoil import linked_copy
from support.spoiled import (
    BIG,
    DEEP,
    ENCRYPTED,
    HUGE,
    LFS,
    NO_NUMBER,
    UNKNOWN_METHOD,
    changed,
    far_memo,
    npy,
    npz,
    torch_archive,
)
from vita_edge.cli import main
from vita_edge.engines.bundle.format import Bundle

AUDIO = "audio-encoder-Qwen2-7B-1107-weight-base-11wh-tunning"
VISION = "InternViT-300M-448px"
DECODER, CODEC = "vita_tts_ckpt/decoder/final.pt", "vita_tts_ckpt/codec/final.pt"
ASK = ("--text", "hi", "--threads", "1", "--no-speech", "--max-new-tokens", "2")
Content = bytes | Callable[[Path], bytes]
"""Bytes, or what to make of the file that is there."""


def edited(change: Callable[[Any], object]) -> Callable[[Path], bytes]:
    return lambda file: changed(file, change)


def with_key(*path: str | int, value: Any) -> Callable[[Path], bytes]:
    """The file's JSON with another value at ``path``."""

    def change(data: Any) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return edited(change)


def lay(source: Path, folder: Path, files: Mapping[str, Content | None]) -> Path:
    """A linked copy of ``source`` with other ``files``; None removes one."""
    linked_copy(source, folder)
    for name, content in files.items():
        file = folder / name
        new = content(file) if callable(content) else content
        file.unlink(missing_ok=True)
        if new is not None:
            file.write_bytes(new)
    return folder


def ends_in_our_words(result: Result, *, code: int | None = 1) -> None:
    assert "Traceback" not in result.err
    assert "mistake in vita-edge" not in result.err
    assert "Warning" not in result.err
    if code is not None:
        assert result.code == code, result.err
    if "error: " in result.err:
        lines = result.err[result.err.index("error: ") :].strip().splitlines()
        assert len(lines) >= 3, result.err


CHECKPOINTS: dict[str, Mapping[str, Content | None]] = {
    "deep config": {"config.json": DEEP},
    "deep header of a shard": {"model-00001-of-00002.safetensors": len(DEEP).to_bytes(8, "little") + DEEP},
    "deep train.yaml": {f"{AUDIO}/train.yaml": b"a: " + b"[" * 500 + b"]" * 500},
    "deep vision config": {f"{VISION}/config.json": DEEP},
    "deep preprocessor": {f"{VISION}/preprocessor_config.json": DEEP},
    "deep generation config": {"generation_config.json": DEEP},
    "deep codec settings": {"vita_tts_ckpt/codec/model.json": DEEP},
    "a key twice": {"config.json": lambda f: b'{"hidden_size": 64, ' + f.read_bytes().lstrip()[1:]},
    "empty tokenizer": {"tokenizer.json": b"{}", "vocab.json": None},
    "a list for a tokenizer": {"tokenizer.json": b"[]"},
    "a tokenizer's id is text": {"tokenizer.json": with_key("added_tokens", 0, "id", value="x"), "vocab.json": None},
    "a tokenizer's id is far": {
        "tokenizer.json": with_key("model", "vocab", "zzz", value=2**31 - 1),
        "vocab.json": None,
    },
    "vocab.json has a far id": {"tokenizer.json": None, "vocab.json": with_key("zzz", value=2**31 - 1)},
    "an added id is text": {"tokenizer.json": None, "added_tokens.json": b'{"<|im_start|>": "x"}'},
    "an added id is a list": {"tokenizer.json": None, "added_tokens.json": b'{"<|im_start|>": []}'},
    "an added id is infinite": {"tokenizer.json": None, "added_tokens.json": b'{"<|im_start|>": 1e999}'},
    "tokenizer_config is a list": {"tokenizer.json": None, "tokenizer_config.json": b"[]"},
    "an added token has no content": {
        "tokenizer.json": None,
        "tokenizer_config.json": b'{"added_tokens_decoder": {"1": {"special": true}}}',
    },
    "an added token is null": {
        "tokenizer.json": None,
        "tokenizer_config.json": b'{"added_tokens_decoder": {"1": null}}',
    },
    "a shard's name is too long": {
        "model.safetensors.index.json": json.dumps({"weight_map": {"a": "x" * 300}}).encode()
    },
    "a shard's name has a NUL": {"model.safetensors.index.json": b'{"weight_map": {"a": "x\\u0000y"}}'},
    "a shard's name is half a pair": {"model.safetensors.index.json": b'{"weight_map": {"a": "\\ud800"}}'},
    "a shard's name is a number": {"model.safetensors.index.json": b'{"weight_map": {"a": [1]}}'},
    "a dilation is a table": {
        "vita_tts_ckpt/codec/model.json": with_key("resblock_dilation_sizes", value=[[{}, 1, 1]] * 3)
    },
    "a mean of 401 digits": {f"{VISION}/preprocessor_config.json": with_key("image_mean", value=[BIG, 0, 0])},
    "a mean that is none": {f"{VISION}/preprocessor_config.json": with_key("image_mean", value=[NO_NUMBER, 0, 0])},
    "a far memo": {CODEC: torch_archive(far_memo())},
    "a pickle of an unknown method": {DECODER: torch_archive(b"}.", patches=UNKNOWN_METHOD)},
    "an encrypted pickle": {DECODER: torch_archive(b"}.", patches=ENCRYPTED)},
    "a legacy torch file": {DECODER: bytes.fromhex("80028a0a6cfc9c46f9206aa850192e") + bytes(40)},
    **{
        f"pointer: {name}": {name: LFS}
        for name in (
            "config.json",
            "model.safetensors.index.json",
            "model-00001-of-00002.safetensors",
            f"{AUDIO}/train.yaml",
            f"{VISION}/preprocessor_config.json",
            "vita_tts_ckpt/codec/model.json",
            DECODER,
        )
    },
    "pointer: tokenizer.json": {"tokenizer.json": LFS},
    "pointer: merges.txt": {"tokenizer.json": None, "merges.txt": LFS},
    "pointer: vocab.json": {"tokenizer.json": None, "vocab.json": LFS},
    "a web page": {"config.json": b"<!DOCTYPE html><html><body>Log in</body></html>"},
    "zeros": {"config.json": bytes(500)},
}


@pytest.fixture(scope="module")
def checkpoint(golden: Path) -> Path:
    return golden / "checkpoint"


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_an_export_names_what_is_wrong_with_a_checkpoint(
    name: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = lay(checkpoint, tmp_path / "x", CHECKPOINTS[name])
    result = run(capsys, "export", folder, "-o", tmp_path / "out")
    ends_in_our_words(result)
    if name.startswith("pointer"):
        assert "Git LFS pointer" in result.err


MANIFESTS: dict[str, Content] = {
    "deep": DEEP,
    "pointer": LFS,
    "absolute graph": with_key("components", "llm", "graph", value="/etc/passwd"),
    "graph outside": with_key("components", "llm", "graph", value="../../x"),
    "graph is a number": with_key("components", "llm", "graph", value=3),
    "weights are text": with_key("components", "llm", "weights", value="llm.bin"),
    "embeddings are text": with_key("embeddings", value="a"),
    "a length of 1e999": with_key("files", "tokenizer.json", "bytes", value=HUGE),
    "a length of text": with_key("files", "tokenizer.json", "bytes", value="x"),
    "a number of 401 digits": with_key("model", "audio", "frame_length_ms", value=BIG),
    "a name of 5,000 characters": with_key("files", "x" * 5000, value={"bytes": 1, "sha256": ""}),
    "a mean of two": with_key("model", "vision", "image_mean", value=[0.5, 0.5]),
    "a prompt is a number": with_key("prompts", "command_line", "lang", value=1),
    "prompts are true": with_key("prompts", value=True),
    "three rows": with_key("embeddings", "rows", value=3),
    "a hidden size of 64": with_key("model", "llm", "hidden_size", value=64),
    "a context of -5": with_key("model", "llm", "context_tokens", value=-5),
    "a dtype of text": with_key("embeddings", "dtype", value="<U1"),
    "a stop beyond the vocabulary": with_key("model", "tokens", "stop", value=[10**9]),
    "components are a list": with_key("components", value=[]),
    "the notice is a list": with_key("notice", value=[]),
    "files are null": with_key("files", value=None),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_bundle_with_a_manifest_that_cannot_be_is_refused(
    name: str, spare_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = lay(spare_bundle, tmp_path / "x", {"manifest.json": MANIFESTS[name]})
    ends_in_our_words(run(capsys, "inspect", folder))
    ends_in_our_words(run(capsys, "ask", folder, *ASK))


@dataclass(frozen=True)
class Given:
    """A file that a command is given by name."""

    content: bytes
    arguments: Callable[[Path, Path], tuple[object, ...]]
    """From the bundle and the file."""


def video(content: bytes) -> Given:
    return Given(content, lambda bundle, file: ("ask", bundle, "--video", file, *ASK))


def asked(content: bytes) -> Given:
    return Given(content, lambda bundle, file: ("ask", bundle, "--turns", file))


GIVEN: dict[str, Given] = {
    "frames: NUL": video(b'{"fps": 2, "frames": ["a\\u0000b"]}'),
    "frames: half a pair": video(b'{"fps": 2, "frames": ["\\ud800"]}'),
    "frames: too long": video(b'{"fps": 2, "frames": ["' + b"x" * 300 + b'"]}'),
    "frames: fps of 401 digits": video(b'{"fps": 1' + b"0" * 400 + b', "frames": ["a.png"]}'),
    "frames: fps is infinite": video(b'{"fps": 1e999, "frames": ["a.png"]}'),
    "frames: fps is text": video(b'{"fps": "2", "frames": ["a.png"]}'),
    "frames: a frame is a number": video(b'{"fps": 2, "frames": [3]}'),
    "frames: deep": video(DEEP),
    "frames: a list": video(b"[]"),
    "frames: pointer": video(LFS),
    "turns: NUL": asked(b'[{"audio": "a\\u0000b"}]'),
    "turns: too long": asked(b'[{"video": "' + b"x" * 300 + b'"}]'),
    "turns: half a pair": asked(b'[{"text": "\\ud800"}]'),
    "turns: deep": asked(DEEP),
    "turns: deep on a line": asked(b'{"text": ' + DEEP + b"}"),
    "turns: a key twice": asked(b'[{"text": "a", "text": "b"}]'),
    "turns: text of bytes": asked(b"\xff\xfe\xfa"),
    "devices: deep": Given(DEEP, lambda bundle, file: ("estimate", "--model", "tiny", "--board-file", file)),
    "devices: a list": Given(b"[]", lambda bundle, file: ("estimate", "--model", "tiny", "--board-file", file)),
    "devices: infinite": Given(
        b'{"format": 1, "efficiency": {"decode": {"value": 1e999, "low": 0, "high": 1, "source": ""}}}',
        lambda bundle, file: ("estimate", "--model", "tiny", "--board-file", file),
    ),
}


@pytest.mark.parametrize("name", GIVEN)
def test_a_file_that_a_command_is_given_is_refused_in_words(
    name: str, tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "given.json"
    file.write_bytes(GIVEN[name].content)
    ends_in_our_words(run(capsys, *GIVEN[name].arguments(tiny_bundle.path, file)))


BENCHES: dict[str, Content] = {
    "a time is text": with_key("turns", 0, "engine_ms", value="a"),
    "a time is NaN": with_key("turns", 0, "engine_ms", value=NO_NUMBER),
    "a time of 401 digits": with_key("turns", 0, "engine_ms", value=BIG),
    "a turn is a number": with_key("turns", 0, value=1),
    "a state that is none": with_key("turns", 0, "state", value="shouting"),
    "turns are null": with_key("turns", value=None),
    "format of text": with_key("format", value="1"),
    "bundle is a list": with_key("bundle", value=[]),
    "deep": DEEP,
    "pointer": LFS,
}


@pytest.mark.parametrize("name", BENCHES)
def test_a_bench_result_that_is_none_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = tmp_path / "whole.json"
    whole.write_text(json.dumps(bench_result(turns(6)).to_json()))
    content = BENCHES[name]
    (tmp_path / "a.json").write_bytes(content(whole) if callable(content) else content)
    ends_in_our_words(run(capsys, "bench", "--compare", tmp_path / "a.json", whole))


FEEDS: dict[str, bytes] = {
    "no array": npz({"codes.npy": b"not an array"}),
    "a header of brackets": npz({"codes.npy": npy(b"[" * 100)}),
    "a header of very many brackets": npz({"codes.npy": npy(b"[" * 3000)}),
    "a list as a key": npz({"codes.npy": npy(b"{[]:1}")}),
    "encrypted": npz({"codes.npy": npy()}, patches=ENCRYPTED),
    "an unknown method": npz({"codes.npy": npy()}, patches=UNKNOWN_METHOD),
    "one array": npy(),
    "objects": npz({"codes.npy": npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"x" * 8)}),
    "a promise of 3e12 numbers": npz(
        {"codes.npy": npy(b"{'descr': '<i8', 'fortran_order': False, 'shape': (3000000000000,), }", b"")}
    ),
    "a negative shape": npz({"codes.npy": npy(b"{'descr': '<i8', 'fortran_order': False, 'shape': (-1,), }")}),
    "pointer": LFS,
    "empty": b"",
}


@pytest.fixture(scope="module")
def feeds(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of one short turn."""
    folder = tmp_path_factory.mktemp("feeds") / "feeds"
    asked = ("--text", "hi", "--greedy", "--max-new-tokens", "3", "--threads", "1")
    assert main(["record", str(tiny_bundle.path), "-o", str(folder), *asked]) == 0
    return folder


@pytest.mark.parametrize("name", FEEDS)
def test_a_recording_whose_arrays_are_none_is_refused(
    name: str, feeds: Path, tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = sorted((feeds / "llm").iterdir())[0].name
    folder = lay(feeds, tmp_path / "x", {f"llm/{first}": FEEDS[name]})
    ends_in_our_words(calibrated(capsys, tiny_bundle, folder, tmp_path))


RECORDINGS: dict[str, Content] = {
    "the model is text": with_key("model", value="x"),
    "files are numbers": with_key("components", "llm", "files", value=[1]),
    "a file is outside every name": with_key("components", "llm", "files", value=["x" * 400]),
    "components are a list": with_key("components", value=[]),
    "deep": DEEP,
    "pointer": LFS,
}


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_with_a_manifest_that_cannot_be_is_refused(
    name: str, feeds: Path, tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = lay(feeds, tmp_path / "x", {"manifest.json": RECORDINGS[name]})
    ends_in_our_words(calibrated(capsys, tiny_bundle, folder, tmp_path))


def calibrated(capsys: pytest.CaptureFixture[str], bundle: Bundle, folder: Path, tmp_path: Path) -> Result:
    out = tmp_path / "calibrated"
    return run(capsys, "calibrate", bundle.path, "-o", out, "--feeds", folder, "--component", "llm", "--threads", "1")


def without_files(data: Any) -> None:
    if isinstance(data, dict):
        data.pop("file", None)
    for inner in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        without_files(inner)


GOLDENS: dict[str, tuple[str, Content]] = {
    "deep cases": ("cases.json", DEEP),
    "cases are a list": ("cases.json", b"[]"),
    "cases without files": ("cases.json", edited(without_files)),
    "conversations are text": ("cases.json", b'{"conversations": "x"}'),
    "a conversation is a number": ("cases.json", b'{"conversations": {"command_line": 1}}'),
    "arrays are text": ("manifest.json", b'{"arrays": "x"}'),
    "one array": ("zz.npz", npy()),
    "no array": ("zz.npz", npz({"a.npy": b"x"})),
}


@pytest.mark.parametrize("name", GOLDENS)
def test_recorded_arrays_that_cannot_be_are_refused(
    name: str, golden: Path, tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, content = GOLDENS[name]
    folder = lay(golden / "data", tmp_path / "x", {file: content})
    ends_in_our_words(run(capsys, "verify", tiny_bundle.path, "--golden", folder), code=None)
