"""examples/train_a_gate/ whole, cell by cell, with fewer pictures."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from safevlm_runtime import Runtime

PLACES = 'PLACES = {"train": 300, "development": 160, "held-out": 160}'
FEWER = 'PLACES = {"train": 110, "development": 60, "held-out": 30}'


@pytest.mark.slow
def test_every_cell_runs_and_the_gate_judges(folder, cells, tmp_path, monkeypatch, capsys):
    shutil.copytree(folder / "train_a_gate", tmp_path / "examples" / "train_a_gate")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    code = [text for kind, text in cells("train_a_gate/run.py") if kind == "python"]
    assert PLACES in code[0]
    names = {}
    for text in code:
        exec(compile(text.replace(PLACES, FEWER), "run.py", "exec"), names)
    printed, work = capsys.readouterr().out, tmp_path / "out" / "train-a-gate"
    commands = re.findall(r"^\$ (?:python -m )?(\S+)(?: (\w+))?", printed, re.MULTILINE)
    steps = [second for first, second in commands if first == "safevlm"]
    assert (len(commands), steps) == (7, ["train", "eval", "export", "check"])
    assert "epoch 1: loss" in printed
    assert re.search(r"^ any risk +[\d.]+ \[", printed, re.MULTILINE)
    assert "0 flips" in printed
    assert "looked for: privacy; for nothing else" in printed
    assert (work / "report" / "eval.html").is_file()
    assert (work / "verdicts.html").is_file()
    digest = re.search(r"^digest (sha256:\w{64})$", printed, re.MULTILINE)[1]
    rows = [json.loads(row) for row in (work / "pictures/held-out/manifest.jsonl").read_text().splitlines()]
    with Runtime.load(work / "bundle", digest=digest) as runtime:
        scores = {row["image"]: runtime.check(work / "pictures/held-out" / row["image"]).score for row in rows}
    risky = [scores[row["image"]] for row in rows if row["category"] == "privacy"]
    safe = [scores[row["image"]] for row in rows if row["category"] == "safe"]
    assert sum(risky) / len(risky) > sum(safe) / len(safe) + 0.1


def test_a_command_that_fails_ends_the_run(cells, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(
        compile(next(text for kind, text in cells("train_a_gate/run.py") if kind == "python"), "run.py", "exec"),
        names,
    )
    names["WORK"].mkdir(parents=True)
    with pytest.raises(SystemExit, match="exit code 1"):
        names["run"]("safevlm_sdk.command", "check", "nothing.jpg")
    assert capsys.readouterr().out.startswith("$ safevlm check nothing.jpg\n")
