"""How soon it speaks: the roofline by hand, and predictions that move the right way."""

from __future__ import annotations

import dataclasses

import pytest

from vita_edge.engines.bundle.work import ModelWork
from vita_edge.estimate.device_file import Device, Share, read_devices
from vita_edge.estimate.graph_calls import Calls
from vita_edge.estimate.roofline import Call, time_of
from vita_edge.estimate.turn_estimate import SpokenTurn, estimate, yardstick_estimate
from vita_edge.estimate.weight_bits import weight_bits
from vita_edge.export.practice.presets import preset
from vita_edge.export.work import model_work

HALF = Share(0.5, 0.25, 1.0, "for a test")


@pytest.fixture(scope="module")
def full() -> ModelWork:
    return model_work(preset("full"))


@pytest.fixture(scope="module")
def orin() -> Device:
    return read_devices().devices["orin-nx-16"]


@pytest.fixture(scope="module")
def round_numbers(orin: Device) -> Device:
    """100 GB/s, 10 TFLOPS in half precision, half of both reached, 10 µs an operator."""
    return dataclasses.replace(
        orin,
        bandwidth_gb_s=100,
        fp16_tflops=10,
        launch_us=10,
        efficiency={"decode": HALF, "prefill": HALF, "convolution": HALF},
    )


@pytest.mark.parametrize(
    ("call", "ms", "bound"),
    [
        (Call(bytes_read=50e6), 1.0, "memory"),  # 50 MB at 50 GB/s
        (Call(macs=5e9), 2.0, "arithmetic"),  # 10 GFLOP at 5 TFLOPS
        (Call(convolution_macs=5e9), 2.0, "arithmetic"),
        (Call(macs=5e9, convolution_macs=5e9), 4.0, "arithmetic"),
        (Call(launches=300), 3.0, "operators"),
        (Call(bytes_read=50e6, macs=5e9, launches=300), 3.0, "operators"),  # the largest, not the sum
        (Call(bytes_read=200e6, macs=5e9, launches=300), 4.0, "memory"),
    ],
)
def test_a_call_takes_the_longest_of_its_three_times(round_numbers: Device, call: Call, ms: float, bound: str) -> None:
    timed = time_of(call, round_numbers, weight_bits("tensorrt", "fp16"))
    assert (timed.ms, timed.bound) == (pytest.approx(ms), bound)


def test_slow_and_fast_take_the_bounds_of_the_efficiencies(round_numbers: Device) -> None:
    form, call = weight_bits("tensorrt", "fp16"), Call(bytes_read=50e6)
    assert [time_of(call, round_numbers, form, case).ms for case in ("slow", "expected", "fast")] == [2.0, 1.0, 0.5]


def test_more_units_read_the_weights_once() -> None:
    assert Call(100, 2, 3, 4) + Call(0, 1, 1, 1) * 10 == Call(100, 12, 13, 5)


def test_a_decode_step_reads_weights_and_cache(full: ModelWork) -> None:
    form = weight_bits("tensorrt", "int4")
    call = Calls(full, form, "tensorrt", 4096).llm(1, 100)
    # a step reads the whole capacity, 28 layers of 28 heads of 128, twice
    assert call.bytes_read == pytest.approx(form.weights(full)["llm"] + 4096 * 57_344, rel=1e-6)
    assert call.macs == full.parts.llm_layers.macs + full.parts.llm_head.macs + 2 * 28 * 28 * 128 * 4096


def test_a_prompt_copies_what_it_sees_of_the_cache_and_reads_the_copy(full: ModelWork) -> None:
    form = weight_bits("tensorrt", "int4")
    calls = Calls(full, form, "tensorrt", 4096)
    call = calls.llm(20, 300)  # 320 positions are held: two steps of 256 are seen
    assert call.bytes_read == pytest.approx(form.weights(full)["llm"] + 3 * 512 * 57_344, rel=1e-6)
    assert call.macs == 20 * full.parts.llm_layers.macs + full.parts.llm_head.macs + 2 * 28 * 28 * 128 * 20 * 512
    assert calls.llm(20, 4070).bytes_read - call.bytes_read == 3 * (4096 - 512) * 57_344


def test_before_10_15_every_call_copies_what_is_held(full: ModelWork) -> None:
    form = weight_bits("tensorrt", "int4")
    calls = Calls(full, form, "tensorrt-10.3", 8192)
    for rows, head in ((1, 1), (20, 20)):
        call = calls.llm(rows, 300)
        assert call.bytes_read == pytest.approx(form.weights(full)["llm"] + 3 * (300 + rows) * 57_344, rel=1e-6)
        attention = 2 * 28 * 28 * 128 * rows * (300 + rows)
        assert call.macs == head * full.parts.llm_layers.macs + full.parts.llm_head.macs + attention


def test_a_step_of_the_voice_reads_the_cache_that_a_plan_is_built_with(full: ModelWork) -> None:
    form = weight_bits("tensorrt", "int4")
    position = full.speech.kv_values() * 2
    # 256 tokens of 4 vectors, 1000 codes and 2, in steps of 256
    assert full.vectors_per_token == 4
    step = Calls(full, form, "tensorrt", 4096).speech_step(46)
    assert step.bytes_read == pytest.approx(form.weights(full)["speech_decoder"] + 2048 * position, rel=1e-6)
    cpu = weight_bits("onnxruntime-cpu", "int4")
    step = Calls(full, cpu, "onnxruntime", 4096).speech_step(46)
    held = 47 * full.speech.kv_values() * 4
    assert step.bytes_read == pytest.approx(cpu.weights(full)["speech_decoder"] + held, rel=1e-6)


def test_an_encoder_with_full_attention_hears_everything_after_the_end(full: ModelWork, orin: Device) -> None:
    usual = estimate(full, orin, "int4", 4096)
    late = estimate(dataclasses.replace(full, streams_audio=False), orin, "int4", 4096)
    assert late.first_audio_ms == pytest.approx(late.heard_at_once_ms)
    # 3.7 s are 46 positions, and 10 of the template
    assert (late.turn.rest_tokens, late.turn.rest_steps, usual.turn) == (56, 92, SpokenTurn())
    assert late.stages["audio_rest"].ms > usual.stages["audio_rest"].ms
    tiny = preset("tiny")
    for change, ahead in (({"chunk_size": 0}, False), ({"adapter_kernel": 1}, False), ({"chunk_size": 1}, True)):
        changed = dataclasses.replace(tiny, audio=dataclasses.replace(tiny.audio, **change))
        assert model_work(changed).streams_audio is ahead


def test_the_cpu_reads_what_is_held_and_prompts_with_the_second_graph(full: ModelWork) -> None:
    form = weight_bits("onnxruntime-cpu", "int4")
    calls, weights = Calls(full, form, "onnxruntime", 4096), form.weights(full)
    assert calls.llm(1, 99).bytes_read == pytest.approx(weights["llm"] + 100 * 2 * 57_344, rel=1e-6)
    assert calls.llm(7, 0).bytes_read < weights["llm_prefill"]
    both = weights["llm"] + weights["llm_prefill"]
    assert calls.llm(20, 0).bytes_read == pytest.approx(both + (19 + 20) * 2 * 57_344, rel=1e-6)


def test_decode_speed_by_hand(full: ModelWork, orin: Device) -> None:
    read = weight_bits("tensorrt", "int4").weights(full)["llm"] + 4096 * 57_344
    assert estimate(full, orin, "int4", 4096).decode_tokens_per_s == pytest.approx(102e9 * 0.75 / read, rel=1e-3)


def test_prefill_speed_by_hand(full: ModelWork, orin: Device) -> None:
    # 300 rows go over two steps of 256 positions
    macs = 300 * full.parts.llm_layers.macs + full.parts.llm_head.macs + 2 * 28 * 28 * 128 * 300 * 512
    seconds = 2 * macs / (15e12 * 0.43)
    assert estimate(full, orin, "int4", 4096).prefill_positions_per_s == pytest.approx(300 / seconds, rel=1e-3)


def test_the_first_sound_is_the_sum_of_its_stages(full: ModelWork, orin: Device) -> None:
    found = estimate(full, orin, "int4", 4096)
    assert found.first_audio_ms == pytest.approx(sum(stage.ms for stage in found.stages.values()))
    # nine tokens of ten are decoded: the prefill has given the first
    assert found.stages["first_clause"].ms == pytest.approx(9 * 1000 / found.decode_tokens_per_s, rel=1e-6)
    # 12 codes and 13 to their right
    assert found.stages["first_codes"].ms == pytest.approx(25 * 1000 / found.speech_steps_per_s, rel=1e-6)
    assert found.server_without_speculation_ms == pytest.approx(500 + found.first_audio_ms)
    assert found.server_ms == pytest.approx(max(500, 150 + found.first_audio_ms))
    assert found.heard_at_once_ms > found.first_audio_ms


def test_a_quick_device_waits_for_the_endpoint_alone(full: ModelWork) -> None:
    found = estimate(full, read_devices().devices["rtx-4090"], "int4", 4096)
    assert found.first_audio_ms < 350
    assert found.server_ms == 500


def test_speech_is_played_while_it_is_made_only_where_the_load_allows_it(full: ModelWork, orin: Device) -> None:
    found = estimate(full, orin, "int4", 4096)
    assert found.codes_per_s == 40
    assert found.load == pytest.approx(
        40 / found.speech_steps_per_s + found.codec_rtf + 1 / (0.3 * found.decode_tokens_per_s)
    )
    assert found.real_time
    slow = dataclasses.replace(orin, bandwidth_gb_s=orin.bandwidth_gb_s / 6)
    assert not estimate(full, slow, "int4", 4096).real_time


@pytest.mark.parametrize(
    ("change", "faster"),
    [
        ({"clause_tokens": 5}, True),
        ({"clause_tokens": 20}, False),
        ({"rest_tokens": 200}, False),
        ({"rest_steps": 200}, False),
    ],
)
def test_a_turn_with_less_to_do_is_sooner(full: ModelWork, orin: Device, change: dict[str, int], faster: bool) -> None:
    usual = estimate(full, orin, "int4", 4096).first_audio_ms
    changed = estimate(full, orin, "int4", 4096, SpokenTurn(**change)).first_audio_ms  # type: ignore[arg-type]
    assert (changed < usual) is faster


def test_fewer_bits_and_a_shorter_cache_decode_faster(full: ModelWork, orin: Device) -> None:
    rates = [estimate(full, orin, precision, 4096).decode_tokens_per_s for precision in ("fp16", "int8", "int4")]
    assert rates == sorted(rates)
    assert estimate(full, orin, "int4", 1024).decode_tokens_per_s > rates[-1]


def test_published_runs_lie_near_their_predictions() -> None:
    known, errors = read_devices(), {}
    for key, device in known.devices.items():
        for one in device.measured:
            model = known.yardsticks[one.model]
            predicted = yardstick_estimate(model, device, one.what, one.positions)
            assert predicted is not None
            errors[key, one.what] = predicted / one.value - 1
    assert len(errors) >= 6
    # stated in the documentation: never much too fast, at most a fifth too slow
    assert all(-0.2 < error < 0.05 for error in errors.values()), errors


def test_a_yardstick_by_hand() -> None:
    known = read_devices()
    # Qwen3-8B: 6.946 G at 4.125 bits, a head of 0.622 G in half precision, 512 positions of 147,456 bytes
    read = 6_945_767_424 * 4.125 / 8 + 622_329_856 * 2 + 512 * 147_456
    predicted = yardstick_estimate(
        known.yardsticks["qwen3-8b-int4-awq"], known.devices["agx-orin-64"], "decode_tokens_per_s", 0
    )
    assert predicted == pytest.approx(204.8e9 * 0.75 / read, rel=1e-6)


def test_a_prefill_of_a_yardstick_has_nothing_before_it(orin: Device) -> None:
    model = read_devices().yardsticks["qwen2.5-7b-int4-mlc"]
    causal = 2 * 28 * 28 * 128 * (400 * 401 // 2)
    macs = 400 * 6_525_288_448 + 544_997_376 + causal
    assert yardstick_estimate(model, orin, "prefill_ms", 400) == pytest.approx(1000 * 2 * macs / (15e12 * 0.43))
