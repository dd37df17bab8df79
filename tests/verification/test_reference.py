"""The PyTorch reference against what the published implementation computed, array by array."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the reference needs PyTorch")

from support.reference_plans import GOLDEN_PLAN  # noqa: E402
from vita_edge.engines.errors import Misuse  # noqa: E402
from vita_edge.export.prompts import DEFAULT_PROMPTS, read_prompts  # noqa: E402
from vita_edge.verification.recorder.record_reference import ReferenceRecorder  # noqa: E402
from vita_edge.verification.reference import Reference, decode  # noqa: E402
from vita_edge.verification.reference.pictures import live_positions, sampled_positions, tile_grid  # noqa: E402
from vita_edge.verification.reference.sentences import cut_reply, sentences, spoken  # noqa: E402
from vita_edge.verification.reference.weights import Layers  # noqa: E402

Array = np.ndarray[Any, Any]

FROM_FILES = {"wave": 1e-5, "pixels": 1e-6, "hidden": 0.0, "cmvn": 2e-3}
"""Limits by the last part of an array's name, relative to its largest magnitude (CMVN enlarges the rounding near the
floor of the filter bank); else by its file:"""
BY_FILE = {"audio": 1e-3, "vision": 1e-5, "llm": 1e-4, "tts": 1e-5}


def relative(got: Any, want: Array) -> float:
    if isinstance(got, torch.Tensor):
        got = got.float().cpu().numpy()
    assert got.shape == want.shape
    return float(np.abs(got - want).max() / np.abs(want).max())


def arrays(golden: Path, file: str) -> dict[str, Array]:
    with np.load(golden / "data" / f"{file}.npz") as archive:
        return dict(archive)


@pytest.fixture(scope="module", params=["float32", "float64"])
def reference(request: pytest.FixtureRequest, golden: Path) -> Reference:
    return Reference(golden / "checkpoint", request.param)


# --- from the recorded inputs of each stage


def test_sound_is_encoded_as_recorded(reference: Reference, golden: Path) -> None:
    recorded = arrays(golden, "audio")
    for clip in ("en_short", "mono_8k"):
        with torch.inference_mode():
            stages = reference.audio.stages(torch.from_numpy(recorded[f"{clip}.fbank"]))
        for stage, got in stages.items():
            assert relative(got, recorded[f"{clip}.{stage}"]) < 1e-5, stage


def test_sound_is_encoded_as_recorded_without_the_chunk_mask(reference: Reference, golden: Path) -> None:
    recorded = arrays(golden, "audio")
    with torch.inference_mode():
        stages = reference.audio.stages(torch.from_numpy(recorded["en_look.fbank"]), full_attention=True)
    for stage in ("enc", "adapter"):
        assert relative(stages[stage], recorded[f"en_look.{stage}_full"]) < 1e-5


def test_pictures_are_encoded_as_recorded(reference: Reference, golden: Path) -> None:
    recorded = arrays(golden, "vision")
    with torch.inference_mode():
        stages = reference.vision.stages(torch.from_numpy(recorded["tall.pixels"]))
    for stage, got in stages.items():
        assert relative(got, recorded[f"tall.{stage}"]) < 1e-5


def test_codes_become_the_recorded_sound(reference: Reference, golden: Path) -> None:
    recorded = arrays(golden, "tts")
    with torch.inference_mode():
        stages = reference.codec.stages(torch.from_numpy(recorded["fixed.codes"]))
    for stage in ("global", "conv_pre", "up0", "wave"):
        assert relative(stages[stage], recorded[f"fixed.{stage}"]) < 1e-5, stage


def test_sentences_become_the_recorded_codes(reference: Reference, golden: Path) -> None:
    recorded, speech = arrays(golden, "tts"), reference.speech
    with torch.inference_mode():
        pre_nn = speech.pre_nn(speech.vectors(reference.language.embed(recorded["s2.ids"].tolist())))
        steps = list(speech.codes(pre_nn))
        penalised = speech.codes(pre_nn, limit=60, penalty_window=20, penalty=1.1)
        assert [c for c, _ in penalised if c != speech.end] == recorded["s2.codes_penalty"].tolist()
    assert relative(pre_nn, recorded["s2.pre_nn"]) < 1e-5
    assert [code for code, _ in steps if code != speech.end] == recorded["s2.codes"].tolist()
    assert relative(torch.stack([logits for _, logits in steps[:60]]), recorded["s2.logits"]) < 1e-5


def test_prompts_are_answered_as_recorded(reference: Reference, golden: Path) -> None:
    """All at once: a layer is read once for all of them."""
    recorded, names = arrays(golden, "llm"), ["text", "image_text", "live1", "live2"]
    prompts = [torch.from_numpy(recorded[f"{name}.embeds"]) for name in names]
    with torch.inference_mode():
        answers = decode(reference.language, prompts, 12)
    for name, answer in zip(names, answers):
        assert answer.tokens == recorded[f"{name}.tokens"][:12].tolist()
        assert answer.prefill_positions == recorded[f"{name}.prefill_pos"].tolist()
        assert relative(answer.prefill_logits, recorded[f"{name}.prefill_logits"]) < 2e-5
        assert relative(torch.stack(answer.logits), recorded[f"{name}.logits"][:12]) < 2e-5


# --- guesses, memory, dtypes, devices


@pytest.mark.parametrize("right", [0, 1, 5, 11])
def test_guesses_change_nothing_but_the_number_of_passes(golden: Path, right: int) -> None:
    recorded, model = arrays(golden, "llm"), Reference(golden / "checkpoint", "float64").language
    prompts = [torch.from_numpy(recorded[f"{name}.embeds"][-20:]) for name in ("text", "live1")]
    passes = 0
    walk = model.hidden

    def counted(*given: Any) -> Any:
        nonlocal passes
        passes += 1
        return walk(*given)

    model.hidden = counted  # type: ignore[method-assign]
    with torch.inference_mode():
        plain = decode(model, prompts, 12)
        assert passes == 12
        wrong = [[(token + 1) % model.words for token in answer.tokens] for answer in plain]

        def draft(prompt: int, tokens: list[int], count: int) -> list[int]:
            known = plain[prompt].tokens[len(tokens) : len(tokens) + right]
            return (known + wrong[prompt][len(tokens) + len(known) :])[:count]

        passes = 0
        guessed = decode(model, prompts, 12, draft=draft)
    assert passes == -(-12 // (right + 1))
    for a, b in zip(plain, guessed):
        assert a.tokens == b.tokens
        assert torch.allclose(torch.stack(a.logits), torch.stack(b.logits), atol=1e-9)
        assert torch.allclose(a.prefill_logits, b.prefill_logits, atol=1e-9)


def test_layers_that_are_read_in_turn_compute_what_layers_in_memory_do(
    golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = arrays(golden, "llm")["text.embeds"]

    def answer() -> list[int]:
        with torch.inference_mode():
            return decode(Reference(golden / "checkpoint").language, [torch.from_numpy(recorded)], 6)[0].tokens

    resident = answer()
    alive: list[int] = []
    monkeypatch.setattr(Layers.__init__, "__defaults__", (0,))
    read = Layers._read

    def watched(self: Layers) -> Any:
        for layer in read(self):
            alive.append(sum(p.numel() for p in layer.parameters()))
            yield layer

    monkeypatch.setattr(Layers, "_read", watched)
    assert answer() == resident
    assert len(alive) == 6 * 3  # every layer, in every pass


def test_bfloat16_comes_close(golden: Path) -> None:
    reference, recorded = Reference(golden / "checkpoint", "bfloat16"), arrays(golden, "vision")
    with torch.inference_mode():
        got = reference.vision.stages(torch.from_numpy(recorded["tall.pixels"]))["proj"]
    assert got.dtype == torch.bfloat16
    assert relative(got, recorded["tall.proj"]) < 0.02


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here")
def test_a_gpu_computes_what_the_cpu_does(golden: Path) -> None:
    recorded = arrays(golden, "llm")["text.embeds"]
    with torch.inference_mode():
        cpu, gpu = (
            decode(Reference(golden / "checkpoint", device=device).language, [torch.from_numpy(recorded)], 8)[0]
            for device in ("cpu", "cuda")
        )
    assert gpu.tokens == cpu.tokens
    assert relative(torch.stack(gpu.logits), torch.stack(cpu.logits).numpy()) < 1e-3


@pytest.mark.parametrize(("dtype", "device"), [("int8", "cpu"), ("float32", "abacus"), ("float32", "cuda:77")])
def test_what_pytorch_cannot_compute_with_is_refused(golden: Path, dtype: str, device: str) -> None:
    with pytest.raises(Misuse):
        Reference(golden / "checkpoint", dtype, device)


# --- from the input files, with the whole golden data


@pytest.fixture(scope="module")
def recorder(shared_golden: Path) -> ReferenceRecorder:
    golden = shared_golden / "tiny-a"
    prompts = read_prompts(shared_golden / "prompts.json")
    made = ReferenceRecorder(
        Reference(golden / "checkpoint", "float64"), golden / "data" / "inputs", prompts, GOLDEN_PLAN
    )
    made.record()
    return made


def test_every_array_follows_from_the_input_files(recorder: ReferenceRecorder, shared_golden: Path) -> None:
    golden = shared_golden / "tiny-a"
    manifest = json.loads((golden / "data" / "manifest.json").read_text("utf-8"))
    stable = {f"{e['file']}:{e['name']}": e.get("stable_under_5e-7_noise", True) for e in manifest["arrays"]}
    for file in ("audio", "vision", "llm", "tts"):
        recorded = arrays(golden, file)
        assert set(recorder.arrays.files[file]) == set(recorded)
        for name, want in recorded.items():
            if name.startswith("fixed."):  # other random codes, and their stages
                continue
            got, stage = recorder.arrays.get(file, name), name.split(".")[1]
            if stage == "fbank":
                off = np.abs(got - want)
                resampled = name.startswith(("stereo", "mono"))
                assert off[want > 3].max() < (0.03 if resampled else 0.02), name
                assert off.max() < 0.2, name
            elif got.dtype.kind == "f":
                assert relative(got, want) <= FROM_FILES.get(stage, BY_FILE[file]), name
            elif stage.endswith("_cuts"):
                assert (got[:, :3] == want[:, :3]).all(), name
                assert np.abs(got - want)[:, 4].sum() <= len(got), name
            elif stable[f"{file}.npz:{name}"]:
                assert (got == want).all(), name


def test_the_talk_is_the_recorded_one(recorder: ReferenceRecorder, shared_golden: Path) -> None:
    golden = shared_golden / "tiny-a"
    want = json.loads((golden / "data" / "e2e.json").read_text("utf-8"))
    for name in ("image_audio", "live1", "live2"):
        assert recorder.talk[name].items() >= want[name].items()
    pcm = recorder.arrays.get("e2e", "live1.pcm").astype(int) - arrays(golden, "e2e")["live1.pcm"]
    assert np.abs(pcm).max() <= 2


def test_what_was_asked_is_told_as_recorded(recorder: ReferenceRecorder, shared_golden: Path) -> None:
    data = shared_golden / "tiny-a" / "data"
    want = json.loads((data / "cases.json").read_text("utf-8"))
    got = recorder.cases()
    assert got["speech"] == want["speech"]
    assert got["conversations"].keys() == want["conversations"].keys()
    text = json.loads((data / "text.json").read_text("utf-8"))
    tokenizer = recorder.reference.tokenizer
    for case in text["encode"]:
        assert recorder.reference.encode(case["text"]) == case["ids"]
    for case in text["encode"] + text["decode"]:
        assert tokenizer.decode(case["ids"], skip_special_tokens=False) == case["decoded"]


def test_rules_that_need_no_weights(shared_golden: Path) -> None:
    common: Any = json.loads((shared_golden / "common" / "common.json").read_text("utf-8"))
    for case in common["text_shaping"]:
        assert spoken(case["text"]) == case["spoken"]
    for case in common["sentence_cutting"]:
        assert cut_reply(case["reply"]) == case["pieces"]
        said = [(s.text, s.chunk, s.threshold) for s in sentences(case["pieces"])]
        assert said == [(s["text"], s["chunk"], s["threshold"]) for s in case["sentences"]]
    for case in common["tiling"]["cases"]:
        size = common["tiling"]["image_size"]
        assert tile_grid(case["width"], case["height"], size, 1, case["max"]) == (case["cols"], case["rows"])
    for case in common["frame_sampling"]:
        assert sampled_positions(case["frames"], case["fps"]) == case["one_per_second"]
        assert live_positions(case["frames"]) == case["live"]


def test_what_is_written_is_what_a_bundle_is_compared_with(golden: Path, tiny_bundle: Any, tmp_path: Path) -> None:
    from vita_edge.verification.parity import GoldenFolder, verify

    names, inputs = ("text", "video_audio", "live1", "live2"), golden / "data" / "inputs"
    plan = replace(
        GOLDEN_PLAN,
        sounds=("en_short",),
        pictures=("square",),
        conversations={name: GOLDEN_PLAN.conversations[name] for name in names},
        sentences={"s2": GOLDEN_PLAN.sentences["s2"]},
        max_tokens=8,
    )
    recorder = ReferenceRecorder(Reference(golden / "checkpoint"), inputs, DEFAULT_PROMPTS, plan)
    recorder.record()
    recorder.write(tmp_path / "data")
    (tmp_path / "prompts.json").write_text(json.dumps(DEFAULT_PROMPTS))
    folder = GoldenFolder(tmp_path)
    checks = list(verify(tiny_bundle, folder))
    assert [check for check in checks if not check.passed] == []
    assert [check for check in checks if check.skipped] == []
    assert len(checks) > 80
