"""A clip that is encoded while it goes on gives the rows of the whole clip, however it is cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from support.open_graph import open_graph
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import BadInput
from vita_edge.engines.session import GraphSession
from vita_edge.export.bundle import export_bundle
from vita_edge.export.practice.presets import preset
from vita_edge.export.practice.write_practice import write_checkpoint
from vita_edge.export.weights.precision import TARGETS
from vita_edge.runtime.audio_io.sound_files import read_sound
from vita_edge.runtime.encoders.audio_frontend import AudioFrontEnd
from vita_edge.runtime.encoders.streaming_audio_encoder import ClipEncoder, piece_feeds

Rows = NDArray[np.float32]


@pytest.fixture(scope="module")
def session(tiny_bundle: Bundle) -> Iterator[GraphSession]:
    """Chunks of 4 steps, of which 3 are seen to the left; adapter kernel 5."""
    with open_graph(tiny_bundle, "audio") as opened:
        yield opened


@pytest.fixture(scope="module")
def front_end(tiny_bundle: Bundle) -> AudioFrontEnd:
    return AudioFrontEnd(tiny_bundle.model.audio)


@pytest.fixture(scope="module")
def clip(golden: Path) -> Rows:
    """3.4 s of speech."""
    return read_sound(golden / "data" / "inputs" / "zh_ask.wav").heard_channel[:54400]


def heard(encoder: ClipEncoder, clip: Rows, ends: Sequence[int]) -> tuple[Rows, list[int]]:
    """All rows of a clip that was given up to each of ``ends`` and then finished, and how many came each time."""
    parts = [encoder.step(clip[:end]) for end in ends]
    parts.append(encoder.finish(clip))
    return np.concatenate(parts), [len(part) for part in parts]


def assert_same(got: Rows, want: Rows) -> None:
    assert got.shape == want.shape
    assert np.abs(got - want).max() < 2e-6 * np.abs(want).max()


SPLITS = {
    "nothing before the end": [],
    "in the middle": [30000],
    "every block of 10 ms": range(160, 54000, 160),
    "odd lengths": range(4001, 54000, 2711),
    "long pieces": range(20000, 54000, 16000),
    "the same again and again": [30000, 30000, 30000],
    "too little for anything": [0, 1, 399, 400, 1359],
    "all but one sample": [-1],
    "all of it": [10**6],
}


@pytest.mark.parametrize("name", SPLITS)
def test_pieces_give_the_rows_of_the_whole_clip(
    name: str, session: GraphSession, front_end: AudioFrontEnd, clip: Rows
) -> None:
    whole = ClipEncoder(session, front_end).finish(clip)
    got, counts = heard(ClipEncoder(session, front_end), clip, SPLITS[name])
    assert_same(got, whole)
    if name not in ("nothing before the end", "too little for anything"):
        assert counts[-1] < len(whole)


def test_what_is_left_for_the_end_does_not_grow_with_the_clip(
    session: GraphSession, front_end: AudioFrontEnd, clip: Rows
) -> None:
    """Nor does the past: what attention sees of 3 chunks, and the rows under the next kernel of the adapter."""
    long = np.tile(clip, 4)
    for samples in (30000, 50000, 200000):
        encoder = ClipEncoder(session, front_end)
        for end in range(0, samples, 1000):
            encoder.step(long[:end])
        assert len(encoder.finish(long[:samples])) <= 7
        retained = {array.shape[1] for name, array in encoder._past.items() if name != "past.encoded"}
        assert retained == {12}
        assert encoder._past["past.encoded"].shape[1] in (3, 4)


def test_every_length_of_clip_can_end_after_pieces(session: GraphSession, front_end: AudioFrontEnd, clip: Rows) -> None:
    """A row at least is always left, wherever a chunk ends."""
    for samples in range(7000, 14000, 331):
        whole = ClipEncoder(session, front_end).finish(clip[:samples])
        got, counts = heard(ClipEncoder(session, front_end), clip[:samples], [samples - 160, samples])
        assert_same(got, whole)
        assert counts[-1] > 0


def test_a_clip_that_goes_on_after_its_end_is_as_if_it_had_not_ended(
    session: GraphSession, front_end: AudioFrontEnd, clip: Rows
) -> None:
    calm, hasty = ClipEncoder(session, front_end), ClipEncoder(session, front_end)
    want = [calm.step(clip[:20000]), calm.step(clip[:40000]), calm.finish(clip)]
    got = [hasty.step(clip[:20000])]
    hasty.finish(clip[:24000])
    hasty.finish(clip[:36000])
    got.append(hasty.step(clip[:40000]))
    hasty.finish(clip[:44000])
    got.append(hasty.finish(clip))
    for ours, theirs in zip(got, want):
        np.testing.assert_array_equal(ours, theirs)


def test_a_clip_that_ends_before_what_was_encoded_ends_there(
    session: GraphSession, front_end: AudioFrontEnd, clip: Rows
) -> None:
    """A talk hears a little of the silence behind the last word before it knows that it was the last."""
    encoder = ClipEncoder(session, front_end)
    rows = encoder.step(clip[:30000])
    rest = encoder.finish(clip[:20000])
    steps = 2 * len(rows) + 4  # those under the kernel of the last settled row, and one less than its stride
    front = [4 * steps + 3, 4 * (steps + 1) + 3]  # frames of so many steps, and of one more
    wholes = [ClipEncoder(session, front_end).finish(clip[: 240 + 160 * frames]) for frames in front]
    got = np.concatenate([rows, rest])
    assert any(len(got) == len(whole) and np.abs(got - whole).max() < 2e-6 * np.abs(whole).max() for whole in wholes)


def test_ready_says_what_a_step_will_give(session: GraphSession, front_end: AudioFrontEnd, clip: Rows) -> None:
    encoder = ClipEncoder(session, front_end)
    counts = []
    for end in range(0, len(clip), 777):
        counts.append(encoder.ready(end))
        assert len(encoder.step(clip[:end])) == counts[-1]
        assert encoder.ready(end) == 0
    assert {0, 2} <= set(counts)


def test_clips_that_cannot_be_heard_are_refused_as_ever(
    session: GraphSession, front_end: AudioFrontEnd, clip: Rows
) -> None:
    encoder = ClipEncoder(session, front_end)
    with pytest.raises(BadInput, match="too short"):
        encoder.finish(clip[:1000])
    spoilt = clip[:30000].copy()
    spoilt[20000] = np.nan
    encoder.step(spoilt[:10000])
    with pytest.raises(BadInput, match="damaged"):
        encoder.step(spoilt)
    with pytest.raises(BadInput, match="too long"):
        ClipEncoder(session, front_end).finish(np.zeros(16000 * 201, np.float32))


def test_a_graph_from_before_pieces_hears_at_the_end(
    session: GraphSession, front_end: AudioFrontEnd, clip: Rows
) -> None:
    def infer(feeds: dict[str, Rows]) -> dict[str, Rows]:
        assert set(feeds) == {"fbank"}
        return session.infer(piece_feeds(session, feeds["fbank"][0]))

    old = SimpleNamespace(inputs={"fbank": session.inputs["fbank"]}, outputs=session.outputs, infer=infer)
    encoder = ClipEncoder(old, front_end)  # type: ignore[arg-type]
    got, counts = heard(encoder, clip, range(0, 50000, 3000))
    assert set(counts[:-1]) == {0}
    np.testing.assert_array_equal(got, ClipEncoder(session, front_end).finish(clip))


OTHERS = {
    "all chunks to the left": {"chunk_size": 3, "left_chunks": -1},
    "no chunk to the left": {"chunk_size": 4, "left_chunks": 0},
    "one chunk, kernel 3, prompt rows, batch norm": {"chunk_size": 5, "left_chunks": 1, "adapter_kernel": 3}
    | {"prompt_rows": 3, "adapter_norm": "batch", "adapter_gelu": False},
    "chunks of one step, kernel 7": {"chunk_size": 1, "left_chunks": 9, "adapter_kernel": 7},
    "an even kernel": {"chunk_size": 2, "left_chunks": 2, "adapter_kernel": 4},
    "kernel 2": {"chunk_size": 3, "left_chunks": 2, "adapter_kernel": 2, "prompt_rows": 1},
    "kernel 1": {"chunk_size": 3, "left_chunks": 2, "adapter_kernel": 1},
    "a kernel wider than a chunk": {"chunk_size": 2, "left_chunks": 3, "adapter_kernel": 11},
    "full attention": {"chunk_size": -1, "left_chunks": 4},
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", OTHERS)
def test_pieces_give_the_whole_with_other_chunks_kernels_and_prompts(
    name: str, target: str, clip: Rows, tmp_path: Path
) -> None:
    """For every target, on the processor."""
    tiny = preset("tiny")
    write_checkpoint(tmp_path / "checkpoint", replace(tiny, audio=replace(tiny.audio, **OTHERS[name])), seed=3)
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", target=target)
    bundle = Bundle.open(tmp_path / "bundle")
    front_end = AudioFrontEnd(bundle.model.audio)
    with open_graph(bundle, "audio") as session:
        for split in SPLITS.values():
            whole = ClipEncoder(session, front_end).finish(clip)
            got, counts = heard(ClipEncoder(session, front_end), clip, split)
            assert_same(got, whole)
        assert (max(counts[:-1]) > 0) == (name not in ("kernel 1", "full attention"))


@pytest.mark.parametrize(("precision", "noise"), [("fp16", 2e-6), ("int8", 0.03), ("int4", 0.03)])
def test_pieces_give_the_whole_within_the_noise_of_a_precision(
    precision: str,
    noise: float,
    session: GraphSession,
    front_end: AudioFrontEnd,
    golden: Path,
    clip: Rows,
    tmp_path: Path,
) -> None:
    export_bundle(golden / "checkpoint", tmp_path / "bundle", precision=precision)
    exact = ClipEncoder(session, front_end).finish(clip)
    with open_graph(Bundle.open(tmp_path / "bundle"), "audio") as coarse:
        whole = ClipEncoder(coarse, front_end).finish(clip)
        got, _ = heard(ClipEncoder(coarse, front_end), clip, range(0, 50000, 2000))
    assert np.abs(got - whole).max() < noise * np.abs(whole).max()
    assert np.std(got - exact) < 1.1 * np.std(whole - exact) + 1e-6 * np.std(exact)
