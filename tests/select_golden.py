"""Make the compact golden folder that travels in the repository: python tests/select_golden.py GOLDEN [-o FOLDER]

Takes the checkpoint but for a file that no loader opens, and of the reference's arrays as many as a repository can
carry. The conversations are not taken but computed anew by the PyTorch reference of this project, with its prompts: the
ids of a recorded prompt would spell out the published prompt, which is not ours to hand on.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from support.reference_plans import GOLDEN_PLAN
from vita_edge.export.prompts import DEFAULT_PROMPTS
from vita_edge.verification.recorder.record_reference import ReferenceRecorder
from vita_edge.verification.reference import Reference

HERE = Path(__file__).resolve().parent / "golden" / "tiny-a"
LARGEST = 12_000_000
"""Bytes of the whole folder."""

RECORDED = {
    "audio.npz": ("en_short.", "mono_8k.", "en_look.fbank", "en_look.enc_full", "en_look.adapter_full"),
    "vision.npz": ("square.", "tall.", "clip_crop.", "clip_pad.", "live2."),
    "llm.npz": ("image_audio.stop_tokens",),
    "tts.npz": ("s1.", "s2.", "fixed.codes", "fixed.global", "fixed.conv_pre", "fixed.up0", "fixed.wave"),
    "e2e.npz": ("image_audio.",),
}
"""Beginnings of the names of what is taken from the reference."""
NOT_LOADED = ("InternViT-300M-448px/model.safetensors",)
"""The shards hold the vision tower, and win."""
COMPUTED = ("text", "image_text", "live1", "live2")
"""Conversations that are computed."""
INPUTS = (
    "en_short.wav",
    "en_look.wav",
    "mono_8k.wav",
    "zh_ask.wav",
    "square.png",
    "tall.png",
    "clip_2.json",
    "clip_20.json",
    "frames/*.png",
)

Arrays = dict[str, dict[str, np.ndarray[Any, Any]]]


def select(golden: Path, target: Path) -> int:
    """Write the selection of ``golden`` to ``target``, replacing what is there; returns its bytes."""
    shutil.rmtree(target, ignore_errors=True)
    data = golden / "data"
    for file in sorted((golden / "checkpoint").rglob("*")):
        if file.is_file() and not str(file).endswith(NOT_LOADED):
            _copy(file, target / file.relative_to(golden))
    for pattern in INPUTS:
        for file in sorted((data / "inputs").glob(pattern)):
            _copy(file, target / file.relative_to(golden))

    manifest = _read(data / "manifest.json")
    arrays: Arrays = {}
    for file, beginnings in RECORDED.items():
        with np.load(data / file) as archive:
            arrays[file] = {name: archive[name] for name in archive.files if name.startswith(beginnings)}
    entries = [entry for entry in manifest["arrays"] if entry["name"] in arrays[entry["file"]]]

    plan = replace(GOLDEN_PLAN, conversations={name: GOLDEN_PLAN.conversations[name] for name in COMPUTED})
    recorder = ReferenceRecorder(Reference(golden / "checkpoint", "float64"), data / "inputs", DEFAULT_PROMPTS, plan)
    recorder.record_language()
    ours = recorder.arrays.files["llm"]
    entries += [e for e in recorder.arrays.manifest()["arrays"] if e["file"] == "llm.npz" and e["name"] in ours]
    arrays["llm.npz"] |= ours
    for file, chosen in arrays.items():
        np.savez_compressed(target / "data" / file, **chosen)

    cases, text, talk = (_read(data / f"{name}.json") for name in ("cases", "text", "e2e"))
    conversations = recorder.cases()["conversations"]
    sentences = {name: reported for name, reported in cases["speech"].items() if f"{name}.ids" in arrays["tts.npz"]}
    history = f"$$FIRST_SENTENCE_MARK$${recorder.replies['live1']}"
    documents: dict[str, Any] = {
        "manifest": {**manifest, "selection": "tests/golden/README.md", "arrays": entries},
        "cases": {"conversations": conversations, "speech": sentences},
        "text": _without(text, "prompt_ids", "prompt_questions"),
        "e2e": {"image_audio": _without(talk["image_audio"], "prompt_ids"), "live_history_response": history},
    }
    for name, content in documents.items():
        _write(target / "data" / f"{name}.json", content)
    _write(target / "prompts.json", DEFAULT_PROMPTS)
    return sum(file.stat().st_size for file in target.rglob("*") if file.is_file())


def _copy(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(file.read_bytes())  # not the permissions: golden folders are read-only


def _read(file: Path) -> Any:
    return json.loads(file.read_text("utf-8"))


def _write(file: Path, content: object) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", "utf-8")


def _without(table: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in keys}


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("golden", type=Path, metavar="GOLDEN", help="folder with checkpoint and data")
    parser.add_argument("-o", "--output", type=Path, default=HERE, metavar="FOLDER")
    options = parser.parse_args(arguments)
    size = select(options.golden, options.output)
    print(f"{options.output}: {size:,} bytes")
    if size > LARGEST:
        raise SystemExit(f"That is more than the {LARGEST:,} bytes that the repository should carry.")


if __name__ == "__main__":
    main()
