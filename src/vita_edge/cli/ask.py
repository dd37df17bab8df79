"""vita-edge ask BUNDLE [--text T] [--audio WAV] [--image IMG ...] [--video FILE] [-o reply.wav]"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vita_edge.engines.errors import BadInput, Misuse

from .show import print_json, table

if TYPE_CHECKING:
    from vita_edge.runtime import Conversation, Options, Reply, Turn

__all__ = ["add_arguments", "add_options", "hold_turn", "options_from", "reply_facts", "run", "show_latency"]

STATES = {
    "speech": "speech (a spoken question, answered)",
    "text": "text (a written question, answered)",
    "noise": "noise (not meant for the assistant: it stays silent)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--text", default="", help="what is asked in writing; - reads standard input")
    parser.add_argument(
        "--audio", type=Path, action="append", default=[], metavar="WAV", help="what is said; repeatable"
    )
    parser.add_argument("--image", type=Path, nargs="+", action="extend", default=[], metavar="IMG", help="pictures")
    parser.add_argument("--video", type=Path, metavar="FILE", help="a video file, or a JSON list of frames")
    parser.add_argument(
        "--turns", type=Path, metavar="FILE", help='several turns: a JSON list of {"text", "audio", "image", "video"}'
    )
    parser.add_argument("-o", "--output", type=Path, metavar="WAV", help="where the spoken reply goes")
    parser.add_argument("--no-speech", action="store_true", help="answer in text only")
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the conversation, the same for every command that holds one."""
    parser.add_argument("--greedy", action="store_true", help="always the most likely token and code")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn; same seed, same reply (default: 0)")
    parser.add_argument(
        "--temperature", type=float, default=0.0, help="of the text (default: 0, the most likely token)"
    )
    parser.add_argument("--top-k", type=int, default=0, help="tokens of the text to draw from (default: all)")
    parser.add_argument("--style", choices=("command_line", "live"), default="command_line", help="prompt format")
    parser.add_argument(
        "--streaming",
        choices=("exact", "reference"),
        default="exact",
        help="exact: sound equals one pass of the codec; reference: chunks and cuts of the published demo",
    )
    parser.add_argument("--max-new-tokens", type=int, default=1024, help="longest reply (default: 1024)")
    parser.add_argument("--max-tiles", type=int, help="most tiles of a picture")
    parser.add_argument("--threads", type=int, default=0, help="threads of the CPU backend (default: one per core)")


def options_from(arguments: argparse.Namespace, *, speak: bool) -> Options:
    from vita_edge.runtime import Options

    for name in ("max_new_tokens", "max_tiles"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise Misuse(
                f"--{name.replace('_', '-')} is {value}.", why="It must be 1 or more.", fix="Give a larger number."
            )
    return Options(
        style=arguments.style,
        speak=speak,
        streaming=arguments.streaming,
        max_new_tokens=arguments.max_new_tokens,
        temperature=0.0 if arguments.greedy else arguments.temperature,
        top_k=arguments.top_k,
        speech_top_k=1 if arguments.greedy else 2,
        seed=arguments.seed,
        max_tiles=arguments.max_tiles,
    )


def run(arguments: argparse.Namespace) -> int:
    from vita_edge.runtime import Assistant

    specs = _turn_specs(arguments)
    _check_output(arguments)
    options = options_from(arguments, speak=not arguments.no_speech)
    with Assistant(arguments.bundle, threads=arguments.threads) as assistant:
        talk = assistant.conversation(options)
        results = []
        for number, spec in enumerate(specs, 1):
            reply = hold_turn(talk, _read_turn(spec), quiet=arguments.json)
            sound = _write(reply, arguments.output, number if len(specs) > 1 else None)
            results.append(reply_facts(reply, sound, assistant.bundle))
            if not arguments.json:
                _print_summary(reply, sound)
    if arguments.json:
        print_json(results[0] if arguments.turns is None else {"turns": results})
    return 0


def hold_turn(talk: Conversation, turn: Turn, *, quiet: bool) -> Reply:
    """Hold one turn; the text is printed as it is decoded, unless ``quiet``."""
    from vita_edge.runtime import TextPiece, TurnDone

    for event in talk.answer(turn):
        if isinstance(event, TextPiece) and not quiet:
            print(event.text, end="", flush=True)
        if isinstance(event, TurnDone):
            if not quiet:
                print()
            return event.reply
    raise AssertionError("a turn ends with TurnDone")


def reply_facts(reply: Reply, sound: Path | None, bundle: Any) -> dict[str, Any]:
    """What ``--json`` prints of a turn."""
    return {
        "state": reply.state,
        "state_marked": reply.state_marked,
        "text": reply.text,
        "token_ids": list(reply.token_ids),
        "finished": reply.finished,
        "prompt_tokens": reply.prompt_tokens,
        "audio": {
            "path": str(sound) if sound else None,
            "seconds": round(reply.seconds, 3),
            "sample_rate_hz": reply.sample_rate_hz,
        }
        if len(reply.pcm)
        else None,
        "latency_ms": dict(reply.latency_ms),
        "bundle": {"path": str(bundle.path), "precision": bundle.precision, "backend": "onnxruntime-cpu"},
    }


def show_latency(reply: Reply) -> str:
    """Where the time went, a line a stage."""
    rows = [(f"  {name.replace('_', ' ')}", f"{ms:,.1f} ms") for name, ms in reply.latency_ms.items()]
    return table(rows)


def _turn_specs(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    text = sys.stdin.read() if arguments.text == "-" else arguments.text
    single = {"text": text, "audio": arguments.audio, "image": arguments.image, "video": arguments.video}
    if arguments.turns is None:
        return [single]
    if any(single.values()):
        raise Misuse("--turns stands alone.", why="The file says what is asked.", fix="Leave --text, --audio … out.")
    return list(_read_turns(arguments.turns))


def _read_turns(path: Path) -> Iterator[dict[str, Any]]:
    """Turns of a file, a JSON list or one object a line; paths in it count from its folder."""
    try:
        content = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"The turns {path} cannot be read.", why=f"{error}.", fix="Check the path.") from error
    fix = 'Write a JSON list such as [{"text": "Hello"}, {"audio": "question.wav", "image": ["photo.png"]}].'
    try:
        turns = (
            json.loads(content)
            if content.lstrip().startswith("[")
            else [json.loads(s) for s in content.splitlines() if s.strip()]
        )
    except ValueError as error:
        raise BadInput(f"The turns {path} are not JSON.", why=f"{error}.", fix=fix) from error
    if not turns:
        raise BadInput(f"The turns {path} are empty.", why="There is nothing to ask.", fix=fix)
    for i, turn in enumerate(turns, 1):
        known = {"text", "audio", "image", "video"}
        if not isinstance(turn, dict) or not set(turn) <= known:
            raise BadInput(
                f"Turn {i} of {path} cannot be understood.", why=f"It may have {', '.join(sorted(known))}.", fix=fix
            )
        yield {
            "text": str(turn.get("text") or ""),
            "audio": [path.parent / name for name in _listed(turn.get("audio"))],
            "image": [path.parent / name for name in _listed(turn.get("image"))],
            "video": path.parent / turn["video"] if turn.get("video") else None,
        }


def _listed(value: Any) -> list[str]:
    if not value:
        return []
    return [value] if isinstance(value, str) else [str(entry) for entry in value]


def _read_turn(spec: dict[str, Any]) -> Turn:
    from vita_edge.runtime import Turn, read_frames, read_image, read_sound, sample_positions

    return Turn(
        text=spec["text"],
        sounds=[read_sound(path) for path in spec["audio"]],
        images=[read_image(path) for path in spec["image"]],
        frames=read_frames(spec["video"], sample_positions)[0] if spec["video"] else (),
    )


def _check_output(arguments: argparse.Namespace) -> None:
    """Say before the talk, not after it, that the reply cannot be written."""
    if arguments.output is None:
        return
    if arguments.no_speech:
        raise Misuse("There is no speech to write.", why="--no-speech and -o exclude each other.", fix="Leave one out.")
    folder = arguments.output.parent
    if not folder.is_dir():
        raise Misuse(
            f"There is no folder {folder}.", why="The reply goes there.", fix="Create it, or choose another place."
        )


def _write(reply: Reply, output: Path | None, number: int | None) -> Path | None:
    from vita_edge.runtime import write_wav

    if output is None or not len(reply.pcm):
        return None
    path = output if number is None else output.with_name(f"{output.stem}-{number}{output.suffix}")
    write_wav(path, reply.pcm, reply.sample_rate_hz)
    return path


def _print_summary(reply: Reply, sound: Path | None) -> None:
    cut = "" if reply.finished else "; cut off at the limit of new tokens"
    print(f"state: {STATES[reply.state]}{cut}", file=sys.stderr)
    if len(reply.pcm):
        where = f" in {sound}" if sound else ", not written (give -o)"
        print(f"speech: {reply.seconds:.2f} s{where}", file=sys.stderr)
    print(f"time\n{show_latency(reply)}", file=sys.stderr)
