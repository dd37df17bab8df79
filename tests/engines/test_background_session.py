"""A decoder that is opened beside: everything else goes on, and its first use waits or says what went wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vita_edge.engines import backends
from vita_edge.engines.background_session import OpenedBeside
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import BadBundle
from vita_edge.engines.onnxruntime.cpu import OnnxCpuSession
from vita_edge.engines.session import GraphSession
from vita_edge.export.bundle import export_bundle
from vita_edge.export.practice.write_practice import write_practice_checkpoint
from vita_edge.runtime import Assistant
from vita_edge.runtime.decoding.language_model import LanguageModel

SECONDS = 30.0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """One whose prompts have a graph of their own."""
    folder = tmp_path_factory.mktemp("beside")
    write_practice_checkpoint(folder / "checkpoint", "tiny", seed=3)
    return Bundle.open(export_bundle(folder / "checkpoint", folder / "bundle", precision="int4").bundle)


@pytest.fixture()
def prefill(bundle: Bundle) -> Iterator[GraphSession]:
    with bundle_session(bundle, "llm_prefill") as session:
        yield session


def bundle_session(bundle: Bundle, name: str) -> GraphSession:
    return OnnxCpuSession(bundle.components[name].graph)


def test_a_prompt_is_read_while_the_decoder_is_still_being_opened(bundle: Bundle, prefill: GraphSession) -> None:
    table, facts, may_open = bundle.embedding_table(), bundle.model.llm, threading.Event()
    rows = table.rows(range(30, 60))

    def opening() -> GraphSession:
        assert may_open.wait(SECONDS)
        return bundle_session(bundle, "llm")

    with OpenedBeside("llm", opening) as llm:
        model = LanguageModel(llm, table, facts, 64, prefill=prefill)
        model.read(rows[:-1])
        assert (model.position, llm.ready) == (29, False)
        may_open.set()
        got = np.array(model.prefill(rows[-1:]))
    with bundle_session(bundle, "llm") as llm_opened:
        whole = LanguageModel(llm_opened, table, facts, 64, prefill=prefill)
        assert np.array_equal(got, whole.prefill(rows))


def test_what_went_wrong_is_told_by_every_use(tmp_path: Path) -> None:
    (tmp_path / "llm.onnx").write_bytes(b"no graph")
    session = OpenedBeside("llm", lambda: OnnxCpuSession(tmp_path / "llm.onnx"))
    for _ in range(2):
        with pytest.raises(BadBundle, match=r"llm\.onnx cannot be opened"):
            session.infer({})
    session.close()


def test_closing_waits_until_it_is_open_and_closes_what_was_opened(bundle: Bundle) -> None:
    may_open, opened = threading.Event(), []

    def opening() -> GraphSession:
        assert may_open.wait(SECONDS)
        opened.append(bundle_session(bundle, "llm"))
        return opened[0]

    session = OpenedBeside("llm", opening)
    threading.Timer(0.05, may_open.set).start()
    session.close()
    with pytest.raises(ValueError, match="closed"):
        opened[0].infer({"inputs_embeds": np.zeros((1, 1, 4), np.float32)}, None)


def test_the_decoder_begins_when_all_other_graphs_are_open(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begun sooner, it takes the cores from them, and a question has to wait."""
    happened: list[tuple[str, str]] = []

    def watched(graph: Path, **options: Any) -> GraphSession:
        happened.append(("begins", graph.stem))
        session = OnnxCpuSession(graph, **options)
        happened.append(("is open", graph.stem))
        return session

    monkeypatch.setattr(backends, "OnnxCpuSession", watched)
    with Assistant(bundle, fast_prefill=True):
        pass
    assert happened[-2:] == [("begins", "llm"), ("is open", "llm")]
    assert {name for _, name in happened[:-2]} == set(bundle.components) - {"llm"}
