"""`safevlm log`: counting, and naming what is not whole."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from safevlm_runtime.judging.observer import Event
from safevlm_runtime.telemetry.decision_log import DecisionLog
from safevlm_sdk.command.app import app
from safevlm_sdk.policy import Action


def run(*arguments):
    return CliRunner().invoke(app, ["log", *map(str, arguments)])


def test_a_log_is_counted_over_several_files(tmp_path, verdict):
    older, newer = tmp_path / "log.jsonl.1", tmp_path / "log.jsonl"
    DecisionLog(older).judged(verdict(), Event(entry="proxy", moment=0.0, blocked=True))
    DecisionLog(newer).judged(verdict("failed", action=Action.CAUTION), Event(entry="guard", moment=60.0))
    result = run(older, newer)
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "2 verdicts from 1970-01-01T00:00:00.000+00:00 to 1970-01-01T00:01:00.000+00:00",
        "entry: proxy 1, guard 1",
        "action: block 1, caution 1",
        "category: privacy 1",
        "error: image_corrupt 1",
        "went on although the gate had failed: 1",
    ]
    found = json.loads(run("--json", older, newer).output)
    assert found["counts"]["action"] == {"block": 1, "caution": 1}
    assert found["went_on_failed"] == 1


def test_a_line_that_is_cut_or_edited_is_named(tmp_path, verdict):
    path = tmp_path / "log.jsonl"
    log = DecisionLog(path)
    log.judged(verdict(), Event(entry="sdk", moment=0.0))
    with path.open("ab") as file:
        file.write(b'{"schema":1,"ti')
    log.judged(verdict(), Event(entry="sdk", moment=0.0))
    with path.open("ab") as file:
        file.write(b'[]\n{"schema":2}\n{"schema":1,"time":"2026","blocked":false,"action":["\x1b[2J"]}\n')
    result = run(path)
    assert result.exit_code == 1
    assert result.output.startswith("2 verdicts")
    broken = [line.rpartition(":")[2] for line in result.output.splitlines() if line.startswith("not a whole line")]
    assert broken == ["2", "4", "5", "6"]


def test_a_file_that_is_not_there_is_said(tmp_path):
    assert "cannot be read" in str(run(tmp_path / "none").exception)
