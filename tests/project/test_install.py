"""What a fix or a page tells you to install can be installed, though no index knows vita-edge."""

from __future__ import annotations

import json
import re
import shlex
import sys
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from support.command import run
from vita_edge.engines import contact, install
from vita_edge.engines.contact import report_to
from vita_edge.engines.install import install_fix
from vita_edge.estimate.device_file import read_devices
from vita_edge.export.weights.precision import precision_plan

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = (
    "src",
    "runtime",
    "engines",
    "export",
    "calibration",
    "estimate",
    "verification",
    "docs",
    "examples",
    "scripts",
)


def command_of(fix: str) -> list[str]:
    said, _, command = fix.partition(": ")
    assert said == "Install it with"
    return shlex.split(command)


def texts() -> list[Path]:
    found = [*ROOT.glob("*.md"), ROOT / "Makefile"]
    for folder in SHIPPED:
        found += [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md", "") and path.is_file()]
    return found


def test_no_page_and_no_message_installs_from_an_index_what_is_not_there() -> None:
    wrong = re.compile(r"pip install[^\n]*['\" ]vita-edge(\[|['\"\s]|$)|Install vita-edge with its extra")
    assert [path for path in texts() if wrong.search(path.read_text("utf-8", "replace"))] == []


def test_a_clone_is_installed_from_itself() -> None:
    assert command_of(install_fix("live")) == [sys.executable, "-m", "pip", "install", "-e", f"{ROOT}[live]"]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The metadata of an installed wheel; no clone is around."""
    folder = tmp_path / "vita_edge-0.1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: vita-edge\nVersion: 0.1.0\nRequires-Dist: numpy>=1.26\n"
        'Requires-Dist: sounddevice>=0.5; extra == "live"\nRequires-Dist: rich>=13.7; extra == "live"\n'
        'Requires-Dist: torch>=2.6; extra == "reference"\nRequires-Dist: vita-edge[export]; extra == "reference"\n'
    )
    monkeypatch.setattr(install, "CLONE", tmp_path / "site-packages")
    monkeypatch.setattr(install, "_distribution", lambda: PathDistribution(folder))
    return folder


def test_a_wheel_that_is_still_there_is_installed_again_with_the_extra(installed: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "a folder" / "vita_edge-0.1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.touch()
    (installed / "direct_url.json").write_text(json.dumps({"url": wheel.as_uri(), "archive_info": {}}))
    assert command_of(install_fix("live"))[-2:] == ["install", f"{wheel}[live]"]


def test_where_the_wheel_has_gone_the_packages_are_named(installed: Path, tmp_path: Path) -> None:
    (installed / "direct_url.json").write_text(json.dumps({"url": (tmp_path / "gone.whl").as_uri()}))
    assert command_of(install_fix("live"))[-2:] == ["sounddevice>=0.5", "rich>=13.7"]
    assert command_of(install_fix("reference"))[-1] == "torch>=2.6"


def test_faults_are_reported_to_one_address_which_is_not_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(contact.VARIABLE, raising=False)
    assert contact.ADDRESS == "" and report_to() == "the person who gave you vita-edge"
    monkeypatch.setattr(contact, "ADDRESS", "https://issues.example")
    assert report_to() == "https://issues.example"
    monkeypatch.setenv(contact.VARIABLE, "robot-team@example")
    assert report_to() == "robot-team@example"


@pytest.mark.parametrize("board", read_devices().devices)
def test_the_estimate_for_a_board_ends_in_commands_that_can_be_run(
    board: str, capsys: pytest.CaptureFixture[str]
) -> None:
    reported = run(capsys, "estimate", "--model", "full", "--board", board)
    lines = re.findall(
        r"^  (.+?)  +vita-edge export CHECKPOINT -o BUNDLE --target (\S+) --precision (\S+)$", reported.out, re.M
    )
    facts = run(capsys, "estimate", "--model", "full", "--board", board, "--json").json["estimates"]
    if all(plan["verdict"] == "no" for plan in facts):
        assert not lines
        return
    assert {name: target for name, target, _ in lines} == {one["name"]: one["target"] for one in facts[0]["platforms"]}
    for _, target, precision in lines:
        assert precision_plan(precision, target=target).target == target
    if "jetpack-6" in read_devices().devices[board].platforms:
        assert ("JetPack 6.1-6.2", "tensorrt-10.3") in [line[:2] for line in lines]
