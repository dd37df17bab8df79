"""The rooms of the product: no circle of imports, no crowded folder, one name for one thing."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = {"": "src/vita_edge"} | {
    name: name for name in ("engines", "export", "calibration", "estimate", "runtime", "verification")
}
MOST_MODULES = 18
SECOND_MODEL = "vita_edge.verification.reference."
"""The same model again, in PyTorch: its parts are called as those that they are compared with."""


def modules() -> dict[str, Path]:
    """Name → file of every module of the product."""
    found = {}
    for package, folder in ROOMS.items():
        for file in (ROOT / folder).rglob("*.py"):
            parts = [
                part for part in ("vita_edge", package, *file.relative_to(ROOT / folder).with_suffix("").parts) if part
            ]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imported(name: str, file: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """Modules of the product that one imports, lazily or for its types alone too."""
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                if (target := inner if inner in known else base) in known and target != name:
                    yield target


def circles(arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """What is left when all that nobody imports, or that imports nobody, is taken away again and again."""
    left = {name: set(targets) for name, targets in arrows.items()}
    while True:
        targets = {target for each in left.values() for target in each}
        gone = {name for name, each in left.items() if not each or name not in targets}
        if not gone:
            return [sorted(left)] if left else []
        left = {name: each - gone for name, each in left.items() if name not in gone}


def test_a_circle_is_found_with_all_its_members() -> None:
    chain = {"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": set()}
    assert circles(chain) == []
    assert circles({**chain, "d": {"b"}}) == [["b", "c", "d"]]


def test_no_module_needs_one_that_needs_it_types_counted() -> None:
    known = modules()
    arrows = {name: set(imported(name, file, known)) for name, file in known.items()}
    assert len(arrows) > 200 and sum(map(len, arrows.values())) > 700
    assert circles(arrows) == []


def test_no_folder_is_crowded() -> None:
    counts = Counter(file.parent for file in modules().values() if file.name != "__init__.py")
    crowded = {str(folder.relative_to(ROOT)): count for folder, count in counts.items() if count > MOST_MODULES}
    assert crowded == {}


def test_no_two_modules_have_a_public_class_of_the_same_name() -> None:
    owners = defaultdict(list)
    for name, file in modules().items():
        if not name.startswith(SECOND_MODEL):
            for node in ast.parse(file.read_text("utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    owners[node.name].append(name)
    assert {name: where for name, where in owners.items() if len(where) > 1} == {}
