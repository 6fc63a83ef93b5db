"""`safevlm audit`, run as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def run(bundle):
    def run(*arguments, **environment):
        script = Path(sys.executable).parent / "safevlm"
        command = [script, "audit", *arguments, "--bundle", bundle]
        return subprocess.run(
            [*map(str, command)], capture_output=True, text=True, check=False, env=os.environ | environment
        )

    return run


def test_from_a_folder_to_a_report(run, images, tmp_path):
    done = run(images, "--out", tmp_path / "out")
    assert done.returncode == 1  # three of the images are broken
    assert (
        "44 images: 20 allowed, 0 cautioned, 24 blocked; of these 3 could not be judged, 5 are copies" in done.stdout
    )
    assert "flagged as illegal_risk: high 11\nflagged as privacy: medium 10\n" in done.stdout
    assert "not judged, image_corrupt: 1" in done.stdout
    assert "passed over: 1 files that are no images" in done.stdout
    assert "looked for: illegal_risk, privacy; for nothing else" in done.stdout
    assert done.stderr == ""
    assert sorted(os.listdir(tmp_path / "out")) == ["audit.json", "report.html", "verdicts.jsonl", "verdicts.parquet"]
    again = run(images, "--out", tmp_path / "out")
    assert (again.returncode, again.stdout) == (1, done.stdout)
    assert again.stderr == f"{tmp_path / 'out'}: was finished before; nothing was judged\n"
    assert run(images / "more", "--out", tmp_path / "more").returncode == 10


def test_nothing_flagged_is_exit_code_0_and_names_of_any_kind_are_printed(run, encoded, tmp_path):
    folder = os.fsencode(tmp_path / "safe")
    os.mkdir(folder)
    for name in (b"caf\xe9.png", b"\x1b[31mred.png"):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(encoded(0, 250, 0))
    done = run(tmp_path / "safe", "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    paths = [json.loads(line)["path"] for line in (tmp_path / "out" / "verdicts.jsonl").read_text().splitlines()]
    assert paths == ["\x1b[31mred.png", r"caf\xe9.png"]


def test_the_starter_judges_beside_a_bundle(run, images, tmp_path):
    done = run(images / "more", "--out", tmp_path / "out", "--starter", "--precision", "fp32")
    assert done.returncode == 10, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "out" / "verdicts.jsonl").read_text().splitlines()]
    wanted = {"illegal_risk", "colours/privacy", "safevlm-starter-documents/privacy"}
    assert {name for row in rows for name in row["categories"]} == wanted
    other = run(images / "more", "--out", tmp_path / "out", "--starter")
    assert "holds an audit with another precision: fp32, and here none" in other.stderr


def test_a_hook_is_found_on_the_path(run, images, tmp_path):
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks" / "ours.py").write_text("def look(sha256, data):\n    return 'ours'\n")
    done = run(images, "--out", tmp_path / "out", "--hash-hook", "ours:look", PYTHONPATH=str(tmp_path / "hooks"))
    assert "named ours by the hash hook: 42" in done.stdout
    without = run(images, "--out", tmp_path / "out")
    assert without.stderr.startswith("error: audit_mismatch: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere", "--out", "OUT"], "error: audit_source_invalid: "),
        (["IMAGES", "--out", "OUT", "--column", "c", "--kind", "parquet"], "error: audit_source_invalid: "),
        (["IMAGES", "--out", "IMAGES/out"], "error: audit_failed: "),
        (["IMAGES", "--out", "OUT", "--policy", "nowhere.toml"], "error: policy_invalid: "),
        (["IMAGES", "--out", "OUT", "--digest", "sha256:" + "0" * 64], "error: bundle_digest: "),
        (["IMAGES", "--out", "OUT", "--hash-hook", "nothing:here"], "error: option_invalid: "),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(run, images, tmp_path, arguments, said):
    places = {"IMAGES": str(images), "OUT": str(tmp_path / "out")}
    done = run(*(places.get(one, one.replace("IMAGES", str(images))) for one in arguments))
    assert done.returncode == 1
    assert done.stderr.startswith(said), done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_wrong_usage_is_exit_code_2(run, images, tmp_path):
    assert run(images).returncode == 2
    assert run(images, "--out", tmp_path / "out", "--jobs", "0").returncode == 2
