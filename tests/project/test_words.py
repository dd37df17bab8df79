"""Identifiers and prose use the field's words (docs/reference/glossary.md), not private ones."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from vita_edge.cli import build_parser

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("runtime", "engines", "estimate", "export", "calibration", "verification", "src/vita_edge")
PARTS = re.compile(
    r"(^|_)(told|tell|tells|wanted|kept|most|fewest|least|happenings?|mind|mouth|ears|senses|recollect\w*|rehears\w*"
    r"|journal|announcer|dialect|begun|hopeful\w*)(_|$)"
)
CLASSES = re.compile(
    r"Happening|Mind|Mouth|Ears|Senses|Recollect|Rehears|Journal|Announcer|Wanted|Kept|Dialect|Attempt"
)
PROSE = re.compile(
    r"\b(?:is|are|was|were) told\b|\bbegun\b|\bin vain\b|\bas (?:it|they) lies?\b|\bbeside other work\b|\bfewest\b"
    r"|\brehears\w+|\brecollect\w+|\bhappening\b|\ba mistake in vita-edge\b",
    re.IGNORECASE,
)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "how-to").glob("*.md"))]


def files() -> list[Path]:
    return sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py") if not file.is_symlink())


def identifiers(tree: ast.AST) -> set[str]:
    """Names that a module gives: functions, classes, arguments, variables, attributes."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.id if isinstance(node, ast.Name) else node.attr)
    return found


def test_no_identifier_is_made_of_private_words() -> None:
    assert len(files()) > 200
    private = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in files()
        for name in identifiers(ast.parse(file.read_text("utf-8")))
        if PARTS.search(name) or CLASSES.search(name)
    }
    assert private == set()


def test_the_words_that_are_looked_for_are_found() -> None:
    assert PARTS.search("wanted_plans") and PARTS.search("_told") and CLASSES.search("RehearsedTurn")
    assert not PARTS.search("mindful") and not PARTS.search("almost")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_speak_as_the_field_does(page: Path) -> None:
    assert PROSE.findall(page.read_text("utf-8")) == []


def test_help_speaks_as_the_field_does() -> None:
    parser = build_parser()
    commands = next(action for action in parser._actions if hasattr(action, "choices") and action.choices)
    texts = [parser.format_help(), *(command.format_help() for command in dict(commands.choices or {}).values())]
    assert [PROSE.findall(text) for text in texts if PROSE.search(text)] == []


def messages(tree: ast.AST) -> list[str]:
    """Texts of errors: the arguments of what is raised."""
    raised = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and node.exc is not None]
    return [
        inner.value
        for error in raised
        for inner in ast.walk(error)
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str)
    ]


def test_errors_speak_as_the_field_does() -> None:
    told = [
        f"{file.relative_to(ROOT)}: {text}"
        for file in files()
        for text in messages(ast.parse(file.read_text("utf-8")))
        if PROSE.search(text)
    ]
    assert told == []
