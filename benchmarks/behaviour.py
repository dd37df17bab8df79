"""Does a bundle answer as it should? Questions with known replies, asked of one bundle or several.

    python benchmarks/behaviour.py BUNDLE ... --cases tests/data/behaviour/cases.json

A turn is right when its state and its text are. Every case is a conversation of its own; pictures are shown as one
tile. With several bundles, of several precisions, it prints a table of how many turns are right in each.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vita_edge.runtime import Assistant, SessionOptions, Turn, read_image, read_sound

__all__ = ["Judged", "ask_cases"]

OPTIONS = SessionOptions(speak=False, max_new_tokens=40, max_tiles=1)


@dataclass(frozen=True)
class Judged:
    """One turn: what it should have been, and what it was."""

    case: int
    kind: str
    asked: str
    expected_state: str
    state: str
    expected_text: str | None
    """None where only the state matters: what is ignored is not read."""
    text: str

    @property
    def state_right(self) -> bool:
        return self.state == self.expected_state

    @property
    def right(self) -> bool:
        return self.state_right and self.expected_text in (None, self.text)


def ask_cases(assistant: Assistant, file: Path, options: SessionOptions = OPTIONS) -> list[Judged]:
    """Ask every case of ``file``; files that it names lie beside it."""
    cases: list[dict[str, Any]] = json.loads(file.read_text("utf-8"))
    judged = []
    for number, case in enumerate(cases):
        talk = assistant.session(options)
        for turn in case["turns"]:
            reply = talk.ask(
                Turn(
                    text=turn.get("text", ""),
                    sounds=[read_sound(file.parent / turn["audio"])] if "audio" in turn else [],
                    images=[read_image(file.parent / turn["image"])] if "image" in turn else [],
                )
            )
            state = reply.state if reply.state_marked else "none"
            asked = turn.get("said") or turn.get("text") or turn["audio"]
            judged.append(Judged(number, case["kind"], asked, turn["state"], state, turn.get("reply"), reply.text))
    return judged


def share(right: Sequence[bool]) -> float:
    return sum(right) / len(right)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE")
    parser.add_argument("--cases", type=Path, default=Path("tests/data/behaviour/cases.json"), metavar="FILE")
    parser.add_argument("--wrong", action="store_true", help="list the turns that are wrong")
    parser.add_argument("--json", action="store_true", help="one object: every turn of every bundle")
    arguments = parser.parse_args()
    found: dict[Path, list[Judged]] = {}
    precisions: dict[Path, str] = {}
    for bundle in arguments.bundles:
        with Assistant(bundle) as assistant:
            found[bundle] = ask_cases(assistant, arguments.cases)
            precisions[bundle] = assistant.bundle.precision
    if arguments.json:
        print(json.dumps({str(bundle): [vars(j) for j in judged] for bundle, judged in found.items()}, indent=1))
        return
    kinds = list(dict.fromkeys(j.kind for j in next(iter(found.values()))))
    print("| turns | " + " | ".join(precisions[bundle] for bundle in found) + " |")
    print("|---|" + "---|" * len(found))
    rows = [(kind, [[j.right for j in judged if j.kind == kind] for judged in found.values()]) for kind in kinds]
    rows.append(("all: state and text", [[j.right for j in judged] for judged in found.values()]))
    rows.append(("all: state", [[j.state_right for j in judged] for judged in found.values()]))
    for name, columns in rows:
        print(
            f"| {name} ({len(columns[0])}) | " + " | ".join(f"{100 * share(right):.1f} %" for right in columns) + " |"
        )
    if arguments.wrong:
        for bundle, judged in found.items():
            for j in judged:
                if not j.right:
                    print(f"{bundle.name}: [{j.kind}] {j.asked!r}: {j.state} {j.text!r}, not {j.expected_text!r}")


if __name__ == "__main__":
    main()
