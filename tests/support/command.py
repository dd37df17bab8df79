"""Run the command line in this process, as a user would from a shell."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from vita_edge.cli import main

__all__ = ["Result", "run"]


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which has to be one JSON object and nothing else."""
        facts = json.loads(self.out)
        assert isinstance(facts, dict)
        return facts

    def assert_explains(self, what: str, code: int = 1) -> None:
        """It failed as promised: what happened, why, and what to do, a line each, and nothing on standard output."""
        assert self.code == code
        assert self.out == ""
        assert "error: " in self.err
        lines = self.err[self.err.index("error: ") :].strip().splitlines()  # after what was told before, the licence
        assert len(lines) == 3
        assert lines[0].startswith("error: ")
        assert what in lines[0]
        assert "mistake in vita-edge" not in self.err


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> Result:
    capsys.readouterr()
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as leaving:  # how argparse leaves
        code = leaving.code if isinstance(leaving.code, int) else 1
    out, err = capsys.readouterr()
    return Result(code, out, err)
