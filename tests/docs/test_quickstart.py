"""The first pages, and short examples of others, as a newcomer would run them: in order, in one folder."""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from safevlm_runtime.bundle.reader import starter_path
from safevlm_runtime.judging.observer import Event
from safevlm_sdk import Runtime
from safevlm_training.documents import examples

DOCS = Path(__file__).resolve().parents[2] / "docs"


def blocks(page):
    """(label, code) of the fenced blocks."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def python(page):
    return [code for label, code in blocks(page) if label == "python"]


def run(line):
    command, *arguments = shlex.split(line)
    program = sys.executable if command == "python" else str(Path(sys.executable).parent / command)
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def words(table):
    """A printed table as words, without the milliseconds, which differ from run to run."""
    return [re.sub(r"(?<=\d\.\d{3}) +\S+", " …", line).split() for line in table.splitlines() if line.strip()]


def test_every_block_runs_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names, printed, codes = {}, "", []
    for label, code in blocks("quickstart.md"):
        if label == "python":
            exec(compile(code, "quickstart.md", "exec"), names)
        elif label == "text":
            assert words(printed)[-len(words(code)) - 1 :][: len(words(code))] == words(code)
        elif label == "toml":
            Path("policy.toml").write_text(code, encoding="utf-8")
        for line in code.splitlines() if label == "console" and not code.startswith("pip ") else ():
            done = run(line)
            codes.append(done.returncode)
            printed = done.stdout
            assert done.returncode in (0, 10), f"{line}: {done.stderr}"
    names["runtime"].close()
    assert codes == [0, 10, 0, 10]
    assert "block" in printed
    assert Path("report.html").is_file()
    assert "image_format" in capsys.readouterr().out


def test_the_first_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (320, 240), "green").save("photo.jpg")
    names = {}
    (code,) = python("index.md")
    exec(compile(code, "index.md", "exec"), names)
    names["runtime"].close()
    assert capsys.readouterr().out == "True safe ('privacy',)\n"


def test_the_policies_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(starter_path(), "bundle")
    Image.new("RGB", (320, 240), "green").save("photo.jpg")
    Path("policy.toml").write_text(next(code for label, code in blocks("policy.md") if label == "toml"))
    names = {"Runtime": Runtime, "pixels": np.zeros((240, 320, 3), np.uint8)}
    for code in python("policy.md"):
        exec(compile(code, "policy.md", "exec"), names)
        assert names.pop("verdict").allowed
    names["runtime"].close()


def test_the_audit_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for name, sample in examples():
        if name in ("id_card", "scene_hills"):
            sample.image.save(f"photos/{name}.jpg")
    hook, audit = python("audit.md")
    names = {}
    exec(compile(hook, "audit.md", "exec"), names)
    assert names["look"](hashlib.sha256(b"test").hexdigest(), b"test") == "our blocklist"
    assert names["look"](hashlib.sha256(b"").hexdigest(), b"") is None
    exec(compile(audit, "audit.md", "exec"), names)
    assert names["flagged"] == ["id_card.jpg"]
    assert Path("audit/report.html").is_file()


@pytest.mark.parametrize("blocked", [False, True])
def test_the_observer_of_the_telemetry_page_counts(blocked):
    names = {}
    (code,) = python("telemetry.md")
    exec(compile(code, "telemetry.md", "exec"), names)
    counts = names["Counts"]()
    with Runtime.starter() as runtime:
        verdict = runtime.check(Image.new("RGB", (64, 64)))
    counts.judged(verdict, Event(entry="sdk", moment=0.0, blocked=blocked))
    assert counts.blocked == blocked
