"""The files that pyright reads use every public name."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "typing"


@pytest.mark.parametrize(
    ("file", "package"),
    [
        ("public_api.py", "safevlm_sdk"),
        ("making_api.py", "safevlm_training"),
        ("making_api.py", "safevlm_export"),
    ],
)
def test_every_public_name_is_used(file: str, package: str) -> None:
    tree = ast.parse((FOLDER / file).read_text(encoding="utf-8"))
    imported = {
        alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module == package
        for alias in node.names
    }
    assert imported == set(import_module(package).__all__)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert imported <= used
