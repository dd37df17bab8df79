"""vita-edge ask, as a user would type it."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from support.command import Result, run
from vita_edge.engines.bundle.format import Bundle
from vita_edge.export.bundle import export_bundle
from vita_edge.export.prompts import read_prompts

Ask = Callable[..., Result]
SHORT = ("--max-new-tokens", 8)
QUIET = (*SHORT, "--no-speech")


@pytest.fixture
def ask(tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> Ask:
    return lambda *arguments: run(capsys, "ask", tiny_bundle.path, *arguments)


@pytest.fixture(scope="module")
def inputs(golden: Path) -> Path:
    return golden / "data" / "inputs"


# --- the recorded conversations


@pytest.fixture(scope="module", params=["the repository's", "the reference's"])
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of recorded conversations, and a bundle that carries their prompts."""
    if request.param == "the repository's":
        folder: Path = request.getfixturevalue("golden")
        prompts = folder / "prompts.json"
    else:
        shared: Path = request.getfixturevalue("shared_golden")
        folder, prompts = shared / "tiny-a", shared / "prompts.json"
    bundle = tmp_path_factory.mktemp("recorded") / "bundle"
    export_bundle(folder / "checkpoint", bundle, prompts=read_prompts(prompts))
    return folder / "data", bundle


def asked(case: dict[str, Any], inputs: Path) -> list[object]:
    """The command line of a recorded conversation."""
    text = case["user"].rsplit("newline, ", 1)[-1]
    arguments: list[object] = [] if text.startswith("<") else ["--text", text]
    arguments += ["--style", case["style"].replace(" ", "_")]
    for clip in case.get("audio", ()):
        arguments += ["--audio", inputs / clip]
    if "picture" in case:
        arguments += ["--image", inputs / case["picture"]]
    if "clip" in case:
        arguments += ["--video", inputs / case["clip"]["file"]]
    return arguments


def test_greedy_answers_are_the_recorded_tokens_up_to_the_stop_token(
    recorded: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data, bundle = recorded
    stop = set(Bundle.open(bundle).model.tokens.stop)
    cases = json.loads((data / "cases.json").read_text("utf-8"))["conversations"]
    compared = []
    with np.load(data / "llm.npz") as arrays:
        for name, case in cases.items():
            if f"{name}.tokens" not in arrays or case["style"] not in ("command line", "live"):
                continue
            want = list(itertools.takewhile(lambda token: token not in stop, arrays[f"{name}.tokens"].tolist()))
            how = ("--greedy", "--json", "--no-speech", "--max-new-tokens", 48)
            answer = run(capsys, "ask", bundle, *asked(case, data / "inputs"), *how).json
            assert answer["token_ids"] == want, name
            assert answer["finished"] == (len(want) < 48), name
            compared.append(name)
    assert {"text", "image_text", "live1"} <= set(compared)
    if len(cases) > 6:  # the whole golden data
        assert {"audio", "image_audio", "video_audio", "video_text"} <= set(compared)


# --- what comes out


def test_json_is_one_object_with_the_promised_keys(ask: Ask, inputs: Path, tmp_path: Path) -> None:
    wav = tmp_path / "reply.wav"
    result = ask("--audio", inputs / "en_short.wav", "--image", inputs / "square.png", "-o", wav, "--json", *SHORT)
    assert (result.code, result.err) == (0, "")
    facts = result.json
    assert set(facts) == {
        *("notice", "state", "state_marked", "text", "token_ids", "finished", "prompt_tokens"),
        *("audio", "latency_ms", "tokens_per_second", "kv_cache", "bundle"),
    }
    assert facts["state"] == "speech" and facts["finished"] is False
    assert len(facts["token_ids"]) == 8
    assert facts["audio"]["path"] == str(wav) and facts["audio"]["sample_rate_hz"] == 24000
    assert {"audio", "vision", "prefill", "decode", "codec", "total"} <= set(facts["latency_ms"])
    assert min(facts["tokens_per_second"].values()) > 0
    assert 0 < facts["kv_cache"]["tokens"] < facts["kv_cache"]["capacity_tokens"] < facts["kv_cache"]["bytes"]
    assert facts["bundle"]["precision"] == "fp32" and facts["bundle"]["backend"] == "onnxruntime-cpu"


def test_the_reply_is_a_wav_file_of_the_length_that_is_told(ask: Ask, tmp_path: Path) -> None:
    wav = tmp_path / "reply.wav"
    reported = ask("--text", "Hello", "-o", wav, "--json", *SHORT).json["audio"]
    info = soundfile.info(wav)
    assert (info.format, info.subtype, info.channels, info.samplerate) == ("WAV", "PCM_16", 1, 24000)
    assert info.frames > 0 and info.duration == pytest.approx(reported["seconds"], abs=1e-3)
    assert list(tmp_path.iterdir()) == [wav]


def test_without_speech_audio_is_null_and_without_a_file_it_has_no_path(ask: Ask) -> None:
    assert ask("--text", "Hello", "--json", *QUIET).json["audio"] is None
    assert ask("--text", "Hello", "--json", *SHORT).json["audio"]["path"] is None


def test_the_text_goes_to_standard_output_and_all_else_to_standard_error(ask: Ask, tmp_path: Path) -> None:
    wav = tmp_path / "reply.wav"
    facts = ask("--text", "Hello", "--json", *SHORT).json
    result = ask("--text", "Hello", "-o", wav, *SHORT)
    assert (result.code, result.out.strip()) == (0, facts["text"])
    assert result.out.endswith("\n") and not result.out.startswith(" ")
    lines = {line.split("  ")[0]: line for line in result.err.splitlines()}
    assert lines["state"].split(maxsplit=1)[1].startswith("text (")
    assert f"{facts['audio']['seconds']:.2f} s in {wav}" in lines["speech"]
    assert lines["stopped"].endswith("max_new_tokens (8) reached")
    assert lines["total"].endswith("ms, of which")
    assert {"first text", "first audio"} < set(lines)


def test_without_a_file_the_summary_says_how_to_get_one(ask: Ask) -> None:
    assert "not written (give -o)" in ask("--text", "Hello", *SHORT).err
    assert "speech       none" in ask("--text", "Hello", *QUIET).err


def test_greedy_needs_no_seed_and_drawing_does(ask: Ask, tmp_path: Path) -> None:
    def sound(*how: object) -> bytes:
        ask("--text", "Hello", "-o", tmp_path / "r.wav", "--force", *SHORT, *how)
        return (tmp_path / "r.wav").read_bytes()

    assert sound("--greedy", "--seed", 1) == sound("--greedy", "--seed", 2)
    assert sound("--seed", 1) == sound("--seed", 1) != sound("--seed", 2)
    drawn = [ask("--text", "Hello", "--json", "--temperature", 2, "--seed", s, *QUIET).json["text"] for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert ask("--text", "Hello", "--top-k", 1, "--temperature", 2, *QUIET).out == ask("--text", "Hello", *QUIET).out


# --- what goes in


def test_a_text_can_come_from_standard_input(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    want = ask("--text", "What is 天气?", *QUIET).out
    monkeypatch.setattr("sys.stdin", io.StringIO("What is 天气?"))
    assert ask("--text", "-", *QUIET).out == want


def test_standard_input_that_is_no_text_is_explained(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe"), encoding="utf-8"))
    ask("--text", "-", *QUIET).assert_explains("The text cannot be read.")


@pytest.mark.parametrize(
    ("subtype", "rate", "channels", "kind"),
    [
        ("PCM_U8", 16000, 1, "wav"),
        ("PCM_24", 48000, 2, "wav"),
        ("PCM_32", 8000, 1, "wav"),
        ("FLOAT", 44100, 1, "wav"),
        ("DOUBLE", 22050, 1, "wav"),
        ("PCM_16", 16000, 8, "wav"),
        ("PCM_16", 11025, 2, "flac"),
    ],
)
def test_sound_of_any_depth_rate_and_number_of_channels_is_heard_alike(
    ask: Ask, inputs: Path, tmp_path: Path, subtype: str, rate: int, channels: int, kind: str
) -> None:
    samples, from_hz = soundfile.read(inputs / "en_short.wav")
    seconds = len(samples) / from_hz
    times = np.arange(int(seconds * rate)) / rate
    first = np.interp(times, np.arange(len(samples)) / from_hz, samples)
    others = np.random.default_rng(0).uniform(-1, 1, (len(first), channels - 1))
    file = tmp_path / f"question.{kind}"
    soundfile.write(file, np.column_stack([first, others]), rate, subtype=subtype)
    facts = ask("--audio", file, "--json", *QUIET).json
    original = ask("--audio", inputs / "en_short.wav", "--json", *QUIET).json
    assert facts["state"] == "speech"
    assert abs(facts["prompt_tokens"] - original["prompt_tokens"]) <= 1  # as long as before: channels are not joined


def test_all_kinds_of_input_can_be_asked_at_once_and_repeatedly(ask: Ask, inputs: Path) -> None:
    sound, picture = inputs / "en_short.wav", inputs / "square.png"
    both = ask("--audio", sound, "--audio", sound, "--image", picture, picture, "--image", picture, "--json", *QUIET)
    less = ask("--audio", sound, "--image", picture, picture, "--json", *QUIET)
    assert both.json["prompt_tokens"] > less.json["prompt_tokens"]
    everything = ("--text", "What?", "--audio", sound, "--image", picture, "--video", inputs / "clip_2.json")
    assert ask(*everything, *QUIET).code == 0


def test_live_style_looks_at_four_frames_however_long_the_video_is(ask: Ask, golden: Path, tmp_path: Path) -> None:
    frame = str(golden / "data" / "inputs" / "square.png")
    positions = []
    for seconds in (6, 12):
        clip = tmp_path / "clip.json"
        clip.write_text(json.dumps({"fps": 1, "frames": [frame] * seconds}))
        positions += [
            ask("--video", clip, "--text", "What?", "--style", style, "--json", *QUIET).json["prompt_tokens"]
            for style in ("live", "command_line")
        ]
    assert positions[0] == positions[2]
    assert positions[3] - positions[1] == 6 * 16


# --- several turns


def turns(folder: Path, content: str) -> Path:
    file = folder / "turns.json"
    file.write_text(content, "utf-8")
    return file


def test_turns_of_a_list_are_one_conversation(ask: Ask, inputs: Path, tmp_path: Path) -> None:
    content = [
        {"text": "Hello"},
        {"audio": "en_short.wav", "image": ["square.png", "square.png"]},
        {"text": "And?", "video": "clip_2.json"},
    ]
    for name in ("en_short.wav", "square.png", "clip_2.json", "frames"):  # paths count from the folder of the file
        (tmp_path / name).symlink_to(inputs / name)
    wav = tmp_path / "reply.wav"
    result = ask("--turns", turns(tmp_path, json.dumps(content)), "--json", "-o", wav, *SHORT)
    answers = result.json["turns"]
    assert [answer["state"] for answer in answers] == ["text", "speech", "text"]
    alone = ask("--text", "Hello", "--json", *QUIET).json
    assert answers[0]["token_ids"] == alone["token_ids"]
    assert answers[2]["prompt_tokens"] < alone["prompt_tokens"]  # the system prompt is not read again
    for number, answer in enumerate(answers, 1):
        file = tmp_path / f"reply-{number}.wav"
        assert answer["audio"]["path"] == str(file)
        assert soundfile.info(file).duration == pytest.approx(answer["audio"]["seconds"], abs=1e-3)
    assert not wav.exists()


def test_turns_may_be_one_object_a_line_and_begin_with_a_byte_order_mark(ask: Ask, tmp_path: Path) -> None:
    want = ask("--turns", turns(tmp_path, '[{"text": "Hello"}, {"text": "你好"}]'), "--json", *QUIET).json
    for content in ('{"text": "Hello"}\n\n{"text": "你好"}\n', '\ufeff[{"text": "Hello"}, {"text": "你好"}]'):
        got = ask("--turns", turns(tmp_path, content), "--json", *QUIET).json
        assert [turn["token_ids"] for turn in got["turns"]] == [turn["token_ids"] for turn in want["turns"]]


def test_every_turn_is_printed_on_a_line_of_its_own(ask: Ask, tmp_path: Path) -> None:
    result = ask("--turns", turns(tmp_path, '[{"text": "Hello"}, {"text": "And?"}]'), *QUIET)
    assert len(result.out.splitlines()) == 2
    assert result.err.count("state  ") == 2


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "is empty"),
        ("[]", "nothing to ask"),
        ("{", "Expecting"),
        ("[1]", "not an object"),
        ("null", "not an object"),
        ('[{"text": 5}]', "text is not text"),
        ('[{"video": 5}]', "video is not text"),
        ('[{"audio": 5}]', "audio is neither a path nor a list"),
        ('[{"image": [5]}]', "image is neither a path nor a list"),
        ('[{"txt": "a"}]', "has txt"),
        ('[{"text": "a"}, {}]', "asks nothing"),
    ],
)
def test_turns_that_cannot_be_understood_are_explained(ask: Ask, tmp_path: Path, content: str, why: str) -> None:
    result = ask("--turns", turns(tmp_path, content), *QUIET)
    result.assert_explains("Cannot read the turns")
    assert why in result.err
    assert 'Write a JSON list such as [{"text": "Hello"}' in result.err


def test_turns_that_are_not_there_or_not_text_are_explained(ask: Ask, tmp_path: Path) -> None:
    ask("--turns", tmp_path / "none.json").assert_explains("Cannot read the turns")
    ask("--turns", tmp_path).assert_explains("Cannot read the turns")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    ask("--turns", tmp_path / "binary").assert_explains("Cannot read the turns")


def test_a_turn_that_cannot_be_read_is_told_before_the_first_is_answered(ask: Ask, tmp_path: Path) -> None:
    file = turns(tmp_path, '[{"text": "Hello"}, {"image": "none.png"}]')
    ask("--turns", file, *QUIET).assert_explains("none.png")


# --- misuse


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ((), "Nothing is asked."),
        (("--text", ""), "Nothing is asked."),
        (("--text", " \n"), "Nothing is asked."),
        (("--text", "a", "-o", "no/such/reply.wav"), "There is no folder"),
        (("--text", "a", "-o", "."), "is a folder"),
        (("--text", "a", "-o", "reply.wav", "--no-speech"), "no speech to write"),
        (("--turns", "turns.json", "--text", "a"), "--turns stands alone"),
        (("--turns", "turns.json", "--audio", "a.wav"), "--turns stands alone"),
        (("--text", "a", "--max-new-tokens", 0), "max_new_tokens is 0"),
        (("--text", "a", "--max-tiles", -1), "max_tiles is -1"),
        (("--text", "a", "--seed", -1), "seed is -1"),
        (("--text", "a", "--threads", -1), "threads is -1"),
        (("--text", "a", "--temperature", -1), "temperature is -1.0"),
        (("--text", "a", "--temperature", "nan"), "temperature is nan"),
        (("--text", "a", "--temperature", 1, "--top-k", -1), "top_k is -1"),
    ],
)
def test_misuse_is_explained_and_exits_with_2(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...], what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ask(*arguments).assert_explains(what, code=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [("--style", "odd"), ("--streaming", "odd"), ("--seed", "x"), ("--temperature", "warm"), ("--unknown",)],
)
def test_values_that_are_none_exit_with_2_and_the_usage(ask: Ask, arguments: tuple[object, ...]) -> None:
    result = ask("--text", "a", *arguments)
    assert result.code == 2
    assert result.err.startswith("error: ")
    assert result.out == ""


def test_misuse_is_told_before_the_bundle_is_opened(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "ask", "no-such-bundle").assert_explains("Nothing is asked.", code=2)
    run(capsys, "ask", "no-such-bundle", "--audio", "none.wav").assert_explains("none.wav")
    run(capsys, "ask", "no-such-bundle", "--text", "a").assert_explains("no-such-bundle is not a bundle.")
