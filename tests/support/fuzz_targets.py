"""Everything that reads what somebody else wrote, as functions of a spoiled file; see also benchmarks/fuzz.py."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from support.bench_results import bench_result, turns
from support.mutations import mutated_archive, mutated_bytes, mutated_json, mutated_text
from support.spoil import linked_copy, rewrite

__all__ = ["Sources", "Target", "targets", "try_once"]

Mutate = Callable[[Random, bytes], bytes]


@dataclass(frozen=True)
class Target:
    """One reader and the whole file that it is given changed copies of."""

    name: str
    file: Path
    mutate: Mutate
    read: Callable[[], object]


@dataclass(frozen=True)
class Sources:
    """Whole folders to begin with."""

    checkpoint: Path
    bundle: Path
    golden: Path
    picture: Path
    sound: Path


def try_once(target: Target, whole: bytes, random: Random) -> tuple[str, BaseException | None]:
    """Give the reader one spoiled copy: ``accepted``, ``refused`` in the product's words, or ``fault`` and why."""
    from vita_edge.engines.errors import VitaEdgeError
    from vita_edge.engines.tensorrt.engine_file import BadEngine

    rewrite(target.file, target.mutate(random, whole))
    try:
        target.read()
    except (VitaEdgeError, BadEngine):
        return "refused", None
    except Exception as error:
        return "fault", error
    finally:
        rewrite(target.file, whole)
    return "accepted", None


def targets(sources: Sources, work: Path) -> list[Target]:
    """All targets, their files laid out below ``work``."""
    return [*_checkpoint(sources, work), *_bundle(sources, work), *_given(sources, work), *_recorded(sources, work)]


def _checkpoint(sources: Sources, work: Path) -> list[Target]:
    from vita_edge.export.checkpoint.open_checkpoint import Checkpoint
    from vita_edge.export.checkpoint.safetensors_file import open_safetensors
    from vita_edge.export.checkpoint.torch_file import open_torch_file
    from vita_edge.export.facts import model_facts

    folder = linked_copy(sources.checkpoint, work / "checkpoint")
    small: dict[str, Mutate] = {
        file.relative_to(folder).as_posix(): mutated_json if file.suffix == ".json" else mutated_text
        for file in sorted(folder.rglob("*"))
        if file.is_file() and (file.suffix in (".json", ".yaml", ".txt") or file.name == "global_cmvn")
    }
    shard = sorted(folder.glob("*.safetensors"))[0]
    torch_file = next(folder.glob("vita_tts_ckpt/codec/final.pt"))

    def look(tree: Mapping[str, Any]) -> None:
        for tensor in tree.values():
            if isinstance(tensor, dict):
                look(tensor)
            elif tensor.nbytes < 1 << 22:
                tensor.read()

    def whole() -> None:
        model_facts(Checkpoint.open(folder))

    return [
        *(Target(f"checkpoint: {name}", folder / name, mutate, whole) for name, mutate in small.items()),
        Target("checkpoint: shard", shard, _header(4000), lambda: look(open_safetensors(shard))),
        Target("checkpoint: final.pt", torch_file, mutated_archive, lambda: look(open_torch_file(torch_file))),
    ]


def _bundle(sources: Sources, work: Path) -> list[Target]:
    from vita_edge.engines.bundle.format import Bundle
    from vita_edge.engines.onnx_file.external_data import check_external_data
    from vita_edge.runtime.text.tokenizer import Tokenizer

    folder = linked_copy(sources.bundle, work / "bundle")
    graph, tokenizer = folder / "components" / "codec.onnx", folder / "tokenizer.json"

    def opened() -> None:
        bundle = Bundle.open(folder)
        bundle.embedding_table().rows([0])

    return [
        Target("bundle: manifest.json", folder / "manifest.json", mutated_json, opened),
        Target("bundle: graph", graph, mutated_bytes, lambda: check_external_data(graph)),
        Target("bundle: tokenizer.json", tokenizer, mutated_json, lambda: Tokenizer.from_file(tokenizer).encode("hi")),
    ]


def _given(sources: Sources, work: Path) -> list[Target]:
    from vita_edge.cli.turns import read_turn_file
    from vita_edge.estimate.device_file import read_devices
    from vita_edge.export.prompts import DEFAULT_PROMPTS, read_prompts
    from vita_edge.runtime import read_frames, read_image, read_sound
    from vita_edge.runtime.metrics.bench_result import BenchResult
    from vita_edge.runtime.metrics.compare_runs import changes
    from vita_edge.runtime.metrics.turn_log import read_turn_log

    folder = work / "given"
    folder.mkdir()

    def place(name: str, content: str | bytes) -> Path:
        file = folder / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    shutil.copyfile(sources.picture, folder / "a.png")
    shutil.copyfile(sources.sound, folder / "a.flac")
    prompts = place("prompts.json", json.dumps(DEFAULT_PROMPTS))
    frames = place("frames.json", json.dumps({"fps": 2.0, "frames": ["a.png", "a.png"]}))
    asked = place("turns.json", json.dumps([{"text": "Hello"}, {"audio": "a.flac", "image": ["a.png"]}]))
    result = bench_result(turns(6)).to_json()
    bench = place("bench.json", json.dumps(result))
    log = place("log.jsonl", "\n".join(json.dumps(turn.report.to_json()) for turn in turns(3)))
    devices = place("boards.json", json.dumps(_own_board()))
    image, sound = folder / "a.png", folder / "a.flac"

    def compare() -> None:
        run = BenchResult.read(bench)
        for name in run.groups:
            changes(run.group(name), run.group(name))

    return [
        Target("prompts", prompts, mutated_json, lambda: read_prompts(prompts)),
        Target("list of frames", frames, mutated_json, lambda: read_frames(frames)),
        Target("turns", asked, mutated_json, lambda: list(read_turn_file(asked))),
        Target("bench result", bench, mutated_json, compare),
        Target("turn log", log, mutated_text, lambda: list(read_turn_log(log))),
        Target("board file", devices, mutated_json, lambda: read_devices(devices)),
        Target("picture", image, _header(100), lambda: read_image(image)),
        Target("sound", sound, _header(100), lambda: read_sound(sound)),
    ]


def _recorded(sources: Sources, work: Path) -> list[Target]:
    from vita_edge.calibration.feeds import Feeds
    from vita_edge.engines.bundle.feeds_format import FEEDS_FORMAT, FEEDS_VERSION
    from vita_edge.engines.errors import BadInput
    from vita_edge.engines.reading.file_kind import FileKind
    from vita_edge.engines.reading.npz_file import read_npz
    from vita_edge.verification.parity.folder import GoldenFolder

    feeds = work / "feeds"
    feeds.mkdir()
    manifest = {
        "format": FEEDS_FORMAT,
        "format_version": FEEDS_VERSION,
        "model": {"name": "x"},
        "components": {"codec": {"files": ["a.npz"]}},
    }
    (feeds / "manifest.json").write_text(json.dumps(manifest))
    arrays = feeds / "a.npz"
    np.savez(arrays, codes=np.arange(12)[None], rows=np.ones((2, 3), np.float32))
    golden = linked_copy(sources.golden, work / "golden")
    kind = FileKind(BadInput, "the arrays", fix="Record again.")
    return [
        Target("recording", feeds / "manifest.json", mutated_json, lambda: Feeds.open(feeds)),
        Target("arrays", arrays, mutated_archive, lambda: read_npz(arrays, kind)),
        Target("recorded manifest", golden / "manifest.json", mutated_json, lambda: GoldenFolder(golden)),
        Target("recorded cases", golden / "cases.json", mutated_json, lambda: GoldenFolder(golden)),
    ]


def _header(size: int) -> Mutate:
    return lambda random, content: mutated_bytes(random, content, header=size)


def _own_board() -> dict[str, Any]:
    from vita_edge.estimate.device_file import FILE

    known = json.loads(FILE.read_text("utf-8"))
    name, board = next(iter(known["devices"].items()))
    return {**known, "devices": {name: board}}
