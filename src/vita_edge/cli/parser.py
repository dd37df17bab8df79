"""The argument parser of every command: defaults shown, errors in three lines, and a guess at what was meant."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from typing import Any, NoReturn

__all__ = ["CommandParser"]


class _Formatter(argparse.HelpFormatter):
    """Shows the default of every option that has one and does not say it itself."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, max_help_position=28, **options)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help
        if not text or text is argparse.SUPPRESS or not action.option_strings or "default" in text:
            return text
        if (
            action.nargs == 0
            or action.required
            or action.default in (None, argparse.SUPPRESS, "")
            or action.default == []
        ):
            return text
        return f"{text} (default: %(default)s)"


class CommandParser(argparse.ArgumentParser):
    """An ArgumentParser whose errors say what is wrong, why, and what to do."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Formatter, **options)

    def error(self, message: str) -> NoReturn:
        what = f"{message[:1].upper()}{message[1:]}".rstrip(".")
        print(f"error: {what}.", file=sys.stderr)
        if guess := self._guess(message):
            print(f"Did you mean {guess}?", file=sys.stderr)
        print(f"Run `{self.prog} --help` for what it takes.", file=sys.stderr)
        raise SystemExit(2)

    def _guess(self, message: str) -> str | None:
        """The option or choice that looks most like the word that was not understood."""
        known: list[str] = []
        if unknown := re.search(r"unrecognized arguments: (-\S+)", message):
            known = [option for action in self._every_action() for option in action.option_strings]
        elif unknown := re.search(r"invalid choice: '([^']*)'", message):
            known = re.findall(r"[\w.-]+", message[message.find("choose from") :])[2:]
        close = difflib.get_close_matches(unknown[1].split("=")[0], known, 1) if unknown else []
        return close[0] if close else None

    def _every_action(self) -> list[argparse.Action]:
        """Its own, and those of the command that was named."""
        actions = list(self._actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                named = [parser for name, parser in action.choices.items() if name in sys.argv[1:2]]
                actions += [inner for parser in named for inner in parser._actions]
        return actions
