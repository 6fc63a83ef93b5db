"""The pins of constraints.txt, against what the installed packages say of themselves."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

FILE = Path(__file__).parents[2] / "constraints.txt"


def test_python_3_10_is_not_bound_to_what_it_cannot_install() -> None:
    lines = [line for line in FILE.read_text().splitlines() if not line.startswith("#")]
    looked_at = 0
    for pin in map(Requirement, lines):
        try:
            found = metadata(pin.name)
        except PackageNotFoundError:
            continue
        bound = pin.marker is None or pin.marker.evaluate({"python_version": "3.10", "python_full_version": "3.10.0"})
        if bound and pin.specifier.contains(found["Version"]):
            looked_at += 1
            assert "3.10.0" in SpecifierSet(found["Requires-Python"] or ""), pin.name
    assert looked_at > 3
