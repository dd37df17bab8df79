"""vita-edge ask BUNDLE [--text T] [--audio WAV] [--image IMG ...] [--video FILE] [-o reply.wav]"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vita_edge.engines.errors import Misuse

from .output.output_file import WAV, add_force, check_output
from .output.show import count, print_json, table
from .turns import read_turn, turn_specs

if TYPE_CHECKING:
    from vita_edge.runtime import Assistant, Reply, Session, SessionOptions, Turn

__all__ = [
    "add_arguments",
    "add_options",
    "add_question",
    "add_recording",
    "engine_options",
    "hold_turn",
    "options_from",
    "reply_facts",
    "run",
    "summary",
]

MOMENTS = ("first text", "first audio", "total")
"""What is counted from the question; all else is the sum of a stage."""
STATES = {
    "speech": "speech (a spoken question, answered)",
    "text": "text (a written question, answered)",
    "noise": "noise (not meant for the assistant: it stays silent)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder that `vita-edge export` has written")
    add_question(parser)
    reply = parser.add_argument_group("reply")
    reply.add_argument("-o", "--output", type=Path, metavar="WAV", help="write the spoken reply to this WAV file")
    add_force(reply)
    reply.add_argument("--no-speech", action="store_true", help="answer in text only")
    add_options(parser)
    add_recording(parser.add_argument_group("recording"))


def add_question(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Options of what is asked, the same for every command that asks."""
    question = parser.add_argument_group("question")
    question.add_argument("--text", default="", metavar="T", help="question as text; - reads standard input")
    question.add_argument(
        "--audio",
        type=Path,
        action="append",
        default=[],
        metavar="WAV",
        help="spoken question, a sound file; repeatable",
    )
    question.add_argument(
        "--image", type=Path, nargs="+", action="extend", default=[], metavar="IMG", help="pictures to show"
    )
    question.add_argument("--video", type=Path, metavar="FILE", help="video to show: a file, or a JSON list of frames")
    question.add_argument(
        "--turns",
        type=Path,
        metavar="FILE",
        help='hold several turns: a JSON list of {"text", "audio", "image", "video"}',
    )
    return question


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the conversation, the same for every command that holds one."""
    how = parser.add_argument_group("response")
    how.add_argument("--greedy", action="store_true", help="take the most likely token and code at every step")
    how.add_argument("--seed", type=int, default=0, metavar="N", help="random seed: same seed, same reply (default: 0)")
    add_sampling(how)
    how.add_argument(
        "--style",
        choices=("command_line", "live"),
        default="command_line",
        help=argparse.SUPPRESS,  # reproduces the published demo: docs/how-to/verify-a-bundle.md
    )
    how.add_argument(
        "--streaming",
        choices=("exact", "reference"),
        default="exact",
        help=argparse.SUPPRESS,  # likewise
    )
    how.add_argument(
        "--max-new-tokens",
        type=int,
        default=1024,
        metavar="N",
        help="end a reply after N tokens (default: %(default)s)",
    )
    how.add_argument("--max-tiles", type=int, metavar="N", help="max tiles per picture (default: 12)")
    add_engine_options(parser)


def add_sampling(how: argparse._ArgumentGroup) -> None:
    """How tokens are chosen, the same for every command that holds a session."""
    how.add_argument(
        "--temperature",
        type=float,
        default=0.0,
        metavar="X",
        help="sampling temperature of the text; 0 takes the most likely token (default: 0)",
    )
    how.add_argument(
        "--top-k",
        type=int,
        default=0,
        metavar="N",
        help="with --temperature, sample from the N most likely tokens (default: 0, all)",
    )
    how.add_argument(
        "--top-p",
        type=float,
        default=1.0,
        metavar="P",
        help="with --temperature, sample from the most likely tokens of this total probability (default: 1, all)",
    )
    how.add_argument(
        "--min-p",
        type=float,
        default=0.0,
        metavar="P",
        help="with --temperature, leave out tokens below this share of the best one's probability (default: 0)",
    )
    how.add_argument(
        "--repetition-penalty",
        type=float,
        metavar="X",
        help="above 1, make repeated tokens less likely (default: the checkpoint's)",
    )
    how.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end the reply before this text; repeatable"
    )


def sampling_from(arguments: argparse.Namespace) -> dict[str, Any]:
    """The fields of ``SamplingOptions`` that the command line asks for."""
    return {
        "temperature": 0.0 if arguments.greedy else arguments.temperature,
        "top_k": arguments.top_k,
        "top_p": arguments.top_p,
        "min_p": arguments.min_p,
        "repetition_penalty": arguments.repetition_penalty,
        "stop": tuple(arguments.stop),
        "speech_top_k": 1 if arguments.greedy else 2,
        "seed": arguments.seed,
        "max_new_tokens": arguments.max_new_tokens,
    }


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """How the engines are opened, the same for every command that opens them."""
    group = parser.add_argument_group("engine")
    add_backend_options(group)
    group.add_argument(
        "--context",
        type=int,
        metavar="N",
        help="size of the KV cache in tokens (default: the longest prompt and reply)",
    )
    group.add_argument(
        "--prefill",
        choices=("auto", "fast", "plain"),
        default="auto",
        help="int4 bundles: prefill with the second, int8 graph if memory allows (auto), always (fast) or never "
        "(plain) (default: auto)",
    )
    group.add_argument(
        "--repack",
        action="store_true",
        help="repack int8 weights at load: slower load, more memory, faster prefill (default: off)",
    )
    group.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads (default, max: usable cores)")


def add_backend_options(group: argparse._ActionsContainer) -> None:
    """What runs the graphs."""
    group.add_argument(
        "--backend",
        choices=("cpu", "cuda", "tensorrt"),
        default="cpu",
        help="run the graphs with ONNX Runtime on the CPU, with ONNX Runtime on an NVIDIA GPU, or with TensorRT "
        "engines; cuda and tensorrt take bundles exported with --target tensorrt (default: cpu)",
    )
    group.add_argument(
        "--engine-dir",
        type=Path,
        metavar="DIR",
        help="folder of TensorRT engines (default: $VITA_EDGE_ENGINE_DIR, or the user's cache)",
    )


def backend_options(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"backend": arguments.backend, "engine_dir": arguments.engine_dir}


def add_recording(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--record",
        type=Path,
        metavar="DIR",
        help="record what every graph is fed, for `vita-edge calibrate`; the recording contains what was said and seen",
    )


def engine_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """How the engines are opened: arguments of Assistant."""
    requested = {"auto": None, "fast": True, "plain": False}[arguments.prefill]
    return {
        "threads": arguments.threads,
        "fast_prefill": requested,
        "repack": arguments.repack,
        **backend_options(arguments),
    }


def options_from(arguments: argparse.Namespace, *, speak: bool) -> SessionOptions:
    from vita_edge.runtime import SessionOptions

    return SessionOptions(
        style=arguments.style,
        speak=speak,
        streaming=arguments.streaming,
        max_tiles=arguments.max_tiles,
        context_tokens=arguments.context,
        **sampling_from(arguments),
    )


def run(arguments: argparse.Namespace) -> int:
    from vita_edge.runtime import Assistant

    if arguments.output and arguments.no_speech:
        raise Misuse("There is no speech to write.", why="--no-speech and -o exclude each other.", fix="Leave one out.")
    specs = turn_specs(arguments)
    outputs = [_named(arguments.output, number if arguments.turns else None) for number in range(1, len(specs) + 1)]
    for output in outputs:
        check_output(output, suffixes=WAV, force=arguments.force)
    options = options_from(arguments, speak=not arguments.no_speech)
    turns = [read_turn(spec, arguments.style) for spec in specs]  # before anything large is opened
    with Assistant(arguments.bundle, record=arguments.record, **engine_options(arguments)) as assistant:
        talk = assistant.session(options)
        results = []
        for number, (turn, output) in enumerate(zip(turns, outputs), 1):
            reply = hold_turn(talk, turn, quiet=arguments.json)
            sound = _write(reply, output)
            results.append(reply_facts(reply, sound, assistant, talk))
            if not arguments.json:
                notice = f"{assistant.bundle.notice}\n" if number == 1 else ""
                print(f"{notice}{summary(reply, sound)}", file=sys.stderr)
    if arguments.json:
        print_json(results[0] if arguments.turns is None else {"turns": results})
    return 0


def hold_turn(talk: Session, turn: Turn, *, quiet: bool) -> Reply:
    """Hold one turn; the text is printed as it is decoded, unless ``quiet``."""
    from vita_edge.runtime import StateDecided, TextPiece, TurnDone

    started = False
    for event in talk.answer(turn):
        if isinstance(event, StateDecided) and event.state == "noise":
            quiet = True  # the assistant stays silent, on paper too; the reply has the text
        if isinstance(event, TextPiece) and not quiet:
            text = event.text if started else event.text.lstrip()
            started = started or bool(text)
            print(text, end="", flush=True)
        if isinstance(event, TurnDone):
            if not quiet:
                print()
            return event.reply
    raise AssertionError("a turn ends with TurnDone")


def reply_facts(reply: Reply, sound: Path | None, assistant: Assistant, talk: Session) -> dict[str, Any]:
    """What ``--json`` prints of a turn."""
    bundle = assistant.bundle
    return {
        "notice": bundle.notice,
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
        "tokens_per_second": {"prefill": round(reply.prefill_rate, 1), "decode": round(reply.decode_rate, 1)},
        "kv_cache": {"tokens": talk.tokens, "capacity_tokens": talk.capacity_tokens, "bytes": talk.cache_bytes},
        "bundle": {
            "path": str(bundle.path),
            "precision": bundle.precision,
            "target": bundle.target,
            "backend": assistant.backend.name,
            "fast_prefill": assistant.fast_prefill,
        },
    }


def summary(reply: Reply, sound: Path | None) -> str:
    """What happened, for people: state, speech, and where the time went."""
    state = STATES[reply.state]
    if not reply.state_marked:
        state = f"{reply.state} (as the question was: the model gave no state token)"
    lines = [f"state        {state}"]
    if not reply.finished:
        lines.append(f"stopped      max_new_tokens ({len(reply.token_ids)}) reached")
    where = f" in {sound}" if sound else ", not written (give -o)"
    lines.append(f"speech       {f'{reply.seconds:.2f} s{where}' if len(reply.pcm) else 'none'}")
    times = [(name.replace("_", " "), f"{ms:,.1f} ms") for name, ms in reply.latency_ms.items()]
    moments = [time for time in times if time[0] in MOMENTS]
    stages = [(f"  {name}", ms) for name, ms in times if name not in MOMENTS]
    rows = table([*moments, *stages, (" " * 11, "")]).rstrip().splitlines()  # as wide as the names above
    reported = {
        "total": ", of which",
        "prefill": f"  {count(reply.prompt_tokens, 'token')}, {reply.prefill_rate:,.0f} a second",
        "decode": f"  {count(len(reply.token_ids), 'token')}, {reply.decode_rate:,.0f} a second",
    }
    names = [name.strip() for name, _ in (*moments, *stages)]
    return "\n".join([*lines, *(row + reported.get(name, "") for name, row in zip(names, rows))])


def _named(output: Path | None, number: int | None) -> Path | None:
    """Where the reply of a turn goes; of several, each has its number."""
    if output is None or number is None:
        return output
    return output.with_name(f"{output.stem}-{number}{output.suffix}")


def _write(reply: Reply, path: Path | None) -> Path | None:
    from vita_edge.runtime import write_wav

    if path is None or not len(reply.pcm):
        return None
    write_wav(path, reply.pcm, reply.sample_rate_hz)
    return path
