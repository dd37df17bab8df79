"""vita-edge chat BUNDLE: a live talk through microphone, speaker and camera."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from vita_edge.engines.errors import Misuse, VitaEdgeError
from vita_edge.engines.printable import printable

from .ask import add_engine_options, add_recording, add_sampling, engine_options, sampling_from
from .output.output_file import add_force, check_output
from .output.show import print_json

if TYPE_CHECKING:
    from vita_edge.runtime.audio_io.echo_canceller import CancelsEcho
    from vita_edge.runtime.encoders.camera import Camera
    from vita_edge.runtime.live.live_options import LiveOptions
    from vita_edge.runtime.live.live_session import LiveSession
    from vita_edge.runtime.metrics.turn_report import TurnReport
    from vita_edge.runtime.turns.detector import TurnDetector

__all__ = ["add_arguments", "add_live_options", "chosen_detector", "live_options", "run"]

DRAW_S = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder that `vita-edge export` has written")
    devices = parser.add_argument_group("devices", "`vita-edge devices` lists them")
    devices.add_argument(
        "--input-device", metavar="D", help="microphone, by index or part of its name (default: the system's)"
    )
    devices.add_argument(
        "--output-device", metavar="D", help="speaker, by index or part of its name (default: the system's)"
    )
    devices.add_argument(
        "--camera",
        metavar="C",
        help="camera: index, path, name, file, stream address or GStreamer pipeline (default: none)",
    )
    devices.add_argument(
        "--camera-rotate",
        type=int,
        choices=(0, 90, 180, 270),
        default=0,
        help="degrees by which the camera's picture is turned clockwise (default: 0)",
    )
    devices.add_argument("--camera-mirror", action="store_true", help="swap left and right of the camera's picture")
    devices.add_argument(
        "--echo",
        choices=("cancel", "half-duplex", "headphones"),
        default="cancel",
        help="cancel: remove the speaker's sound from the microphone; half-duplex: do not listen while speaking; "
        "headphones: there is no echo (default: cancel)",
    )
    devices.add_argument(
        "--push-to-talk",
        action="store_true",
        help="press Enter to start and to end a question; Enter twice cancels the reply",
    )
    add_live_options(parser)
    shown = parser.add_argument_group("output")
    shown.add_argument("--latency", action="store_true", help="show a latency breakdown after each turn")
    shown.add_argument("--plain", action="store_true", help="print plain lines, also on a terminal")
    shown.add_argument("--log", type=Path, metavar="FILE", help="append one line of JSON for each turn")
    shown.add_argument("--trace", type=Path, metavar="FILE", help="write a trace for Perfetto at the end")
    add_force(shown)
    add_recording(shown)


def add_live_options(parser: argparse.ArgumentParser) -> None:
    """Options of a live talk, the same for every command that holds one."""
    how = parser.add_argument_group("turns")
    how.add_argument(
        "--speculation-delay-ms",
        type=int,
        default=150,
        metavar="N",
        help="silence after which a speculative response starts",
    )
    how.add_argument("--endpoint-ms", type=int, default=500, metavar="N", help="silence that ends a turn")
    how.add_argument(
        "--eagerness",
        choices=("low", "medium", "high"),
        help="let a turn detector choose that silence. After a question that sounds complete, open, or incomplete: "
        "low 320, 704 or 1,200 ms; medium 320, 640 or 1,200; high 224, 512 or 1,200",
    )
    how.add_argument(
        "--turn-detector",
        default="auto",
        metavar="D",
        help="smart-turn (of an installed pipecat-ai), prosody (the runtime's own), combined, auto (combined where "
        "pipecat-ai is installed, else prosody), or the path of Smart Turn's model (default: %(default)s)",
    )
    how.add_argument("--barge-in-ms", type=int, default=200, metavar="N", help="speech over a reply that interrupts it")
    how.add_argument("--no-speculation", action="store_true", help="start responses at the endpoint only")
    how.add_argument("--frames", type=int, default=1, metavar="N", help="max camera frames per turn")
    how.add_argument(
        "--same-scene",
        type=float,
        default=0.0,
        metavar="X",
        help="do not encode a frame again in which no part changed by X of 255: an approximation "
        "(default: 0, encode every frame)",
    )
    how.add_argument("--greedy", action="store_true", help="take the most likely token and code at every step")
    how.add_argument("--seed", type=int, default=0, metavar="N", help="random seed: same seed, same replies")
    add_sampling(how)
    how.add_argument("--max-new-tokens", type=int, default=512, metavar="N", help="end a reply after N tokens")
    add_engine_options(parser)


def live_options(arguments: argparse.Namespace, *, half_duplex: bool = False) -> LiveOptions:
    from vita_edge.runtime.live.live_options import LiveOptions
    from vita_edge.runtime.turns.endpoint_policy import EAGERNESS, WITHDRAW_MS
    from vita_edge.runtime.turns.turn_events import TurnTimes

    return LiveOptions(
        times=TurnTimes(
            speculation_delay_ms=arguments.speculation_delay_ms,
            endpoint_ms=arguments.endpoint_ms,
            barge_in_ms=arguments.barge_in_ms,
            speculate=not arguments.no_speculation,
            full_duplex=not half_duplex,
            policy=EAGERNESS[arguments.eagerness] if arguments.eagerness else None,
            withdraw_ms=WITHDRAW_MS if arguments.eagerness else 0,
        ),
        frames=arguments.frames,
        same_scene=arguments.same_scene,
        context_tokens=arguments.context,
        **sampling_from(arguments),
    )


def chosen_detector(arguments: argparse.Namespace) -> TurnDetector | None:
    """The turn detector, where ``--eagerness`` asks for one; one that cannot be used is named, and done without."""
    if not arguments.eagerness:
        return None
    from vita_edge.runtime.turns.choose_detector import turn_detector

    try:
        return turn_detector(arguments.turn_detector)
    except VitaEdgeError as error:
        print(f"warning: {error}\nA silence of {arguments.endpoint_ms} ms ends turns.", file=sys.stderr)
        return None


def run(arguments: argparse.Namespace) -> int:
    from vita_edge.runtime import Assistant
    from vita_edge.runtime.audio_io.portaudio import choose
    from vita_edge.runtime.audio_io.sound_devices import SoundMicrophone, SoundSpeaker
    from vita_edge.runtime.live.live_session import LiveSession
    from vita_edge.runtime.metrics.machine_load import MachineSampler
    from vita_edge.runtime.metrics.perfetto_trace import Trace
    from vita_edge.runtime.metrics.turn_log import TurnLog
    from vita_edge.runtime.metrics.turn_metrics import TurnReports

    if arguments.push_to_talk and not sys.stdin.isatty():
        raise Misuse(
            "There is no keyboard to push.", why="Standard input is not a terminal.", fix="Leave --push-to-talk out."
        )
    check_output(arguments.trace, suffixes=(".json",), force=arguments.force)
    options = live_options(arguments, half_duplex=arguments.echo == "half-duplex")
    reports: list[TurnReport] = []
    with ExitStack() as stack, _leaving_politely() as leaving:
        view = _view(arguments, stack)
        takers: list[Callable[[TurnReport], None]] = [reports.append, view.report]
        if arguments.log:
            takers.append(stack.enter_context(TurnLog(arguments.log, _complain)))
        trace = Trace()
        machine = stack.enter_context(MachineSampler(sampled=trace.machine))
        choose(arguments.input_device, "input")  # what is not there is told before anything large is opened
        choose(arguments.output_device, "output")
        microphone, speaker = SoundMicrophone(arguments.input_device), SoundSpeaker(arguments.output_device)
        camera = stack.enter_context(_camera(arguments)) if arguments.camera is not None else None
        print("opening the bundle …", file=sys.stderr)
        assistant = stack.enter_context(
            Assistant(arguments.bundle, record=arguments.record, **engine_options(arguments))
        )
        print(printable(assistant.bundle.notice), file=sys.stderr)

        def take(report: TurnReport) -> None:
            for taker in takers:
                taker(report)

        talk = LiveSession(
            assistant,
            microphone,
            speaker,
            options=options,
            camera=camera,
            canceller=_canceller(arguments.echo),
            observers=[TurnReports(assistant.bundle.model.codec, take, machine), trace, view],
            push_to_talk=arguments.push_to_talk,
            turn_detector=chosen_detector(arguments),
        )
        try:
            with view, talk:
                if arguments.push_to_talk:
                    threading.Thread(target=_push, args=(talk,), daemon=True).start()
                while not leaving.wait(DRAW_S) and not talk.wait(0):
                    view.draw()
        finally:
            if arguments.trace:
                trace.write(arguments.trace)
    if arguments.json:
        print_json({"bundle": str(arguments.bundle), "turns": [report.to_json() for report in reports]})
    return 0


def _view(arguments: argparse.Namespace, stack: ExitStack) -> Any:
    from .output.plain_lines import PlainLines
    from .output.screen import open_view

    if arguments.json:  # standard output belongs to the object
        return PlainLines(latency=arguments.latency, out=sys.stderr)
    return open_view(latency=arguments.latency, plain=arguments.plain)


def _canceller(echo: str) -> CancelsEcho:
    from vita_edge.runtime.audio_io.echo_canceller import EchoCanceller, Headphones

    return EchoCanceller() if echo == "cancel" else Headphones()


def _camera(arguments: argparse.Namespace) -> Camera:
    from vita_edge.runtime.encoders.camera import Camera

    return Camera(arguments.camera, rotate=arguments.camera_rotate, mirror=arguments.camera_mirror)


def _complain(error: VitaEdgeError) -> None:
    print(f"warning: {error}".replace("\n", " "), file=sys.stderr)


def _push(talk: LiveSession) -> None:
    """Enter begins a question, the next one ends it."""
    down = False
    for _ in sys.stdin:
        down = not down
        talk.press() if down else talk.release()


@contextmanager
def _leaving_politely() -> Iterator[threading.Event]:
    """Ctrl-C, SIGTERM and the end of the terminal end the talk: devices closed, files written, terminal restored."""
    leaving = threading.Event()

    def leave(number: int, frame: FrameType | None) -> None:
        if leaving.is_set() and number == signal.SIGINT:  # a second Ctrl-C does not wait
            raise KeyboardInterrupt
        leaving.set()

    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield leaving
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
