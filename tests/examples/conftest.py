"""What the tests of examples/ share: its files as modules and as cells, and pictures."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from safevlm_training.documents import examples

FOLDER = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="session")
def folder() -> Path:
    return FOLDER


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a file of examples/ as a module."""

    def imported(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"example_{Path(name).stem}", FOLDER / name)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return imported


@pytest.fixture(scope="session")
def cells() -> Callable[[str], Iterator[tuple[str, str]]]:
    """(kind, text) of the cells of a file in percent format: "markdown" or "python"; what comes before is no cell."""

    def split(name: str) -> list[tuple[str, str]]:
        _, *found = re.split(r"^(# %%[^\n]*)\n", (FOLDER / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
        kinds = ("markdown" if "[markdown]" in mark else "python" for mark in found[::2])
        return list(zip(kinds, found[1::2], strict=True))

    return split


@pytest.fixture(scope="session")
def pictures() -> dict[str, Image.Image]:
    """The starter cautions about the first, blocks the second, and allows the third."""
    drawn = {name: sample.image.convert("RGB") for name, sample in examples()}
    return {name: drawn[name] for name in ("id_card", "passport", "scene_hills")}
