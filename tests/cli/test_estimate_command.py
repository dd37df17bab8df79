"""vita-edge estimate: the table, one plan in full, devices of one's own, and predictions against measurements."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.bench_results import bench_result, turns
from support.command import run
from support.device_file import own
from vita_edge.engines.bundle.format import Bundle
from vita_edge.estimate.device_file import PLANNED_FIGURES, read_devices
from vita_edge.estimate.memory_fit import memory_fit
from vita_edge.estimate.turn_estimate import estimate
from vita_edge.export.bundle import export_bundle
from vita_edge.export.practice.presets import preset
from vita_edge.export.work import model_work


def plan(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    result = run(capsys, "estimate", *words, "--json")
    assert result.code == 0, result.err
    return result.json


def test_all_devices_and_precisions_are_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "estimate", "--model", "full").out
    for key in read_devices().devices:
        assert f"\n{key} " in out
    assert out.count("does not fit") >= 8  # no 7 B model in half precision on 8 GB
    assert "predictions against measurements" in out


def test_the_table_and_the_json_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "estimate", "--model", "full", "--precision", "int4").out
    for one in plan(capsys, "--model", "full", "--precision", "int4")["estimates"]:
        row = next(line for line in out.splitlines() if line.startswith(f"{one['device']} "))
        assert f"{one['memory_bytes']['needed'] / 2**20:,.0f} MiB" in row
        assert f"{one['latency']['first_audio_ms']['expected']:,.0f} ms" in row


def test_an_honest_no_has_no_speed_and_says_what_would_fit(capsys: pytest.CaptureFixture[str]) -> None:
    facts = plan(capsys, "--model", "full", "--board", "orin-nano-8", "--precision", "fp16")
    (one,) = facts["estimates"]
    assert (one["verdict"], one["latency"], one["advice"]) == ("no", None, "at int4 it would fit")
    out = run(capsys, "estimate", "--model", "full", "--board", "orin-nano-8", "--precision", "fp16").out
    assert "does not fit" in out and "at int4 it would fit" in out and "tok/s" not in out.split("predictions")[0]


def test_one_plan_says_where_memory_and_time_go(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", "full", "--board", "orin-nx-16", "--precision", "int4", "--context", 2048]
    out = run(capsys, "estimate", *words).out
    (one,) = plan(capsys, *words)["estimates"]
    for reported in ("JetPack 7.2", "TensorRT 10.16", "kv cache", "first clause", "assumed efficiencies", "0.43"):
        assert reported in out
    assert one["memory_bytes"]["kv_cache"] == 2048 * 57_344
    assert sum(one["latency"]["stages_ms"].values()) == pytest.approx(
        one["latency"]["first_audio_ms"]["expected"], abs=0.1
    )
    fast, expected, slow = (one["latency"]["first_audio_ms"][case] for case in ("fast", "expected", "slow"))
    assert fast < expected < slow


def test_a_bundle_is_planned_at_its_precision(capsys: pytest.CaptureFixture[str], tiny_bundle: Bundle) -> None:
    facts = plan(capsys, tiny_bundle.path)
    assert {one["precision"] for one in facts["estimates"]} == {"fp32"}
    assert facts["model"] == tiny_bundle.model.name
    assert {one["verdict"] for one in facts["estimates"]} == {"fits"}


def cpu(tmp_path: Path, **changes: Any) -> Path:
    file = tmp_path / "devices.json"
    file.write_text(json.dumps(own(backend="onnxruntime-cpu", platforms=[], **changes)))
    return file


def test_where_the_bundle_runs_its_files_say_the_weights(
    capsys: pytest.CaptureFixture[str], tiny_bundle: Bundle, tmp_path: Path
) -> None:
    (one,) = plan(capsys, tiny_bundle.path, "--board-file", cpu(tmp_path), "--board", "mine")["estimates"]
    on_disk = {name: sum(file.stat().st_size for file in part.weights) for name, part in tiny_bundle.components.items()}
    assert one["memory_bytes"]["weights"] == on_disk
    assert one["memory_bytes"]["build_peak"] is None


def test_measured_figures_of_a_device_are_compared(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    measured = [
        {"model": "practice/full", "precision": "int4", "what": "decode_tokens_per_s", "value": 4, "source": "a log"},
        {"model": "practice/full", "precision": "int8", "what": "decode_tokens_per_s", "value": 2, "source": "a log"},
    ]
    file = cpu(tmp_path, memory_gib=32, measured=measured)
    words = ["--model", "full", "--precision", "int4", "--board-file", file, "--board", "mine"]
    (one,) = plan(capsys, *words)["estimates"]
    (compared,) = one["compared"]
    predicted = one["latency"]["decode_tokens_per_s"]["expected"]
    assert compared["measured"] == 4
    assert compared["error"] == pytest.approx(predicted / 4 - 1, abs=2e-3)
    assert f"{compared['error']:+.0%}" in run(capsys, "estimate", *words).out


def test_a_result_of_bench_is_compared_turn_for_turn(
    capsys: pytest.CaptureFixture[str], tiny_bundle: Bundle, tmp_path: Path
) -> None:
    result = tmp_path / "bench.json"
    run_of = replace(bench_result(turns(5)), bundle=whose(tiny_bundle))
    result.write_text(json.dumps(run_of.to_json()))
    summary = json.loads(result.read_text())["summary"]["on"]
    words = ["--board-file", cpu(tmp_path), "--board", "mine", "--measured", result]
    facts = plan(capsys, tiny_bundle.path, *words)
    compared = {one["what"]: one for one in facts["estimates"][0]["compared"]}
    assert compared["first_audio_ms"]["measured"] == pytest.approx(summary["engine_ms"]["p50"], abs=1e-3)
    assert compared["codec_rtf"]["measured"] == pytest.approx(summary["codec_rtf"]["p50"], abs=1e-3)
    assert facts["turn"]["rest_tokens"] == summary["positions_after_speech"]["p50"]
    assert "first sound, engine clock" in run(capsys, "estimate", tiny_bundle.path, *words).out


def whose(bundle: Bundle, **changes: str) -> dict[str, str]:
    return {"model": bundle.model.name, "precision": "fp32", "backend": "onnxruntime-cpu", **changes}


@pytest.mark.parametrize("changed", [{"model": "another"}, {"precision": "int4"}, {"backend": "tensorrt"}])
def test_a_result_of_something_else_is_refused(
    capsys: pytest.CaptureFixture[str], tiny_bundle: Bundle, tmp_path: Path, changed: dict[str, str]
) -> None:
    result = tmp_path / "bench.json"
    result.write_text(json.dumps(replace(bench_result(turns(2)), bundle=whose(tiny_bundle, **changed)).to_json()))
    words = ["--board-file", cpu(tmp_path), "--board", "mine", "--measured", result]
    ((name, value),) = changed.items()
    reported = run(capsys, "estimate", tiny_bundle.path, *words)
    reported.assert_explains(f"was measured with another {name}", code=2)
    assert f"It was {value}; estimated is {whose(tiny_bundle)[name]}." in reported.err


def test_a_result_without_turns_is_refused(
    capsys: pytest.CaptureFixture[str], tiny_bundle: Bundle, tmp_path: Path
) -> None:
    result = tmp_path / "bench.json"
    result.write_text(json.dumps(bench_result([]).to_json()))
    words = ["--board-file", cpu(tmp_path), "--board", "mine", "--measured", result]
    run(capsys, "estimate", tiny_bundle.path, *words).assert_explains("has no turn to compare with")


def test_a_result_is_compared_with_the_plan_of_its_precision(
    capsys: pytest.CaptureFixture[str], tiny_bundle: Bundle, tmp_path: Path
) -> None:
    name = plan(capsys, "--model", "tiny", "--precision", "int4", "--board", "rtx-4090")["model"]
    result = tmp_path / "bench.json"
    of = whose(tiny_bundle, model=name, precision="int4")
    result.write_text(json.dumps(replace(bench_result(turns(2)), bundle=of).to_json()))
    words = ["--board-file", cpu(tmp_path), "--board", "mine", "--measured", result]
    plans = plan(capsys, "--model", "tiny", *words)["estimates"]
    assert [one["precision"] for one in plans if one["compared"]] == ["int4"]
    assert len(plans) == 3


def test_everything_that_is_predicted_can_be_in_a_device_file() -> None:
    from vita_edge.estimate.estimate_report import _predicted

    device, work = read_devices().devices["rtx-4090"], model_work(preset("full"))
    memory = memory_fit(work, device, "int4", 4096)
    assert set(_predicted(estimate(work, device, "int4", 4096), memory)) == set(PLANNED_FIGURES)


def test_where_nothing_is_heard_before_the_end_all_of_it_is_told(
    capsys: pytest.CaptureFixture[str], bundle_copy: Path, tmp_path: Path
) -> None:
    file = bundle_copy / "manifest.json"
    manifest = json.loads(file.read_text("utf-8"))
    manifest["work"]["streams_audio"] = False
    file.unlink()
    file.write_text(json.dumps(manifest))
    result = tmp_path / "bench.json"
    bundle = Bundle.open(bundle_copy)
    result.write_text(json.dumps(replace(bench_result(turns(3)), bundle=whose(bundle)).to_json()))
    words = [bundle_copy, "--board-file", cpu(tmp_path), "--board", "mine", "--measured", result]
    facts = plan(capsys, *words)
    rest = facts["turn"]["rest_tokens"]
    assert rest > 20
    assert f"{rest} tokens left to prefill after end of speech" in run(capsys, "estimate", *words).out
    (one,) = facts["estimates"]
    reported = {each["what"]: each["predicted"] for each in one["compared"]}
    ms = one["latency"]["stages_ms"]["prefill_rest"]
    assert reported["rest_positions_per_s"] == pytest.approx(1000 * rest / ms, rel=0.02)


def test_the_target_of_a_bundle_or_the_one_that_is_named_is_planned(
    capsys: pytest.CaptureFixture[str], golden: Path, tmp_path: Path
) -> None:
    words = ["--model", "full", "--board", "orin-nano-8", "--precision", "int4"]
    newer, older = (
        plan(capsys, *words, "--target", target)["estimates"][0] for target in ("tensorrt", "tensorrt-10.3")
    )
    assert (newer["verdict"], older["verdict"]) == ("tight", "no")
    assert older["memory_bytes"]["kv_cache"] == 2 * newer["memory_bytes"]["kv_cache"]
    assert (
        "estimated for export target tensorrt-10.3" in run(capsys, "estimate", *words, "--target", "tensorrt-10.3").out
    )
    table = run(capsys, "estimate", "--model", "full", "--precision", "int4").out
    assert "JetPack 6 and 7.0 run --target tensorrt-10.3" in table
    export_bundle(golden / "checkpoint", tmp_path / "bundle", precision="int4", target="tensorrt-10.3")
    plans = plan(capsys, tmp_path / "bundle", "--board-file", cpu(tmp_path))["estimates"]
    assert {(one["device"] == "mine", one["target"]) for one in plans} == {
        (True, "onnxruntime"),
        (False, "tensorrt-10.3"),
    }
    files = {
        one.name: sum(f.stat().st_size for f in one.weights)
        for one in Bundle.open(tmp_path / "bundle").components.values()
    }
    assert [one["memory_bytes"]["weights"] == files for one in plans].count(False) == 1  # the processor's are counted


def test_the_context_is_that_of_the_plans_that_are_built(capsys: pytest.CaptureFixture[str]) -> None:
    facts = plan(capsys, "--model", "full", "--board", "agx-orin-64", "--precision", "int4")
    assert facts["context_tokens"] == 8192
    memory = facts["estimates"][0]["memory_bytes"]
    assert memory["kv_cache"] == 8192 * 57_344
    assert memory["speech_kv_cache"] == 2048 * model_work(preset("full")).speech.kv_values() * 2


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ([], "There is nothing to estimate."),
        (["BUNDLE", "--model", "full"], "Two models are named."),
        (["--model", "full", "--board", "abacus"], "There is no board abacus."),
        (["--model", "full", "--context", "0"], "--context is 0."),
        (["--model", "tiny", "--context", "5000"], "A context of 5000 tokens is more than the model has."),
        (["--model", "full", "--clause-tokens", "0"], "--clause-tokens is 0."),
        (["--model", "full", "--measured", "x.json"], "--measured belongs to one device."),
        (["--measure-this-machine"], "There is nowhere to write to."),
        (["--measure-this-machine", "--model", "full", "--board-file", "x.json"], "stands alone"),
    ],
)
def test_what_does_not_fit_together_is_explained(
    capsys: pytest.CaptureFixture[str], words: list[str], what: str
) -> None:
    run(capsys, "estimate", *words).assert_explains(what, code=2)


def test_a_bundle_that_does_not_say_its_work_is_refused(capsys: pytest.CaptureFixture[str], bundle_copy: Path) -> None:
    file = bundle_copy / "manifest.json"
    manifest = json.loads(file.read_text("utf-8"))
    del manifest["work"]
    file.unlink()  # it may be a link to that of other tests
    file.write_text(json.dumps(manifest))
    run(capsys, "estimate", bundle_copy).assert_explains("does not say how much its graphs have to do")
    assert run(capsys, "inspect", bundle_copy).code == 0


def test_a_bundle_whose_work_is_damaged_is_refused(capsys: pytest.CaptureFixture[str], bundle_copy: Path) -> None:
    file = bundle_copy / "manifest.json"
    manifest = json.loads(file.read_text("utf-8"))
    manifest["work"]["hidden_size"] = "wide"
    file.unlink()
    file.write_text(json.dumps(manifest))
    run(capsys, "estimate", bundle_copy).assert_explains("manifest")


def test_this_machine_is_measured_into_a_file_that_keeps_what_it_had(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vita_edge.estimate import machine_peaks

    for name, value in {"WIDTH": 128, "INNER": 256, "ROWS": 16, "PAIRS": 1, "SAMPLES": 600, "ROUNDS": 2}.items():
        monkeypatch.setattr(machine_peaks, name, value)  # the same kernels, small
    file = tmp_path / "devices.json"
    file.write_text(json.dumps(own()))
    facts = run(capsys, "estimate", "--measure-this-machine", "--board-file", file, "--json").json
    assert set(facts["peaks"]) == {"read", "blocks4", "fp32", "int8", "convolution"}
    assert all(0 < peak["least"] <= peak["median"] <= peak["most"] for peak in facts["peaks"].values())
    devices = read_devices(file).devices
    assert devices["mine"].memory_gib == 4
    assert devices["this-machine"].bandwidth_gb_s == pytest.approx(facts["peaks"]["read"]["median"], abs=0.1)
    words = ["--model", "tiny", "--board-file", file, "--board", "this-machine"]
    assert {one["verdict"] for one in plan(capsys, *words)["estimates"]} == {"fits"}
    assert "GB/s" in run(capsys, "estimate", "--measure-this-machine", "--board-file", file).out
