"""An engine is found under what it depends on, published whole or not at all, and never opened where it does not
fit."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.spoil import edit_json, flip_byte, rewrite
from support.spoiled import DEEP, HUGE, LFS, changed
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import EngineUnavailable, OutputFailed
from vita_edge.engines.tensorrt.build.engine_writer import EngineFileWriter
from vita_edge.engines.tensorrt.build.profiles import Profile, ProfileRange
from vita_edge.engines.tensorrt.device import Gpu, host
from vita_edge.engines.tensorrt.engine_cache import EngineCache, default_cache
from vita_edge.engines.tensorrt.engine_file import HEADER, PLAN, BadEngine, Built, EngineFile
from vita_edge.engines.tensorrt.engine_key import EngineKey, differences
from vita_edge.engines.tensorrt.library import Library
from vita_edge.engines.tensorrt.open_engine import open_engine
from vita_edge.engines.tensors import TensorSpec

ORIN = Gpu("Orin", "sm87", "12.6", 64 << 30, shared_memory=True)
FULL = Library(None, "tensorrt", "10.16.0")
RTX = Library(None, "tensorrt_rtx", "1.7.1")
STEP = Profile("step", {"x": ProfileRange((1, 1), (1, 1), (1, 1))})
KEY = EngineKey(
    component="llm",
    files={"components/llm.onnx": "a" * 64, "components/llm.bin": "b" * 64},
    precision="int4",
    profiles=(STEP,),
    fixed={"capacity": 4096},
    library="tensorrt",
    version="10.16.0",
    sm="sm87",
    gpu="Orin",
    host="Linux aarch64",
)
BUILT = Built(12.5, 10.0, 1 << 30, 1 << 20, (8, 16), "12.6", "vita-edge test")


def key_of(bundle: Bundle, library: Library = FULL, device: Gpu = ORIN, capacity: int = 4096) -> EngineKey:
    return EngineKey.of(
        bundle, "llm", library, sm=device.sm, gpu=device.name, profiles=(STEP,), fixed={"capacity": capacity}
    )


def publish(cache: EngineCache, key: EngineKey, content: bytes = b"an engine" * 1000) -> EngineFile:
    inputs = {"x": TensorSpec("x", "float32", (1, "tokens"))}
    engine_file = EngineFile(
        cache.folder / key.folder, key, len(content), hashlib.sha256(content).hexdigest(), inputs, inputs, BUILT
    )
    with cache.publishing(key, len(content)) as folder:
        (folder / PLAN).write_bytes(content)
        (folder / HEADER).write_text(engine_file.header(), "utf-8")
    return engine_file


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


# --- the key


def test_the_name_of_an_engine_is_the_digest_of_all_that_it_depends_on() -> None:
    text = (
        '{"component":"llm","files":{"components/llm.bin":"' + "b" * 64 + '","components/llm.onnx":"' + "a" * 64 + '"},'
        '"fixed":{"capacity":4096},"gpu":"Orin","host":"Linux aarch64","library":"tensorrt","precision":"int4",'
        '"profiles":[{"name":"step","ranges":{"x":[[1,1],[1,1],[1,1]]}}],"sm":"sm87","stripped":false,'
        '"version":"10.16.0"}'
    )
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert KEY.digest == digest
    assert KEY.folder == f"llm-{digest[:20]}"


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(EngineKey)])
def test_whatever_changes_makes_another_engine(field: str) -> None:
    other = {"files": {"components/llm.onnx": "c" * 64}, "profiles": (), "fixed": {"capacity": 8192}, "stripped": True}
    changed = dataclasses.replace(KEY, **{field: other.get(field, "another")})
    assert changed.digest != KEY.digest
    assert EngineKey.from_json(json.loads(json.dumps(changed.to_json()))) == changed


def test_the_hashes_are_those_of_the_manifest_and_a_compiled_engine_knows_no_gpu_model(tiny_bundle: Bundle) -> None:
    key = key_of(tiny_bundle)
    assert key.files["components/llm.bin"] == tiny_bundle.files["components/llm.bin"][1]
    assert set(key.files) == {"components/llm.onnx", "components/llm.bin"}
    assert (key.gpu, key.host) == ("Orin", host())
    assert key_of(tiny_bundle, RTX).gpu == ""


def test_reasons_are_told_in_words() -> None:
    assert differences(KEY, KEY) == []
    assert differences(KEY, dataclasses.replace(KEY, profiles=(), fixed={})) == []
    found = dataclasses.replace(
        KEY, files={}, version="10.3.0", sm="sm86", gpu="RTX 3060", host="Linux x86_64", library="tensorrt"
    )
    assert differences(KEY, found) == [
        "the bundle has changed since it was built",
        "it was built by TensorRT 10.3.0, and here is TensorRT 10.16.0",
        "it was built for RTX 3060 (sm86), and here is Orin (sm87)",
        "it was built on Linux x86_64, and this is Linux aarch64",
    ]
    compiled = dataclasses.replace(KEY, library="tensorrt_rtx", version="1.7.1", gpu="")
    assert differences(KEY, compiled) == [
        "it was built by TensorRT-RTX 1.7.1, and here is TensorRT 10.16.0",
        "it was built for a GPU of sm87, and here is Orin (sm87)",
    ]


# --- the cache


def test_an_engine_comes_back_as_it_was_published(cache: EngineCache, tiny_bundle: Bundle) -> None:
    key = key_of(tiny_bundle)
    assert cache.find(key) is None
    published = publish(cache, key)
    found = cache.find(key)
    assert found == published
    assert found is not None
    found.check()
    with found.data() as data:
        assert data[:] == b"an engine" * 1000
    assert (found.library, found.version, found.profiles, found.capacity) == (
        "tensorrt",
        "10.16.0",
        (STEP,),
        (4096,) * 2,
    )
    assert cache.find(key_of(tiny_bundle, capacity=8192)) is None


def test_the_cache_is_the_users_unless_another_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VITA_EDGE_ENGINE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "vita-edge" / "engines"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_cache() == tmp_path / "home" / ".cache" / "vita-edge" / "engines"
    monkeypatch.setenv("VITA_EDGE_ENGINE_DIR", str(tmp_path / "engines"))
    assert default_cache() == tmp_path / "engines"


def test_what_fails_while_an_engine_is_written_leaves_the_one_before(cache: EngineCache, tiny_bundle: Bundle) -> None:
    key = key_of(tiny_bundle)
    before = publish(cache, key)
    with pytest.raises(RuntimeError), cache.publishing(key, 100) as folder:
        (folder / PLAN).write_bytes(b"half of a")
        raise RuntimeError
    assert cache.find(key) == before
    assert [entry.name for entry in cache.folder.iterdir()] == [key.folder]


def test_what_a_killed_build_has_left_is_swept_away(cache: EngineCache, tiny_bundle: Bundle) -> None:
    engine_file = publish(cache, key_of(tiny_bundle))
    for name in (".vision-0123.partial", ".vision-0123.old"):
        (cache.folder / name).mkdir()
        (cache.folder / name / PLAN).write_bytes(b"half")
    with cache.building():
        assert {entry.name for entry in cache.folder.iterdir()} == {engine_file.folder.name, ".lock"}


def test_two_builds_at_once_are_one_too_many(cache: EngineCache) -> None:
    with cache.building(), pytest.raises(EngineUnavailable, match="Another build is going on"), cache.building():
        pass
    with cache.building():  # the first one has ended
        pass
    with (cache.folder / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_cache_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputFailed), EngineCache(tmp_path / "file" / "engines").building():
        pass


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not shutil.which("mount") or os.geteuid() != 0:
        pytest.skip("only root mounts disks")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_without_room_is_noticed_before_the_first_byte(tiny_disk: Path, tiny_bundle: Bundle) -> None:
    cache = EngineCache(tiny_disk)
    with (
        pytest.raises(OutputFailed, match="The engine needs 5 MiB") as caught,
        cache.publishing(key_of(tiny_bundle), 5 << 20),
    ):
        pytest.fail("it was begun")
    assert "Another 64 MiB are to stay free" in caught.value.why
    assert "Free some space" in caught.value.fix
    assert list(tiny_disk.iterdir()) == []


def test_a_disk_that_fills_up_ends_the_engine(tiny_disk: Path) -> None:
    with EngineFileWriter(tiny_disk / PLAN) as writer:
        assert writer.write(bytes(500_000)) == 500_000
        assert writer.error is None
        while writer.write(bytes(500_000)):
            pass
        assert writer.write(b"more") == 0
    assert writer.error is not None
    assert writer.error.strerror == "No space left on device"


def test_length_and_digest_are_known_when_an_engine_is_written(tmp_path: Path) -> None:
    content = os.urandom(40_000_000)
    with EngineFileWriter(tmp_path / PLAN) as writer:
        for piece in (content[:10], memoryview(content)[10:]):
            assert writer.write(piece) == len(piece)
    assert (writer.bytes, writer.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert (tmp_path / PLAN).read_bytes() == content


# --- opening


def test_an_engine_that_fits_is_opened(cache: EngineCache, tiny_bundle: Bundle) -> None:
    publish(cache, key_of(tiny_bundle, capacity=8192))
    small = publish(cache, key_of(tiny_bundle, capacity=2048))
    middle = publish(cache, key_of(tiny_bundle, capacity=4096))

    def opened(max_context: int | None) -> EngineFile:
        return open_engine(tiny_bundle, "llm", max_context=max_context, cache=cache.folder, library=FULL, device=ORIN)

    assert opened(2048) == small
    assert opened(None) == middle  # built last
    assert opened(2049) == middle
    with pytest.raises(EngineUnavailable) as caught:
        opened(8193)
    assert "room for 8,192 positions, not 8,193" in caught.value.why
    assert "--component llm --context 8193" in caught.value.fix


def unavailable(bundle: Bundle, cache: EngineCache, library: Library = FULL, device: Gpu = ORIN) -> EngineUnavailable:
    with pytest.raises(EngineUnavailable) as caught:
        open_engine(bundle, "llm", cache=cache.folder, library=library, device=device)
    assert f"vita-edge build {bundle.path} --backend tensorrt --component llm" in caught.value.fix
    return caught.value


def test_without_an_engine_the_command_that_builds_one_is_told(cache: EngineCache, tiny_bundle: Bundle) -> None:
    error = unavailable(tiny_bundle, cache)
    assert error.what == "No engine of llm has been built for Orin (sm87)."
    assert error.fix.endswith(f"--engine-dir {cache.folder}")


def test_an_engine_of_another_version_gpu_or_bundle_is_explained(cache: EngineCache, tiny_bundle: Bundle) -> None:
    publish(cache, key_of(tiny_bundle))
    newer = Library(None, "tensorrt", "11.4.1")
    assert "built by TensorRT 10.16.0, and here is TensorRT 11.4.1" in unavailable(tiny_bundle, cache, newer).why
    nano = dataclasses.replace(ORIN, name="Orin Nano")
    assert "for Orin (sm87), and here is Orin Nano (sm87)" in unavailable(tiny_bundle, cache, device=nano).why
    files = {name: (size, "0" * 64) for name, (size, _) in tiny_bundle.files.items()}
    assert "the bundle has changed" in unavailable(dataclasses.replace(tiny_bundle, files=files), cache).why
    assert "here is TensorRT-RTX 1.7.1" in unavailable(tiny_bundle, cache, RTX).why


def test_a_compiled_engine_is_for_every_gpu_of_its_kind(cache: EngineCache, tiny_bundle: Bundle) -> None:
    ampere = Gpu("RTX 3060", "sm86", "13.0", 12 << 30, shared_memory=False)
    engine_file = publish(cache, key_of(tiny_bundle, RTX, ampere))
    other = dataclasses.replace(ampere, name="RTX A2000")
    assert open_engine(tiny_bundle, "llm", cache=cache.folder, library=RTX, device=other) == engine_file


def test_a_damaged_engine_is_explained_and_another_one_taken(cache: EngineCache, tiny_bundle: Bundle) -> None:
    engine_file = publish(cache, key_of(tiny_bundle))
    flip_byte(engine_file.path, 3)
    error = unavailable(tiny_bundle, cache)
    assert error.what == "No engine of llm can be used on Orin (sm87)."
    assert "is damaged: its sha256 is not the one of its header" in error.why
    rewrite(engine_file.path, b"short")
    assert "has 5 bytes, and its header says 9000" in unavailable(tiny_bundle, cache).why
    engine_file.path.unlink()
    assert "No such file" in unavailable(tiny_bundle, cache).why
    larger = publish(cache, key_of(tiny_bundle, capacity=8192))
    assert open_engine(tiny_bundle, "llm", cache=cache.folder, library=FULL, device=ORIN) == larger


@pytest.mark.parametrize(
    ("content", "reported"),
    [
        (b"", "It is empty"),
        (b"{", "It is not valid JSON"),
        (b"[1]", "is not the header of an engine"),
        (b'{"format": "vita-edge-engine", "format_version": 99}', "another version of vita-edge"),
        (b'{"format": "vita-edge-engine", "format_version": 1}', "is damaged: KeyError: 'key'"),
    ],
)
def test_a_damaged_header_is_explained(content: bytes, reported: str, cache: EngineCache, tiny_bundle: Bundle) -> None:
    key = key_of(tiny_bundle)
    engine_file = publish(cache, key)
    rewrite(engine_file.folder / HEADER, content)
    assert reported in unavailable(tiny_bundle, cache).why
    with pytest.raises(BadEngine, match=reported):
        cache.find(key)


def edited(change: Callable[[Any], object]) -> Callable[[Path], bytes]:
    return lambda file: changed(file, change)


@pytest.mark.parametrize(
    "content",
    [
        DEEP,
        LFS,
        bytes(200),
        edited(lambda header: header["engine"].update(bytes=HUGE)),
        edited(lambda h: h.update(inputs=[])),
    ],
)
def test_a_header_that_cannot_be_is_no_engine(
    content: bytes | Callable[[Path], bytes], cache: EngineCache, tiny_bundle: Bundle
) -> None:
    key = key_of(tiny_bundle)
    file = publish(cache, key).folder / HEADER
    rewrite(file, content(file) if callable(content) else content)
    with pytest.raises(BadEngine):
        cache.find(key)
    assert cache.engines(key.component)[0] == []


def test_a_header_that_was_edited_does_not_fit_its_name(cache: EngineCache, tiny_bundle: Bundle) -> None:
    key = key_of(tiny_bundle)
    engine_file = publish(cache, key)
    edit_json(engine_file.folder / HEADER, lambda header: header["key"].update(version="11.4.1"))
    with pytest.raises(BadEngine, match="bears the name of another engine"):
        cache.find(key)
    edit_json(engine_file.folder / HEADER, lambda header: header["key"].update(version="10.16.0", profiles="none"))
    with pytest.raises(BadEngine, match="is damaged"):
        cache.find(key)


def test_a_growing_cache_has_any_capacity_up_to_the_largest(cache: EngineCache, tiny_bundle: Bundle) -> None:
    name = "past_key_values.0.key"
    ranges = {name: ProfileRange((1, 2, 0, 16), (1, 2, 100, 16), (1, 2, 2047, 16))}
    key = dataclasses.replace(key_of(tiny_bundle), fixed={}, profiles=(Profile("step", ranges),))
    inputs = {name: TensorSpec(name, "float16", (1, 2, "past", 16))}
    assert EngineFile(cache.folder, key, 0, "", inputs, {}, BUILT).capacity == (1, 2048)
    plain = dataclasses.replace(key, profiles=())
    assert EngineFile(cache.folder, plain, 0, "", {}, {}, BUILT).capacity is None
