"""SECURITY.md: every threat that is said to be defended names tests, and every test that is named exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
DEFENDED = PAGE.split("## What is defended")[1].split("## Not shown by a test")[0]
LINES = [line for line in DEFENDED.splitlines() if re.match(r"\| (?!threat \||---)", line)]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@cache
def functions_of(path):
    """The names of the test functions of a file."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, kinds) and node.name.startswith("test_")}


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split(" | ")[0].strip("| ")[:60])
def test_a_threat_names_tests_that_exist(line):
    cells = [cell.strip() for cell in line.strip("|").split(" | ")]
    assert len(cells) == 3
    named = NAMED.findall(cells[2])
    assert NAMED.sub("", cells[2]).strip(", ") == ""
    assert named
    assert [f"{path}::{name}" for path, name in named if name not in functions_of(path)] == []


def test_what_is_open_is_said():
    assert len(LINES) > 30
    for heading in ("## Reporting", "## Supported versions", "## Not shown by a test", "## What is not defended"):
        assert f"\n{heading}\n" in PAGE
    assert "@" not in PAGE, "no address of a person"


@pytest.mark.parametrize("page", ["SECURITY.md", "README.md", "docs/gate.md", "docs/robots.md"])
def test_no_link_leads_nowhere(page):
    place = ROOT / page
    for link in re.findall(r"\]\(([^)]+)\)", place.read_text(encoding="utf-8")):
        path = link.split("#")[0]
        assert link.startswith("http") or not path or (place.parent / path).exists(), link
