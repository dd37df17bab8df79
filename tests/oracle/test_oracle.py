"""The oracle against the golden data of the reference (limits: golden README)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from . import front
from .golden import SHARED, Golden
from .model import Stack
from .reader import Array, cmvn_from_file, find_tokenizer

DATA = SHARED / "tiny-a" / "data"
pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the shared golden data are not here")

# file, last part of the name -> limit relative to the largest golden magnitude; everything is computed from the inputs.
LIMITS = {"wave": 1e-5, "pixels": 1e-6, "hidden": 0.0, "global": 0.0, "quant": 0.0}
LOOSE = {"audio": 1e-3, "vision": 1e-5, "llm": 1e-4, "tts": 1e-5}


@pytest.fixture(scope="module")
def golden() -> dict[str, Array]:
    """All golden arrays as file.clip.stage."""
    files = {f: np.load(DATA / f"{f}.npz") for f in (*LOOSE, "e2e")}
    return {f"{f}.{name}": arrays[name] for f, arrays in files.items() for name in arrays.files}


@pytest.fixture(scope="module")
def made(golden: dict[str, Array]) -> Golden:
    """Everything the oracle makes of tiny-a with quick settings, but tokens and codec input as in the golden data."""
    oracle = Golden(DATA.parent / "checkpoint", DATA / "inputs", SHARED / "prompts.json")
    oracle.count = 48
    for make in (oracle.make_audio, oracle.make_vision, oracle.make_llm, oracle.make_tts, oracle.make_e2e):
        make()
    return oracle


def relative(got: Array, want: Array) -> float:
    """Largest difference by largest golden magnitude."""
    assert got.shape == want.shape
    return float(np.abs(got - want).max() / np.abs(want).max())


def test_every_array_from_the_input_files(made: Golden, golden: dict[str, Array]) -> None:
    """All stages, tokens and codes agree when computed from sound, picture and text files."""
    stable = {
        f"{a['file'][:3]}.{a['name']}": a.get("stable_under_5e-7_noise", True)
        for a in json.loads((DATA / "manifest.json").read_text("utf-8"))["arrays"]
    }
    checked = 0
    for file, arrays in made.arrays.items():
        for name, got in arrays.items():
            key, stage = f"{file}.{name}", name.split(".")[1]
            if name.startswith("fixed.") or stage in ("fbank", "pcm") or key not in golden:
                continue
            checked += 1
            if got.dtype.kind == "f":
                assert relative(got, golden[key]) <= LIMITS.get(stage, LOOSE[file]), key
            elif stage.endswith("_cuts"):
                assert (got[:, :3] == golden[key][:, :3]).all() and abs(got - golden[key])[:, 4:].sum() <= len(got), key
            elif stable[f"{key[:3]}.{name}"]:
                assert (got == golden[key]).all(), key
    assert checked > 80


def test_filter_bank(made: Golden, golden: dict[str, Array]) -> None:
    """Log energies within the README's limits."""
    for name in ("zh_ask", "stereo_44k"):
        got, want = made.arrays["audio"][f"{name}.fbank"], golden[f"audio.{name}.fbank"]
        off = np.abs(got - want)
        assert off[want > 3].max() < (0.02 if name == "zh_ask" else 0.03) and off.max() < 0.2


def test_stages_from_golden_inputs(made: Golden, golden: dict[str, Array]) -> None:
    """Networks on the reference's own inputs: 1e-5 of the scale and better."""
    for name in ("en_look", "en_long", "mono_8k"):
        for full in (False, True):
            for stage, got in made.audio.stages(golden[f"audio.{name}.fbank"], full).items():
                key = f"audio.{name}.{stage}" + ("_full" if full else "")
                if key in golden and (not full or key.endswith("_full")):
                    assert relative(got, golden[key]) < 1e-5, key
    for stage, got in made.vision.stages(golden["vision.tall.pixels"]).items():
        assert relative(got, golden[f"vision.tall.{stage}"]) < 1e-5
    for stage, got in made.codec.stages(golden["tts.fixed.codes"]).items():
        assert f"tts.fixed.{stage}" not in golden or relative(got, golden[f"tts.fixed.{stage}"]) < 1e-5, stage
    for name in ("video_audio", "live2"):
        prefill, tokens, logits = made.llm.generate(golden[f"llm.{name}.embeds"], 12)
        assert relative(prefill[golden[f"llm.{name}.prefill_pos"]], golden[f"llm.{name}.prefill_logits"]) < 2e-5
        assert tokens == golden[f"llm.{name}.tokens"][:12].tolist()
        assert relative(logits, golden[f"llm.{name}.logits"][:12]) < 2e-5


def test_talk(made: Golden, golden: dict[str, Array]) -> None:
    """Reply, pieces, sentences and samples of the live turn."""
    want = json.loads((DATA / "e2e.json").read_text("utf-8"))["live1"]
    assert made.talk["live1"] == want
    assert np.abs(made.arrays["e2e"]["live1.pcm"].astype(int) - golden["e2e.live1.pcm"]).max() <= 2


def test_text(made: Golden) -> None:
    """Ids and texts of text.json."""
    want, got = json.loads((DATA / "text.json").read_text("utf-8")), made.text()
    assert [got[k] for k in ("info", "prompt_ids", "prompt_questions")] == [
        want[k] for k in ("info", "prompt_ids", "prompt_questions")
    ]
    for case in want["encode"]:
        assert made.tokenizer.encode(case["text"], add_special_tokens=False).ids == case["ids"]
    for case in want["decode"]:
        assert made.tokenizer.decode(case["ids"], skip_special_tokens=False) == case["decoded"]


def test_second_turn_prompts(made: Golden, golden: dict[str, Array]) -> None:
    """The live demo's second prompt, with and without its stray marker."""
    for name in ("live2", "live2_clean"):
        assert front.prompt_ids(made.tokenizer, made.prompt(name, 4)) == golden[f"llm.{name}.ids"].tolist()


def test_common() -> None:
    """Cases that need no weights."""
    common: dict[str, list[Any]] = json.loads((SHARED / "common" / "common.json").read_text("utf-8"))
    for case in common["text_shaping"]:
        assert front.spoken(case["text"]) == case["spoken"]
    for case in common["sentence_cutting"]:
        assert front.cut_reply(case["reply"]) == case["pieces"]
        said = [(s.text, s.chunk, s.threshold) for s in front.sentences(case["pieces"])]
        assert said == [(s["text"], s["chunk"], s["threshold"]) for s in case["sentences"]]
    tiling: Any = common["tiling"]
    for case in tiling["cases"]:
        grid = front.tile_grid(case["width"], case["height"], tiling["image_size"], case["max"])
        assert grid == (case["cols"], case["rows"])
    for case in common["frame_sampling"]:
        assert front.sample_frames(case["frames"], case["fps"]) == case["one_per_second"]
        assert front.spread(case["frames"] - 1, 4) == case["live"]


def test_written_files_read_back(made: Golden, tmp_path: Path) -> None:
    """The folder has the golden layout."""
    made.write(tmp_path, "tiny-a")
    manifest = json.loads((tmp_path / "manifest.json").read_text("utf-8"))
    for row in manifest["arrays"]:
        array = np.load(tmp_path / row["file"])[row["name"]]
        assert str(array.dtype) == row["dtype"] and array.size == int(np.prod(row["shape"]))
    assert set(json.loads((tmp_path / "cases.json").read_text("utf-8"))["conversations"]) == {
        "text",
        "image_audio",
        "live1",
    }


def test_cached_steps_equal_one_pass(made: Golden, golden: dict[str, Array]) -> None:
    """Prefill in two parts gives the same rows as in one (spec 7)."""
    stack: Stack = made.llm.stack
    x = golden["llm.text.embeds"][:40].astype(np.float64)
    cache: dict[str, Any] = {}
    parts = [stack(x[:25], cache, True), stack(x[25:], cache, True)]
    assert np.allclose(np.concatenate(parts), stack(x, {}, True))


def test_statistics_in_both_forms(tmp_path: Path) -> None:
    """JSON and text statistics give the same values (spec 5.3)."""
    mean, square = np.arange(80) * 3.0, np.arange(80) ** 2 + 5.0
    as_json = {"mean_stat": mean.tolist(), "var_stat": square.tolist(), "frame_num": 7}
    (tmp_path / "a").write_text(json.dumps(as_json))
    (tmp_path / "b").write_text(f"[ {' '.join(map(str, mean))} 7 {' '.join(map(str, square))} 0 ]")
    a, b = cmvn_from_file(tmp_path / "a", True), cmvn_from_file(tmp_path / "b", False)
    assert all((a[k] == b[k]).all() for k in ("mean", "istd"))


def test_tokenizer_from_its_older_files(made: Golden, tmp_path: Path) -> None:
    """Without tokenizer.json the other three files give the same ids (spec 3)."""
    for name in ("vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json"):
        (tmp_path / name).write_bytes((DATA.parent / "checkpoint" / name).read_bytes())
    older = find_tokenizer(tmp_path)
    for case in json.loads((DATA / "text.json").read_text("utf-8"))["encode"]:
        assert older.encode(case["text"], add_special_tokens=False).ids == case["ids"]
    assert older.get_vocab_size() == made.tokenizer.get_vocab_size()
