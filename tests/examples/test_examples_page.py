"""examples/README.md: every example is in its table, and what its commands name is there."""

from __future__ import annotations

import re
import shlex

import pytest

from safevlm_sdk.strict import tomllib

LEFT_OUT = {"camera.toml", "README.md"}  # a part of webcam.py, and the page itself


@pytest.fixture
def page(folder):
    return (folder / "README.md").read_text(encoding="utf-8")


def test_every_example_has_a_row_and_every_link_leads_somewhere(folder, page):
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| [")]
    assert all(len(row) == 5 and all(cell.strip() for cell in row[1:4]) for row in rows)
    links = [re.search(r"\]\(([^)#]+)", row[1])[1] for row in rows]
    top = {path.name for path in folder.iterdir() if path.name != "__pycache__"}
    assert {link.split("/")[0] for link in links} == top - LEFT_OUT
    for link in re.findall(r"\]\(([^)#]+)", page):
        assert (folder / link).exists(), link


def test_commands_name_files_and_extras_that_exist(folder, page):
    commands = re.findall(r"`(python [^`]+)`", page)
    assert len(commands) >= 8
    for command in commands:
        words = shlex.split(command)
        assert words[1] == "-m" or (folder.parent / words[1]).is_file(), command
    extras = tomllib.loads((folder.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {extra for some in re.findall(r"safevlm-sdk\[([\w,-]+)\]", page) for extra in some.split(",")}
    assert asked
    assert asked <= set(extras["optional-dependencies"])


def test_options_that_the_page_gives_are_taken(load, page):
    for name in ("webcam.py", "jetson.py", "service.py"):
        said = load(name).__doc__
        source = load(name).main.__globals__["__file__"]
        with open(source, encoding="utf-8") as file:
            known = set(re.findall(r'add_argument\("(--[\w-]+)"', file.read()))
        lines = [line for line in (said + page).splitlines() if f"examples/{name}" in line]
        assert lines
        assert set(re.findall(r"(--[a-z][\w-]*)", " ".join(lines))) <= known
