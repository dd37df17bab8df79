"""What graphs are fed is saved as whole clips and whole sequences, bounded, and under the name of the model."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from vita_edge.cli import main
from vita_edge.engines.bundle.atomic_folder import DISK_RESERVE_BYTES
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import Misuse, OutputFailed
from vita_edge.engines.tensors import Array
from vita_edge.runtime import Assistant, SessionOptions, Turn, read_image, read_sound
from vita_edge.runtime.metrics.feed_recorder import FeedRecorder
from vita_edge.runtime.metrics.recorded_samples import RecordingLimits


class _Cache:
    """Counts positions, as every cache does."""

    def __init__(self) -> None:
        self.length_tokens = 0

    def rewind(self, length: int) -> None:
        self.length_tokens = length


class _Session:
    """Appends to the cache that it is given, and computes nothing."""

    name, inputs, outputs = "llm", {}, {}  # type: ignore[var-annotated]

    def infer(self, feeds: Mapping[str, Array], cache: _Cache | None = None) -> dict[str, Array]:
        if cache is not None:
            cache.length_tokens += next(iter(feeds.values())).shape[1]
        return {}


def rows(*values: int) -> dict[str, Array]:
    return {"inputs_embeds": np.array(values, np.float32)[None, :, None]}


def recorded(folder: Path, component: str) -> list[dict[str, Array]]:
    files = json.loads((folder / "manifest.json").read_text("utf-8"))["components"][component]["files"]
    return [dict(np.load(folder / file)) for file in files]


def test_a_sequence_is_saved_whole_and_again_when_it_went_on_otherwise(tiny_bundle: Bundle, tmp_path: Path) -> None:
    cache = _Cache()
    with FeedRecorder(tmp_path / "feeds", tiny_bundle) as recorder:
        session = recorder.watch("llm", _Session())  # type: ignore[arg-type]
        for feeds in (rows(1, 2, 3), rows(4), rows(5)):
            session.infer(feeds, cache)  # type: ignore[arg-type]
        cache.rewind(3)
        session.infer(rows(6), cache)  # type: ignore[arg-type]
    saved = [sample["inputs_embeds"].ravel().tolist() for sample in recorded(tmp_path / "feeds", "llm")]
    assert saved == [[1, 2, 3, 4, 5], [1, 2, 3, 6]]


def test_a_sequence_whose_beginning_was_not_seen_is_not_saved(tiny_bundle: Bundle, tmp_path: Path) -> None:
    cache = _Cache()
    cache.length_tokens = 7
    with FeedRecorder(tmp_path / "feeds", tiny_bundle) as recorder:
        recorder.watch("llm", _Session()).infer(rows(8, 9), cache)  # type: ignore[arg-type]
    assert recorded(tmp_path / "feeds", "llm") == []


def test_rows_beyond_the_limit_are_counted_and_not_kept(tiny_bundle: Bundle, tmp_path: Path) -> None:
    cache = _Cache()
    with FeedRecorder(tmp_path / "feeds", tiny_bundle, RecordingLimits(rows=4)) as recorder:
        session = recorder.watch("llm", _Session())  # type: ignore[arg-type]
        for feeds in (rows(1, 2, 3), rows(4, 5), rows(6)):
            session.infer(feeds, cache)  # type: ignore[arg-type]
        cache.rewind(2)
        session.infer(rows(7), cache)  # type: ignore[arg-type]
    saved = [sample["inputs_embeds"].ravel().tolist() for sample in recorded(tmp_path / "feeds", "llm")]
    assert saved == [[1, 2, 3, 4], [1, 2, 7]]


def test_what_is_kept_is_bounded_and_spread_evenly(tiny_bundle: Bundle, tmp_path: Path) -> None:
    with FeedRecorder(tmp_path / "feeds", tiny_bundle, RecordingLimits(samples=4)) as recorder:
        session = recorder.watch("codec", _Session())  # type: ignore[arg-type]
        for i in range(21):
            session.infer({"codes": np.array([[i]])})
    assert [int(sample["codes"][0, 0]) for sample in recorded(tmp_path / "feeds", "codec")] == [0, 8, 16]
    part = json.loads((tmp_path / "feeds" / "manifest.json").read_text("utf-8"))["components"]["codec"]
    assert part["seen"] == 21
    assert sorted(file.name for file in (tmp_path / "feeds" / "codec").iterdir()) == [
        Path(file).name for file in part["files"]
    ]


@pytest.mark.parametrize("flag", ["last", "ending"])
def test_pieces_of_a_clip_are_joined_to_what_the_whole_would_have_been(
    flag: str, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    frames = np.arange(19, dtype=np.float32)[None, :, None]
    with FeedRecorder(tmp_path / "feeds", tiny_bundle) as recorder:
        session = recorder.watch("audio", _Session())  # type: ignore[arg-type]
        for begin, stop, last in ((0, 11, False), (2, 15, True), (2, 19, True)):
            reported = np.array(last) if flag == "last" else np.ones(int(last), bool)
            fed = {"fbank": frames[:, begin * 4 : stop], "begin": np.array(begin), flag: reported}
            session.infer(fed)
    clips = [sample["fbank"].ravel().tolist() for sample in recorded(tmp_path / "feeds", "audio")]
    assert clips == [list(range(15)), list(range(19))]


def test_a_disk_that_fills_up_ends_the_recording_and_not_the_talk(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = FeedRecorder(tmp_path / "feeds", tiny_bundle)
    session, cache = recorder.watch("codec", _Session()), _Cache()  # type: ignore[arg-type]
    decoder = recorder.watch("llm", _Session())  # type: ignore[arg-type]
    session.infer({"codes": np.array([[1]])})
    decoder.infer(rows(1, 2), cache)  # type: ignore[arg-type]
    full = shutil.disk_usage(tmp_path)._replace(free=DISK_RESERVE_BYTES - 1)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: full)
        session.infer({"codes": np.array([[2]])})
    session.infer({"codes": np.array([[3]])})  # there is room again, but what is missing is missing
    decoder.infer(rows(3), cache)  # type: ignore[arg-type]
    with pytest.raises(OutputFailed, match="ends early") as reported:
        recorder.close()
    assert "No space left" in reported.value.why and "is kept" in reported.value.why
    assert [sample["codes"].item() for sample in recorded(tmp_path / "feeds", "codec")] == [1]
    assert recorded(tmp_path / "feeds", "llm") == []
    assert [path.name for path in tmp_path.iterdir()] == ["feeds"]


def test_a_disk_that_goes_on_filling_up_takes_neither_the_recording_nor_the_talks_own_error(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = shutil.disk_usage(tmp_path)._replace(free=DISK_RESERVE_BYTES - 1)

    def refused(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(KeyError, match="of the talk"), FeedRecorder(tmp_path / "feeds", tiny_bundle) as recorder:
        session = recorder.watch("codec", _Session())  # type: ignore[arg-type]
        session.infer({"codes": np.array([[1]])})
        with monkeypatch.context() as patched:
            patched.setattr(shutil, "disk_usage", lambda _: full)
            session.infer({"codes": np.array([[2]])})
        monkeypatch.setattr(FeedRecorder, "_report", refused)
        raise KeyError("of the talk")
    assert [sample["codes"].item() for sample in recorded(tmp_path / "feeds", "codec")] == [1]


FULL = """
import os, sys
from pathlib import Path
import numpy as np
from test_feed_recorder import _Session, recorded
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import OutputFailed
from vita_edge.runtime.metrics.feed_recorder import FeedRecorder
disk = Path(sys.argv[2])
recorder = FeedRecorder(disk / "feeds", Bundle.open(sys.argv[1]))
session = recorder.watch("codec", _Session())
for code in range(3):
    session.infer({"codes": np.full((1, 1 << 17), code)})
with open(disk / "filler", "wb", buffering=0) as filler:
    try:
        while True: filler.write(bytes(1 << 16))
    except OSError: pass
    try:
        while True: filler.write(b"0")
    except OSError: pass
session.infer({"codes": np.array([[9]])})
try:
    recorder.close()
except OutputFailed as told:
    print("told" if "is kept" in told.why else told)
print([int(sample["codes"][0, 0]) for sample in recorded(disk / "feeds", "codec")])
"""


def test_a_disk_that_is_still_full_at_the_end_keeps_what_was_recorded(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """On a real disk in memory, filled to the last byte."""
    mount = f'mount -t tmpfs -o size=90m none {tmp_path} && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", mount, "sh", sys.executable, "-c", FULL, tiny_bundle.path, tmp_path]
    path = os.pathsep.join((str(Path(__file__).parent), *sys.path))
    if not shutil.which("unshare") or subprocess.run([*command[:5], "sh", "true"], capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert done.stdout == "told\n[0, 1, 2]\n", done.stderr


def test_a_recording_is_closed_once(tiny_bundle: Bundle, tmp_path: Path) -> None:
    recorder = FeedRecorder(tmp_path / "feeds", tiny_bundle)
    recorder.watch("codec", _Session()).infer({"codes": np.array([[1]])})  # type: ignore[arg-type]
    recorder.close()
    recorder.close()
    assert len(recorded(tmp_path / "feeds", "codec")) == 1


def test_a_sample_that_was_written_in_part_is_not_kept(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """A disk that is full to the last byte; here, a file that may not grow further."""
    recorder = FeedRecorder(tmp_path / "feeds", tiny_bundle)
    session = recorder.watch("codec", _Session())  # type: ignore[arg-type]
    session.infer({"codes": np.array([[1]])})
    _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        session.infer({"codes": np.ones((1, 1 << 20))})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with pytest.raises(OutputFailed, match="ends early"):
        recorder.close()
    assert [file.name for file in (tmp_path / "feeds" / "codec").iterdir()] == ["00000000.npz"]


def test_a_failure_of_the_talk_is_told_before_that_of_its_recording(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyError), FeedRecorder(tmp_path / "feeds", tiny_bundle) as recorder:
        full = shutil.disk_usage(tmp_path)._replace(free=0)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
        recorder.watch("codec", _Session()).infer({"codes": np.array([[1]])})  # type: ignore[arg-type]
        raise KeyError("talk")


def test_a_manifest_that_cannot_be_written_leaves_nothing(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    recorder = FeedRecorder(tmp_path / "feeds", tiny_bundle)
    monkeypatch.setattr("vita_edge.runtime.metrics.feed_recorder.os.fsync", refused)
    with pytest.raises(OutputFailed, match="Cannot write"):
        recorder.close()
    assert list(tmp_path.iterdir()) == []


def test_a_recording_replaces_nothing(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "feeds").mkdir()
    (tmp_path / "feeds" / "mine").write_text("kept")
    with pytest.raises(Misuse, match="exists"):
        FeedRecorder(tmp_path / "feeds", tiny_bundle)


def test_a_recorded_turn_says_what_an_unrecorded_one_says(tiny_bundle: Bundle, golden: Path, tmp_path: Path) -> None:
    inputs = golden / "data" / "inputs"
    turn = Turn(sounds=[read_sound(inputs / "en_short.wav")], images=[read_image(inputs / "square.png")])
    replies = []
    for record in (None, tmp_path / "feeds"):
        with Assistant(tiny_bundle, record=record) as assistant:
            replies.append(assistant.session(SessionOptions(max_new_tokens=12)).ask(turn))
    assert replies[0].token_ids == replies[1].token_ids
    assert np.array_equal(replies[0].pcm, replies[1].pcm)
    (sequence,) = recorded(tmp_path / "feeds", "llm")
    assert sequence["inputs_embeds"].shape[1] >= replies[0].prompt_tokens + len(replies[0].token_ids) - 1
    for sample in recorded(tmp_path / "feeds", "speech_decoder"):
        assert sample["code"].shape[1] >= 1
        assert sample["text_embeds"].shape[2] == tiny_bundle.model.speech.width


def test_a_folder_of_questions_is_asked_one_by_one(
    tiny_bundle: Bundle, golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "asked").mkdir()
    (tmp_path / "asked" / "Questions.TXT").write_text("Hello.\n \n\nWhat do you see?\n\t\n")
    (tmp_path / "asked" / "a.png").write_bytes((golden / "data" / "inputs" / "square.png").read_bytes())
    arguments = ["--folder", str(tmp_path / "asked"), "--max-new-tokens", "4", "--json"]
    assert main(["record", str(tiny_bundle.path), "-o", str(tmp_path / "feeds"), *arguments]) == 0
    reported = json.loads(capsys.readouterr().out)
    assert reported["turns"] == 2
    assert reported["components"]["llm"]["kept"] == 2
    assert reported["components"]["vision"]["seen"] > 0
    assert "audio" not in {name for name, part in reported["components"].items() if part["seen"]}
