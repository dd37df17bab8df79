"""What all tests share: the golden data, a bundle of them, an assistant on it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.spoil import linked_copy
from vita_edge.engines.bundle.format import Bundle
from vita_edge.runtime import Assistant

TESTS = Path(__file__).resolve().parent
REALTIME = (
    "cli/test_chat.py",
    "cli/test_bench.py",
    "runtime/live/",
    "runtime/simulation/",
    "runtime/audio_io/test_devices.py",
)
"""Tests that keep pace with sound: a busy neighbour on the other core would fail them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.relative_to(TESTS).as_posix().startswith(REALTIME):
            item.add_marker(pytest.mark.realtime)


@pytest.fixture(scope="session")
def golden() -> Path:
    """The compact golden folder of the repository (tests/golden/README.md)."""
    return TESTS / "golden" / "tiny-a"


@pytest.fixture(scope="session")
def shared_golden() -> Path:
    """All golden data, with the prompts of the reference: beside the checkout, where somebody has them."""
    folder = TESTS.parents[1] / "shared" / "golden"
    if not (folder / "tiny-a").is_dir():
        pytest.skip("the whole golden data are not here")
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The golden checkpoint, exported once. Not to be written to: see ``bundle_copy``."""
    from vita_edge.export.bundle import export_bundle

    folder = tmp_path_factory.mktemp("bundle") / "tiny-a"
    export_bundle(golden / "checkpoint", folder)
    return Bundle.open(folder)


@pytest.fixture(scope="session")
def spare_bundle(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second copy to link to: the onnx package refuses weight files that have several names."""
    return Path(shutil.copytree(tiny_bundle.path, tmp_path_factory.mktemp("spare") / "tiny-a"))


@pytest.fixture
def bundle_copy(spare_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle to spoil with the functions of ``spoil.py``."""
    return linked_copy(spare_bundle, tmp_path / "copy")


@pytest.fixture(scope="session")
def random_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle of random weights, which talks until it is stopped."""
    from vita_edge.export.bundle import export_bundle
    from vita_edge.export.practice.write_practice import write_practice_checkpoint

    folder = tmp_path_factory.mktemp("random")
    write_practice_checkpoint(folder / "checkpoint", "tiny", seed=55)
    export_bundle(folder / "checkpoint", folder / "bundle")
    return folder / "bundle"


@pytest.fixture(scope="session")
def long_question() -> Path:
    """3.7 s of speech; a pause in the middle is longer than the one after which an answer is tried."""
    return TESTS / "data" / "question-with-a-pause.flac"


@pytest.fixture(scope="session")
def assistant(tiny_bundle: Bundle) -> Iterator[Assistant]:
    """An assistant on the bundle of the golden checkpoint."""
    with Assistant(tiny_bundle) as opened:
        yield opened
