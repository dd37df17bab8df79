"""The bundle that comes along answers as it should: questions of unseen voices about unseen pictures."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from vita_edge.runtime import Assistant, demo_folder

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / "tests" / "data" / "behaviour" / "cases.json"


def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("behaviour", ROOT / "benchmarks" / "behaviour.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)

    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def judged() -> list[Any]:
    with Assistant(demo_folder() / "bundle") as assistant:
        found: list[Any] = benchmark().ask_cases(assistant, CASES)
    assert len(found) >= 100
    return found


def reported(wrong: list[Any]) -> str:
    return "\n".join(f"{j.asked}: {j.state} {j.text!r}, not {j.expected_state} {j.expected_text!r}" for j in wrong)


def test_it_knows_what_is_meant_for_it(judged: list[Any]) -> None:
    wrong = [j for j in judged if not j.state_right]
    assert len(wrong) <= 0.03 * len(judged), reported(wrong)


def test_it_answers_what_is_right(judged: list[Any]) -> None:
    wrong = [j for j in judged if not j.right]
    assert len(wrong) <= 0.05 * len(judged), reported(wrong)  # 2 % are, 3 % of others: examples/nano/README.md
