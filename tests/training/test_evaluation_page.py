"""The report of an evaluation: its two files are stable, and the page is safe to open."""

from __future__ import annotations

import copy
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from safevlm_sdk.command.app import app
from safevlm_training.evaluation.evaluate import Evaluation, evaluate_checkpoint
from safevlm_training.evaluation.hardening import Hardened
from safevlm_training.evaluation.page import Section
from safevlm_training.evaluation.report import report_json, write_report


def test_robustness_is_a_part_of_the_same_report(evaluated: Evaluation, hardened: Hardened, tmp_path: Path) -> None:
    figures = json.loads(report_json(evaluated, (hardened.section,)))["robustness"]
    assert {row["corruption"] for row in figures["corruptions"]} >= {"JPEG", "screenshot"}
    assert figures["transfers"][0]["digest"] == figures["digest"] == evaluated.report["checkpoint"]["digest"]
    page = write_report(tmp_path, evaluated, extra=(hardened.section,)).read_text()
    assert hardened.section.html in page
    assert any("no robustness" in line.lower() for line in hardened.lines)


def test_equal_runs_give_equal_files(
    eval_world: Path, eval_data: list[str], evaluated: Evaluation, tmp_path: Path
) -> None:
    again = evaluate_checkpoint(
        eval_world / "checkpoint", eval_data, probe_data=[f"{eval_world}/images"], resamples=100, progress=False
    )
    assert write_report(tmp_path / "deep" / "out", evaluated) == tmp_path / "deep" / "out" / "eval.html"
    write_report(tmp_path / "again", again)
    for name in ("eval.json", "eval.html"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "deep" / "out" / name).read_bytes()


def test_the_page_is_self_contained_and_escapes_file_names(
    eval_world: Path, evaluated: Evaluation, hostile_name: str, tmp_path: Path
) -> None:
    report = copy.deepcopy(evaluated.report)
    worst = [one for kind in report["mistakes"].values() for one in kind["worst"]]
    worst[0] |= {"file": hostile_name, "source": hostile_name}
    report["data"]["failed"] = [
        {
            "file": hostile_name,
            "source": hostile_name,
            "category": "safe",
            "error": "image_empty",
            "reason": hostile_name,
        }
    ]
    report["data"]["bad_rows"] = [{"where": hostile_name, "reason": hostile_name}]
    report["sources"][hostile_name] = report["sources"].pop("photos")
    evaluation = dataclasses.replace(evaluated, report=report)
    page = write_report(tmp_path, evaluation).read_text(encoding="utf-8")
    assert "<img" not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;\\x1b[31m.png") == 8
    assert "\x1b" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert str(eval_world) not in page
    assert str(eval_world) not in (tmp_path / "eval.json").read_text(encoding="utf-8")
    assert page.count("<svg") == 5
    pictures = write_report(tmp_path, evaluated, thumbnails=True).read_text(encoding="utf-8")
    assert pictures.count('src="data:image/jpeg;base64,') == len(worst) > 0


def test_parts_of_others_stand_in_both_files(evaluated: Evaluation, tmp_path: Path) -> None:
    extra = [Section(key="robustness", html="<section><h2>More</h2></section>", figures={"rate": 0.5})]
    page = write_report(tmp_path, evaluated, extra=extra).read_text(encoding="utf-8")
    assert "<section><h2>More</h2></section>" in page
    assert json.loads((tmp_path / "eval.json").read_text(encoding="utf-8"))["robustness"] == {"rate": 0.5}


def test_the_json_has_stable_keys_and_no_nan(evaluated: Evaluation) -> None:
    report = json.loads(report_json(evaluated))
    assert list(report) == [
        "schema_version", "checkpoint", "policy", "data", "intervals", "any_risk", "categories", "confusion",
        "actions", "levels", "sources", "probe", "mistakes", "versions",
    ]  # fmt: skip
    assert report["any_risk"]["recall"].keys() == {
        "value", "low", "high", "method", "images", "groups", "count", "note",
    }  # fmt: skip
    assert "NaN" not in report_json(evaluated)


def test_the_command(eval_world: Path, tmp_path: Path) -> None:
    options = ["eval", f"{eval_world}/checkpoint", "--data", f"safe={eval_world}/photos", "--resamples", "100"]
    command = [sys.executable, "-c", "from safevlm_sdk.command import main; main()", *options]
    command += ["--data", f"{eval_world}/images", "--out", f"{tmp_path}/out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, f"report: {tmp_path}/out/eval.html\n")
    assert "49 images in 49 groups: 12 privacy, 12 illegal_risk, 25 safe" in done.stdout
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["eval.html", "eval.json"]
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x\x1b[31m.png").write_bytes(b"no image")
    done = CliRunner().invoke(app, [*options, "--data", f"safe={tmp_path}/bad", "--json"])
    assert (type(done.exception), done.exit_code) == (SystemExit, 1)
    assert json.loads(done.stdout)["data"]["failed"][0]["error"] == "image_format"
