"""Run a command without a network and under a trace of its system calls: the sockets it opens, the files it writes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Traced", "missing", "run_traced"]

CALLS = "socket,connect,sendto,sendmsg,openat,open,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlink"
WRITES = re.compile(
    r"\b(?:open|openat|creat)\((?:AT_FDCWD|\d+)?(?:<[^>]*>)?(?:, )?\"([^\"]+)\".*O_(?:WRONLY|RDWR|CREAT)"
)
MADE = re.compile(r"\b(?:mkdir|mkdirat|rename|renameat|renameat2|link|linkat|symlink)\(.*\"([^\"]+)\"")
INTERNET = re.compile(r"\bsocket\(AF_(?!UNIX|NETLINK)\w+|sa_family=AF_INET6?|\bconnect\(.*nscd")


@dataclass(frozen=True)
class Traced:
    """What a command did.

    Attributes:
        code: its exit status.
        output: what it printed, both streams.
        internet: system calls that ask for the internet, a name server, or the name service daemon.
        written: paths that it or a child opened for writing, made, or renamed to, and that were not refused.
    """

    code: int
    output: str
    internet: tuple[str, ...]
    written: frozenset[Path]


def missing() -> str | None:
    """What is lacking here to watch a process, or None."""
    for program in ("strace", "unshare"):
        if not shutil.which(program):
            return f"{program} is not installed (scripts/audio-packages installs strace)"
    trial = subprocess.run(["unshare", "-n", "strace", "-f", "-o", "/dev/null", "true"], capture_output=True, text=True)
    return f"a process cannot be watched here: {trial.stderr.strip()[:100]}" if trial.returncode else None


def run_traced(
    command: Sequence[object],
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    ready: Callable[[], None] | None = None,
) -> Traced:
    """Run ``command`` in ``folder``, in a network namespace without any network, with a home of its own.

    Args:
        ready: called while the command runs; when it returns, the command is interrupted as by Ctrl-C.
    """
    home = folder / "home"
    home.mkdir(exist_ok=True)
    calls = folder / "calls.txt"
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "HF_", "XDG_"))}
    process = subprocess.Popen(
        ["unshare", "-n", "strace", "-f", "-qq", "-s", "4096", "-e", f"trace={CALLS}", "-o", calls, *map(str, command)],
        cwd=folder,
        env={**variables, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    if ready is not None:
        ready()
        os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=240)
    lines = [line for line in calls.read_text("utf-8", "replace").splitlines() if " = -1 " not in line]
    asked = [line for line in calls.read_text("utf-8", "replace").splitlines() if INTERNET.search(line)]
    found = {match[1] for line in lines for match in (WRITES.search(line) or MADE.search(line),) if match}
    return Traced(process.returncode, output, tuple(asked), frozenset((folder / path).absolute() for path in found))
