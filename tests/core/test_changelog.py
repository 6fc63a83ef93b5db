"""CHANGELOG.md, in the form of Keep a Changelog, and the version that it speaks of."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from safevlm_sdk.version import __version__

TEXT = (Path(__file__).resolve().parents[2] / "CHANGELOG.md").read_text(encoding="utf-8")
KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
UNRELEASED = "## [Unreleased]"
RELEASE = re.compile(r"## \[(\d+)\.(\d+)\.(\d+)\] - (\d{4}-\d{2}-\d{2})")


def problems(text: str, version: str) -> list[str]:
    """What is wrong with a changelog beside this version; empty when nothing is."""
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    found = []
    if not headings or headings[0] != UNRELEASED:
        found.append("the first section is not [Unreleased]")
    releases = [RELEASE.fullmatch(line) for line in headings[1:]]
    if not all(releases):
        return [*found, "a section is no release with a date"]
    numbers = [tuple(map(int, one.groups()[:3])) for one in releases if one]
    dates = [date.fromisoformat(one[4]) for one in releases if one]
    if numbers != sorted(set(numbers), reverse=True) or dates != sorted(dates, reverse=True):
        found.append("releases are not in order, the newest first")
    stated = tuple(map(int, version.split(".")))
    if numbers and stated < numbers[0]:
        found.append("the version is older than the last release")
    if not numbers and not text.partition(UNRELEASED)[2].strip():
        found.append("the version has neither a section nor anything under [Unreleased]")
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        kinds = re.findall(r"^### (.*)$", section, re.MULTILINE)
        if kinds != [kind for kind in KINDS if kind in kinds]:
            found.append(f"sections of {section.splitlines()[0]}: {kinds}")
        if any(not part.strip() for part in re.split(r"^### .*$", section, flags=re.MULTILINE)[1:]):
            found.append(f"an empty section in {section.splitlines()[0]}")
    return found


def test_the_changelog_is_in_form_and_knows_the_version() -> None:
    assert problems(TEXT, __version__) == []


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("## [0.1.0] - 2026-01-01\n", "0.1.0"),
        ("## [Unreleased]\n", "0.1.0"),
        ("## [Unreleased]\n\n### Added\n\n- x\n\n## 0.1.0\n", "0.1.0"),
        ("## [Unreleased]\n\n## [0.1.0] - 2026-01-01\n\n## [0.2.0] - 2026-02-01\n", "0.2.0"),
        ("## [Unreleased]\n\n## [0.2.0] - 2026-01-01\n", "0.1.0"),
        ("## [Unreleased]\n\n### Fixed\n\n- x\n\n### Added\n\n- x\n", "0.1.0"),
        ("## [Unreleased]\n\n### News\n\n- x\n", "0.1.0"),
        ("## [Unreleased]\n\n### Added\n\n### Fixed\n\n- x\n", "0.1.0"),
    ],
)
def test_a_changelog_out_of_form_is_found(text: str, version: str) -> None:
    assert problems(text, version) != []


def test_a_release_and_what_comes_after_it_is_in_form() -> None:
    text = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- y\n\n## [0.1.0] - 2026-01-01\n\n### Added\n\n- x\n"
    assert problems(text, "0.1.0") == problems(text, "0.2.0") == []


def test_no_line_is_said_twice() -> None:
    entries = re.findall(r"^- .*$", TEXT, re.MULTILINE)
    assert len(entries) == len(set(entries)) > 30


def test_the_version_stands_in_one_place() -> None:
    root = Path(__file__).resolve().parents[2]
    project = (root / "pyproject.toml").read_text(encoding="utf-8")
    assert 'dynamic = ["version"]' in project
    assert 'path = "safevlm_sdk/version.py"' in project
    assert re.search(r"^version\s*=", project, re.MULTILINE) is None
