"""`vita-edge build` compiles real engines, without a GPU, by the library for desktop GPUs; what stops it is
explained."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from support.command import run
from support.spoil import flip_byte
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import EngineUnavailable, Misuse
from vita_edge.engines.tensorrt.build.build import build_engines
from vita_edge.engines.tensorrt.build.build_jobs import build_jobs
from vita_edge.engines.tensorrt.build.build_one import Job, _configure
from vita_edge.engines.tensorrt.build.build_target import find_place
from vita_edge.engines.tensorrt.build.child import run_job
from vita_edge.engines.tensorrt.build.profiles import EngineLimits, Profile, ProfileRange
from vita_edge.engines.tensorrt.build.safe_child import module_command
from vita_edge.engines.tensorrt.device import find_device
from vita_edge.engines.tensorrt.engine_cache import EngineCache
from vita_edge.engines.tensorrt.library import FULL, RTX, Library, find_library
from vita_edge.engines.tensorrt.open_engine import open_engine

needs_rtx = pytest.mark.skipif(not importlib.util.find_spec(RTX), reason="tensorrt_rtx is not installed")
ARGUMENTS = ("--sm", "sm86", "--context", "512")
NEWS = list[dict[str, Any]]


def has_gpu() -> bool:
    try:
        find_device()
    except EngineUnavailable:
        return False
    return True


@pytest.fixture(scope="module")
def bundle(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The golden checkpoint, exported for TensorRT."""
    from vita_edge.export.bundle import export_bundle

    folder = tmp_path_factory.mktemp("bundle") / "tiny-a"
    export_bundle(golden / "checkpoint", folder, precision="fp16", target="tensorrt")
    return Bundle.open(folder)


@dataclass(frozen=True)
class BuiltOnce:
    """One run of the command, and the cache that it has filled."""

    cache: Path
    facts: dict[str, Any]
    reported: list[str]


@pytest.fixture(scope="module")
def built(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> BuiltOnce:
    """All engines of the bundle."""
    if not importlib.util.find_spec(RTX):
        pytest.skip("tensorrt_rtx is not installed")
    cache = tmp_path_factory.mktemp("cache") / "engines"
    done = subprocess.run(command(bundle, cache, "--json"), capture_output=True, text=True, check=True)
    return BuiltOnce(cache, json.loads(done.stdout), done.stderr.splitlines())


def command(bundle: Bundle, cache: Path, *more: str) -> list[str]:
    script = "import sys; from vita_edge.cli import main; sys.exit(main())"
    return [sys.executable, "-c", script, "build", str(bundle.path), *ARGUMENTS, "--engine-dir", str(cache), *more]


def gone(process: str) -> bool:
    """It has ended, even where nobody asks how."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


# --- library and GPU


def test_a_library_that_is_not_there_or_cannot_be_loaded_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tensorrt_nowhere", "tensorrt_broken", "tensorrt_half"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(EngineUnavailable, match="tensorrt_nowhere is not installed"):
        find_library("tensorrt_nowhere")
    (tmp_path / "tensorrt_broken.py").write_text(
        "raise ImportError('libnvonnxparser.so.10: cannot open shared object')"
    )
    (tmp_path / "tensorrt_half.py").write_text("import tensorrt_half_bindings")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(EngineUnavailable) as caught:
        find_library("tensorrt_broken")
    assert caught.value.why == (
        "tensorrt_broken is installed, but cannot be loaded: libnvonnxparser.so.10: cannot open shared object."
    )
    with pytest.raises(EngineUnavailable) as caught:
        find_library("tensorrt_half")
    assert "its part tensorrt_half_bindings is not" in caught.value.why


def test_what_each_version_can_do_is_known() -> None:
    assert Library(None, FULL, "10.3.0.30").opset == 20
    assert Library(None, FULL, "10.16.0").opset == Library(None, RTX, "1.7.1").opset == 24
    assert Library(None, FULL, "10.3.0").targets == ()
    assert Library(None, FULL, "10.3.0").keeps_timings and not Library(None, RTX, "1.7.1").keeps_timings


@needs_rtx
def test_the_library_says_itself_what_is_no_engine() -> None:
    library = find_library(RTX)
    assert {"sm86", "sm89"} <= set(library.targets)
    assert library.objection(b"this is no engine at all" * 10) == "it is no engine"


@pytest.mark.skipif(has_gpu(), reason="there is a GPU")
def test_a_missing_gpu_is_explained(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EngineUnavailable) as caught:
        open_engine(bundle, "llm")
    assert "GPU" in caught.value.what
    if importlib.util.find_spec(RTX):
        result = run(capsys, "build", bundle.path)
        result.assert_explains("GPU")
        assert "--sm sm75" in result.err


# --- building


def test_engines_are_built_and_told(bundle: Bundle, built: BuiltOnce) -> None:
    facts = built.facts
    assert set(facts["engines"]) == set(bundle.components)
    assert (facts["library"], facts["device"], facts["max_context"]) == (RTX, "sm86", 512)
    for name, entry in facts["engines"].items():
        assert entry["state"] == "built", name
        assert Path(entry["engine"]).stat().st_size == entry["bytes"]
        assert entry["weights_bytes"] > 10_000
        assert len(entry["activation_bytes"]) == len(entry["profiles"]) == {"llm": 3, "audio": 2}.get(name, 1)
        assert entry["seconds"] > 0 and entry["peak_memory_bytes"] > 1 << 26
    assert facts["engines"]["llm"]["profiles"][0].startswith("step: inputs_embeds 1 × 1 × ")
    heard = facts["engines"]["audio"]["profiles"][0]  # one layer stands for all
    assert heard.startswith("piece: fbank 1 × 7..131 × ") and "past.0.key" in heard and "past.1." not in heard
    assert len(built.reported) == len(bundle.components)
    assert built.reported[0].startswith("[1/6] ") and " left" in built.reported[0] and " left" not in built.reported[-1]


def test_engines_that_are_there_are_used_again(
    bundle: Bundle, built: BuiltOnce, capsys: pytest.CaptureFixture[str]
) -> None:
    again = run(capsys, "build", bundle.path, *ARGUMENTS, "--engine-dir", built.cache)
    assert again.code == 0
    assert again.out.count("reused") == len(bundle.components)
    assert "llm: profile 2, prefill: inputs_embeds 1 × 1..512 × " in again.out


def test_the_cache_of_the_decoder_is_fixed_and_single_tokens_need_little_memory(built: BuiltOnce) -> None:
    (engine_file,), problems = EngineCache(built.cache).engines("llm")
    assert not problems
    assert engine_file.capacity == (512, 512)
    assert engine_file.inputs["past_key_values.0.key"].axes[2] == engine_file.outputs["present.0.key"].axes[2] == 512
    step, rest, prefill = engine_file.built.activation_bytes
    assert step < 1 << 20 < prefill and rest <= prefill


def test_the_same_graph_makes_the_same_engine_and_a_damaged_one_is_built_anew(
    bundle: Bundle, built: BuiltOnce, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(built.cache, tmp_path / "engines"))
    (engine_file,) = EngineCache(copy).engines("speech_decoder")[0]
    flip_byte(engine_file.path, engine_file.bytes // 2)
    result = run(capsys, "build", bundle.path, *ARGUMENTS, "--component", "speech_decoder", "--engine-dir", copy)
    assert result.code == 0
    assert "speech_decoder was built anew: " in result.out
    assert "is damaged: its sha256 is not the one of its header" in result.out
    engine_file.check()  # against the header that was read before: the very same bytes are there again


def test_ctrl_c_keeps_what_is_finished_and_leaves_nothing_half(
    bundle: Bundle, built: BuiltOnce, tmp_path: Path
) -> None:
    cache = tmp_path / "engines"

    def interruptible() -> None:  # what a shell starts in the background ignores interrupts, and hands that down
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    process = subprocess.Popen(
        command(bundle, cache), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=interruptible
    )
    assert process.stderr is not None
    first = process.stderr.readline()
    assert first.startswith("[1/6] vision built in"), first
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not (child := children.read_text().split()):  # the next one is on its way
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "finished engines stay: vision" in err and err.endswith("interrupted\n")
    until = time.monotonic() + 30
    while not gone(child[0]):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert [entry.name.partition("-")[0] for entry in cache.iterdir() if entry.name != ".lock"] == ["vision"]
    (engine_file,) = EngineCache(cache).engines("vision")[0]
    engine_file.check()


# --- one engine, in a process of its own


def job_of(tmp_path: Path, *nodes: onnx.NodeProto, engine_file: Path | None = None, **changes: Any) -> Job:
    """A graph x float32 [n, 4] → y with these nodes."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(
        helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=opsets), str(tmp_path / "g.onnx")
    )
    profile = Profile("whole", {"x": ProfileRange((1, 4), (2, 4), (8, 4))})
    return Job(
        component="toy",
        graph=tmp_path / "g.onnx",
        engine_file=engine_file or tmp_path / "toy.engine",
        library=RTX,
        target="sm86",
        precision="fp32",
        profiles=(profile,),
        fixed={},
        **changes,
    )


def failure(job: Job) -> EngineUnavailable:
    with pytest.raises(EngineUnavailable) as caught:
        run_job(job, lambda news: None)
    return caught.value


@needs_rtx
def test_progress_is_told_and_the_process_says_what_it_has_made(tmp_path: Path) -> None:
    heard: NEWS = []
    done = run_job(job_of(tmp_path, helper.make_node("Tanh", ["x"], ["y"])), lambda news: news and heard.append(news))
    assert (tmp_path / "toy.engine").stat().st_size == done["bytes"]
    assert [news["phase"] for news in heard[:2]] == ["building", "Building engine"]
    assert all(before["fraction"] <= after["fraction"] <= 1 for before, after in pairwise(heard))


@needs_rtx
def test_an_engine_takes_no_memory_of_its_own_while_it_runs_so_that_a_step_can_be_captured(tmp_path: Path) -> None:
    library = find_library(RTX)
    builder = library.trt.Builder(library.trt.Logger(library.trt.Logger.ERROR))
    config = builder.create_builder_config()
    _configure(job_of(tmp_path, helper.make_node("Tanh", ["x"], ["y"])), library, builder, config)
    assert config.get_flag(library.trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    assert not Library(library.trt, FULL, "10.16.0").captures_on_request


@needs_rtx
def test_an_operator_that_tensorrt_does_not_have_is_named(tmp_path: Path) -> None:
    error = failure(job_of(tmp_path, helper.make_node("FastGelu", ["x"], ["y"], "gelu.3", domain="com.microsoft")))
    assert "cannot read the graph of toy" in error.what
    assert "FastGelu" in error.why
    assert "--target tensorrt" in error.fix


@needs_rtx
def test_a_profile_that_does_not_fit_the_graph_is_refused_by_the_library_in_its_words(tmp_path: Path) -> None:
    job = job_of(tmp_path, helper.make_node("Tanh", ["x"], ["y"]))
    other = Job(**{**vars(job), "profiles": (Profile("whole", {"x": ProfileRange((1, 5), (2, 5), (8, 5))}),)})
    error = failure(other)
    assert "cannot build toy" in error.what
    assert "has given no reason" not in error.why


@needs_rtx
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_told_by_the_process_that_builds(tmp_path: Path) -> None:
    error = failure(job_of(tmp_path, helper.make_node("Tanh", ["x"], ["y"]), engine_file=Path("/dev/full")))
    assert (error.what, error.why) == ("Cannot write /dev/full.", "No space left on device.")


@pytest.mark.parametrize("started", [0, 1])
def test_ctrl_c_before_anybody_listens_is_ctrl_c_and_ends_the_process(
    started: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, running = threading.Thread.start, list[threading.Thread]()

    def interrupted(thread: threading.Thread) -> None:
        if len(running) == started:
            raise KeyboardInterrupt
        running.append(thread)
        start(thread)

    children = Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/children")
    before = children.read_text().split()
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_job(job_of(tmp_path, helper.make_node("Tanh", ["x"], ["y"])), lambda news: None)
    assert children.read_text().split() == before


@needs_rtx
def test_a_process_that_is_killed_is_explained(tmp_path: Path) -> None:
    killed = []

    def kill(news: dict[str, Any] | None) -> None:
        children = [p.read_text().split() for p in Path(f"/proc/{os.getpid()}/task").glob("*/children")]
        for child in chain.from_iterable(children):
            if b"build_one" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(int(child), signal.SIGKILL)
                killed.append(child)

    with pytest.raises(EngineUnavailable) as caught:
        run_job(job_of(tmp_path, helper.make_node("Tanh", ["x"], ["y"])), kill)
    assert killed
    assert "most often for want of memory" in caught.value.why


def test_a_job_without_its_library_says_so(tmp_path: Path) -> None:
    job = Job(**{**vars(job_of(tmp_path, helper.make_node("Tanh", ["x"], ["y"]))), "library": "tensorrt_nowhere"})
    assert failure(job).what == "tensorrt_nowhere is not installed."


def test_a_job_is_given_up_when_its_parent_goes(tmp_path: Path) -> None:
    process = subprocess.Popen(
        module_command("vita_edge.engines.tensorrt.build.build_one"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    job = job_of(tmp_path, helper.make_node("Tanh", ["x"], ["y"]))
    process.stdin.write(json.dumps(job.to_json()).encode() + b"\n")
    process.stdin.close()
    assert process.wait(20) == 1
    assert process.stdout is not None and b"done" not in process.stdout.read()
    process.stdout.close()


def test_a_job_travels_as_json(tmp_path: Path) -> None:
    job = job_of(tmp_path, helper.make_node("Tanh", ["x"], ["y"]), timings=tmp_path / "timings", stripped=True)
    assert Job.from_json(json.loads(json.dumps(job.to_json()))) == job


# --- what is refused


def test_a_bundle_for_onnx_runtime_is_refused(tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, "build", tiny_bundle.path, "--sm", "sm86")
    result.assert_explains("cannot be built for TensorRT", code=2)
    assert "--target tensorrt" in result.err


@needs_rtx
@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (("--sm", "sm87"), "cannot build for sm87"),
        (("--precision", "int8"), "is fp16, not int8"),
        (("--component", "nose"), "There is no component nose"),
        (("--context", "100000"), "--context is 100000"),
        (("--memory", "0"), "--memory is 0"),
        (("--stripped",), "without their weights"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_built(
    arguments: tuple[str, ...], reported: str, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "--stripped" in arguments and has_gpu():
        pytest.skip("there is a GPU")
    device = () if "--sm" in arguments else ("--sm", "sm86")
    run(capsys, "build", bundle.path, *device, *arguments, "--engine-dir", tmp_path / "engines").assert_explains(
        reported, code=2
    )
    assert not (tmp_path / "engines").exists()


@needs_rtx
def test_a_budget_that_is_too_small_for_one_component_keeps_no_other_back(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = ("--component", "vision", "--component", "codec")
    result = run(capsys, "build", bundle.path, *ARGUMENTS, *two, "--memory", 601, "--engine-dir", tmp_path)
    assert result.code == 1
    assert "error: There is not enough memory to build codec.\n" in result.err
    assert re.search(r"^It takes about 6\d\d MiB, and 601 MiB may be taken", result.err, re.MULTILINE)
    assert "codec      FAILED" in result.out
    assert "vision     built" in result.out


def test_full_tensorrt_builds_for_its_own_gpu_only_and_old_ones_refuse_new_operators(bundle: Bundle) -> None:
    from vita_edge.engines.tensorrt.build.build_target import BuildTarget
    from vita_edge.engines.tensorrt.device import Gpu

    orin = Gpu("Orin", "sm87", "12.6", 8 << 30, shared_memory=True)
    limits = EngineLimits.of(bundle.model)
    with pytest.raises(Misuse) as caught:
        build_jobs(bundle, BuildTarget(Library(None, FULL, "10.3.0"), "sm87", orin), limits)
    assert "--target tensorrt-10.3" in caught.value.fix
    requested = build_jobs(bundle, BuildTarget(Library(None, FULL, "10.16.0"), "sm87", orin), limits)
    assert {engine_file.key.gpu for engine_file in requested} == {"Orin"}
    assert [engine_file.size.seconds for engine_file in requested] == sorted(
        engine_file.size.seconds for engine_file in requested
    )
    timings = EngineCache(Path("engines")).timings(Library(None, FULL, "10.16.0"), orin)
    assert timings == Path("engines/timings-tensorrt-10.16.0-orin.bin")
    assert EngineCache(Path("engines")).timings(Library(None, RTX, "1.7"), orin) is None


# --- with a GPU


@pytest.mark.gpu
@pytest.mark.skipif(not has_gpu(), reason="there is no GPU")
@pytest.mark.parametrize("stripped", [False, True])
def test_an_engine_for_this_gpu_is_opened_by_its_library(bundle: Bundle, tmp_path: Path, stripped: bool) -> None:
    from vita_edge.engines.tensorrt.build.refit import put_weights_in

    place = find_place()
    requested = build_jobs(bundle, place, EngineLimits.of(bundle.model), components=["vision"], stripped=stripped)
    (outcome,) = build_engines(requested, place, EngineCache(tmp_path))
    assert outcome.engine_file, outcome.error
    engine_file = open_engine(bundle, "vision", cache=tmp_path)
    trt = place.library.trt
    logger = trt.Logger(trt.Logger.ERROR)
    engine = trt.Runtime(logger).deserialize_cuda_engine(engine_file.data())
    if stripped:
        put_weights_in(place.library, engine, logger, engine_file, bundle)
    assert engine.num_optimization_profiles == 1


@pytest.mark.gpu
@pytest.mark.skipif(not has_gpu(), reason="there is no GPU")
def test_timings_are_kept_for_the_next_build(bundle: Bundle, tmp_path: Path) -> None:
    place = find_place()
    if not place.library.keeps_timings:
        pytest.skip("this library keeps none")
    requested = build_jobs(bundle, place, EngineLimits.of(bundle.model), components=["vision"])
    (first,) = build_engines(requested, place, EngineCache(tmp_path))
    timings = EngineCache(tmp_path).timings(place.library, place.device)
    assert timings is not None and timings.stat().st_size > 0
    (second,) = build_engines(requested, place, EngineCache(tmp_path), force=True)
    assert first.engine_file and second.engine_file
    assert second.engine_file.built.seconds < first.engine_file.built.seconds
