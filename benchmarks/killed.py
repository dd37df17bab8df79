"""Commands killed with -9 at random moments and at exact system calls: nothing half-written is ever taken for whole.

    python benchmarks/killed.py CHECKPOINT                          # every case, 20 moments and every call that names
    python benchmarks/killed.py CHECKPOINT --cases export-force --moments 200 --seed 7

After each kill the target is absent, as it was, or whole; the next run succeeds; and nothing is left over. Ends with 1
where one of these does not hold. CHECKPOINT is small: `vita-edge practice CHECKPOINT --size tiny`. System calls need
strace.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vita_edge.calibration.feeds import Feeds
from vita_edge.engines.bundle.format import Bundle
from vita_edge.engines.errors import VitaEdgeError
from vita_edge.export.checkpoint.open_checkpoint import Checkpoint

__all__ = ["CASES", "NAMING_CALLS", "Case", "Outcome", "kill_after", "kill_at_call", "trial", "vita_edge"]

NAMING_CALLS = "mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir"
"""System calls that give and take names: what is on the disk differs before and after each."""
SHORT = ("--text", "hello", "--max-new-tokens", "6", "--threads", "1")

Kill = Callable[[Sequence[str], Path], bool]
"""Runs a command in a folder and kills it; False where it ended before that."""


def vita_edge(*words: object) -> list[str]:
    code = "import sys; from vita_edge.cli import main; sys.exit(main())"
    return [sys.executable, "-c", code, *map(str, words)]


@dataclass(frozen=True)
class Sources:
    """What the commands read."""

    checkpoint: Path
    bundle: Path


@dataclass(frozen=True)
class Case:
    """A command, what it writes, and whether that is whole."""

    words: Callable[[Sources], Sequence[object]]
    target: str
    is_whole: Callable[[Path], bool]
    begins_with_one: bool = False
    """A target is there before, and is replaced."""


@dataclass(frozen=True)
class Outcome:
    """What was found after a kill.

    Attributes:
        killed: False where the command had ended already.
        state: ``absent``, ``whole`` or ``half``, of the target.
        goes_on: the next run ended well and left its target whole.
        left: what lies beside the target after that.
    """

    killed: bool
    state: str
    goes_on: bool
    left: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        return self.state != "half" and self.goes_on and not self.left


def _whole_bundle(path: Path) -> bool:
    return not list(Bundle.open(path).damaged_files())


def _whole_wav(path: Path) -> bool:
    with wave.open(str(path)) as sound:
        return len(sound.readframes(sound.getnframes())) == 2 * sound.getnframes() > 0


CASES = {
    "export": Case(lambda s: ("export", s.checkpoint, "-o", "b"), "b", _whole_bundle),
    "export-force": Case(lambda s: ("export", s.checkpoint, "-o", "b", "--force"), "b", _whole_bundle, True),
    "ask": Case(lambda s: ("ask", s.bundle, *SHORT, "-o", "reply.wav", "--force"), "reply.wav", _whole_wav),
    "ask-force": Case(lambda s: ("ask", s.bundle, *SHORT, "-o", "reply.wav", "--force"), "reply.wav", _whole_wav, True),
    "record": Case(lambda s: ("record", s.bundle, *SHORT, "-o", "feeds"), "feeds", lambda path: bool(Feeds.open(path))),
    "practice": Case(lambda s: ("practice", "ck"), "ck", lambda path: bool(Checkpoint.open(path))),
}


def kill_after(seconds: float) -> Kill:
    def kill(command: Sequence[str], folder: Path) -> bool:
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(seconds)
            process.kill()
        return process.returncode == -9

    return kill


def kill_at_call(number: int) -> Kill:
    """At the ``number``-th call that gives or takes a name, before it is carried out."""

    def kill(command: Sequence[str], folder: Path) -> bool:
        inject = f"inject={NAMING_CALLS}:error=EINTR:signal=SIGKILL:when={number}"
        traced = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={NAMING_CALLS}", "-e", inject, *command]
        done = subprocess.run(traced, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        return done.returncode in (-9, 137)

    return kill


def trial(case: Case, sources: Sources, folder: Path, kill: Kill) -> Outcome:
    """Run the command of ``case`` in the empty ``folder``, kill it, look, run it again, and look again."""
    command, target = vita_edge(*case.words(sources)), folder / case.target
    if case.begins_with_one:
        subprocess.run(command, cwd=folder, capture_output=True, check=True)
    killed = kill(command, folder)
    state = _state(case, target, folder)
    if state == "whole" and not case.begins_with_one:
        _remove(target)  # it had ended in time; the next one is to begin as this one did
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    goes_on = done.returncode == 0 and _state(case, target, folder) == "whole"
    left = tuple(sorted(path.name for path in folder.iterdir() if path != target))
    return Outcome(killed, state, goes_on, left)


def _state(case: Case, target: Path, folder: Path) -> str:
    try:
        if not case.is_whole(target):  # opening a bundle restores one that was moved aside
            return "half"
    except (VitaEdgeError, OSError, EOFError, wave.Error):
        return "half" if target.exists() or case.begins_with_one else "absent"
    return "whole"


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _kills(case: Case, sources: Sources, moments: int, seed: int) -> Iterator[tuple[str, Kill]]:
    with tempfile.TemporaryDirectory() as folder:
        begin_s = time.monotonic()
        subprocess.run(vita_edge(*case.words(sources)), cwd=folder, capture_output=True, check=True)
        seconds = time.monotonic() - begin_s
    draw = random.Random(seed)
    for _ in range(moments):
        moment = draw.uniform(0.2, 1.0) * seconds
        yield f"after {moment:.2f} s", kill_after(moment)
    if shutil.which("strace"):
        for number in range(1, 1000):
            yield f"at call {number}", kill_at_call(number)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--cases", nargs="+", choices=tuple(CASES), default=list(CASES))
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as work:
        sources = Sources(arguments.checkpoint.resolve(), Path(work) / "bundle")
        subprocess.run(vita_edge("export", sources.checkpoint, "-o", sources.bundle), check=True)
        for name in arguments.cases:
            counts = {"kills": 0, "absent": 0, "whole": 0, "bad": 0}
            for when, kill in _kills(CASES[name], sources, arguments.moments, arguments.seed):
                with tempfile.TemporaryDirectory(dir=work) as folder:
                    outcome = trial(CASES[name], sources, Path(folder), kill)
                if when.startswith("at call") and not outcome.killed:
                    break  # there are no more of them
                counts["kills"] += outcome.killed
                counts[outcome.state] = counts.get(outcome.state, 0) + 1
                if not outcome.is_good:
                    counts["bad"] += 1
                    print(f"  BAD {name}, {when}: {json.dumps(asdict(outcome))}", flush=True)
            bad += counts["bad"]
            print(f"{name}: {json.dumps(counts)}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
