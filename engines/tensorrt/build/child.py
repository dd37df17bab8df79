"""Runs :mod:`.build_one` as a process, listens to it, stops it, and says in words how it has ended."""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import subprocess
import threading
from collections.abc import Callable
from typing import Any

from vita_edge.engines.errors import EngineUnavailable, VitaEdgeError

from .build_one import Job
from .safe_child import module_command

__all__ = ["run_job"]

STOP_S = 5
"""After Ctrl-C a builder is given this long to end between two steps, and to keep its timings."""
LISTEN_S = 0.5
"""Without news, ``progress`` is called this often all the same: time goes on."""
LOUD_LINES = 200


def run_job(
    job: Job, progress: Callable[[dict[str, Any] | None], object], debug: Callable[[str], object] | None = None
) -> dict[str, Any]:
    """Build an engine in a process of its own and return what it has told at its end.

    Args:
        progress: called with ``phase``, ``step``, ``steps`` and ``fraction``, or None when there is nothing new.
        debug: called with every line that the library prints.

    Raises:
        VitaEdgeError: the engine was not built; says why.
        KeyboardInterrupt: the user has stopped it; the process has ended.
    """
    process = subprocess.Popen(
        module_command("vita_edge.engines.tensorrt.build.build_one"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # Ctrl-C reaches this process alone, and is passed on once
    )
    said: queue.Queue[str | None] = queue.Queue()
    printed: list[str] = []
    readers = [
        threading.Thread(target=_read, args=(process.stdout, said.put), daemon=True),
        threading.Thread(target=_keep, args=(process.stderr, printed, debug), daemon=True),
    ]
    try:
        for reader in readers:
            reader.start()
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended already, and is asked why below
            process.stdin.write(json.dumps(job.to_json()) + "\n")
            process.stdin.flush()
        outcome = _listen(said, progress)
        code = process.wait()
    except BaseException:
        _stop(process)
        raise
    finally:
        for reader in readers:
            if reader.ident is not None:  # Ctrl-C may come before it is started
                reader.join(1)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
    if outcome is None:
        raise _ended(job, code, printed)
    if "failed" in outcome:
        what, why, fix = outcome["failed"]
        raise EngineUnavailable(what, why=why, fix=fix)
    return dict(outcome["done"])


def _listen(
    said: queue.Queue[str | None], progress: Callable[[dict[str, Any] | None], object]
) -> dict[str, Any] | None:
    """What it says last; None when it ends without a word."""
    outcome: dict[str, Any] | None = None
    while True:
        try:
            line = said.get(timeout=LISTEN_S)
        except queue.Empty:
            progress(None)
            continue
        if line is None:
            return outcome
        news = json.loads(line)
        if "phase" in news:
            progress(news)
        else:
            outcome = news


def _read(stream: Any, put: Callable[[str | None], object]) -> None:
    for line in stream:
        put(line)
    put(None)


def _keep(stream: Any, printed: list[str], debug: Callable[[str], object] | None) -> None:
    for line in stream:
        if debug:
            debug(line.rstrip())
        printed.append(line.strip())
        del printed[:-LOUD_LINES]


def _stop(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):  # it is in the middle of a long step
        process.kill()
        process.wait()


def _ended(job: Job, code: int, printed: list[str]) -> VitaEdgeError:
    what = f"{job.component} was not built: its process has ended without an answer."
    last = next((line for line in reversed(printed) if line), "it printed nothing")
    if code == -signal.SIGKILL:
        return EngineUnavailable(
            what,
            why="The system has killed it, most often for want of memory.",
            fix="Free some memory, add swap, or build with a smaller --context.",
        )
    if code < 0:
        return EngineUnavailable(
            what,
            why=f"The library has crashed ({signal.Signals(-code).name}); last printed: {last}.",
            fix="Run `vita-edge inspect BUNDLE --check`; if the bundle is whole, try another version of TensorRT.",
        )
    return EngineUnavailable(
        what, why=f"It ended with code {code}; last printed: {last}.", fix="Run again with --debug."
    )
