"""No known hole is allowed or installed, and the constraints pin everything that a user installs."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "audit-dependencies"
PINNED_EXTRAS = ("export", "calibration", "video", "live", "bench")
"""Extras that constraints.txt says it is for."""


@pytest.fixture(scope="module")
def audit() -> Any:
    loader = SourceFileLoader("audit_dependencies", str(SCRIPT))
    spec = spec_from_loader("audit_dependencies", loader)
    assert spec is not None
    module: ModuleType = module_from_spec(spec)
    loader.exec_module(module)
    return module


def pinned() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): Version(str(pin.specifier).removeprefix("==")) for pin in pins}


def test_no_known_hole_is_allowed_or_installed() -> None:
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no known hole is allowed or installed" in done.stdout
    assert "pip-audit was" in done.stdout


def test_a_hole_is_found_in_what_is_installed_and_in_what_is_allowed(audit: Any) -> None:
    hole = {"package": "pillow", "id": "CVE-0", "fixed": "9999", "what": "everything"}
    found = list(audit.findings([hole]))
    assert [line.partition(":")[0] for line in found] == [
        "pyproject.toml allows pillow>=12.1.1",
        found[1].partition(":")[0],
    ]
    assert re.match(r"pillow \S+ is installed", found[1])
    assert list(audit.holes_below("Pillow", Version("9999"), [hole])) == []
    assert audit.floor(Requirement("pillow>=12.1.1,!=12.2")) == Version("12.1.1")


def test_constraints_pin_what_users_install_above_every_floor_and_hole(audit: Any) -> None:
    pins = pinned()
    for requirement in audit.declared(PINNED_EXTRAS):
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier, requirement
    holes = audit.json.loads(audit.HOLES.read_text("utf-8"))["holes"]
    assert [hole for name, there in pins.items() for hole in audit.holes_below(name, there, holes)] == []


def test_constraints_pin_dependencies_of_dependencies() -> None:
    pins = pinned()
    for name in pins:
        try:
            needed = [Requirement(line) for line in requires(name) or ()]
        except PackageNotFoundError:
            continue
        for one in needed:
            if one.marker is None or one.marker.evaluate({"extra": "", "python_version": "3.11"}):
                assert canonicalize_name(one.name) in pins, f"{name} needs {one}"


def test_the_page_on_dependencies_names_the_floors(audit: Any) -> None:
    page = (ROOT / "docs" / "reference" / "dependencies.md").read_text("utf-8")
    reported = {
        name: Version(minimum) for name, minimum in re.findall(r"^\| ([\w-]+) \| ([\d.]+) \|", page, re.MULTILINE)
    }
    floors = {canonicalize_name(one.name): audit.floor(one) for one in audit.declared()}
    for name, minimum in reported.items():
        assert floors[name].release[: len(minimum.release)] == minimum.release
