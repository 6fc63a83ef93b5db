"""What README and docs/ tell people to type exists, and either runs in a test or says what running it takes.

The mark is a first line `# needs: …` inside the block, which a reader sees, too.
"""

from __future__ import annotations

import ast
import re
import shlex
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path

import pytest
import typer
from typer.exceptions import TyperException

from safevlm_sdk.command.app import app, export_app
from safevlm_sdk.strict import tomllib

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
OURS = ("safevlm_sdk", "safevlm_runtime", "safevlm_export", "safevlm_training")
SOURCES = (ROOT, ROOT / "runtime", ROOT / "export", ROOT / "training")
SHELL = ("console", "bash", "sh")
# What an unlabelled block of commands begins with.
PROGRAMS = (
    "accelerate", "c++", "cd", "docker", "find", "grep", "make", "mkdir", "model_signing", "npm", "openssl", "pip",
    "python", "ray", "safevlm", "safevlm-export", "tritonserver",
)  # fmt: skip
# Test to the pages, and labels of their blocks, that it runs all of, but for marked ones.
RUNS = {
    "tests/core/test_readme.py::test_commands": ["README.md console"],
    "tests/core/test_readme.py::test_python_examples": ["README.md python"],
    "tests/docs/test_bundle_page.py::test_the_digest_is_what_the_page_computes": ["docs/bundle.md python"],
    "tests/docs/test_quickstart.py::test_every_block_runs_in_order": [
        "docs/quickstart.md console",
        "docs/quickstart.md python",
    ],
    "tests/docs/test_quickstart.py::test_the_audit_page_runs": ["docs/audit.md python"],
    "tests/docs/test_quickstart.py::test_the_first_page_runs": ["docs/index.md python"],
    "tests/docs/test_quickstart.py::test_the_observer_of_the_telemetry_page_counts": ["docs/telemetry.md python"],
    "tests/docs/test_quickstart.py::test_the_policies_page_runs": ["docs/policy.md python"],
    "tests/runtime/test_openai_engine.py::test_the_examples_of_the_page_run": ["docs/gate.md python"],
    "tests/runtime/test_guard_engines.py::test_the_engine_of_the_page_answers": ["docs/gate.md python"],
    "tests/proxy/test_gate_page.py::test_the_library_of_openai_shows_a_failed_gate": ["docs/gate.md python"],
    "tests/training/test_engine.py::test_the_example_of_the_page_runs": ["docs/gate.md python"],
    "tests/training/vlm/test_training_page.py::test_every_command_and_the_example_run": [
        "docs/training.md console",
        "docs/training.md python",
    ],
    "tests/runtime/test_robots_page.py::test_a_gate_that_failed_holds_and_claims_no_risk": ["docs/robots.md python"],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block of code of a page; `kind` is console, python, or its label."""

    page: str
    line: int
    label: str | None
    kind: str
    text: str

    def __str__(self):
        return f"{self.page}:{self.line}"

    @property
    def mark(self):
        """What running it takes, if it says so."""
        found = re.match(r"# needs: (\S.*)", self.text)
        return found[1] if found else None

    @property
    def commands(self):
        """Its commands, each as words, without comments, variables before a program, and what a shell does."""
        found = []
        for line in self.text.replace("\\\n", " ").splitlines() if self.kind == "console" else ():
            lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
            lexer.whitespace_split = True
            for ends, words in groupby(lexer, lambda word: set(word) <= set("|&;")):
                rest = list(words)
                while rest and re.fullmatch(r"[A-Z_]+=.*", rest[0]):
                    del rest[0]
                if rest and not ends:
                    found.append(rest)
        return found


def kind_of(label, text):
    first = next((line for line in text.splitlines() if line and not line.startswith("#")), "")
    if label in SHELL or (not label and re.sub(r"^([A-Z_]+=\S* +)+", "", first).split(" ")[0] in PROGRAMS):
        return "console"
    return "python" if not label and re.match(r"(from|import) |runtime\b|Runtime\.|print\(", first) else label


def blocks_of(path):
    """The fenced blocks of a page, and those that four spaces make."""
    text = path.read_text(encoding="utf-8")
    page = path.relative_to(ROOT).as_posix()
    found = []

    def keep(label, line, code):
        found.append(Block(page=page, line=line, label=label, kind=kind_of(label, code), text=code))

    fence = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    for match in fence.finditer(text):
        keep(match[1], text.count("\n", 0, match.start()) + 1, match[2])
    plain = fence.sub(lambda match: re.sub(r"[^\n]", "", match[0]), text)
    for match in re.finditer(r"(?<=\n\n)(?: {4}\S[^\n]*\n(?:\n(?= {4}))*)+", plain):
        code = re.sub(r"^ {4}", "", match[0], flags=re.MULTILINE)
        keep(None, plain.count("\n", 0, match.start()) + 1, code)
    return found


BLOCKS = [block for path in PAGES for block in blocks_of(path)]
COMMANDS = [(block, words) for block in BLOCKS for words in block.commands]


def parse(program, words):
    """Has the command line of ours parsed, which refuses what does not exist; nothing runs."""
    command = typer.main.get_command({"safevlm": app, "safevlm-export": export_app}[program])
    words = [word for word in words if word != "…"]
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        assert words[0] in command.commands, words[0]
        command = command.commands[words.pop(0)]
    command.make_context(program, words)


def file_of(module):
    """The file of a module of ours, by its place alone: importing some of them takes seconds."""
    path = Path(*module.split("."))
    places = (source / tail for source in SOURCES for tail in (f"{path}.py", path / "__init__.py"))
    return next((place for place in places if place.is_file()), None)


@cache
def names_of(module):
    """What a module binds at its top, conditional imports included."""
    waiting = list(ast.parse(file_of(module).read_text(encoding="utf-8")).body)
    names = set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If | ast.Try):
            waiting += [*node.body, *node.orelse]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def check_imports(code):
    """Refuses an import of ours that leads nowhere."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OURS:
            assert file_of(node.module), node.module
            for alias in node.names:
                there = alias.name in names_of(node.module) or file_of(f"{node.module}.{alias.name}")
                assert there, f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                assert alias.name.split(".")[0] not in OURS or file_of(alias.name), alias.name


def check_command(words):
    """Refuses a command that names something of this repository which is not there."""
    program, *rest = words
    if program in ("safevlm", "safevlm-export"):
        if "--version" not in rest:
            parse(program, rest)
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert [word for word in rest if "=" not in word and word not in targets] == []
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        asked = re.findall(r"safevlm-sdk\[([\w,-]+)\]", " ".join(rest))
        assert {extra for some in asked for extra in some.split(",")} <= set(extras["optional-dependencies"])
    elif program == "python" and rest[0] != "-m":
        assert (ROOT / rest[0]).is_file(), rest[0]
    elif "-m" in rest and rest[rest.index("-m") + 1].split(".")[0] in OURS:
        module, *arguments = rest[rest.index("-m") + 1 :]
        assert file_of(module), module
        if module == "safevlm_sdk.command":
            parse("safevlm", arguments)


@pytest.mark.parametrize(("block", "words"), COMMANDS, ids=[f"{block} {words[0]}" for block, words in COMMANDS])
def test_what_a_command_names_exists(block, words):
    check_command(words)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.kind == "python"], ids=str)
def test_python_compiles_and_its_imports_lead_somewhere(block):
    compile(block.text, block.page, "exec")
    check_imports(block.text)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.kind in ("console", "python")], ids=str)
def test_a_block_runs_in_a_test_or_says_what_it_needs(block):
    installs = bool(block.commands) and all(words[0] in ("pip", "make") for words in block.commands)
    runs = any(f"{block.page} {block.label}" in pages for pages in RUNS.values())
    assert block.mark or installs or runs, "begin the block with `# needs: …`"


@pytest.mark.parametrize("test", RUNS)
def test_the_tests_that_run_pages_exist(test):
    path, name = test.split("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(
    "line",
    [
        "safevlm serve --upstream http://a --starter --no-such-option",
        "safevlm no-such-command",
        "safevlm verify",
        "safevlm verify bundle/ one-too-many",
        "safevlm bench no-such-command",
        "safevlm-export checkpoint/ bundle/ --no-such-option",
        "python -m safevlm_training.no_such_module",
        "python benchmarks/no_such_file.py",
        "accelerate launch -m safevlm_sdk.command train",
        "make no-such-target",
        "pip install safevlm-sdk[cpu,no-such-extra]",
    ],
)
def test_a_command_that_does_not_exist_is_found(line):
    with pytest.raises((TyperException, AssertionError)):
        check_command(line.split())


@pytest.mark.parametrize("code", ["from safevlm_sdk import NoSuchName", "import safevlm_runtime.no_such_module"])
def test_an_import_that_leads_nowhere_is_found(code):
    with pytest.raises(AssertionError):
        check_imports(code)


def test_blocks_of_both_kinds_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("# A\n\n```console\n# needs: a GPU\nA=1 make x && make y\n```\n\n    pip install b\n\ntext\n")
    fenced, indented = blocks_of(page)
    assert (fenced.mark, fenced.commands, fenced.line) == ("a GPU", [["make", "x"], ["make", "y"]], 3)
    assert (indented.kind, indented.commands, indented.line) == ("console", [["pip", "install", "b"]], 8)


def test_there_is_something_to_check():
    assert len(COMMANDS) > 60
    assert sum(block.kind == "python" for block in BLOCKS) > 20
