"""vita-edge bench BUNDLE, and vita-edge bench --compare A.json B.json"""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from vita_edge.engines.cores import thread_count
from vita_edge.engines.errors import BadInput, Misuse
from vita_edge.engines.printable import printable

from .ask import engine_options
from .chat import add_live_options, chosen_detector, live_options
from .output.output_file import check_output
from .output.show import print_json

if TYPE_CHECKING:
    from vita_edge.runtime import Assistant
    from vita_edge.runtime.encoders.camera import FrameSource
    from vita_edge.runtime.live.live_options import LiveOptions
    from vita_edge.runtime.metrics.bench_result import BenchResult, BenchTurn
    from vita_edge.runtime.metrics.perfetto_trace import Trace
    from vita_edge.runtime.simulation.device_room import DeviceRoom
    from vita_edge.runtime.simulation.questions import Question

__all__ = ["add_arguments", "run"]

CHARTS = (".html", ".png")
REPLY_TOKENS = 48
"""Of a reply its beginning is measured, and the next question waits for its end."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "bundle", type=Path, nargs="?", metavar="BUNDLE", help="folder that `vita-edge export` has written"
    )
    asked = parser.add_argument_group("questions")
    asked.add_argument(
        "--questions",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="recordings, or folders of them (default: the built-in question)",
    )
    asked.add_argument(
        "--image",
        type=Path,
        metavar="PATH",
        help="picture that the camera sees (default: with the built-in question its picture, else none)",
    )
    asked.add_argument("--turns", type=int, default=10, metavar="N", help="number of questions (default: %(default)s)")
    asked.add_argument("--history", action="store_true", help="ask all of them in one conversation")
    asked.add_argument(
        "--against-fixed",
        action="store_true",
        help="ask everything twice: with --eagerness, and with the fixed silence of --endpoint-ms",
    )
    asked.add_argument("--paired", action="store_true", help="ask everything twice, with and without speculation")
    devices = parser.add_argument_group("devices")
    devices.add_argument(
        "--through-devices",
        action="store_true",
        help="play the questions through the loudspeaker, and time both them and the replies at the microphone",
    )
    devices.add_argument("--input-device", metavar="D", help="microphone, by index or part of its name")
    devices.add_argument("--output-device", metavar="D", help="loudspeaker, likewise")
    add_live_options(parser)
    parser.set_defaults(max_new_tokens=REPLY_TOKENS)
    result = parser.add_argument_group("results")
    result.add_argument(
        "-o", "--output", type=Path, metavar="JSON", help="write the result, with every turn, to this file"
    )
    result.add_argument("--force", action="store_true", help="overwrite existing files")
    result.add_argument(
        "--waterfall", type=Path, metavar="FILE", help="draw where the time went: FILE.html or FILE.png"
    )
    result.add_argument("--trace", type=Path, metavar="JSON", help="write a trace for ui.perfetto.dev")
    result.add_argument(
        "--compare",
        type=Path,
        nargs=2,
        metavar=("BEFORE", "AFTER"),
        help="compare two results of -o: what changed beyond noise; measures nothing",
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.compare:
        return _compare(arguments)
    _check(arguments)
    from vita_edge.runtime import Assistant
    from vita_edge.runtime.metrics.perfetto_trace import Trace

    options = live_options(arguments, half_duplex=arguments.through_devices)  # it hears its own replies
    questions, passed_over = _questions(arguments)
    camera = _camera(arguments)
    trace = Trace() if arguments.trace else None
    with Assistant(arguments.bundle, **engine_options(arguments)) as assistant:
        if not arguments.json:
            print(printable(assistant.bundle.notice), file=sys.stderr)
        result, stopped = _run_bench(assistant, questions, options, arguments, trace, camera)
    if passed_over:
        unread = {"not of a format that can be read": dict.fromkeys(passed_over, 1)}
        result = dataclasses.replace(result, left_out={**result.left_out, **unread})
    if not result.turns and not stopped:
        if trace:
            trace.write(arguments.trace)
        left_out = (f"{why}: {', '.join(names)}" for why, names in result.left_out.items())
        raise BadInput(
            "None of the questions was answered.",
            why=f"Left out, {'; '.join(left_out)}.",
            fix="Listen to the recordings; or look at what happened with --trace.",
        )
    try:
        if trace:
            trace.write(arguments.trace)
        if result.turns:
            _write(result, arguments)
    finally:  # what was measured is said, whatever becomes of the files
        if result.turns:
            _say(result, as_json=arguments.json)
    if stopped:
        print("interrupted", file=sys.stderr)
        return 128 + stopped
    return 0


def _say(result: BenchResult, *, as_json: bool) -> None:
    if as_json:
        print_json(result.to_json())
        return
    from .output.bench_text import bench_text

    print(bench_text(result))


def _questions(arguments: argparse.Namespace) -> tuple[list[Question], list[str]]:
    from vita_edge.runtime import demo_folder
    from vita_edge.runtime.simulation.questions import read_questions

    return read_questions(arguments.questions or [demo_folder() / "question.wav"])


def _devices(arguments: argparse.Namespace) -> Callable[[], DeviceRoom]:
    """Makes rooms of the chosen devices, in which a chirp was heard."""
    from vita_edge.runtime.audio_io.sound_devices import SoundMicrophone, SoundSpeaker
    from vita_edge.runtime.simulation.device_room import DeviceRoom

    def room() -> DeviceRoom:
        return DeviceRoom(SoundMicrophone(arguments.input_device), SoundSpeaker(arguments.output_device))

    path = room().check()
    print(f"chirp heard {1000 * path.delay_s:,.0f} ms after it was announced", file=sys.stderr)
    return room


def _camera(arguments: argparse.Namespace) -> FrameSource | None:
    """What the questions are about, if there is a picture of it."""
    from vita_edge.runtime import demo_folder, read_image
    from vita_edge.runtime.simulation.still_camera import StillCamera

    picture = arguments.image or (None if arguments.questions else demo_folder() / "picture.png")
    return StillCamera(read_image(picture)) if picture else None


def _check(arguments: argparse.Namespace) -> None:
    """Say before the measurement what would fail after it."""
    if arguments.bundle is None:
        raise Misuse("There is nothing to measure.", why="No bundle is named.", fix="Give a bundle, or --compare.")
    if arguments.turns < 1:
        raise Misuse(f"--turns is {arguments.turns}.", why="It must be 1 or more.", fix="Leave it out, or give 30.")
    if arguments.paired and arguments.history:
        raise Misuse(
            "--paired and --history exclude each other.",
            why="One conversation cannot be held with speculation and without.",
            fix="Run it twice, and compare the results.",
        )
    if arguments.against_fixed and (arguments.paired or arguments.history or not arguments.eagerness):
        raise Misuse(
            "--against-fixed compares --eagerness with a fixed silence.",
            why="It needs --eagerness, and excludes --paired and --history.",
            fix="For example: --eagerness medium --against-fixed.",
        )
    if arguments.paired and arguments.no_speculation:
        raise Misuse(
            "--paired is with speculation and without.", why="--no-speculation is without.", fix="Leave one out."
        )
    for path in (arguments.output, arguments.trace):
        check_output(path, suffixes=(".json",), force=arguments.force)
    check_output(arguments.waterfall, force=arguments.force)
    if arguments.waterfall is not None:
        if arguments.waterfall.suffix not in CHARTS:
            raise Misuse(
                f"{arguments.waterfall} is neither a page nor a picture.",
                why=f"Its name ends in {arguments.waterfall.suffix or 'nothing'}.",
                fix=f"Let it end in {' or '.join(CHARTS)}.",
            )
        if arguments.waterfall.suffix == ".png":
            from vita_edge.runtime.metrics.waterfall_png import check_matplotlib

            check_matplotlib()


def _run_bench(
    assistant: Assistant,
    questions: list[Question],
    options: LiveOptions,
    arguments: argparse.Namespace,
    trace: Trace | None,
    camera: FrameSource | None,
) -> tuple[BenchResult, int]:
    """The result of the turns that were finished, and the signal that stopped the run, or 0."""
    from datetime import datetime, timezone

    from vita_edge.engines.machine import machine_facts
    from vita_edge.engines.memory import peak_memory
    from vita_edge.runtime.metrics.bench_result import BenchResult
    from vita_edge.runtime.metrics.machine_load import MachineSampler
    from vita_edge.runtime.simulation.bench_run import BenchRun, variants

    bundle, machine = assistant.bundle, machine_facts()
    began = datetime.now(timezone.utc).isoformat(timespec="seconds")
    ways = variants(
        options.times, paired=arguments.paired, eagerness=arguments.eagerness if arguments.against_fixed else None
    )
    turns: list[BenchTurn] = []
    stopped = 0
    with MachineSampler(sampled=trace.machine if trace else None) as sampler:
        bench_run = BenchRun(
            assistant,
            questions,
            options=options,
            history=arguments.history,
            camera=camera,
            observers=[trace] if trace else [],
            machine=sampler,
            turn_detector=chosen_detector(arguments),
            room=_devices(arguments) if arguments.through_devices else None,
        )
        try:
            with _stopped_by_signals():
                for turn in bench_run.run(arguments.turns, ways):
                    turns.append(turn)
                    _progress(len(turns), arguments.turns * len(ways), turn)
        except _Stopped as stop:
            stopped = stop.number
    if sys.stderr.isatty():
        print("\r" + " " * 79 + "\r", end="", file=sys.stderr)
    settings = dataclasses.asdict(options)
    result = BenchResult(
        time=began,
        bundle={
            "path": str(bundle.path),
            "model": bundle.model.name,
            "precision": bundle.precision,
            "target": bundle.target,
            "backend": assistant.backend.name,
            "engine": assistant.backend.facts(),
            "fast_prefill": assistant.fast_prefill,
            "notice": bundle.notice,
        },
        machine=machine,
        settings={
            "threads": thread_count(arguments.threads),
            "questions": [question.name for question in questions],
            "image": camera is not None,
            "through_devices": arguments.through_devices,
            "history": arguments.history,
            **{name: value for name, value in settings.pop("times").items() if name != "speculate"},
            **settings,
        },
        memory_peak_bytes=peak_memory(),
        left_out={why: dict(names) for why, names in bench_run.left_out.items()},
        turns=tuple(turns),
        doubts={question.name: question.doubt for question in questions if question.doubt},
        asked=arguments.turns * len(ways),
        interrupted=bool(stopped),
    )
    return result, stopped


class _Stopped(Exception):
    """A signal came; ``number`` is its number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal end the run, not what it has measured."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Stopped(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _progress(done: int, total: int, turn: BenchTurn) -> None:
    """On a terminal, say how far it is: it goes in real time."""
    if sys.stderr.isatty():
        heard_ms = turn.report.acoustic_ms
        heard = "not heard" if heard_ms is None else f"heard after {heard_ms:,.0f} ms"
        line = f"turn {done} of {total}: {turn.question}, {heard}"
        print(f"\r{line:<79.79}", end="", file=sys.stderr, flush=True)


def _write(result: BenchResult, arguments: argparse.Namespace) -> None:
    import json

    from vita_edge.engines.bundle.atomic_file import write_whole
    from vita_edge.runtime.metrics.waterfall import waterfall

    if arguments.output:
        write_whole(arguments.output, json.dumps(result.to_json(), ensure_ascii=False, indent=1).encode())
    chart = waterfall(result) if arguments.waterfall else None
    if chart is None:
        return
    if arguments.waterfall.suffix == ".png":
        from vita_edge.runtime.metrics.waterfall_png import waterfall_png

        write_whole(arguments.waterfall, waterfall_png(chart))
    else:
        from vita_edge.runtime.metrics.waterfall_html import waterfall_html

        write_whole(arguments.waterfall, waterfall_html(chart, result).encode())


def _compare(arguments: argparse.Namespace) -> int:
    if arguments.bundle is not None:
        raise Misuse("--compare stands alone.", why="Nothing is measured.", fix="Leave the bundle out.")
    from vita_edge.runtime.metrics.bench_result import BenchResult

    from .output.bench_text import comparison_facts, comparison_text

    before, after = (BenchResult.read(path) for path in arguments.compare)
    facts = comparison_facts(before, after)
    if not facts["changes"]:
        raise Misuse(
            "The two results have nothing in common.",
            why="One was measured with speculation and the other without.",
            fix="Measure both alike, or with --paired.",
        )
    if arguments.json:
        print_json(facts)
    else:
        names = tuple(map(str, arguments.compare))
        print(comparison_text(facts, names))
    return 0
