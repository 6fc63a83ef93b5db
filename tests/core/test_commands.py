"""The commands, run as a user runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from safevlm_sdk.errors import MissingExtra
from safevlm_sdk.policy import default_policy_text


def run(*arguments, command="safevlm"):
    script = Path(sys.executable).parent / command
    return subprocess.run([script, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_help_names_every_command_and_loads_nothing_heavy():
    done = run("--help")
    assert done.returncode == 0
    for command in ("check", "verify", "inspect", "train", "calibrate", "export", "policy", "pull", "push", "doctor"):
        assert command in done.stdout
    code = (
        "import sys, safevlm_sdk.command; "
        "print([m for m in ('torch', 'transformers', 'onnx', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version():
    from safevlm_sdk import __version__

    assert run("--version").stdout.strip() == __version__


def test_wrong_usage_is_exit_code_2():
    assert run("check").returncode == 2
    assert run("nonsense").returncode == 2
    assert run(command="safevlm-export").returncode == 2


def test_policy_check(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_bytes(default_policy_text())
    done = run("policy", "check", path)
    assert done.returncode == 0
    assert "switched off: politics" in done.stdout


def test_policy_check_refuses_on_one_line(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_bytes(default_policy_text().replace(b'uncovered = "allow"', b""))
    done = run("policy", "check", path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: policy_invalid: ")
    assert "uncovered" in done.stderr
    assert done.stderr.count("\n") == 1


def test_policy_check_finds_a_misspelt_category(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_bytes(default_policy_text().replace(b"[actions.privacy]", b"[actions.pivacy]"))
    done = run("policy", "check", path)
    assert done.returncode == 1
    assert "'pivacy' is not in taxonomy 'safevlm'" in done.stderr


def test_doctor():
    done = run("doctor")
    assert done.returncode == 0
    assert "CPUExecutionProvider" in done.stdout


def test_a_missing_extra_names_the_command():
    from safevlm_sdk.command.extras import needs

    with pytest.raises(MissingExtra, match=r"pip install 'safevlm-sdk\[train\]'"):
        needs("train", "json", "a_package_that_nobody_has")


def test_every_bad_row_has_a_line_of_its_own(tmp_path):
    (tmp_path / "images" / "safe").mkdir(parents=True)
    for name in ("a.txt", "b\x1b[31m.txt"):
        (tmp_path / "images" / "safe" / name).write_text("no image")
    (tmp_path / "recipe.toml").write_text(
        'schema = 1\n[model]\ntower = "efficientnet-lite0"\ntap = "hidden:-1"\n[model.coverage]\nprivacy = "x"\n'
        '[[data]]\nname = "mine"\nkind = "folder"\npath = "images"\nlicense = "mine"\n'
        '[output]\npath = "checkpoint"\nname = "mine"\nlicense = "mine"\n'
    )
    done = run("train", tmp_path / "recipe.toml")
    assert done.returncode == 1
    first, *rows = done.stderr.splitlines()
    assert first.startswith("error: data_invalid: 2 bad rows")
    assert [row.strip().split(": ")[1] for row in rows] == [
        "is no image by its name (.jpg, .jpeg, .png, .webp, .gif); move it elsewhere"
    ] * 2
    assert "\x1b" not in done.stderr
