"""Names are nouns and verbs of the field: no bare participle stands for a value, and no pronoun for a thing.

.venv/bin/python -m pytest tests/test_names.py
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VAGUE = frozenset({"asked", "found", "kept", "one", "place", "said", "taken", "there", "told"})


def definitions(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The line and name of each variable, attribute, argument, function and class that a module defines."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.arg(arg=name):
                yield node.lineno, name
            case ast.ExceptHandler(name=str(name)):
                yield node.lineno, name


def vague_names(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = ((line, name) for line, name in definitions(tree) if name.strip("_").lower() in VAGUE)
    return [f"{path.relative_to(ROOT)}:{line}: {name}" for line, name in named]


@pytest.mark.parametrize("folder", ["services", "trainer", "tests"])
def test_no_name_is_a_bare_participle_or_a_pronoun(folder: str):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert [line for path in files if "node_modules" not in path.parts for line in vague_names(path)] == []


def test_the_check_finds_each_kind_of_definition():
    source = """
class Told:
    def said(self, asked):
        self.kept = one = asked

try:
    pass
except ValueError as found:
    pass
"""
    names = {name for _, name in definitions(ast.parse(source))}
    assert names == {"Told", "said", "self", "asked", "kept", "one", "found"}
